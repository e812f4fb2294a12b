//! The engine of `manyhands.futures.ProcessPoolExecutor`: calls with futures, over a pool.

use super::PyPool;
use super::calls::{Call, Calls};
use super::future;
use super::job;
use super::leadership::Driver;
use crate::arguments::Truth;
use manyhands::pool::{Event, Scheduler};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use std::sync::Mutex;

/// What a pool has when it is an executor's.
#[derive(Debug)]
pub(super) struct Executor {
    pub(super) calls: Mutex<Calls>,
    /// `broken(reason) -> BrokenProcessPool`
    pub(super) broken: Py<PyAny>,
}

/// An executor's calls on its pool. Futures keep it, to wait through it.
#[pyclass(name = "Calls", module = "manyhands._manyhands", frozen, weakref)]
#[derive(Debug)]
pub(crate) struct PyCalls {
    pool: Py<PyPool>,
}

#[pymethods]
impl PyCalls {
    /// The pool leads on, perhaps back to these.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.pool)
    }

    #[new]
    fn new(pool: Py<PyPool>, broken: Py<PyAny>, on_demand: bool) -> PyResult<Self> {
        let this = pool.get();
        let executor = Executor { calls: Mutex::new(Calls::default()), broken };
        if this.executor.set(executor).is_err() {
            return Err(PyRuntimeError::new_err("this pool is an executor's already"));
        }
        if on_demand {
            let mut state = this.state();
            state.scheduler = Scheduler::on_demand(state.workers.seats());
        }
        Ok(Self { pool })
    }

    /// Submits a call, whose outcome `future` will have; the driver thread sees to it.
    #[pyo3(signature = (future, func, args, kwargs=None))]
    fn submit(
        &self,
        py: Python<'_>,
        future: Py<PyAny>,
        func: Py<PyAny>,
        args: Py<PyTuple>,
        kwargs: Option<Py<PyDict>>,
    ) -> PyResult<()> {
        let pool = self.pool.get();
        pool.admit_call(py)?;
        pool.submit_call_of(py, Call { future, func, function: None, args, kwargs })?;
        self.tell_driver(py, Driver::Wanted);
        pool.raise_held()
    }

    /// Waits until the future is done, at most `timeout` seconds; whether it is.
    #[pyo3(signature = (future, timeout=None))]
    fn wait(&self, py: Python<'_>, future: Py<PyAny>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let deadline = job::deadline(timeout)?;
        let done = || Python::attach(|py| future::is_done(future.bind(py)).unwrap_or(true));
        self.pool.get().wait_for_calls(py, &done, deadline)
    }

    /// A future was cancelled: whoever waits for it looks again.
    fn look_again(&self) {
        self.pool.get().look_again();
    }

    /// Somebody waits for a future in a way in which he cannot lead the pool: the driver thread shall, now.
    fn urge(&self, py: Python<'_>) {
        if self.pool.get().check_owner().is_ok() {
            self.tell_driver(py, Driver::Urgent);
        }
    }

    /// Takes no more calls; workers leave when those there are done. With `cancel`, those that wait are cancelled.
    fn close(&self, py: Python<'_>, cancel: Truth) -> PyResult<()> {
        self.end(py, Event::Close, cancel.0)
    }

    /// As `close`, and no worker that ends is replaced: the caller ends them.
    fn give_up(&self, py: Python<'_>) -> PyResult<()> {
        self.end(py, Event::Terminate, true)
    }

    /// Waits until every call has its outcome and every worker is gone, at most `timeout` seconds, then frees the shared
    /// memory; `False` when the time has passed, and from a callback, where the memory is still in use and left to the
    /// driver.
    #[pyo3(signature = (timeout=None))]
    fn finish(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let pool = self.pool.get();
        if !pool.wait_for_calls(py, &|| pool.is_over(), job::deadline(timeout)?)? {
            return Ok(false);
        }
        // At once, or when the one who leads, this callback's thread perhaps, leads no more.
        pool.destroy();
        if pool.is_delivering() {
            return Ok(false);
        }
        pool.retire_driver(py)?;
        Ok(true)
    }

    /// The futures of calls that have no outcome: first of those that workers may have, and how many these are.
    #[getter]
    fn unsettled(&self, py: Python<'_>) -> (usize, Vec<Py<PyAny>>) {
        self.pool.get().unsettled_calls(py)
    }

    /// Whether nothing will ever happen any more.
    #[getter]
    fn is_over(&self) -> bool {
        self.pool.get().is_over()
    }
}

impl PyCalls {
    /// The driver shall do something; it comes if it is not there.
    fn tell_driver(&self, py: Python<'_>, what: Driver) {
        let leadership = &self.pool.get().leadership;
        if !leadership.tell_driver(what) {
            PyPool::want_driver_of(self.pool.bind(py), false);
            leadership.tell_driver(what);
        }
    }

    fn end(&self, py: Python<'_>, event: Event, cancel: bool) -> PyResult<()> {
        let pool = self.pool.get();
        if cancel {
            pool.cancel_waiting_calls();
        }
        let mut actions = pool.state().scheduler.on(event);
        // Ended by the caller, in the way that he wants.
        actions.retain(|action| *action != manyhands::pool::Action::Kill);
        pool.carry_out(py, actions);
        self.tell_driver(py, Driver::Urgent);
        pool.look_again();
        Ok(())
    }
}
