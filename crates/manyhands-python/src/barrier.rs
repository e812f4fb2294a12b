//! The barrier that Python sees.

use crate::arguments::{Limit, Timeout};
use crate::blocking::{self, on_signal};
use crate::error;
use crate::pickling;
use manyhands::barrier::{Arrival, Barrier, MOST_PARTIES, Outcome, Party};
use manyhands::family::Family;
use manyhands::{Deadline, Handle};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::OnceLock;

/// A barrier in shared memory; `manyhands.synchronize` gives it the standard library's face.
#[pyclass(name = "Barrier", module = "manyhands._manyhands", subclass, frozen)]
#[derive(Debug)]
pub(crate) struct PyBarrier {
    own: OnceLock<Own>,
}

#[derive(Debug)]
struct Own {
    barrier: Barrier,
    /// Whether the object has an attribute `_action` to be called.
    acts: bool,
    /// For a `wait` that is not told how long, as it was given.
    timeout: Option<Py<PyAny>>,
}

#[pymethods]
impl PyBarrier {
    /// Whatever a subclass is made with: `_create` or `_attach` gives the object its barrier.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { own: OnceLock::new() }
    }

    /// Makes a new barrier; with `acts` the last one calls the object's `_action`.
    #[pyo3(signature = (parties, acts, timeout=None))]
    fn _create(&self, parties: &Bound<'_, PyAny>, acts: bool, timeout: Option<Py<PyAny>>) -> PyResult<()> {
        let parties = number_of(parties)?;
        let family = Family::current().map_err(error::family)?;
        let barrier = Barrier::create(family, parties).map_err(error::family)?;
        self.be(Own { barrier, acts, timeout })
    }

    /// Becomes another object of a barrier that a process of the family made.
    #[pyo3(signature = (offset, generation, acts, timeout=None))]
    fn _attach(&self, offset: u64, generation: u32, acts: bool, timeout: Option<Py<PyAny>>) -> PyResult<()> {
        let family = Family::current().map_err(error::family)?;
        let barrier = Barrier::open(family, Handle { offset, generation }).map_err(error::open)?;
        self.be(Own { barrier, acts, timeout })
    }

    /// By what another process of the family opens the barrier.
    fn _handle(&self) -> PyResult<(u64, u32)> {
        let handle = self.own()?.barrier.handle();
        pickling::note_carried(handle);
        Ok((handle.offset, handle.generation))
    }

    /// The time that a `wait` has that is not told how long.
    #[getter]
    fn _timeout(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.own()?.timeout.as_ref().map(|timeout| timeout.clone_ref(py)))
    }

    /// How many wait for each other.
    #[getter]
    fn parties(&self) -> PyResult<u32> {
        Ok(self.own()?.barrier.parties())
    }

    /// How many wait at this moment.
    #[getter]
    fn n_waiting(&self) -> PyResult<u32> {
        Ok(self.own()?.barrier.waiting())
    }

    /// Whether the barrier is broken.
    #[getter]
    fn broken(&self) -> PyResult<bool> {
        Ok(self.own()?.barrier.is_broken())
    }

    /// Wait until everybody is there. See `manyhands.synchronize.Barrier`.
    #[pyo3(signature = (timeout=None))]
    fn wait(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<u32> {
        let (py, own) = (slf.py(), slf.get().own()?);
        let timeout = timeout.or(own.timeout.as_ref().map(|timeout| timeout.bind(py)));
        let party = match own.arrive(py)? {
            Arrival::Passed(party) => return Ok(party.index),
            Arrival::Acts(party) => return Self::act(slf, party),
            Arrival::Waits(party) => party,
            Arrival::Broken | Arrival::Busy(_) => return Err(broken(py)),
        };
        // As in the standard library, only who waits has a timeout.
        match deadline(timeout).and_then(|deadline| own.wait(py, party, deadline)) {
            Ok(Outcome::Passed) => Ok(party.index),
            Ok(Outcome::Broken) => Err(broken(py)),
            Err(raised) => {
                own.barrier.leave(party);
                Err(raised)
            }
        }
    }

    /// Break the barrier: who waits, or comes, gets a `BrokenBarrierError`.
    fn abort(&self) -> PyResult<()> {
        self.own()?.barrier.abort();
        Ok(())
    }

    /// Begin anew: who waits gets a `BrokenBarrierError`.
    fn reset(&self) -> PyResult<()> {
        self.own()?.barrier.reset();
        Ok(())
    }
}

impl PyBarrier {
    fn own(&self) -> PyResult<&Own> {
        let own = self.own.get().ok_or_else(|| PyRuntimeError::new_err("Barrier.__init__() not called"))?;
        own.barrier.ensure_held().map_err(error::family)?;
        Ok(own)
    }

    fn be(&self, own: Own) -> PyResult<()> {
        self.own.set(own).map_err(|_| PyRuntimeError::new_err("Barrier.__init__() called twice"))
    }

    /// Runs the action, as the last one to come, and lets everybody pass.
    fn act(slf: &Bound<'_, Self>, party: Party) -> PyResult<u32> {
        let barrier = &slf.get().own()?.barrier;
        if let Err(raised) = slf.getattr("_action").and_then(|action| action.call0()) {
            barrier.fail(party);
            return Err(raised);
        }
        match barrier.acted(party) {
            Outcome::Passed => Ok(party.index),
            Outcome::Broken => Err(broken(slf.py())),
        }
    }
}

impl Own {
    /// Comes to the barrier, waiting for one that is just being passed.
    fn arrive(&self, py: Python<'_>) -> PyResult<Arrival> {
        py.detach(|| self.barrier.arrive_interruptibly(self.acts, on_signal))?.map_err(error::family)
    }

    /// Waits for the others; what a signal handler raises ends the wait.
    fn wait(&self, py: Python<'_>, party: Party, deadline: Deadline) -> PyResult<Outcome> {
        py.detach(|| self.barrier.wait_interruptibly(party, deadline, on_signal))
    }
}

/// How many are to meet: any number that is one.
fn number_of(parties: &Bound<'_, PyAny>) -> PyResult<u32> {
    if parties.lt(1)? {
        return Err(PyValueError::new_err("parties must be > 0"));
    }
    if parties.gt(MOST_PARTIES)? {
        return Err(PyValueError::new_err(format!("parties must be <= {MOST_PARTIES}")));
    }
    let number: f64 = parties.extract()?;
    if number.fract() == 0.0 {
        Ok(number as u32)
    } else {
        Err(PyValueError::new_err("parties must be a whole number"))
    }
}

/// Until when to wait.
fn deadline(timeout: Timeout<'_, '_>) -> PyResult<Deadline> {
    Ok(Limit::of_wait_for(timeout)?.deadline()?.unwrap_or_else(|| blocking::after(0.0)))
}

/// `threading.BrokenBarrierError`.
fn broken(py: Python<'_>) -> PyErr {
    error::named(py, "threading", "BrokenBarrierError")
}
