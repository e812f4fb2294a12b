//! The event that Python sees.

use crate::arguments::Limit;
use crate::blocking::on_signal;
use crate::error;
use crate::pickling;
use manyhands::Handle;
use manyhands::event::Event;
use manyhands::family::Family;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::OnceLock;

/// An event in shared memory; `manyhands.synchronize` gives it the standard library's face.
#[pyclass(name = "Event", module = "manyhands._manyhands", subclass, frozen)]
#[derive(Debug)]
pub(crate) struct PyEvent {
    event: OnceLock<Event>,
}

#[pymethods]
impl PyEvent {
    /// Whatever a subclass is made with: `_create` or `_attach` gives the object its event.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { event: OnceLock::new() }
    }

    /// Makes a new event.
    fn _create(&self) -> PyResult<()> {
        let family = Family::current().map_err(error::family)?;
        self.be(Event::create(family).map_err(error::family)?)
    }

    /// Becomes another object of an event that a process of the family made.
    fn _attach(&self, offset: u64, generation: u32) -> PyResult<()> {
        let family = Family::current().map_err(error::family)?;
        self.be(Event::open(family, Handle { offset, generation }).map_err(error::open)?)
    }

    /// By what another process of the family opens the event.
    fn _handle(&self) -> PyResult<(u64, u32)> {
        let handle = self.event()?.handle();
        pickling::note_carried(handle);
        Ok((handle.offset, handle.generation))
    }

    /// Whether the flag is up.
    fn is_set(&self) -> PyResult<bool> {
        Ok(self.event()?.is_set())
    }

    /// Raise the flag; everybody who waits goes on.
    fn set(&self) -> PyResult<()> {
        self.event()?.set();
        Ok(())
    }

    /// Lower the flag.
    fn clear(&self) -> PyResult<()> {
        self.event()?.clear();
        Ok(())
    }

    /// Wait until the flag is up. See `manyhands.synchronize.Event`.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let event = self.event()?;
        if event.is_set() {
            return Ok(true);
        }
        let Some(deadline) = Limit::of_semaphore(true, timeout)?.deadline()? else { return Ok(false) };
        py.detach(|| event.wait_interruptibly(deadline, on_signal))
    }
}

impl PyEvent {
    fn event(&self) -> PyResult<&Event> {
        let event = self.event.get().ok_or_else(|| PyRuntimeError::new_err("Event.__init__() not called"))?;
        event.ensure_held().map_err(error::family)?;
        Ok(event)
    }

    fn be(&self, event: Event) -> PyResult<()> {
        self.event.set(event).map_err(|_| PyRuntimeError::new_err("Event.__init__() called twice"))
    }
}
