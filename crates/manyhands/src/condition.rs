//! Waiting, with a lock let go of, until somebody who holds that lock says that something has changed.
//!
//! The protocol is in `condition.rs` of manyhands-sync. What is added here: letting go of the lock, however often it was
//! taken, and taking it again. A lock whose holder was killed says so when it is taken again, as in any other place.

use crate::family::{Family, FamilyError, Hold};
use crate::lock::{Lock, LockError};
use crate::queue::OpenError;
use crate::waiting::{block, undisturbed};
use manyhands_sync::arena::Handle;
use manyhands_sync::condition::{TooManyWaiters, UserCondition, Waiter};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::park::Parked;
use std::sync::Arc;

/// A condition, seen from one process. It lives as a [`Lock`] does. Always use it with the same lock.
#[derive(Clone, Debug)]
pub struct Condition {
    condition: &'static UserCondition,
    hold: Arc<Hold>,
}

/// Why nobody was waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitError {
    /// This thread does not hold the lock.
    NotHeld,
    /// As many wait as can be counted: 16,383.
    TooManyWaiters,
    /// The lock was not let go of, or not taken again.
    Lock(LockError),
}

impl std::fmt::Display for WaitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotHeld => {
                f.write_str("a condition can only be waited for by the thread that holds its lock")
            }
            Self::TooManyWaiters => f.write_str("as many threads wait for the condition as can be counted"),
            Self::Lock(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for WaitError {}

impl From<LockError> for WaitError {
    fn from(error: LockError) -> Self {
        Self::Lock(error)
    }
}

impl From<TooManyWaiters> for WaitError {
    fn from(_: TooManyWaiters) -> Self {
        Self::TooManyWaiters
    }
}

/// Somebody who waits, and has let go of the lock. To be ended by [`Condition::wait`], [`Condition::give_up`] or
/// [`Condition::abandon`]; one that is dropped takes a notification with it.
#[must_use]
#[derive(Clone, Copy, Debug)]
pub struct Sleeper {
    waiter: Waiter,
    /// How often the lock had been taken.
    pub held: u32,
}

impl Condition {
    /// A new condition.
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub fn create(family: &Family) -> Result<Self, FamilyError> {
        let (condition, hold) = family.place_shared(UserCondition::new())?;
        Ok(Self { condition, hold: Arc::new(hold) })
    }

    /// The condition with that handle.
    ///
    /// # Errors
    /// When there is no such condition (any more).
    pub fn open(family: &Family, handle: Handle) -> Result<Self, OpenError> {
        let (condition, hold) = family.open_shared(handle)?;
        Ok(Self { condition, hold: Arc::new(hold) })
    }

    /// Makes sure that this process holds it, as a forked child may not; see [`Hold::ensure`](crate::family::Hold::ensure).
    ///
    /// # Errors
    /// When it does not, and cannot.
    #[inline]
    pub fn ensure_held(&self) -> Result<(), FamilyError> {
        self.hold.ensure()
    }

    /// By what another member opens the condition.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.hold.handle()
    }

    /// Begins a wait: from here on this thread can be notified, and the lock, which it holds, is free.
    ///
    /// # Errors
    /// When it does not hold the lock, or too many wait. Nothing has happened then.
    pub fn begin_wait(&self, lock: &Lock) -> Result<Sleeper, WaitError> {
        if !lock.is_mine() {
            return Err(WaitError::NotHeld);
        }
        let sleeper = Sleeper { waiter: self.condition.join()?, held: lock.count() };
        for _ in 0..sleeper.held {
            lock.release().inspect_err(|_| self.abandon(sleeper))?;
        }
        Ok(sleeper)
    }

    /// Waits until the sleeper was notified, which ends it; `false` when the deadline passed first: then the caller gives up.
    /// `on_signal` is called whenever a signal may have come; what it returns as an error ends the wait, and the sleeper still
    /// waits: the caller abandons it.
    ///
    /// # Errors
    /// What `on_signal` returned.
    pub fn wait_interruptibly<E>(
        &self,
        sleeper: Sleeper,
        deadline: Deadline,
        on_signal: impl FnMut() -> Result<(), E>,
    ) -> Result<bool, E> {
        let notified =
            block(WaitKind::Condition, self.handle().offset, deadline, on_signal, |waiting, record| {
                let waited =
                    self.condition.wait(sleeper.waiter, waiting, deadline, |waiting| record.note(waiting));
                Parked::from(waited)
            })?;
        Ok(notified.is_some())
    }

    /// The sleeper's time is over; whether it was notified after all.
    #[must_use]
    pub fn give_up(&self, sleeper: Sleeper) -> bool {
        self.condition.give_up(sleeper.waiter)
    }

    /// The sleeper does not wait any more, whether it was notified or not; another one gets the notification if it can.
    pub fn abandon(&self, sleeper: Sleeper) {
        self.condition.abandon(sleeper.waiter);
    }

    /// Waits until notified, the lock let go of meanwhile and held again afterwards; `false` when the deadline passed first.
    /// Signals do not end the wait.
    ///
    /// # Errors
    /// When this thread does not hold the lock, or it could not be taken again: see [`LockError::OwnerDied`].
    pub fn wait_by(&self, lock: &Lock, deadline: Deadline) -> Result<bool, WaitError> {
        let sleeper = self.begin_wait(lock)?;
        let Ok(notified) = self.wait_interruptibly(sleeper, deadline, undisturbed);
        let notified = notified || self.give_up(sleeper);
        lock.acquire_by(Deadline::NEVER)?;
        lock.acquire_again(sleeper.held)?;
        Ok(notified)
    }

    /// Notifies at most so many of those who wait, those who came first before others; the caller holds the lock. How many
    /// it notified: some of them may have been killed.
    pub fn notify(&self, count: u32) -> u32 {
        self.condition.notify(count)
    }

    /// Notifies everybody who waits; the caller holds the lock.
    pub fn notify_all(&self) -> u32 {
        self.condition.notify(u32::MAX)
    }

    /// How many wait and were not notified, those that were killed included.
    #[must_use]
    pub fn waiters(&self) -> u32 {
        self.condition.waiters()
    }
}
