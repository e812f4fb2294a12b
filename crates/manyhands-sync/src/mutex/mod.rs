//! The lock inside shared memory that survives its holder.
//!
//! # Protocol
//! A robust, process-shared pthread mutex. When a holder's thread dies, the kernel marks the word and the next
//! one who locks is told. `RobustMutex::lock` then runs the structure's *repair* (which must be idempotent: the
//! repairer may die too, and then the next one repairs), declares the lock consistent and goes on.
//!
//! The mutex's own words lie in shared memory like everything else, and glibc believes them: `words.rs` says which are
//! looked at before it is asked. A mutex that was damaged gives `Corrupted`, for ever. One whose holder cannot be found
//! is damaged only where every holder could be: see [`ask_for_the_unseen`].
//!
//! A repair that fails (the words of the lock make no sense) leaves a lock that everybody is told is `Corrupted`, never one
//! that everybody waits for.
//!
//! A holder may be stopped. Who waits for ever waits for it; who must hear of signals or has a deadline waits in slices
//! ([`Slices`]), and looks around at the end of each.
//!
//! Before it stands a turnstile (`turnstile.rs`), at which those who come keep off for a moment where somebody has waited for long.
//! Opening it may be a system call under the lock, at most one for each waiter that has waited for long.
//!
//! Rules for every critical section: no allocation, no system call, no call back into the caller's code; short
//! enough that a waiter may spin; locks are let go in the reverse order. (The arena's `room` lock is held for
//! milliseconds, while somebody looks through all of the memory: only those wait for it who would do the same.) Members of
//! a family come from glibc's `fork` or from `exec` only: a raw
//! `clone` breaks the ownership the kernel records.

#[cfg(loom)]
mod double;
#[cfg(not(loom))]
mod pthread;
mod slices;
mod turnstile;
#[cfg(not(loom))]
mod words;

#[cfg(loom)]
use double::Links;
#[cfg(loom)]
pub use double::RobustMutex;
#[cfg(not(loom))]
pub use pthread::RobustMutex;
pub use slices::Slices;
pub use turnstile::Turnstile;
#[cfg(not(loom))]
use words::Links;

use core::marker::PhantomData;

/// In debug builds: how many locks this thread holds, so that a wait under one is found by every test that runs it.
#[cfg(all(debug_assertions, not(loom)))]
mod held {
    thread_local! {
        static COUNT: core::cell::Cell<i32> = const { core::cell::Cell::new(0) };
    }

    pub(super) fn add(change: i32) {
        COUNT.set(COUNT.get() + change);
    }

    /// Nobody waits for others while others wait for a lock.
    pub(crate) fn assert_none() {
        assert_eq!(COUNT.get(), 0, "a wait while holding a lock in shared memory");
    }
}

#[cfg(not(all(debug_assertions, not(loom))))]
mod held {
    #[inline(always)]
    pub(super) const fn add(_change: i32) {}

    #[inline(always)]
    pub(crate) const fn assert_none() {}
}

pub(crate) use held::assert_none as assert_none_held;

/// Whether a lock may be held by a thread that this process cannot see, as its user has said how to find out.
#[cfg(not(loom))]
static MAY_BE_UNSEEN: std::sync::OnceLock<fn() -> bool> = std::sync::OnceLock::new();

/// Says how this process finds out whether somebody who shares its memory may be unseen from here: by a number of a thread
/// of theirs nobody, or another one, is found. A lock whose word names nobody is damaged only where that cannot be; until
/// something is said, it cannot be. Called in the middle of a wait for a lock: it must not take one. The first one stays.
#[cfg(not(loom))]
pub fn ask_for_the_unseen(may_be_unseen: fn() -> bool) {
    let _ = MAY_BE_UNSEEN.set(may_be_unseen);
}

/// Why a lock was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockError {
    /// Somebody else holds it, for longer than a try is willing to wait.
    Busy,
    /// The words of the lock make no sense; the structure it guards must not be touched again.
    Corrupted,
}

/// Who holds a lock, for somebody who only looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The thread with that number of the kernel's.
    Thread(u32),
    /// A thread that has died: the next one who locks is told, and repairs.
    Dead,
}

/// A held lock; dropping it unlocks.
#[must_use]
#[derive(Debug)]
pub struct Guard<'a> {
    mutex: &'a RobustMutex,
    /// What this thread held before: unlocking goes back to it.
    links: Links,
    // A pthread mutex is unlocked by the thread that locked it: keep the guard in that thread.
    in_this_thread: PhantomData<*const ()>,
}

