//! The condition that Python sees, with one of our locks.

use crate::arguments::{Given, Limit, Truth};
use crate::blocking::on_signal;
use crate::error;
use crate::lock::{self, PyLock};
use crate::once::interned;
use crate::pickling;
use manyhands::condition::{Condition, Sleeper, WaitError};
use manyhands::family::Family;
use manyhands::{Deadline, Handle, LockError};
use pyo3::exceptions::{PyAssertionError, PyBaseException, PyRuntimeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict, PyInt, PyTuple};
use std::sync::OnceLock;

/// A condition in shared memory; `manyhands.synchronize` gives it the standard library's face.
#[pyclass(name = "Condition", module = "manyhands._manyhands", subclass, frozen)]
#[derive(Debug)]
pub(crate) struct PyCondition {
    parts: OnceLock<Parts>,
}

#[derive(Debug)]
struct Parts {
    condition: Condition,
    lock: Py<PyLock>,
}

#[pymethods]
impl PyCondition {
    /// Whatever a subclass is made with: `_create` or `_attach` gives the object its condition.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { parts: OnceLock::new() }
    }

    /// Makes a new condition that goes with that lock.
    fn _create(&self, lock: Py<PyLock>) -> PyResult<()> {
        let family = Family::current().map_err(error::family)?;
        self.be(Condition::create(family).map_err(error::family)?, lock)
    }

    /// Becomes another object of a condition that a process of the family made.
    fn _attach(&self, lock: Py<PyLock>, offset: u64, generation: u32) -> PyResult<()> {
        let family = Family::current().map_err(error::family)?;
        self.be(Condition::open(family, Handle { offset, generation }).map_err(error::open)?, lock)
    }

    /// By what another process of the family opens the condition; the lock goes beside it.
    fn _handle(&self) -> PyResult<(u64, u32)> {
        let handle = self.parts()?.condition.handle();
        pickling::note_carried(handle);
        Ok((handle.offset, handle.generation))
    }

    /// The lock.
    #[getter]
    fn _lock(&self, py: Python<'_>) -> PyResult<Py<PyLock>> {
        Ok(self.parts()?.lock.clone_ref(py))
    }

    /// How many wait and were not notified.
    #[getter]
    fn _waiters(&self) -> PyResult<u32> {
        Ok(self.parts()?.condition.waiters())
    }

    /// Take the lock: see `manyhands.synchronize.Lock`.
    #[pyo3(signature = (block=Truth(true), timeout=None), text_signature = "($self, block=True, timeout=None)")]
    fn acquire(&self, py: Python<'_>, block: Truth, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        PyLock::acquire(self.parts()?.lock.bind(py), block, timeout)
    }

    /// Give the lock back.
    fn release(&self) -> PyResult<()> {
        self.parts()?.lock.get().release()
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        PyLock::__enter__(self.parts()?.lock.bind(py))
    }

    /// A wait that could not take the lock again leaves by an exception, without it: then there is nothing to give back.
    #[pyo3(signature = (exception=None, _value=None, _traceback=None))]
    fn __exit__(
        &self,
        exception: Option<&Bound<'_, PyAny>>,
        _value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let lock = self.parts()?.lock.get();
        let raised = exception.is_some_and(|exception| !exception.is_none());
        if raised && !lock.lock()?.is_mine() { Ok(()) } else { lock.release() }
    }

    /// Wait until notified, without the lock. See `manyhands.synchronize.Condition`.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        if !self.parts()?.lock.get().lock()?.is_mine() {
            return Err(wait_error(WaitError::NotHeld));
        }
        self.wait_until(py, Limit::of_semaphore(true, timeout)?.deadline()?)
    }

    /// Wait until the predicate holds. See `manyhands.synchronize.Condition`.
    #[pyo3(signature = (predicate, timeout=None))]
    fn wait_for<'py>(
        slf: &Bound<'py, Self>,
        predicate: &Bound<'py, PyAny>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = predicate.py();
        let mut result = predicate.call0()?;
        if result.is_truthy()? {
            return Ok(result);
        }
        let Some(deadline) = Limit::of_wait_for(timeout)?.deadline()? else { return Ok(result) };
        while !result.is_truthy()? && !deadline.passed() {
            // By name: a subclass may have a `wait` of its own.
            let left = deadline.left().map(|left| left.as_secs_f64());
            slf.call_method1(interned!(py, "wait"), (left,))?;
            result = predicate.call0()?;
        }
        Ok(result)
    }

    /// Notify at most so many of those who wait.
    #[pyo3(signature = (n=Given(None)), text_signature = "($self, n=1)")]
    fn notify(&self, py: Python<'_>, n: Given<'_>) -> PyResult<()> {
        let parts = self.parts()?;
        if !parts.lock.get().lock()?.is_mine() {
            return Err(PyAssertionError::new_err("lock is not owned"));
        }
        let most = n.0.map_or(Ok(1), |n| how_many(py, &n, parts.condition.waiters()))?;
        parts.condition.notify(most);
        Ok(())
    }

    /// Notify everybody who waits.
    fn notify_all(slf: &Bound<'_, Self>) -> PyResult<()> {
        // By name, as `wait` in `wait_for`.
        let everybody = [("n", i64::MAX)].into_py_dict(slf.py())?;
        slf.call_method(interned!(slf.py(), "notify"), (), Some(&everybody)).map(drop)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.parts.get().map_or(Ok(()), |parts| visit.call(&parts.lock))
    }
}

