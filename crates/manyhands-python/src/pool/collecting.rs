//! The way back: answers are collected, decoded and given to their jobs.

use super::PyPool;
use super::calls::NO_JOB;
use super::job::PyJob;
use crate::error;
use crate::pickling::Dumped;
use manyhands::Block;
use manyhands::pool::{Answer, AnswerBatch, Event, Payload, Status};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::{MutexGuard, PoisonError};

impl PyPool {
    /// One round of a leader's: takes answers, and goes on with what was not given out; whether there was any of it.
    pub(super) fn advance(&self, py: Python<'_>) -> PyResult<bool> {
        let fed = self.feed_the_hungry(py);
        Ok(self.take_answers(py, Until::Interrupted)? || fed)
    }

    /// WAYPOINT task 9/9: collects answers and gives them to their jobs; whether there were any.
    ///
    /// Answers are taken in one at a time, with no lock held meanwhile: Python code that runs on the way and waits on
    /// this pool takes in the next ones itself.
    pub(super) fn take_answers(&self, py: Python<'_>, until: Until) -> PyResult<bool> {
        let mut current: Option<(u32, Py<PyJob>)> = None;
        let any = self.take_in_collected(py, &mut current, until)?;
        if let Some((_, job)) = current {
            self.feed_job(py, job.bind(py));
        }
        self.leadership.take_in_hand(0);
        Ok(any)
    }

    fn collected(&self) -> MutexGuard<'_, AnswerBatch> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that were collected before, else as many as are collected at once; whether there were any.
    fn take_in_collected(
        &self,
        py: Python<'_>,
        current: &mut Option<(u32, Py<PyJob>)>,
        until: Until,
    ) -> PyResult<bool> {
        let mut any = false;
        loop {
            if any && until == Until::Interrupted && self.interrupts.any() {
                return Ok(true);
            }
            // The lock is held while bytes are copied, no longer.
            let mut collected = self.collected();
            let mut next = collected.pop(|payload| to_python(py, payload));
            if next.is_none() && !any && self.engine.collect(&mut collected).map_err(error::open)? {
                next = collected.pop(|payload| to_python(py, payload));
            }
            drop(collected);
            let Some((answer, payload)) = next else { return Ok(any) };
            any = true;
            self.take_in(py, answer, payload, current);
        }
    }

    fn take_in(
        &self,
        py: Python<'_>,
        answer: Answer,
        payload: PyResult<(Dumped<'_>, Option<Block>)>,
        current: &mut Option<(u32, Py<PyJob>)>,
    ) {
        if current.as_ref().is_none_or(|(id, _)| *id != answer.job) {
            let next = self.state().jobs.get(&answer.job).map(|job| (answer.job, job.clone_ref(py)));
            if let Some((id, job)) = std::mem::replace(current, next) {
                self.leadership.take_in_hand(id);
                self.feed_job(py, job.bind(py));
            }
            self.leadership.take_in_hand(answer.job);
        }
        let value = payload.and_then(|(bytes, carrier)| {
            let _opening = carrier.as_ref().map(Block::opening);
            self.decode(py, answer.status, &bytes)
        });
        if answer.status == Status::Unready {
            self.worker_unready(py, value);
            return;
        }
        if answer.job == NO_JOB {
            self.call_answered(py, answer, value);
            return;
        }
        // A job that is gone was abandoned: its late answers are nobody's.
        let Some((id, job)) = current.as_ref() else { return };
        if answer.status == Status::Unread && answer.items > 1 && job.get().split(answer.index) {
            return;
        }
        let accepted = job.get().accept(py, answer, value);
        self.after(py, job.bind(py), *id, accepted);
    }

    /// A payload becomes an object; one that cannot be decoded fails its own item only.
    fn decode<'py>(
        &self,
        py: Python<'py>,
        status: Status,
        bytes: &Dumped<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let decoded = match status {
            Status::Returned => self.interrupts.firmly(py, || bytes.loads(py)),
            Status::Raised | Status::Unready | Status::Unread => {
                self.interrupts.firmly(py, || self.hooks.decode_error.bind(py).call1((bytes.to_python(py),)))
            }
        };
        decoded.or_else(|error| self.undecodable(py, error))
    }

    fn undecodable<'py>(&self, py: Python<'py>, error: PyErr) -> PyResult<Bound<'py, PyAny>> {
        let error = error.into_value(py);
        let exception =
            self.interrupts.firmly(py, || self.hooks.undecodable.bind(py).call1((error.clone_ref(py),)))?;
        Err(PyErr::from_value(exception))
    }

    fn worker_unready(&self, py: Python<'_>, reason: PyResult<Bound<'_, PyAny>>) {
        let reason = reason.unwrap_or_else(|error| error.into_value(py).into_bound(py).into_any());
        let mut state = self.state();
        let late = match &mut state.broken {
            Some(_) => Some(reason),
            broken => {
                *broken = Some(reason.unbind());
                None
            }
        };
        let actions = state.scheduler.on(Event::WorkerUnready);
        drop(state);
        drop(late);
        self.carry_out(py, actions);
    }
}

/// How long answers are taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// To the last one that was collected.
    AllAreIn,
    /// Until a signal's handler has raised: this thread raises that soon, and whoever leads next goes on with the rest.
    Interrupted,
}

/// The bytes, and the block if it carries something: that is there for as long as the block is.
fn to_python<'py>(py: Python<'py>, payload: Payload<'_>) -> PyResult<(Dumped<'py>, Option<Block>)> {
    match payload {
        Payload::Bytes(bytes) => Ok((Dumped::copy_of(py, bytes)?, None)),
        Payload::Block(block) => {
            let bytes = PyBytes::new_with(py, block.len(), |to| {
                block.copy_to(to);
                Ok(())
            })?;
            let carrier = block.carries().then_some(block);
            Ok((Dumped::Pickle(bytes), carrier))
        }
    }
}
