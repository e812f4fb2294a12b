//! What stands before a robust mutex: where a waiter has slept for long, those who come later keep off for a moment.
//!
//! The mutex is the C library's, and goes to the one who comes first. It is held for microseconds, so a waiter that sleeps is
//! woken soon; but where others take it again and again it may find it taken each time. The turnstile is advice, and guards
//! nothing: everybody passes it after 10 ms, or after one sleep.
//!
//! # The word
//! 0: open. Else closed, since the time in its upper 30 bits ([`microseconds`]); bit 0 is always set, bit 1 says that somebody
//! may sleep here.
//!
//! # Protocol
//! | who | does | commit |
//! |---|---|---|
//! | waiter whose first sleep has come to its end | closes it, unless it is closed | the exchange |
//! | the same, when it has the mutex, or will wait no more (a waiter that looks around keeps it closed [from slice to slice](super::Slices)) | opens it, and wakes all who sleep here | the exchange |
//! | one that comes, and finds it closed for longer than 10 ms | opens it, and wakes all who sleep here: the one who closed it may be dead | the exchange |
//! | one that comes, and finds it closed for less than 10 ms | sets bit 1, and sleeps once, for the rest of them; then wants the mutex as all do. A try finds the mutex busy | |
//!
//! # When somebody is killed
//! | killed ([kill point](crate::kill_point)) | what stays | what the others do |
//! |---|---|---|
//! | the one that closed it (197), before or after it has the mutex (198) | it is closed | they pass after 10 ms; the first one opens it |
//! | the one that opened it, before its wake (199) | sleepers that were not woken | their sleep ends after 10 ms |
//! | one that sleeps here | bit 1 | one wasted system call |

use crate::kill_point;
use crate::memory::Shareable;
use crate::park::sleep_once;
use crate::primitive::{AtomicU32, Ordering, futex_wake, microseconds};
use crate::turn::RESERVED_FOR_US;
use crate::wait_word::EVERYONE;
use std::time::Duration;

const OPEN: u32 = 0;
const CLOSED: u32 = 1;
const SLEEPERS: u32 = 2;
const TIME: u32 = !(CLOSED | SLEEPERS);

/// A word beside a mutex.
#[derive(Debug)]
#[repr(transparent)]
pub struct Turnstile(AtomicU32);

// SAFETY: one atomic word, any bit pattern is a valid state.
#[allow(unsafe_code)]
unsafe impl Shareable for Turnstile {}

impl Default for Turnstile {
    fn default() -> Self {
        Self::new()
    }
}

impl Turnstile {
    /// An open one.
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicU32::new(OPEN))
    }

    /// Whether nobody closed it; if not, it may have been too long ago.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed) == OPEN
    }

    /// Whether those who come now keep off.
    #[cold]
    pub fn is_closed(&self) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        let closed = left(word).is_some();
        if !closed {
            self.give_up(word);
        }
        closed
    }

    /// That word was closed for longer than it counts: it is opened for the one who closed it, who may have been killed.
    fn give_up(&self, word: u32) {
        let opened =
            word != OPEN && self.0.compare_exchange(word, OPEN, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if opened && word & SLEEPERS != 0 {
            futex_wake(&self.0, EVERYONE);
        }
    }

    /// The caller has waited for long: those who come from now on keep off. Whether it closed it.
    #[cold]
    pub fn close(&self) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        if left(word).is_some() {
            return false;
        }
        let closed = microseconds() & TIME | CLOSED | word & SLEEPERS;
        let mine = self.0.compare_exchange(word, closed, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        kill_point!(TurnstileClosed);
        mine
    }

    /// The caller, who closed it, has what it waited for.
    #[cold]
    pub fn open(&self) {
        kill_point!(TurnstilePassed);
        if self.0.swap(OPEN, Ordering::Relaxed) & SLEEPERS != 0 {
            kill_point!(TurnstileOpened);
            futex_wake(&self.0, EVERYONE);
        }
    }

    /// The caller comes, and keeps off as long as it has to.
    #[cold]
    pub fn pass(&self) {
        self.pass_within(Duration::MAX);
    }

    /// As [`Turnstile::pass`], but keeps off no longer than that.
    #[cold]
    pub fn pass_within(&self, longest: Duration) {
        let word = self.0.load(Ordering::Relaxed);
        let Some(left) = left(word) else { return self.give_up(word) };
        let sleeping = word | SLEEPERS;
        let flagged = word == sleeping
            || self.0.compare_exchange(word, sleeping, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if flagged {
            sleep_once(&self.0, sleeping, left.min(longest));
        }
    }
}

/// For how long those who find that word keep off; `None` where they do not.
fn left(word: u32) -> Option<Duration> {
    let since = microseconds().wrapping_sub(word & TIME);
    // Members in time namespaces of their own may find that it was closed in the future, which is long ago.
    let left = RESERVED_FOR_US.checked_sub(since)?;
    (word & CLOSED != 0 && left > 0).then(|| Duration::from_micros(left.into()))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn those_who_come_keep_off_until_it_is_opened_or_for_a_while() {
        let turnstile = Turnstile::new();
        assert!(turnstile.is_open() && !turnstile.is_closed());
        turnstile.pass();
        assert!(turnstile.close());
        assert!(!turnstile.is_open());
        let began = Instant::now();
        turnstile.pass();
        assert!(began.elapsed() < Duration::from_secs(5), "by itself");
        while turnstile.is_closed() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(turnstile.is_open(), "for the one who closed it, who may be dead");
        assert!(turnstile.close(), "and closed anew");
        turnstile.open();
        assert!(turnstile.is_open());
    }

    #[test]
    fn no_word_keeps_anybody_off_for_long() {
        for word in [u32::MAX, CLOSED, SLEEPERS, CLOSED | SLEEPERS, microseconds() | 3] {
            let turnstile = Turnstile(AtomicU32::new(word));
            let began = Instant::now();
            turnstile.pass();
            turnstile.pass();
            assert!(began.elapsed() < Duration::from_secs(5), "{word:#x}");
        }
    }
}
