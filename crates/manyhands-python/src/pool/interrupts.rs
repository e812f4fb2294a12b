//! What a signal handler raises while the pool's own work is being done: it must not be taken for what an item of the
//! user's raised, nor leave that work half done.
//!
//! The work is done once more, and what was raised is kept until the wait around it ends, which raises it. A second
//! failure is the work's own.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

/// The first exception of this kind that was not raised yet, and in whose thread it came up.
#[derive(Debug, Default)]
pub(super) struct Interrupts {
    held: Mutex<Option<(ThreadId, PyErr)>>,
    /// Whether something is held: mostly not, and then no lock is needed to know.
    holds: AtomicBool,
}

/// See [`Interrupts::stubbornly`].
pub(super) const MOST_TRIES: u32 = 20;

impl Interrupts {
    fn held(&self) -> MutexGuard<'_, Option<(ThreadId, PyErr)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work`; once more if what it raised is no `Exception` (`KeyboardInterrupt`, or `SystemExit` of a handler).
    pub(super) fn firmly<T>(&self, py: Python<'_>, mut work: impl FnMut() -> PyResult<T>) -> PyResult<T> {
        let error = match work() {
            Err(error) if !error.is_instance_of::<PyException>(py) => error,
            done => return done,
        };
        let done = work()?;
        self.hold(error);
        Ok(done)
    }

    /// Does `work`, which is the same however often it is done, until it is done: a signal may come again and again, and
    /// what its handler raises may be any exception. At most so often as tells that the failure is the work's own.
    pub(super) fn stubbornly<T>(&self, py: Python<'_>, mut work: impl FnMut() -> PyResult<T>) -> PyResult<T> {
        let first = match work() {
            Err(error) => error,
            done => return done,
        };
        let mut again = Err(first.clone_ref(py));
        for _ in 0..MOST_TRIES {
            again = work();
            if again.is_ok() {
                self.hold(first);
                break;
            }
        }
        again
    }

    /// Keeps what was raised in this thread, unless something is kept already.
    pub(super) fn hold(&self, error: PyErr) {
        let mut held = self.held();
        if held.is_none() {
            *held = Some((std::thread::current().id(), error));
            self.holds.store(true, Ordering::Release);
        }
    }

    /// Whether something is held for this thread.
    pub(super) fn any(&self) -> bool {
        self.holds.load(Ordering::Acquire)
            && self.held().as_ref().is_some_and(|(thread, _)| *thread == std::thread::current().id())
    }

    /// What is held for this thread.
    pub(super) fn take(&self) -> Option<PyErr> {
        if !self.holds.load(Ordering::Acquire) {
            return None;
        }
        let mut held = self.held();
        match held.take() {
            Some((thread, error)) if thread == std::thread::current().id() => {
                self.holds.store(false, Ordering::Release);
                Some(error)
            }
            other => {
                *held = other;
                None
            }
        }
    }
}
