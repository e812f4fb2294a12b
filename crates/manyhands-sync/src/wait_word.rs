//! A word to wait on: spin, yield, then sleep in the kernel; wake only sleepers.
//!
//! # Protocol
//! Bit 0 of the word says that somebody *may* be asleep on it; the other 31 bits count wakes.
//!
//! | who | does | when |
//! |---|---|---|
//! | waiter | sets bit 0, then looks at its condition again, then sleeps while the word is unchanged | after spinning and yielding in vain |
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
use crate::mutex::assert_none_held;
use crate::primitive::{
    AtomicU32, Ordering, Slept, fence, futex_wait, futex_wake, pause, yield_now, yields_worth_trying,
};
use std::time::{Duration, Instant};

/// No sleep is longer: the price of a wake-up that died with its waker, and of an idle process (one a second).
pub const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// As a count of waiters to wake: all of them.
pub const EVERYONE: u32 = i32::MAX.unsigned_abs();

const SLEEPERS: u32 = 1;
const ONE_WAKE: u32 = 2;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The condition was seen to hold.
    Ready,
    /// The deadline passed first.
    TimedOut,
    /// A signal arrived in this thread, or a slice of the wait has passed; the condition may or may not hold.
    Interrupted,
}

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
        // Pairs with the fence in `sleep`: either we see the bit, or the sleeper sees what we published.
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

    /// Waits until `ready` holds, the deadline passes or a signal arrives.
    pub fn wait(
        &self,
        mut ready: impl FnMut() -> bool,
        patience: &mut Patience,
        deadline: Deadline,
    ) -> Waited {
        if patience.spin_and_yield(&mut ready) {
            return Waited::Ready;
        }
        self.sleep_until(ready, deadline)
    }

    /// As [`WaitWord::wait`], but "may": after [`LONGEST_SLEEP`] in vain it says `Ready`, so that the caller looks closer.
    /// What `note` returns is dropped after the sleep; when there is none, `note` is not called.
    pub fn wait_noting<N>(
        &self,
        mut ready: impl FnMut() -> bool,
        patience: &mut Patience,
        deadline: Deadline,
        note: impl FnOnce(&mut Patience) -> N,
    ) -> Waited {
        // Before any clock is read: the partner is often faster than that.
        if patience.spin_and_yield(&mut ready) {
            return Waited::Ready;
        }
        let Some(slice) = deadline.slice(LONGEST_SLEEP) else {
            return if ready() { Waited::Ready } else { Waited::TimedOut };
        };
        let _noted = note(patience);
        match self.sleep_until(ready, Deadline::after(slice)) {
            Waited::TimedOut if !deadline.passed() => Waited::Ready,
            other => other,
        }
    }

    /// Whether somebody may be asleep here, as far as one can tell without a fence.
    #[inline]
    pub fn may_have_sleepers(&self) -> bool {
        self.0.load(Ordering::Relaxed) & SLEEPERS != 0
    }

    /// As [`WaitWord::wait`], for a caller whose patience is at its end already.
    pub(crate) fn sleep_until(&self, mut ready: impl FnMut() -> bool, deadline: Deadline) -> Waited {
        loop {
            let Some(slice) = deadline.slice(LONGEST_SLEEP) else {
                return if ready() { Waited::Ready } else { Waited::TimedOut };
            };
            match self.sleep(&mut ready, slice) {
                None => return Waited::Ready,
                Some(Slept::Interrupted) => return Waited::Interrupted,
                Some(_) if ready() => return Waited::Ready,
                Some(_) => {}
            }
        }
    }

    /// What the end of a longest sleep does: whoever sleeps looks again. (loom's sleeps have no end.)
    #[cfg(loom)]
    pub(crate) fn end_slices(&self) {
        // So that nobody who is on the way falls asleep behind it.
        self.0.fetch_add(ONE_WAKE, Ordering::SeqCst);
        futex_wake(&self.0, EVERYONE);
    }

    /// One sleep of at most `slice`; `None` when `ready` held before it.
    fn sleep(&self, ready: &mut impl FnMut() -> bool, slice: Duration) -> Option<Slept> {
        assert_none_held();
        let expected = self.0.fetch_or(SLEEPERS, Ordering::SeqCst) | SLEEPERS;
        kill_point!(WaitBitSet);
        // Pairs with the fence in `wake`.
        fence(Ordering::SeqCst);
        if ready() {
            return None;
        }
        Some(futex_wait(&self.0, expected, slice))
    }
}

/// How long a process is willing to burn cycles before it sleeps, and since when it has been waiting; one per waiter,
/// not shared.
///
/// A spin of about a microsecond catches a partner that is running on another core; yields of about 50 us
/// catch one that needs this core. When both keep failing (an idle pool) they are left out, and tried again
/// now and then.
#[derive(Debug, Default)]
pub struct Patience {
    failures: u32,
    /// When the waiter first had to sleep, by whichever clock it uses; 0 while it has not.
    since: u64,
}

const SPINS: u32 = 50;
const LEAST_YIELDS: u32 = 10;
const MOST_YIELDING: Duration = Duration::from_micros(50);
const FAILURES_BEFORE_REST: u32 = 4;
const TRY_AGAIN_EVERY: u32 = 8;

impl Patience {
    /// Full patience.
    #[must_use]
    pub const fn new() -> Self {
        Self { failures: 0, since: 0 }
    }

    /// Another wait begins: what the last one was has no meaning for how long this one takes.
    pub fn start_over(&mut self) {
        self.since = 0;
    }

    /// Since when the waiter has been sleeping, waking in between included; `now` if it has not yet.
    pub fn since(&mut self, now: u64) -> u64 {
        if self.since == 0 {
            self.since = now;
        }
        self.since
    }

    /// Burns cycles until `ready` holds or patience is at its end; whether it held.
    pub fn spin_and_yield(&mut self, ready: &mut impl FnMut() -> bool) -> bool {
        if !yields_worth_trying() {
            return false;
        }
        for _ in 0..SPINS {
            if ready() {
                return true;
            }
            pause();
        }
        self.yield_unless_tired(ready)
    }

    /// As [`Patience::spin_and_yield`], for a condition that a system call looks at and that did not hold just now: it is
    /// looked at after yields only.
    pub fn only_yield(&mut self, ready: &mut impl FnMut() -> bool) -> bool {
        yields_worth_trying() && self.yield_unless_tired(ready)
    }

    fn yield_unless_tired(&mut self, ready: &mut impl FnMut() -> bool) -> bool {
        let tired = self.failures >= FAILURES_BEFORE_REST && !self.failures.is_multiple_of(TRY_AGAIN_EVERY);
        if !tired && Self::yield_until(ready) {
            self.failures = 0;
            return true;
        }
        self.failures = self.failures.wrapping_add(1).max(1);
        false
    }

    fn yield_until(ready: &mut impl FnMut() -> bool) -> bool {
        let start = Instant::now();
        let mut yields = 0;
        while yields < LEAST_YIELDS || start.elapsed() < MOST_YIELDING {
            yield_now();
            if ready() {
                return true;
            }
            yields += 1;
        }
        false
    }
}
