//! A user's semaphore: a count and a flag in one futex word.
//!
//! # Protocol
//! The lower 31 bits of the word are how many may still be taken; bit 31 says that somebody may be asleep.
//!
//! | who | does | commit |
//! |---|---|---|
//! | taker | lowers the count by one, if it is not 0 | the exchange |
//! | waiter that has slept, and waited for long | sets `stamp` before it sleeps again | |
//! | waiter | sets bit 31 in a word whose count is 0, sleeps while it is unchanged, at most [`LONGEST_SLEEP`](crate::park::LONGEST_SLEEP) at a time | |
//! | giver | raises the count by one, if it is below the semaphore's most; wakes one if bit 31 is set | the exchange |
//! | giver, where bit 31 and `stamp` are set | notes the time in `reserved` before it does that | |
//! | taker, where bit 31 is set and `reserved` is not over | takes nothing; if it waits, sleeps while the word is unchanged | |
//! | waiter that has slept | clears `reserved` and `stamp`, and lowers the count whatever they were | the exchange |
//! | giver | whose wake found nobody asleep: clears `reserved` and bit 31, then wakes everybody once more | |
//!
//! The kernel lets nobody fall asleep on a word without bit 31, since that is what it compares; whoever slept already when
//! the bit was cleared is woken by the second wake, and sets it again. One that sleeps because of `reserved` sleeps on a count
//! that is not 0: whoever takes that has cleared `reserved` before, so the word is not that any more, or was not seen with it.
//!
//! # When somebody is killed
//! A semaphore has no holders: what was taken by somebody who is killed stays taken, as in any counting. So it is never
//! recovered, and nothing is ever half done.
//!
//! | killed ([kill point](crate::kill_point)) | what stays | what the others do |
//! |---|---|---|
//! | a taker (77) | one less | nothing |
//! | a waiter that has set the bit (78), or sleeps, or was woken and took nothing | bit 31; the count | the next wake clears it; others that sleep look again after their slice |
//! | a waiter that has set the stamp (194) | `stamp` | one is reserved in vain: for who sleeps, or until the giver's wake finds nobody |
//! | a giver that has reserved one and woken nobody (195), or the one that it woke (196) | `reserved`; the count | those whose sleep has come to its end take it, and after 10 ms anybody who comes by |
//! | a giver before its wake (79), or its second (80) | a sleeper that was not woken | it looks again after its slice |

use crate::arena::Kind;
use crate::deadline::Deadline;
use crate::kill_point;
use crate::memory::{Placed, Shareable};
use crate::park::{Announced, Waited, Waiting, park};
use crate::primitive::{AtomicU32, Ordering, futex_wake};
use crate::turn::{Reservation, Stamp};
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
    /// Set by waiters that have waited for long; cleared by one that has slept and takes.
    stamp: Stamp,
    /// Keeps those off who have not slept.
    reserved: Reservation,
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
        Self {
            word: AtomicU32::new(count & MOST),
            most: AtomicU32::new(most & MOST),
            stamp: Stamp::new(),
            reserved: Reservation::new(),
        }
    }

    /// Takes one, if there is one, and it is not reserved for those who have slept.
    #[inline]
    pub fn try_take(&self) -> bool {
        self.take_unless(|word| word & SLEEPERS != 0 && self.reserved.is_on())
    }

    #[inline]
    fn take_unless(&self, kept_off: impl Fn(u32) -> bool) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & MOST == 0 || kept_off(word) {
                return false;
            }
            match self.word.compare_exchange(word, word - 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    kill_point!(SemaphoreTaken);
                    return true;
                }
                Err(now) => word = now,
            }
        }
    }

    /// As [`UserSemaphore::try_take`], by one that has slept.
    fn take_turn(&self) -> bool {
        if self.count() == 0 {
            return false;
        }
        // Before the exchange, so that nobody goes to sleep on the next word because of it.
        self.reserved.end();
        self.stamp.clear();
        self.take_unless(|_| false)
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
        park(&self.word, waiting, deadline, taken, |waiting| self.announce(waiting), about_to_sleep).waited()
    }

    fn announce(&self, waiting: &mut Waiting) -> Announced<()> {
        if waiting.was_woken() {
            kill_point!(SemaphoreWoken);
        }
        if if waiting.has_slept() { self.take_turn() } else { self.try_take() } {
            return Announced::Done(());
        }
        if waiting.has_waited_long() {
            self.stamp.set();
            kill_point!(SemaphoreStamped);
        }
        if !self.flag() {
            return self.announce_kept_off(waiting);
        }
        kill_point!(SemaphoreFlagged);
        Announced::Sleep(SLEEPERS)
    }

    /// There is one, which may be reserved.
    fn announce_kept_off(&self, waiting: &Waiting) -> Announced<()> {
        // Pairs with the exchange of the one that takes it: with its word we see that it is reserved no more.
        let word = self.word.load(Ordering::Acquire);
        let kept_off = word & MOST != 0 && word & SLEEPERS != 0 && self.reserved.is_on();
        if kept_off && !waiting.has_slept() { Announced::Sleep(word) } else { Announced::Changed }
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
        let mut turn = None;
        loop {
            if word & MOST >= most {
                if turn.is_some() {
                    self.reserved.end();
                }
                return Err(TooMany);
            }
            if word & SLEEPERS != 0 && turn.is_none() {
                turn = self.stamp.turn().inspect(|&now| self.reserved.begin(now));
            }
            match self.word.compare_exchange(word, word + 1, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        kill_point!(SemaphoreGiven);
        if turn.is_some() {
            kill_point!(SemaphoreReserved);
        }
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
        self.reserved.end();
        // A waiter that is still there asks again before it sleeps.
        self.stamp.clear();
        let word = self.word.load(Ordering::Relaxed);
        let without = word & !SLEEPERS;
        if word != without
            && self.word.compare_exchange(word, without, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            kill_point!(SemaphoreCleared);
            futex_wake(&self.word, EVERYONE);
        }
    }

    /// Whether one who comes now would have to wait: there is none, or it is reserved for those who have slept.
    pub fn is_locked(&self) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        word & MOST == 0 || word & SLEEPERS != 0 && self.reserved.is_on()
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
