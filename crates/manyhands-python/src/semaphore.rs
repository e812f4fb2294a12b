//! The semaphore that Python sees, bounded or not.

use crate::arguments::{Limit, Truth};
use crate::blocking::on_signal;
use crate::error;
use crate::fast_methods::Fast;
use crate::pickling;
use manyhands::family::Family;
use manyhands::semaphore::{MOST, Semaphore};
use manyhands::{Deadline, Handle};
use pyo3::exceptions::{PyOSError, PyOverflowError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};
use std::sync::OnceLock;

/// A semaphore in shared memory; `manyhands.synchronize` gives it the standard library's face.
#[pyclass(name = "Semaphore", module = "manyhands._manyhands", subclass, frozen)]
#[derive(Debug)]
pub(crate) struct PySemaphore {
    semaphore: OnceLock<Semaphore>,
}

#[pymethods]
impl PySemaphore {
    /// Whatever a subclass is made with: `_create` or `_attach` gives the object its semaphore.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { semaphore: OnceLock::new() }
    }

    /// Makes a new semaphore.
    #[pyo3(signature = (value, most=None))]
    fn _create(&self, value: &Bound<'_, PyAny>, most: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let value = count(value)?;
        let most = most.map_or(Ok(MOST), count)?;
        let family = Family::current().map_err(error::family)?;
        self.be(Semaphore::create(family, value, most).map_err(error::family)?)
    }

    /// Becomes another object of a semaphore that a process of the family made.
    fn _attach(&self, offset: u64, generation: u32) -> PyResult<()> {
        let family = Family::current().map_err(error::family)?;
        self.be(Semaphore::open(family, Handle { offset, generation }).map_err(error::open)?)
    }

    /// By what another process of the family opens the semaphore.
    fn _handle(&self) -> PyResult<(u64, u32)> {
        let handle = self.semaphore()?.handle();
        pickling::note_carried(handle);
        Ok((handle.offset, handle.generation))
    }

    /// Lower the count by one. See `manyhands.synchronize.Semaphore`.
    #[pyo3(signature = (block=Truth(true), timeout=None), text_signature = "($self, block=True, timeout=None)")]
    fn acquire(&self, py: Python<'_>, block: Truth, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let limit = Limit::of_semaphore(block.0, timeout)?;
        if self.semaphore()?.try_acquire() {
            return Ok(true);
        }
        match limit.deadline()? {
            None => Ok(false),
            Some(deadline) => self.wait(py, deadline),
        }
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.semaphore()?.try_acquire() || self.wait(py, Deadline::NEVER)?)
    }

    #[pyo3(signature = (_type=None, _value=None, _traceback=None))]
    fn __exit__(
        &self,
        _type: Option<&Bound<'_, PyAny>>,
        _value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.release()
    }

    /// Raise the count by one.
    fn release(&self) -> PyResult<()> {
        self.semaphore()?.release().map_err(|_| error::released_too_often())
    }

    /// Whether one who comes now would have to wait: the count is 0, or it is a waiter's turn.
    fn locked(&self) -> PyResult<bool> {
        Ok(self.semaphore()?.is_locked())
    }

    /// The count.
    fn get_value(&self) -> PyResult<u32> {
        Ok(self.semaphore()?.count())
    }

    /// The highest count there may be.
    #[getter]
    fn _most(&self) -> PyResult<u32> {
        Ok(self.semaphore()?.most())
    }
}

impl Fast for PySemaphore {
    #[inline]
    fn take(&self) -> bool {
        self.held().is_some_and(Semaphore::try_acquire)
    }

    #[inline]
    fn give(&self) -> bool {
        self.held().is_some_and(|semaphore| semaphore.release().is_ok())
    }

    fn ordinary() -> &'static PyOnceLock<[Py<PyAny>; 4]> {
        static ORDINARY: PyOnceLock<[Py<PyAny>; 4]> = PyOnceLock::new();
        &ORDINARY
    }
}

impl PySemaphore {
    #[inline]
    fn held(&self) -> Option<&Semaphore> {
        self.semaphore.get().filter(|semaphore| semaphore.ensure_held().is_ok())
    }

    fn semaphore(&self) -> PyResult<&Semaphore> {
        let uninitialized = || PyRuntimeError::new_err("Semaphore.__init__() not called");
        let semaphore = self.semaphore.get().ok_or_else(uninitialized)?;
        semaphore.ensure_held().map_err(error::family)?;
        Ok(semaphore)
    }

    fn be(&self, semaphore: Semaphore) -> PyResult<()> {
        let refused = |_| PyRuntimeError::new_err("Semaphore.__init__() called twice");
        self.semaphore.set(semaphore).map_err(refused)
    }

    #[cold]
    fn wait(&self, py: Python<'_>, deadline: Deadline) -> PyResult<bool> {
        let semaphore = self.semaphore()?;
        py.detach(|| semaphore.acquire_interruptibly(deadline, on_signal))
    }
}

/// A count as the standard library's semaphores take it: what is negative is the system's to refuse, what is no C `int`
/// the interpreter's.
fn count(value: &Bound<'_, PyAny>) -> PyResult<u32> {
    let value: i64 = value.extract().map_err(|error: PyErr| {
        if error.is_instance_of::<PyOverflowError>(value.py()) { too_large() } else { error }
    })?;
    if i32::try_from(value).is_err() {
        return Err(too_large());
    }
    u32::try_from(value).map_err(|_| PyOSError::new_err((22, "Invalid argument")))
}

fn too_large() -> PyErr {
    PyOverflowError::new_err("Python int too large to convert to C int")
}
