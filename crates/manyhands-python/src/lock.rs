//! The lock that Python sees, recursive or not.

use crate::arguments::{Limit, Truth};
use crate::blocking::on_signal;
use crate::error;
use crate::fast_methods::Fast;
use crate::imports::import_at_need;
use crate::pickling;
use manyhands::family::Family;
use manyhands::lock::{Dead, Holder, Lock, Look, Nature, OnOwnerDeath, Taken};
use manyhands::{Deadline, Handle, LockError};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// A lock in shared memory; `manyhands.synchronize` gives it the standard library's face.
#[pyclass(name = "Lock", module = "manyhands._manyhands", subclass, frozen)]
#[derive(Debug)]
pub(crate) struct PyLock {
    lock: OnceLock<Lock>,
    /// When a try that does not wait last asked the kernel whether the holder lives; see [`PyLock::look`].
    looked: Mutex<Option<Instant>>,
}

/// Asking the kernel takes 20 us, a thousand tries: whoever tries again and again does not ask each time.
const LOOK_EVERY: Duration = Duration::from_millis(10);

#[pymethods]
impl PyLock {
    /// Whatever a subclass is made with: `_create` or `_attach` gives the object its lock.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { lock: OnceLock::new(), looked: Mutex::new(None) }
    }

    /// Makes a new lock.
    fn _create(&self, recursive: bool, on_owner_death: &str) -> PyResult<()> {
        let on_owner_death = match on_owner_death {
            "raise" => OnOwnerDeath::Raise,
            "block" => OnOwnerDeath::Block,
            "recover" => OnOwnerDeath::Recover,
            other => {
                let text = format!("on_owner_death is 'raise', 'block' or 'recover', not {other:?}");
                return Err(PyValueError::new_err(text));
            }
        };
        let family = Family::current().map_err(error::family)?;
        self.be(Lock::create(family, Nature { recursive, on_owner_death }).map_err(error::family)?)
    }

    /// Becomes another object of a lock that a process of the family made.
    fn _attach(&self, offset: u64, generation: u32) -> PyResult<()> {
        let family = Family::current().map_err(error::family)?;
        self.be(Lock::open(family, Handle { offset, generation }).map_err(error::open)?)
    }

    /// By what another process of the family opens the lock.
    fn _handle(&self) -> PyResult<(u64, u32)> {
        let handle = self.lock()?.handle();
        pickling::note_carried(handle);
        Ok((handle.offset, handle.generation))
    }

    /// Take the lock. See `manyhands.synchronize.Lock`.
    #[pyo3(signature = (block=Truth(true), timeout=None), text_signature = "($self, block=True, timeout=None)")]
    pub(crate) fn acquire(
        slf: &Bound<'_, Self>,
        block: Truth,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let lock = slf.get().lock()?;
        // As in the standard library, who has a recursive lock takes it again whatever the timeout is.
        if !(lock.nature().recursive && lock.is_mine()) {
            let limit = Limit::of_semaphore(block.0, timeout)?;
            if !lock.try_acquire().map_err(error::lock)? {
                return Self::acquire_held(slf, limit.deadline()?);
            }
            return Ok(true);
        }
        Ok(lock.try_acquire().map_err(error::lock)? || Self::acquire_held(slf, None)?)
    }

    pub(crate) fn __enter__(slf: &Bound<'_, Self>) -> PyResult<bool> {
        if slf.get().lock()?.try_acquire().map_err(error::lock)? {
            return Ok(true);
        }
        Self::acquire_held(slf, Some(Deadline::NEVER))
    }

    #[pyo3(signature = (_type=None, _value=None, _traceback=None))]
    fn __exit__(
        &self,
        _type: Option<&Bound<'_, PyAny>>,
        _value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.lock()?.release().map_err(error::lock)
    }

    /// Give the lock back.
    pub(crate) fn release(&self) -> PyResult<()> {
        self.lock()?.release().map_err(error::lock)
    }

    /// Whether somebody holds the lock.
    fn locked(&self) -> PyResult<bool> {
        Ok(self.lock()?.is_locked())
    }

    /// Whether this thread holds the lock.
    fn _is_mine(&self) -> PyResult<bool> {
        Ok(self.lock()?.is_mine())
    }

    /// How often this process has taken the lock and not released it.
    fn _count(&self) -> PyResult<u32> {
        let lock = self.lock()?;
        Ok(if matches!(lock.holder(), Holder::Me | Holder::OtherThread) { lock.count() } else { 0 })
    }
}