impl<'a> Guard<'a> {
    fn new(mutex: &'a RobustMutex, links: Links) -> Self {
        held::add(1);
        Self { mutex, links, in_this_thread: PhantomData }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        held::add(-1);
        #[cfg(loom)]
        if crate::primitive::dying() {
            return self.mutex.holder_dies();
        }
        self.mutex.unlock(self.links);
    }
}

impl RobustMutex {
    /// Takes the lock if that is possible within about a microsecond; `repair` runs when the last holder died.
    ///
    /// # Errors
    /// `Busy` when somebody else holds it, `Corrupted` when it cannot be a lock.
    // What it returns is large: moved, it would be read again before it has been written.
    #[inline(always)]
    pub(crate) fn try_lock(&self, repair: impl FnOnce()) -> Result<Guard<'_>, LockError> {
        if self.keeps_off() {
            return Err(LockError::Busy);
        }
        let links = Links::now();
        let owner_died = self.try_acquire()?;
        self.finish(owner_died, links, repair)
    }

    /// Takes the lock, waiting for as long as its holder lives. Critical sections last microseconds, so this
    /// does not look at signals or deadlines: behind a holder that is stopped it waits for as long as that is.
    ///
    /// # Errors
    /// `Corrupted` when it cannot be a lock.
    #[inline(always)]
    pub(crate) fn lock(&self, repair: impl FnOnce()) -> Result<Guard<'_>, LockError> {
        self.pass();
        let links = Links::now();
        let owner_died = match self.try_acquire() {
            Err(LockError::Busy) => self.acquire()?,
            other => other?,
        };
        self.finish(owner_died, links, repair)
    }

    /// As `lock`, for one slice (10 ms the first, 50 ms each other one), and no longer than the deadline of `slices`: for one
    /// who looks around, and comes again with the same ones.
    ///
    /// # Errors
    /// `Busy` at the end of the slice, `Corrupted` when it cannot be a lock.
    #[inline(always)]
    pub(crate) fn lock_slice(
        &'static self,
        slices: &Slices,
        repair: impl FnOnce(),
    ) -> Result<Guard<'static>, LockError> {
        self.pass_once(slices);
        let links = Links::now();
        let owner_died = match self.try_acquire() {
            Err(LockError::Busy) => self.acquire_slice(slices)?,
            other => other?,
        };
        slices.open();
        self.finish(owner_died, links, repair)
    }

    /// As `try_lock`, for everybody: a mutex that moved or went away while its holder forgot the guard would leave the
    /// thread's list of held locks leading nowhere, so only one that stays for ever is locked from outside of this crate.
    ///
    /// # Errors
    /// `Busy` when somebody else holds it, `Corrupted` when it cannot be a lock.
    pub fn try_lock_placed(&'static self, repair: impl FnOnce()) -> Result<Guard<'static>, LockError> {
        self.try_lock(repair)
    }

    /// As `lock`, for everybody: see [`RobustMutex::try_lock_placed`].
    ///
    /// # Errors
    /// `Corrupted` when it cannot be a lock.
    pub fn lock_placed(&'static self, repair: impl FnOnce()) -> Result<Guard<'static>, LockError> {
        self.lock(repair)
    }

    /// As `lock_slice`, for everybody: see [`RobustMutex::try_lock_placed`].
    ///
    /// # Errors
    /// `Busy` at the end of the slice, `Corrupted` when it cannot be a lock.
    pub fn lock_slice_placed(
        &'static self,
        slices: &Slices,
        repair: impl FnOnce(),
    ) -> Result<Guard<'static>, LockError> {
        self.lock_slice(slices, repair)
    }

    #[inline(always)]
    fn finish(&self, owner_died: bool, links: Links, repair: impl FnOnce()) -> Result<Guard<'_>, LockError> {
        // Before the repair: should that fail, unlocking what was not declared consistent makes the lock one that
        // everybody is told cannot be had, instead of one that everybody waits for.
        let guard = Guard::new(self, links);
        if owner_died {
            self.repaired_by(repair)?;
        }
        Ok(guard)
    }

    #[cold]
    fn repaired_by(&self, repair: impl FnOnce()) -> Result<(), LockError> {
        repair();
        self.make_consistent()
    }
}
