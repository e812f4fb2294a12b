//! What a signal handler raises while the pool's own work is being done: it must not be taken for what an item of the
//! user's raised, nor leave that work half done.
//!
//! The work is done once more, and what was raised is kept until the wait around it ends, which raises it. A second
//! failure is the work's own, unless it, too, has come through the code of a handler.

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

    /// Does `work`; once more if a signal's handler may have raised what it raised, and again while one surely has.
    pub(super) fn firmly<T>(&self, py: Python<'_>, mut work: impl FnMut() -> PyResult<T>) -> PyResult<T> {
        let first = match work() {
            Err(error) if self.says(py, "may_have_raised", &error) => error,
            done => return done,
        };
        for _ in 1..MOST_TRIES {
            match work() {
                Err(error) if self.says(py, "surely_raised", &error) => {}
                Err(own) => {
                    if self.says(py, "surely_raised", &first) {
                        self.hold(first);
                    }
                    return Err(own);
                }
                done => {
                    self.hold(first);
                    return done;
                }
            }
        }
        Err(first)
    }

    /// What `manyhands._handlers` says of what was raised.
    fn says(&self, py: Python<'_>, what: &str, error: &PyErr) -> bool {
        // With its traceback, before 3.12.
        let error = error.clone_ref(py).into_value(py);
        let handlers = py.import("manyhands._handlers");
        let answer = handlers.and_then(|handlers| handlers.call_method1(what, (error,))?.is_truthy());
        answer.unwrap_or_else(|raised| {
            // By a handler, in there.
            self.hold(raised);
            true
        })
    }

    /// Does `work`, whose errors say what is to be done next; once more if what it raised is no `Exception`.
    pub(super) fn unless_refused<T>(
        &self,
        py: Python<'_>,
        mut work: impl FnMut() -> PyResult<T>,
    ) -> PyResult<T> {
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
