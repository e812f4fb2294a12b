//! A wait for a robust mutex in slices: between two of them its waiter looks around, for signals and for its deadline.
//!
//! A holder that is stopped (`SIGSTOP`, a debugger, a freezer) keeps a mutex that is held for microseconds else for as long as
//! it is stopped. One who must hear of signals meanwhile, or must not wait for ever, comes with a [`Slices`], is told `Busy`
//! at the end of each slice, and comes again. What a wait without looks keeps on its stack lies here from slice to slice:
//! whether the waiter has closed the turnstile, so that it opens it when it has the mutex or gives up, and whether it still
//! sleeps for one and the same holder.

use super::RobustMutex;
use crate::deadline::Deadline;
use crate::primitive::{AtomicU32, Ordering};
#[cfg(not(loom))]
use core::time::Duration;
use std::sync::OnceLock;

/// One wait, over all of its slices. For one mutex: of another one it is a wait that never closes the turnstile.
///
/// When it is dropped, the waiter has given up.
#[derive(Debug)]
pub struct Slices {
    #[cfg_attr(loom, allow(dead_code))] // a model has no clock
    deadline: Deadline,
    /// How many have come to their end.
    ended: AtomicU32,
    /// How many of them, up to the last, have found one and the same holder.
    lost: AtomicU32,
    /// The mutex whose turnstile it has closed, once it has.
    mutex: OnceLock<&'static RobustMutex>,
    /// 1 while the turnstile is closed, as far as this waiter knows.
    closed: AtomicU32,
}

impl Slices {
    /// A wait that has not begun. No slice is longer than what is left until `deadline`; behind it the mutex is only tried.
    #[must_use]
    pub fn new(deadline: Deadline) -> Self {
        Self {
            deadline,
            ended: AtomicU32::new(0),
            lost: AtomicU32::new(0),
            mutex: OnceLock::new(),
            closed: AtomicU32::new(0),
        }
    }

    /// How many have come to their end.
    #[must_use]
    pub fn ended(&self) -> u32 {
        self.ended.load(Ordering::Relaxed)
    }

    /// What was waited for is there: another wait begins.
    #[inline]
    pub fn start_over(&self) {
        if self.ended() != 0 {
            self.open();
            self.ended.store(0, Ordering::Relaxed);
            self.lost.store(0, Ordering::Relaxed);
        }
    }

    /// For how long the next one may last; `None` when the deadline has passed.
    #[cfg(not(loom))]
    pub(super) fn next(&self, longest: Duration) -> Option<Duration> {
        self.deadline.slice(longest)
    }

    #[cfg(not(loom))]
    pub(super) fn lost(&self) -> u32 {
        self.lost.load(Ordering::Relaxed)
    }

    /// One has come to its end, and found that holder.
    pub(super) fn end(&self, same_holder: bool) {
        self.ended.store(self.ended().saturating_add(1), Ordering::Relaxed);
        self.lost
            .store(if same_holder { self.lost.load(Ordering::Relaxed) + 1 } else { 0 }, Ordering::Relaxed);
    }

    /// The turnstile of that mutex is closed in this waiter's name.
    #[cfg(not(loom))]
    pub(super) fn has_closed(&self, mutex: &'static RobustMutex) {
        if core::ptr::eq(*self.mutex.get_or_init(|| mutex), mutex) {
            self.closed.store(1, Ordering::Relaxed);
        }
    }

    /// The waiter has the mutex, or waits no more.
    #[inline]
    pub(super) fn open(&self) {
        if self.closed.load(Ordering::Relaxed) != 0 {
            self.open_closed();
        }
    }

    #[cold]
    fn open_closed(&self) {
        self.closed.store(0, Ordering::Relaxed);
        if let Some(mutex) = self.mutex.get() {
            mutex.open_turnstile();
        }
    }
}

impl Drop for Slices {
    fn drop(&mut self) {
        self.open();
    }
}