impl PyCondition {
    fn parts(&self) -> PyResult<&Parts> {
        let uninitialized = || PyRuntimeError::new_err("Condition.__init__() not called");
        let parts = self.parts.get().ok_or_else(uninitialized)?;
        parts.condition.ensure_held().map_err(error::family)?;
        Ok(parts)
    }

    fn be(&self, condition: Condition, lock: Py<PyLock>) -> PyResult<()> {
        let refused = |_| PyRuntimeError::new_err("Condition.__init__() called twice");
        self.parts.set(Parts { condition, lock }).map_err(refused)
    }

    /// No deadline is no wait: the lock is let go of for a moment.
    fn wait_until(&self, py: Python<'_>, deadline: Option<Deadline>) -> PyResult<bool> {
        let parts = self.parts()?;
        let begun = parts.condition.begin_wait(parts.lock.get().lock()?);
        let sleeper = begun.map_err(wait_error)?;
        let (waited, raised) = parts.sleep(py, sleeper, deadline)?;
        if waited == Awake::WithLock {
            parts.lock.get().lock()?.acquire_again(sleeper.held).map_err(error::lock)?;
            return Ok(true);
        }
        parts.take_lock_again(py, sleeper.held, raised)?;
        Ok(waited == Awake::Notified)
    }
}

/// How many of `waiters` are to be notified where `n` are. As the standard library counts: `n` is whatever can be compared
/// with an integer.
fn how_many(py: Python<'_>, n: &Bound<'_, PyAny>, waiters: u32) -> PyResult<u32> {
    if let Ok(n) = n.cast_exact::<PyInt>() {
        return Ok(n.extract::<i64>().map_or(waiters, |n| u32::try_from(n.max(0)).unwrap_or(u32::MAX)));
    }
    let mut count = 0;
    while PyInt::new(py, count).lt(n)? && count < waiters {
        count += 1;
    }
    Ok(count)
}

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awake {
    /// Notified, and the lock was taken at once.
    WithLock,
    /// Notified.
    Notified,
    /// Its time was over.
    TimedOut,
}

impl Parts {
    /// Sleeps until notified, the deadline, or what a signal handler raises, which is returned.
    fn sleep(
        &self,
        py: Python<'_>,
        sleeper: Sleeper,
        deadline: Option<Deadline>,
    ) -> PyResult<(Awake, Option<PyErr>)> {
        let (condition, lock) = (&self.condition, self.lock.get().lock()?);
        let Some(deadline) = deadline else { return Ok((self.given_up(sleeper), None)) };
        // Both waits without the GIL once: most often the notifier is about to give the lock back.
        let woken = py.detach(|| {
            let notified = condition.wait_interruptibly(sleeper, deadline, on_signal)?;
            Ok(notified.then(|| lock.acquire_interruptibly(Deadline::NEVER, on_signal)))
        });
        match woken {
            Ok(Some(Ok(Ok(_)))) => Ok((Awake::WithLock, None)),
            Ok(Some(Ok(Err(error)))) => Err(lock::not_taken(self.lock.bind(py), error)),
            Ok(Some(Err(raised))) => Ok((Awake::Notified, Some(raised))),
            Ok(None) => Ok((self.given_up(sleeper), None)),
            Err(raised) => {
                condition.abandon(sleeper);
                Ok((Awake::TimedOut, Some(raised)))
            }
        }
    }

    fn given_up(&self, sleeper: Sleeper) -> Awake {
        if self.condition.give_up(sleeper) { Awake::Notified } else { Awake::TimedOut }
    }

    /// Takes the lock again, before anything is raised; a second exception does not wait for it any more.
    fn take_lock_again(&self, py: Python<'_>, times: u32, mut raised: Option<PyErr>) -> PyResult<()> {
        let object = self.lock.bind(py);
        let lock = object.get().lock()?;
        let mut taken = lock.try_acquire().map_err(error::lock)?;
        while !taken {
            match py.detach(|| lock.acquire_interruptibly(Deadline::NEVER, on_signal)) {
                Ok(Ok(now)) => taken = now,
                Ok(Err(error)) => return Err(during(py, lock::not_taken(object, error), raised)),
                Err(error) if raised.is_some() => return Err(during(py, error, raised)),
                Err(error) => raised = Some(error),
            }
        }
        lock.acquire_again(times).map_err(error::lock)?;
        raised.map_or(Ok(()), Err)
    }
}

/// An exception that was raised while another one was on its way.
fn during(py: Python<'_>, error: PyErr, before: Option<PyErr>) -> PyErr {
    if let Some(before) = before {
        // As the interpreter does it: the exception's class may let nobody set attributes.
        let context = py.get_type::<PyBaseException>().getattr("__context__");
        let _ = context.and_then(|it| it.call_method1("__set__", (error.value(py), before.into_value(py))));
    }
    error
}

fn wait_error(error: WaitError) -> PyErr {
    match error {
        WaitError::NotHeld => PyAssertionError::new_err("must acquire() condition before using wait()"),
        WaitError::TooManyWaiters => PyRuntimeError::new_err(error.to_string()),
        WaitError::Lock(error @ LockError::OwnerDied(_)) => PyRuntimeError::new_err(error.to_string()),
        WaitError::Lock(error) => error::lock(error),
    }
}
