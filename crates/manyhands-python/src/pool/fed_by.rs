//! What ends a stream when the thread ends that feeds it.

use super::job::{Form, PyJob};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::thread::ThreadId;

/// Goes with the thread that feeds a stream, and is dropped with it: whatever ends the thread, the stream ends too.
///
/// Nothing but the thread's own start holds it: no frame, which a traceback might keep.
#[pyclass(name = "_FedBy", module = "manyhands._manyhands", frozen)]
#[derive(Debug)]
pub(super) struct FedBy {
    job: Py<PyJob>,
    /// The thread that has made it, which drops it when there is no other thread to be had.
    maker: ThreadId,
}

impl FedBy {
    /// What calls the feeder, and holds this. If it cannot be made, the stream has ended.
    pub(super) fn thread<'py>(
        job: &Bound<'py, PyJob>,
        feeder: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = job.py();
        let held = Self { job: job.clone().unbind(), maker: std::thread::current().id() };
        let held = Bound::new(py, held)?;
        let thread = py.import("functools")?.getattr("partial")?.call1((feeder,))?;
        thread.setattr("fed_by", held)?;
        Ok(thread)
    }
}

impl Drop for FedBy {
    fn drop(&mut self) {
        // At the interpreter's end nobody waits any more.
        Python::try_attach(|py| {
            let pending = PyErr::take(py);
            self.end(py);
            if let Some(pending) = pending {
                pending.restore(py);
            }
        });
    }
}

impl FedBy {
    fn end(&self, py: Python<'_>) {
        let job = self.job.bind(py);
        let pool = job.get().pool.get();
        let open = matches!(&job.get().state().form, Form::Stream(stream) if !stream.has_ended());
        if open && pool.check_owner().is_ok() {
            let text = "the thread that reads the iterable was ended before the iterable was at its end";
            PyJob::end_with(job, PyRuntimeError::new_err(text));
        }
        if self.maker != std::thread::current().id() {
            pool.write_held(py);
        }
    }
}