impl Fast for PyLock {
    #[inline]
    fn take(&self) -> bool {
        self.lock.get().is_some_and(Lock::take_at_once)
    }

    #[inline]
    fn give(&self) -> bool {
        self.lock.get().is_some_and(Lock::release_at_once)
    }

    fn ordinary() -> &'static PyOnceLock<[Py<PyAny>; 4]> {
        static ORDINARY: PyOnceLock<[Py<PyAny>; 4]> = PyOnceLock::new();
        &ORDINARY
    }
}

impl PyLock {
    /// See [`Lock::holding_at_once`].
    #[inline]
    pub(crate) fn holding_at_once<R>(&self, work: impl FnOnce() -> R) -> Option<R> {
        self.lock.get()?.holding_at_once(work)
    }

    /// As `__enter__`, for who stands in for it.
    #[inline]
    pub(crate) fn enter(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().take() { Ok(()) } else { Self::__enter__(slf).map(drop) }
    }

    /// As `release`, for who stands in for it.
    #[inline]
    pub(crate) fn leave(&self) -> PyResult<()> {
        if self.give() { Ok(()) } else { self.release() }
    }

    pub(crate) fn lock(&self) -> PyResult<&Lock> {
        let lock = self.lock.get().ok_or_else(|| PyRuntimeError::new_err("Lock.__init__() not called"))?;
        lock.ensure_held().map_err(error::family)?;
        Ok(lock)
    }

    fn be(&self, lock: Lock) -> PyResult<()> {
        self.lock.set(lock).map_err(|_| PyRuntimeError::new_err("Lock.__init__() called twice"))
    }

    /// How closely a try that does not wait looks whether the holder lives.
    fn look(&self) -> Look {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if looked.is_some_and(|then| now.saturating_duration_since(then) < LOOK_EVERY) {
            return Look::Quick;
        }
        *looked = Some(now);
        Look::Close
    }

    /// After a try that found it held; no deadline is no wait.
    #[cold]
    fn acquire_held(slf: &Bound<'_, Self>, deadline: Option<Deadline>) -> PyResult<bool> {
        let (py, lock) = (slf.py(), slf.get().lock()?);
        let taken = match deadline {
            None => match lock.try_acquire_looking(slf.get().look()).map_err(error::lock)? {
                Taken::Yes | Taken::Recovered => Ok(true),
                Taken::OwnerDied(dead) => Err(LockError::OwnerDied(dead)),
                Taken::No | Taken::Interrupted => Ok(false),
            },
            Some(deadline) => py.detach(|| lock.acquire_interruptibly(deadline, on_signal))?,
        };
        taken.map_err(|error| not_taken(slf, error))
    }
}

/// Why a lock was not taken.
pub(crate) fn not_taken(lock: &Bound<'_, PyLock>, error: LockError) -> PyErr {
    match error {
        LockError::OwnerDied(dead) => owner_died(lock, dead),
        error => error::lock(error),
    }
}

/// `manyhands.OwnerDied`. The death is told only here, so where its class cannot be imported (no descriptor is left, say),
/// it is told by the class that this one is derived from.
fn owner_died(lock: &Bound<'_, PyLock>, dead: Dead) -> PyErr {
    let pid = (dead.pid != 0).then_some(dead.pid);
    let made = lock.repr().and_then(|name| {
        import_at_need(lock.py(), "manyhands.errors")?.getattr("OwnerDied")?.call1((pid, name))
    });
    made.map_or_else(
        |refused| {
            let text = "a process was killed while it held the lock, which is free now and was not acquired";
            let told = PyRuntimeError::new_err(text);
            told.set_cause(lock.py(), Some(refused));
            told
        },
        PyErr::from_value,
    )
}
