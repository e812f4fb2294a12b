//! A user's event: a flag, who may be asleep, and a count of how often the flag went up, in one futex word.
//!
//! # Protocol
//! Bit 0 is the flag, bit 1 says that somebody may be asleep, the other 30 bits count how often the flag went up.
//!
//! | who | does | commit |
//! |---|---|---|
//! | setter | raises a flag that is down, counts, clears bit 1; wakes everybody if bit 1 was set | the exchange |
//! | clearer | lowers the flag | the one operation |
//! | waiter | remembers the count; sets bit 1 while the flag is down, sleeps while the word is unchanged, at most [`LONGEST_SLEEP`](crate::park::LONGEST_SLEEP) at a time; goes on when the flag is up *or the count is another* | |
//!
//! So a waiter that began before the flag went up goes on, however soon it went down again. A count comes back after
//! 2^30 times: a waiter would have to miss exactly so many.
//!
//! # When somebody is killed
//! An event has no holder: what a dead process has set stays set, and nothing is ever half done.
//!
//! | killed ([kill point](crate::kill_point)) | what stays | what the others do |
//! |---|---|---|
//! | a waiter that has set bit 1 (95), or sleeps | bit 1 | the next setter makes one system call in vain |
//! | a setter that has woken nobody (96) | sleepers that were not woken | they look again after their slice |

use crate::arena::Kind;
use crate::deadline::Deadline;
use crate::kill_point;
use crate::memory::{Placed, Shareable};
use crate::park::{Announced, Waited, Waiting, park};
use crate::primitive::{AtomicU32, Ordering, futex_wake};
use crate::wait_word::EVERYONE;

const SET: u32 = 1;
const SLEEPERS: u32 = 2;
const ONE_SET: u32 = 4;

/// Placed in the arena, one for each event.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct UserEvent {
    word: AtomicU32,
}

// SAFETY: repr(C), one atomic word; any bit pattern is a state.
#[allow(unsafe_code)]
unsafe impl Shareable for UserEvent {}

// SAFETY: the only structure that is laid into blocks of this kind.
#[allow(unsafe_code)]
unsafe impl Placed for UserEvent {
    const KIND: Kind = Kind::Event;
}

/// When a wait began: how often the flag had gone up by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since(u32);

impl Default for UserEvent {
    fn default() -> Self {
        Self::new()
    }
}

impl UserEvent {
    /// An event whose flag is down.
    #[must_use]
    pub fn new() -> Self {
        Self { word: AtomicU32::new(0) }
    }

    /// Whether the flag is up.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.word.load(Ordering::Acquire) & SET != 0
    }

    /// Raises the flag; everybody who waits goes on. Whether somebody was asleep and has been woken.
    #[inline]
    pub fn set(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let up = (word & !SLEEPERS).wrapping_add(ONE_SET) | SET;
            // Also when it is up already: whoever sees it from now on sees what this process did before.
            let next = if word & SET == 0 { up } else { word };
            match self.word.compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        kill_point!(EventSet);
        word & SLEEPERS != 0 && futex_wake(&self.word, EVERYONE) != 0
    }

    /// Lowers the flag.
    #[inline]
    pub fn clear(&self) {
        self.word.fetch_and(!SET, Ordering::AcqRel);
    }

    /// The beginning of a wait; `None` when the flag is up: there is nothing to wait for.
    #[inline]
    pub fn begin_wait(&self) -> Option<Since> {
        let word = self.word.load(Ordering::Acquire);
        (word & SET == 0).then_some(Since(word))
    }

    fn came(word: u32, since: Since) -> bool {
        word & SET != 0 || (word ^ since.0) & !(SET | SLEEPERS) != 0
    }

    /// Waits until the flag is up, or was up since the wait began, until the deadline, a signal or the end of a sleep;
    /// `about_to_sleep` is called once if the wait comes to that, and what it returns is kept while it lasts. The caller
    /// looks around and calls again after [`Waited::Interrupted`].
    pub fn wait<N>(
        &self,
        since: Since,
        waiting: &mut Waiting,
        deadline: Deadline,
        about_to_sleep: impl FnOnce(&mut Waiting) -> N,
    ) -> Waited {
        let came = || Self::came(self.word.load(Ordering::Acquire), since).then_some(());
        park(&self.word, waiting, deadline, came, |_| self.announce(since), about_to_sleep).waited()
    }

    fn announce(&self, since: Since) -> Announced<()> {
        let word = self.word.load(Ordering::Acquire);
        if Self::came(word, since) {
            return Announced::Done(());
        }
        let expected = word | SLEEPERS;
        let flagged = word == expected
            || self.word.compare_exchange(word, expected, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !flagged {
            return Announced::Changed;
        }
        kill_point!(EventFlagged);
        Announced::Sleep(expected)
    }

    /// What the end of a slice does: whoever sleeps looks again. (loom's sleeps have no end.)
    #[cfg(loom)]
    pub fn end_slices(&self) {
        futex_wake(&self.word, EVERYONE);
    }
}
