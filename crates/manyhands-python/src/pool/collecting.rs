//! The way back: answers are collected, decoded and given to their jobs.

use super::PyPool;
use super::calls::NO_JOB;
use super::job::PyJob;
use crate::error;
use crate::pickling;
use manyhands::pool::{Answer, Event, Payload, Status};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

impl PyPool {
    /// WAYPOINT task 9/9: collects answers and gives them to their jobs; whether there were any.
    pub(super) fn advance(&self, py: Python<'_>) -> PyResult<bool> {
        let mut batch = std::mem::take(&mut self.state().collected);
        let any = self.engine.collect(&mut batch).map_err(error::open)?;
        if any {
            let mut current: Option<(u32, Py<PyJob>)> = None;
            let mut fed = Ok(());
            batch.drain(|answer, payload| {
                if let Err(error) = self.take_in(py, answer, payload, &mut current) {
                    fed = Err(error);
                }
            });
            fed?;
            if let Some((_, job)) = current {
                self.feed_job(py, job.bind(py))?;
            }
        }
        self.state().collected = batch;
        Ok(any)
    }

    pub(super) fn take_in(
        &self,
        py: Python<'_>,
        answer: Answer,
        payload: Payload<'_>,
        current: &mut Option<(u32, Py<PyJob>)>,
    ) -> PyResult<()> {
        let value = self.decode(py, answer.status, payload);
        if answer.status == Status::Unready {
            return self.worker_unready(py, value);
        }
        if answer.job == NO_JOB {
            self.call_answered(py, answer, value);
            return Ok(());
        }
        if current.as_ref().is_none_or(|(id, _)| *id != answer.job) {
            let next = self.state().jobs.get(&answer.job).map(|job| (answer.job, job.clone_ref(py)));
            if let Some((_, job)) = std::mem::replace(current, next) {
                self.feed_job(py, job.bind(py))?;
            }
        }
        // A job that is gone was abandoned: its late answers are nobody's.
        let Some((id, job)) = current.as_ref() else { return Ok(()) };
        let accepted = job.get().accept(py, answer, value);
        self.after(py, job.bind(py), *id, accepted)
    }

    /// A payload becomes an object; one that cannot be decoded fails its own item only.
    pub(super) fn decode<'py>(
        &self,
        py: Python<'py>,
        status: Status,
        payload: Payload<'_>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let bytes = match payload {
            Payload::Bytes(bytes) if status == Status::Returned => return self.loads(py, bytes),
            Payload::Bytes(bytes) => PyBytes::new(py, bytes),
            Payload::Block(block) => PyBytes::new_with(py, block.len(), |to| {
                block.copy_to(to);
                Ok(())
            })?,
        };
        match status {
            Status::Returned => pickling::loads_bytes(&bytes).or_else(|error| self.undecodable(py, error)),
            Status::Raised | Status::Unready => self.hooks.decode_error.bind(py).call1((bytes,)),
        }
    }

    pub(super) fn loads<'py>(&self, py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        pickling::loads(py, bytes).or_else(|error| self.undecodable(py, error))
    }

    pub(super) fn undecodable<'py>(&self, py: Python<'py>, error: PyErr) -> PyResult<Bound<'py, PyAny>> {
        let exception = self.hooks.undecodable.bind(py).call1((error.into_value(py),))?;
        Err(PyErr::from_value(exception))
    }

    pub(super) fn worker_unready(&self, py: Python<'_>, reason: PyResult<Bound<'_, PyAny>>) -> PyResult<()> {
        let reason = reason.unwrap_or_else(|error| error.into_value(py).into_bound(py).into_any());
        self.state().broken.get_or_insert(reason.unbind());
        let actions = self.state().scheduler.on(Event::WorkerUnready);
        self.carry_out(py, actions)
    }
}
