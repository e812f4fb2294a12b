//! The way out: items become tasks, are pickled and submitted. Whatever goes wrong with a task here fails its items as
//! if a worker had raised, so that no job waits for what was never sent.

use super::PyPool;
use super::job::{Form, PyJob};
use super::map::Arguments;
use crate::codec;
use crate::error;
use crate::offers::Offers;
use crate::pickling;
use crate::plane::Way;
use manyhands::Message;
use manyhands::pool::{Answer, Status, Task, TaskBatch};
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::prelude::*;
use std::time::{Duration, Instant};

/// Tasks put into the ring at a time.
const SUBMIT_TOGETHER: usize = 64;
/// How long tasks are encoded before the handlers of signals have their turn.
const LONGEST_FEEDING: Duration = Duration::from_millis(5);

impl PyPool {
    /// Gives out tasks of a job whose items have come, as many as may be ahead. Handlers of signals run meanwhile: between
    /// tasks, and in the Python code that pickles them. What one raises is held, and the rest is left to whoever leads next.
    pub(super) fn feed_new(&self, py: Python<'_>, job: &Bound<'_, PyJob>) {
        while self.feed_for_a_while(py, job) {
            if let Err(raised) = py.check_signals() {
                self.interrupts.hold(raised);
            }
            if self.interrupts.any() {
                self.is_hungry(job);
                self.engine.ring();
                return;
            }
        }
    }

    /// Gives out tasks of a job, for a leader, who looks for signals himself: what takes long is left for his next round.
    pub(super) fn feed_job(&self, py: Python<'_>, job: &Bound<'_, PyJob>) {
        if self.feed_for_a_while(py, job) {
            self.is_hungry(job);
        }
    }

    fn is_hungry(&self, job: &Bound<'_, PyJob>) {
        let id = job.get().id();
        let mut state = self.state();
        if !state.hungry.contains(&id) {
            state.hungry.push(id);
        }
    }

    /// Whether jobs wait for tasks to be given out.
    pub(super) fn is_underfed(&self) -> bool {
        !self.state().hungry.is_empty()
    }

    /// Goes on with the job whose tasks were not given out for want of time; whether there was one.
    pub(super) fn feed_the_hungry(&self, py: Python<'_>) -> bool {
        let next = {
            let mut state = self.state();
            if state.hungry.is_empty() {
                return false;
            }
            let id = state.hungry.remove(0);
            state.jobs.get(&id).map(|job| job.clone_ref(py))
        };
        if let Some(job) = next {
            self.feed_job(py, job.bind(py));
        }
        true
    }

    /// WAYPOINT task 3/9: tasks of one job are encoded and submitted, as many as may be ahead; whether there may be more,
    /// after so long that signals have to be looked for, or after one whose handler has raised in the middle.
    fn feed_for_a_while(&self, py: Python<'_>, job: &Bound<'_, PyJob>) -> bool {
        let mut began = None;
        let interrupted_before = self.interrupts.any();
        let this = job.get();
        let mut batch = TaskBatch::default();
        let mut offered = Vec::new();
        loop {
            let next = {
                let mut state = this.state();
                let id = state.id;
                match &mut state.form {
                    Form::Map(map) => map.next_task(py, id),
                    Form::Stream(stream) => stream.next_task(py, id),
                    Form::Fresh | Form::Single | Form::Over => None,
                }
            };
            let Some((task, arguments)) = next else {
                if batch.is_empty() {
                    return false;
                }
                // What cannot be submitted may have been split, and is given out again.
                self.submit(py, job, &mut batch, &mut offered);
                continue;
            };
            match self.encode_task(py, &mut batch, task, &arguments, &mut offered) {
                Ok(0) => {}
                Ok(long) => {
                    let workers = self.state().workers.seats();
                    match &mut this.state().form {
                        Form::Map(map) => map.weigh(long),
                        Form::Stream(stream) => stream.weigh(long, workers),
                        Form::Fresh | Form::Single | Form::Over => {}
                    }
                    // The workers begin while the next one is copied.
                    self.submit(py, job, &mut batch, &mut offered);
                }
                Err(refused) => self.task_failed(py, job, task, refused),
            }
            // One task alone needs no clock.
            let takes_long = began.is_some_and(|began: Instant| began.elapsed() >= LONGEST_FEEDING);
            began = began.or_else(|| Some(Instant::now()));
            let stops = takes_long || (!interrupted_before && self.interrupts.any());
            if batch.len() >= SUBMIT_TOGETHER || stops {
                self.submit(py, job, &mut batch, &mut offered);
            }
            if stops {
                return true;
            }
        }
    }

    /// Appends the task to the batch, and what it offers to the others; how many bytes of it are long parts.
    fn encode_task(
        &self,
        py: Python<'_>,
        batch: &mut TaskBatch,
        task: Task,
        arguments: &Arguments,
        offered: &mut Vec<(u32, Offers)>,
    ) -> PyResult<usize> {
        let object = arguments.object(py)?;
        // Which runs nobody's code.
        if let Some(bytes) = codec::encode(&object) {
            let arguments = Message { parts: &[&bytes], carried: &[] };
            return self.engine.batch_message(batch, task, arguments).map(|()| 0).map_err(error::send);
        }
        let pickled = self.interrupts.firmly(py, || pickling::pickle_into(&object, Way::Copying));
        let (bytes, mut carried) = pickled.map_err(|e| tame(py, e))?;
        let arguments = Message { parts: &[bytes.as_bytes()], carried: &carried };
        self.engine.batch_message(batch, task, arguments).map_err(error::send)?;
        let offers = carried.take_offers();
        if !offers.is_empty() {
            offered.push((task.index, offers));
        }
        Ok(carried.long_bytes())
    }

    /// A task could not be sent, or not be read where it arrived. Several items are tried again one by one: then only
    /// those fail whose fault it is.
    pub(super) fn task_failed(&self, py: Python<'_>, job: &Bound<'_, PyJob>, task: Task, refused: PyErr) {
        if task.items > 1 && job.get().split(task.index) {
            return;
        }
        let Task { job: id, index, items, .. } = task;
        let answer = Answer { job: id, index, items, status: Status::Raised, nanoseconds: 0 };
        let accepted = job.get().accept(py, answer, Err(refused));
        self.after(py, job, id, accepted);
    }

    /// Submits the batch, in which the tasks with these indices offer these descriptors.
    fn submit(
        &self,
        py: Python<'_>,
        job: &Bound<'_, PyJob>,
        batch: &mut TaskBatch,
        offered: &mut Vec<(u32, Offers)>,
    ) {
        if let Err(refused) = self.engine.submit(batch) {
            for task in self.engine.take_back(batch) {
                offered.retain(|(index, _)| *index != task.index);
                self.task_failed(py, job, task, error::send(refused));
            }
        }
        for (_, offers) in offered.drain(..) {
            offers.sent_into(py, self.engine.handle());
        }
    }
}

/// Raised twice by pickling an item, and no `Exception`: the item fails with it, and not the program that waits for it.
fn tame(py: Python<'_>, error: PyErr) -> PyErr {
    if error.is_instance_of::<PyException>(py) {
        return error;
    }
    let tamed = PyRuntimeError::new_err(format!("pickling this item raised {error}"));
    tamed.set_cause(py, Some(error));
    tamed
}
