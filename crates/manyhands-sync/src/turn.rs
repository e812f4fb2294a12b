//! Whose turn it is: how a waiter that has slept for long gets what others take again and again.
//!
//! A lock that is free is taken by the one who comes first, and that is mostly the one who has just given it back: it runs, while
//! a waiter must first be woken. So a waiter that has waited for [`LONG_WAIT_US`], and was woken and found the lock taken again,
//! says so in the [`Stamp`] beside the lock. The next release that knows of sleepers then *reserves* the lock for those who
//! have slept, and wakes one of them. Nobody is named: each of those who have slept may take what is reserved, and after
//! [`RESERVED_FOR_US`] anybody may. So the one who was woken may die, be stopped, or be slow, and nobody waits for it for long.
//!
//! A stamp is worth one turn, and there is one turn each [`BETWEEN_TURNS_US`] at most. Between two of them the lock is taken as
//! before, without a sleep at each hand-over (20 to 50 us): a waiter waits for some milliseconds where it waited for seconds,
//! and the lock is taken hardly less often for it.
//!
//! # The word of a lock that is reserved
//! It names a slot of the upper half (bit 30) and no life, which no member ever has ([`OwnerName`](crate::taker::OwnerName)); the
//! other bits of the slot are when it was reserved, in units of about a millisecond. They come round after two seconds: one that
//! is looked at by nobody for so long is believed to be young for 10 ms more. Members in time namespaces of their own may
//! find it too old at once.

use crate::memory::Shareable;
use crate::primitive::{AtomicU32, Ordering, microseconds};
use crate::taker::LIFE_BITS;

/// So long a waiter waits before it asks for a turn.
pub(crate) const LONG_WAIT_US: u32 = if cfg!(loom) { 0 } else { 1_000 };
/// So long after a turn there is no other one.
const BETWEEN_TURNS_US: u32 = if cfg!(loom) { 0 } else { 1_500 };
/// So long only those who have slept take what is reserved.
pub(crate) const RESERVED_FOR_US: u32 = 10_000;

/// A slot of the upper half.
const UPPER: u32 = 1 << 30;
const NO_LIFE: u32 = (1 << LIFE_BITS) - 1;
const TIMES: u32 = (1 << (30 - LIFE_BITS)) - 1;
/// A unit of a reservation's time is 1,024 us.
const UNIT_BITS: u32 = 10;

/// The word of a lock that is reserved from then on.
pub(crate) fn reserved(now: u32) -> u32 {
    UPPER | (now >> UNIT_BITS & TIMES) << LIFE_BITS
}

/// Whether that is the word of a lock that is reserved; bit 31 is the lock's.
#[inline]
pub(crate) fn is_reserved(word: u32) -> bool {
    word & (UPPER | NO_LIFE) == UPPER
}

/// Whether the reservation with that word is so old that anybody may take the lock.
pub(crate) fn is_over(word: u32) -> bool {
    let now = microseconds() >> UNIT_BITS;
    now.wrapping_sub(word >> LIFE_BITS) & TIMES > RESERVED_FOR_US >> UNIT_BITS
}

/// Whether somebody has waited for long, and asks for a turn. Lies beside a lock.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Stamp {
    asked: AtomicU32,
    /// When there last was a turn, in microseconds.
    last: AtomicU32,
}

// SAFETY: repr(C), atomics only, any bit pattern is a valid state.
#[allow(unsafe_code)]
unsafe impl Shareable for Stamp {}

impl Stamp {
    pub(crate) fn new() -> Self {
        Self { asked: AtomicU32::new(0), last: AtomicU32::new(0) }
    }

    /// A waiter has waited for long.
    pub(crate) fn set(&self) {
        self.asked.store(1, Ordering::Relaxed);
    }

    /// It, or another one, has got its turn.
    pub(crate) fn clear(&self) {
        self.asked.store(0, Ordering::Relaxed);
    }

    /// The time, if somebody is to have its turn now: if somebody asks for it, and the last one was long enough ago.
    #[inline]
    pub(crate) fn turn(&self) -> Option<u32> {
        if self.asked.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let now = microseconds();
        if now.wrapping_sub(self.last.load(Ordering::Relaxed)) < BETWEEN_TURNS_US {
            return None;
        }
        self.last.store(now, Ordering::Relaxed);
        Some(now)
    }
}

/// Until when what can be taken is reserved, where a word of its own says so. Lies beside a [`Stamp`].
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Reservation(AtomicU32);

// SAFETY: one atomic word, any bit pattern is a valid state.
#[allow(unsafe_code)]
unsafe impl Shareable for Reservation {}

impl Reservation {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// From then on.
    pub(crate) fn begin(&self, now: u32) {
        self.0.store(now | 1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether there is one that is not over.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        match self.0.load(Ordering::Relaxed) {
            0 => false,
            since => is_younger(since),
        }
    }
}

#[cold]
fn is_younger(since: u32) -> bool {
    microseconds().wrapping_sub(since & !1) < RESERVED_FOR_US
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::process_table::{MOST_MEMBERS, SlotIndex};
    use crate::taker::OwnerName;
    use std::time::Duration;

    #[test]
    fn a_reservation_is_nobodys_name() {
        for slot in [0, 1, 2047, MOST_MEMBERS as u32 - 1].map(|index| SlotIndex::new(index).expect("a slot"))
        {
            for life in [0, 1, NO_LIFE - 1, NO_LIFE, NO_LIFE + 1] {
                let name = OwnerName::new(slot, life).to_number();
                assert!(!is_reserved(name) && !is_reserved(name | 1 << 31), "{name:#x}");
            }
        }
        assert!(!is_reserved(0) && !is_reserved(1 << 31));
        let word = reserved(microseconds());
        assert!(is_reserved(word) && is_reserved(word | 1 << 31) && word & 1 << 31 == 0);
    }

    #[test]
    fn a_reservation_is_over_after_a_while_whatever_it_says() {
        let word = reserved(microseconds());
        assert!(!is_over(word));
        let later = (word >> LIFE_BITS).wrapping_add(1) & TIMES;
        assert!(is_over(later << LIFE_BITS | UPPER), "of the future");
        std::thread::sleep(Duration::from_micros(u64::from(RESERVED_FOR_US) + 2_000));
        assert!(is_over(word) && is_over(word | 1 << 31));
    }

    #[test]
    fn a_turn_is_given_once_in_a_while_to_somebody_who_asks() {
        let stamp = Stamp::new();
        assert_eq!(stamp.turn(), None);
        stamp.set();
        let first = stamp.turn().expect("asked for");
        let soon = stamp.turn();
        assert!(soon.is_none_or(|again| again.wrapping_sub(first) >= BETWEEN_TURNS_US));
        std::thread::sleep(Duration::from_micros(u64::from(BETWEEN_TURNS_US) + 100));
        assert!(stamp.turn().is_some());
        stamp.clear();
        std::thread::sleep(Duration::from_micros(u64::from(BETWEEN_TURNS_US) + 100));
        assert_eq!(stamp.turn(), None);
    }

    #[test]
    fn a_reservation_beside_a_word_ends_by_itself() {
        let reservation = Reservation::new();
        assert!(!reservation.is_on());
        reservation.begin(microseconds());
        assert!(reservation.is_on());
        reservation.end();
        assert!(!reservation.is_on());
        reservation.begin(microseconds().wrapping_sub(RESERVED_FOR_US + 1));
        assert!(!reservation.is_on());
        // Of a clock that goes before this one.
        reservation.begin(microseconds().wrapping_add(1_000_000));
        assert!(!reservation.is_on());
    }
}
