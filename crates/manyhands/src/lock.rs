//! A lock between any threads of any members of a family, which outlives the process that holds it.
//!
//! The protocol is beside the words, in `lock.rs` of manyhands-sync. What is added here: who takes (this thread), who is
//! gone (asked of the process table, then of the kernel), and that the lock is there as long as somebody holds it open.

use crate::family::{Family, FamilyError, Hold, is_gone, known_taker};
use crate::queue::OpenError;
use crate::waiting::{block, undisturbed};
use manyhands_sync::arena::Handle;
use manyhands_sync::deadline::Deadline;
pub use manyhands_sync::lock::{Dead, Look, Nature, OnOwnerDeath, OwnerName, Taken};
use manyhands_sync::lock::{HeldBy, ReleaseError, Taker, UserLock};
use manyhands_sync::notes::WaitKind;
use manyhands_sync::park::Parked;
use std::sync::Arc;

/// A lock, seen from one process.
///
/// It lives as long as somebody has it open: this value and its clones, those of other processes, and messages on their
/// way that carry its handle.
#[derive(Clone, Debug)]
pub struct Lock {
    family: Family,
    lock: &'static UserLock,
    nature: Nature,
    hold: Arc<Hold>,
}

/// Why a lock was not taken, or not released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockError {
    /// Its last holder was killed. The lock is free, and nobody else is told.
    OwnerDied(Dead),
    /// It was free when it was to be released.
    Free,
    /// It is recursive, and was to be released by a thread that does not hold it.
    NotOwner,
    /// This process is in no family, and cannot be.
    Family(FamilyError),
}

impl std::fmt::Display for LockError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OwnerDied(Dead { pid: 0, .. }) => f.write_str("the process that held the lock was killed"),
            Self::OwnerDied(Dead { pid, .. }) => {
                write!(f, "process {pid}, which held the lock, was killed")
            }
            Self::Free => f.write_str("the lock was released too many times"),
            Self::NotOwner => {
                f.write_str("a recursive lock can only be released by the thread that holds it")
            }
            Self::Family(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LockError {}

impl From<FamilyError> for LockError {
    fn from(error: FamilyError) -> Self {
        Self::Family(error)
    }
}

impl From<ReleaseError> for LockError {
    fn from(error: ReleaseError) -> Self {
        match error {
            ReleaseError::Free => Self::Free,
            ReleaseError::NotOwner => Self::NotOwner,
        }
    }
}

/// Who holds a lock, as seen by a thread that may be the holder itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody.
    Nobody,
    /// This thread.
    Me,
    /// Another thread of this process.
    OtherThread,
    /// Another process, or one that has ended and left it locked.
    OtherProcess,
}

impl Lock {
    /// A new lock, free.
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub fn create(family: &Family, nature: Nature) -> Result<Self, FamilyError> {
        let (place, hold) = family.place_shared(UserLock::new(nature))?;
        Ok(Self { family: *family, lock: place, nature, hold: Arc::new(hold) })
    }

    /// The lock with that handle.
    ///
    /// # Errors
    /// When there is no such lock (any more).
    pub fn open(family: &Family, handle: Handle) -> Result<Self, OpenError> {
        let (lock, hold) = family.open_shared::<UserLock>(handle)?;
        Ok(Self { family: *family, lock, nature: lock.nature(), hold: Arc::new(hold) })
    }

    /// Makes sure that this process holds it, as a forked child may not; see [`Hold::ensure`](crate::family::Hold::ensure).
    ///
    /// # Errors
    /// When it does not, and cannot.
    #[inline]
    pub fn ensure_held(&self) -> Result<(), FamilyError> {
        self.hold.ensure()
    }

