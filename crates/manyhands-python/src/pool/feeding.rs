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

/// Tasks put into the ring at a time.
const SUBMIT_TOGETHER: usize = 64;

impl PyPool {
    /// WAYPOINT task 3/9: tasks of one job are encoded and submitted, as many as may be ahead.
    pub(crate) fn feed_job(&self, py: Python<'_>, job: &Bound<'_, PyJob>) {
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
                    return;
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
            if batch.len() >= SUBMIT_TOGETHER {
                self.submit(py, job, &mut batch, &mut offered);
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
