//! loom's stand-in for the robust mutex: a lock whose holder can "die" while holding it.

use super::{LockError, Slices};
use crate::memory::Shareable;
use crate::primitive::{AtomicU32, Ordering, yield_now};

const FREE: u32 = 0;
const HELD: u32 = 1;
const OWNER_DIED: u32 = 2;

/// The real one's place in its holder's list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links;

impl Links {
    pub(super) fn now() -> Self {
        Self
    }
}

/// A model of a robust mutex.
#[derive(Debug)]
pub struct RobustMutex(AtomicU32);

// SAFETY: one atomic word.
#[allow(unsafe_code)]
unsafe impl Shareable for RobustMutex {}

impl Default for RobustMutex {
    fn default() -> Self {
        Self::new()
    }
}

impl RobustMutex {
    /// An unlocked lock.
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicU32::new(FREE))
    }

    /// Makes an unlocked lock of the bytes at this place.
    pub(crate) fn lay_out(&'static self) {
        self.0.store(FREE, Ordering::Relaxed);
    }

    /// What the kernel does when the holder's thread dies: the next one who locks is told.
    pub fn holder_dies(&self) {
        self.0.store(OWNER_DIED, Ordering::Release);
    }

    /// The turnstile has a model of its own.
    pub(super) fn keeps_off(&self) -> bool {
        false
    }

    pub(super) fn pass(&self) {}

    pub(super) fn pass_once(&self, _: &Slices) {}

    pub(super) fn open_turnstile(&self) {}

    pub(super) fn try_acquire(&self) -> Result<bool, LockError> {
        match self.0.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(false),
            Err(OWNER_DIED) => {
                let taken = self.0.compare_exchange(OWNER_DIED, HELD, Ordering::Acquire, Ordering::Relaxed);
                taken.map(|_| true).map_err(|_| LockError::Busy)
            }
            Err(_) => Err(LockError::Busy),
        }
    }

    pub(super) fn acquire(&self) -> Result<bool, LockError> {
        loop {
            match self.try_acquire() {
                Err(LockError::Busy) => yield_now(),
                other => return other,
            }
        }
    }

    /// A slice: time for others, and one more try.
    pub(super) fn acquire_slice(&self, slices: &Slices) -> Result<bool, LockError> {
        yield_now();
        self.try_acquire().inspect_err(|_| slices.end(false))
    }

    pub(super) fn make_consistent(&self) -> Result<(), LockError> {
        Ok(())
    }

    pub(super) fn unlock(&self, _: Links) {
        self.0.store(FREE, Ordering::Release);
    }
}
