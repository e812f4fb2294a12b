//! A word to wait on: spin, then sleep in the kernel; wake only sleepers.
//!
//! # Protocol
//! Bit 0 of the word says that somebody *may* be asleep on it; the other 31 bits count wakes.
//!
//! | who | does | when |
//! |---|---|---|
//! | waiter | sets bit 0, then looks at its condition again, then sleeps while the word is unchanged | after spinning in vain ([`park`]) |
//! | waker | publishes, fences, loads the word; if bit 0 is set: adds 2, wakes | after each commit |
//! | waker | clears bit 0 and counts one more wake in the same store, then wakes once more | when its wake found nobody asleep |
//!
//! The fences on both sides make it impossible that the waiter misses the publication *and* the waker misses
//! the bit. A sleeper that slipped in while the bit was being cleared is woken by the second wake. A waiter that
//! is still on its way to sleep then expects a word that never comes back: clearing counts, so that another
//! waiter who sets the bit again does not restore it (the waker in between saw no bit and woke nobody).
//!
//! # When somebody dies
//! | killed ([kill point](crate::kill_point)) | what stays | what the others do |
//! |---|---|---|
//! | a waiter that has set the bit (49), or sleeps | bit 0 | the next wake finds nobody and clears it: one wasted system call |
//! | a waker before its wake, or that has only counted it (50) | a sleeper that was not woken | it looks again after [`LONGEST_SLEEP`] |
//! | a waker that has cleared the bit, before its second wake (51) | perhaps a sleeper without the bit | it looks again after [`LONGEST_SLEEP`]; the next waiter sets the bit again |
//! | one that was woken | nothing | if it was to take something, the next wake or look finds that |

use crate::deadline::Deadline;
use crate::kill_point;
use crate::memory::Shareable;
use crate::park::{Announced, park};
pub use crate::park::{FIRST_SLEEP, LONGEST_SLEEP, Waited, Waiting};
use crate::primitive::{AtomicU32, Ordering, fence, futex_wake};

/// As a count of waiters to wake: all of them.
pub const EVERYONE: u32 = i32::MAX.unsigned_abs();

const SLEEPERS: u32 = 1;
const ONE_WAKE: u32 = 2;

/// A word in shared memory on which processes wait for each other.
#[derive(Debug)]
#[repr(transparent)]
pub struct WaitWord(AtomicU32);

// SAFETY: one atomic word, any bit pattern is a valid state.
#[allow(unsafe_code)]
unsafe impl Shareable for WaitWord {}

impl Default for WaitWord {
    fn default() -> Self {
        Self::new()
    }
}

impl WaitWord {
    /// A word nobody waits on.
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Wakes at most `count` waiters, if any may be asleep. Call it *after* publishing what they wait for.
    #[inline]
    pub fn wake(&self, count: u32) {
        // Pairs with the fence in `announce`: either we see the bit, or the sleeper sees what we published.
        fence(Ordering::SeqCst);
        self.wake_fenced(count);
    }

    /// As [`WaitWord::wake`], for a caller that has put the fence behind its publication itself.
    #[inline]
    pub fn wake_fenced(&self, count: u32) {
        if self.0.load(Ordering::Relaxed) & SLEEPERS != 0 {
            self.wake_sleepers(count);
        }
    }

    #[cold]
    fn wake_sleepers(&self, count: u32) {
        let seen = self.0.fetch_add(ONE_WAKE, Ordering::SeqCst).wrapping_add(ONE_WAKE);
        kill_point!(WaitWakeCounted);
        if futex_wake(&self.0, count) != 0 {
            return;
        }
        // Nobody was asleep: take the bit away, so that the next wake costs nothing. One more wake is counted, so
        // that nobody falls asleep on a word that was cleared and then set again by another waiter.
        let without = (seen & !SLEEPERS).wrapping_add(ONE_WAKE);
        let cleared = self.0.compare_exchange(seen, without, Ordering::SeqCst, Ordering::Relaxed);
        if cleared.is_ok() {
            kill_point!(WaitBitCleared);
            futex_wake(&self.0, EVERYONE);
        }
    }

    /// Waits until `ready` holds, the deadline, a signal or the end of a sleep; see [`park`](crate::park). What `note` returns
    /// is dropped after the sleep; when there is none, `note` is not called.
    pub fn wait<N>(
        &self,
        ready: impl Fn() -> bool,
        waiting: &mut Waiting,
        deadline: Deadline,
        note: impl FnOnce(&mut Waiting) -> N,
    ) -> Waited {
        let found = || ready().then_some(());
        park(&self.0, waiting, deadline, found, |_| self.announce(&ready), note).waited()
    }

    fn announce(&self, ready: impl Fn() -> bool) -> Announced<()> {
        let expected = self.0.fetch_or(SLEEPERS, Ordering::SeqCst) | SLEEPERS;
        kill_point!(WaitBitSet);
        // Pairs with the fence in `wake`.
        fence(Ordering::SeqCst);
        if ready() { Announced::Done(()) } else { Announced::Sleep(expected) }
    }

    /// Whether somebody may be asleep here, as far as one can tell without a fence.
    #[inline]
    pub fn may_have_sleepers(&self) -> bool {
        self.0.load(Ordering::Relaxed) & SLEEPERS != 0
    }

    /// What the end of a longest sleep does: whoever sleeps looks again. (loom's sleeps have no end.)
    #[cfg(loom)]
    pub(crate) fn end_slices(&self) {
        // So that nobody who is on the way falls asleep behind it.
        self.0.fetch_add(ONE_WAKE, Ordering::SeqCst);
        futex_wake(&self.0, EVERYONE);
    }
}