    /// By what another member opens the lock.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.hold.handle()
    }

    /// What sort of lock it is.
    #[must_use]
    pub fn nature(&self) -> Nature {
        self.nature
    }

    /// Takes the lock if it is free, or recursive and this thread's already; whether it did. One instruction when it is
    /// free; does not look whether a holder is dead: see [`Lock::try_acquire_looking`].
    ///
    /// # Errors
    /// When this process can be in no family.
    #[inline]
    pub fn try_acquire(&self) -> Result<bool, LockError> {
        Ok(self.lock.try_take(self.nature.recursive, self.family.taker()?))
    }

    /// As [`Lock::try_acquire`], by a thread that has taken a lock before: the shortest way. `false` also when it has not.
    #[inline]
    #[must_use]
    pub fn take_at_once(&self) -> bool {
        known_taker().is_some_and(|me| self.lock.try_take(self.nature.recursive, me))
    }

    /// As [`Lock::release`], by a thread that has taken a lock before; `false` when it has not, or there is an error.
    /// Nothing has happened then.
    #[inline]
    #[must_use]
    pub fn release_at_once(&self) -> bool {
        known_taker().is_some_and(|me| self.lock.release(self.nature.recursive, me).is_ok())
    }

    /// Does something short while the lock is held, if a thread that has taken a lock before finds it free, or its own;
    /// `None`, and nothing done, if not.
    #[inline]
    pub fn holding_at_once<R>(&self, work: impl FnOnce() -> R) -> Option<R> {
        let me = known_taker()?;
        if !self.lock.try_take(self.nature.recursive, me) {
            return None;
        }
        let done = work();
        // It fails only where somebody else has released a lock that is not recursive: then it is free already.
        let _ = self.lock.release(self.nature.recursive, me);
        Some(done)
    }

    /// As [`Lock::try_acquire`], and if the lock is held, looks whether its holder is dead.
    ///
    /// # Errors
    /// As [`Lock::try_acquire`].
    pub fn try_acquire_looking(&self, look: Look) -> Result<Taken, LockError> {
        let gone = |name, look| is_gone(&self.family, name, look);
        Ok(self.lock.try_take_looking(self.family.taker()?, look, gone))
    }

    /// Waits for the lock, after a try; `false` when the deadline passed first. `on_signal` is called whenever a signal may have
    /// come; what it returns as an error ends the wait. A handler that has forked may return in the child, which waits on.
    ///
    /// # Errors
    /// What `on_signal` returned; inside, as [`Lock::acquire_by`].
    pub fn acquire_interruptibly<E>(
        &self,
        deadline: Deadline,
        on_signal: impl FnMut() -> Result<(), E>,
    ) -> Result<Result<bool, LockError>, E> {
        let gone = |name, look| is_gone(&self.family, name, look);
        let taken = block(WaitKind::Lock, self.handle().offset, deadline, on_signal, |waiting, record| {
            let me = match self.family.taker() {
                Ok(me) => me,
                Err(error) => return Parked::Done(Err(error.into())),
            };
            match self.lock.take(me, waiting, deadline, gone, |waiting| record.note(waiting)) {
                Taken::Yes | Taken::Recovered => Parked::Done(Ok(true)),
                Taken::OwnerDied(dead) => Parked::Done(Err(LockError::OwnerDied(dead))),
                Taken::No => Parked::TimedOut,
                Taken::Interrupted => Parked::Interrupted,
            }
        })?;
        Ok(taken.unwrap_or(Ok(false)))
    }

    /// Takes the lock, waiting for it; `false` when the deadline passed first. Signals do not end the wait.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] when the last holder was killed and the lock was made to say so: the caller does not hold
    /// it.
    pub fn acquire_by(&self, deadline: Deadline) -> Result<bool, LockError> {
        if self.try_acquire()? {
            return Ok(true);
        }
        let Ok(taken) = self.acquire_interruptibly(deadline, undisturbed);
        taken
    }

    /// Takes a lock that this thread has just taken again, until it has been taken so many times in all.
    ///
    /// # Errors
    /// As [`Lock::try_acquire`].
    pub fn acquire_again(&self, times: u32) -> Result<(), LockError> {
        for _ in 1..times {
            self.try_acquire()?;
        }
        Ok(())
    }

    /// Gives the lock back, once. One that is not recursive may be released by anybody.
    ///
    /// # Errors
    /// [`LockError::Free`] when nobody holds it, [`LockError::NotOwner`] when it is recursive and this thread does not.
    #[inline]
    pub fn release(&self) -> Result<(), LockError> {
        Ok(self.lock.release(self.nature.recursive, self.family.taker()?)?)
    }

    /// Whether somebody holds it.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.lock.is_locked()
    }

    /// Whether this thread holds it.
    #[must_use]
    pub fn is_mine(&self) -> bool {
        self.family.taker().is_ok_and(|me| self.lock.is_held_by(me))
    }

    /// How often its holder has taken it: 0 when nobody holds it, at most 1 when it is not recursive.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.lock.count()
    }

    /// Who holds it.
    #[must_use]
    pub fn holder(&self) -> Holder {
        let me = self.family.taker();
        match (self.lock.held_by(), me) {
            (HeldBy::Nobody, _) => Holder::Nobody,
            (HeldBy::Member(owner, ..), Ok(Taker { owner: mine, .. })) if owner == mine => {
                if self.is_mine() {
                    Holder::Me
                } else {
                    Holder::OtherThread
                }
            }
            _ => Holder::OtherProcess,
        }
    }

    /// How often a holder was killed, and somebody found out.
    #[must_use]
    pub fn deaths(&self) -> u32 {
        self.lock.deaths()
    }
}
