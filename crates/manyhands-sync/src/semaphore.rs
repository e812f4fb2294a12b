//! A user's semaphore: a count and a flag in one futex word.
//!
//! # Protocol
//! The lower 31 bits of the word are how many may still be taken; bit 31 says that somebody may be asleep.
//!
//! | who | does | commit |
//! |---|---|---|
//! | taker | lowers the count by one, if it is not 0 | the exchange |
//! | waiter | sets bit 31 in a word whose count is 0, sleeps while it is unchanged, at most [`LONGEST_SLEEP`](crate::park::LONGEST_SLEEP) at a time | |
//! | giver | raises the count by one, if it is below the semaphore's most; wakes one if bit 31 is set | the exchange |
//! | giver | whose wake found nobody asleep: clears bit 31, then wakes everybody once more | |
//!
//! The kernel lets nobody fall asleep on a word without bit 31, since that is what it compares; whoever slept already when
//! the bit was cleared is woken by the second wake, and sets it again.
//!
//! # When somebody is killed
//! A semaphore has no holders: what was taken by somebody who is killed stays taken, as in any counting. So it is never
//! recovered, and nothing is ever half done.
//!
//! | killed ([kill point](crate::kill_point)) | what stays | what the others do |
//! |---|---|---|
//! | a taker (77) | one less | nothing |
//! | a waiter that has set the bit (78), or sleeps, or was woken and took nothing | bit 31; the count | the next wake clears it; others that sleep look again after their slice |
//! | a giver before its wake (79), or its second (80) | a sleeper that was not woken | it looks again after its slice |

use crate::arena::Kind;
use crate::deadline::Deadline;
use crate::kill_point;
use crate::memory::{Placed, Shareable};
use crate::park::{Announced, Waited, Waiting, park};
use crate::primitive::{AtomicU32, Ordering, futex_wake};
use crate::wait_word::EVERYONE;

/// The highest count there can be.
pub const MOST: u32 = i32::MAX.unsigned_abs();

const SLEEPERS: u32 = 1 << 31;

/// Placed in the arena, one for each semaphore.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct UserSemaphore {
    word: AtomicU32,
    most: AtomicU32,
}

// SAFETY: repr(C), atomics only; any bit pattern is a count.
#[allow(unsafe_code)]
unsafe impl Shareable for UserSemaphore {}

// SAFETY: the only structure that is laid into blocks of this kind.
#[allow(unsafe_code)]
unsafe impl Placed for UserSemaphore {
    const KIND: Kind = Kind::Semaphore;
}

/// The count is as high as it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl UserSemaphore {
    /// A semaphore with that count, which never exceeds `most`.
    #[must_use]
    pub fn new(count: u32, most: u32) -> Self {
        Self { word: AtomicU32::new(count & MOST), most: AtomicU32::new(most & MOST) }
    }

    /// Takes one, if there is one.
    #[inline]
    pub fn try_take(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & MOST == 0 {
                return false;
            }
            match self.word.compare_exchange(word, word - 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => {
                    kill_point!(SemaphoreTaken);
                    return true;
                }
                Err(now) => word = now,
            }
        }
    }

    /// Waits until one could be taken, the deadline, a signal or the end of a sleep; `about_to_sleep` is called once if
    /// the wait comes to that, and what it returns is kept while it lasts. [`Waited::Ready`] when one was taken.
    ///
    /// The caller calls again after [`Waited::Interrupted`], with the same `waiting`.
    pub fn take<N>(
        &self,
        waiting: &mut Waiting,
        deadline: Deadline,
        about_to_sleep: impl FnOnce(&mut Waiting) -> N,
    ) -> Waited {
        let taken = || self.try_take().then_some(());
        park(&self.word, waiting, deadline, taken, |_| self.announce(), about_to_sleep).waited()
    }

    fn announce(&self) -> Announced<()> {
        if self.try_take() {
            return Announced::Done(());
        }
        if !self.flag() {
            return Announced::Changed;
        }
        kill_point!(SemaphoreFlagged);
        Announced::Sleep(SLEEPERS)
    }

    /// Says in a word whose count is 0 that somebody may be asleep; `false` when it is not 0.
    fn flag(&self) -> bool {
        match self.word.compare_exchange(0, SLEEPERS, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => true,
            Err(word) => word == SLEEPERS,
        }
    }

    /// Gives one back; one of those who wait is woken.
    ///
    /// # Errors
    /// When the count is as high as it may be. Nothing has happened then.
    #[inline]
    pub fn give(&self) -> Result<(), TooMany> {
        let most = self.most.load(Ordering::Relaxed) & MOST;
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & MOST >= most {
                return Err(TooMany);
            }
            match self.word.compare_exchange(word, word + 1, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        kill_point!(SemaphoreGiven);
        if word & SLEEPERS != 0 {
            self.wake();
        }
        Ok(())
    }

    #[cold]
    fn wake(&self) {
        if futex_wake(&self.word, 1) != 0 {
            return;
        }
        let word = self.word.load(Ordering::Relaxed);
        let without = word & !SLEEPERS;
        if word != without
            && self.word.compare_exchange(word, without, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            kill_point!(SemaphoreCleared);
            futex_wake(&self.word, EVERYONE);
        }
    }

    /// How many may be taken.
    pub fn count(&self) -> u32 {
        self.word.load(Ordering::Relaxed) & MOST
    }

    /// The highest count there may be.
    pub fn most(&self) -> u32 {
        self.most.load(Ordering::Relaxed) & MOST
    }
}
