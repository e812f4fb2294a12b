//! Words of a slot that each carry the life that they are of.
//!
//! A process that comes too late, for a place that was given up, may still write: so such a word is only ever replaced by a
//! later life's, by compare-and-swap, and read as of one life. Nobody has to wipe it for the next one.

use super::place::LIFE_MASK;
use crate::primitive::{AtomicU64, Ordering};

/// Whether the first life came before the second.
pub(super) fn is_earlier(life: u32, than: u32) -> bool {
    let by = than.wrapping_sub(life) & LIFE_MASK;
    by != 0 && by < LIFE_MASK / 2
}

/// A life, and so many bits below it.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct Tagged<const BITS: u32>(AtomicU64);

/// With 32 bits of a value.
pub(super) type Noted = Tagged<32>;
/// With as many as a life of 30 bits leaves room for.
pub(super) type Wide = Tagged<34>;

impl<const BITS: u32> Tagged<BITS> {
    const VALUE: u64 = (1 << BITS) - 1;

    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    fn word(life: u32, value: u64) -> u64 {
        u64::from(life & LIFE_MASK) << BITS | value & Self::VALUE
    }

    /// Notes a value over that of an earlier life, or over its own; `false` when a later life's is there.
    pub(super) fn note(&self, life: u32, value: u64) -> bool {
        self.replace(life, value, |_| true)
    }

    /// Notes a value over that of an earlier life, or over 0; `false` when another one is there.
    pub(super) fn note_once(&self, life: u32, value: u64) -> bool {
        self.replace(life, value, |own| own == 0)
    }

    fn replace(&self, life: u32, value: u64, may: impl Fn(u64) -> bool) -> bool {
        let mut known = self.0.load(Ordering::Acquire);
        loop {
            let of = (known >> BITS) as u32;
            let own = of == life & LIFE_MASK && may(known & Self::VALUE);
            if !own && !is_earlier(of, life) {
                return false;
            }
            let next = Self::word(life, value);
            match self.0.compare_exchange(known, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => known = now,
            }
        }
    }

    /// What was noted of that life.
    pub(super) fn of(&self, life: u32) -> Option<u64> {
        let known = self.0.load(Ordering::Acquire);
        ((known >> BITS) as u32 == life & LIFE_MASK).then_some(known & Self::VALUE)
    }

    /// Takes what was noted of that life, if it is not 0, and leaves 0.
    pub(super) fn take(&self, life: u32) -> Option<u64> {
        let value = self.of(life).filter(|&value| value != 0)?;
        let (full, empty) = (Self::word(life, value), Self::word(life, 0));
        self.0.compare_exchange(full, empty, Ordering::AcqRel, Ordering::Relaxed).ok().map(|_| value)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_replaced_by_a_later_life_only() {
        let word = Noted { 0: AtomicU64::new(0) };
        assert!(word.note(5, 50) && word.note(6, 60) && word.note(6, 61));
        assert!(!word.note(5, 51), "too late");
        assert_eq!((word.of(5), word.of(6), word.of(7)), (None, Some(61), None));
        assert!(!word.note_once(6, 62) && word.note_once(7, 70));
        assert_eq!((word.take(6), word.take(7), word.take(7)), (None, Some(70), None));
    }

    #[test]
    fn lives_come_round() {
        let last = LIFE_MASK;
        assert!(is_earlier(last, 0) && !is_earlier(0, last) && !is_earlier(3, 3));
        let word = Wide { 0: AtomicU64::new(0) };
        let step = LIFE_MASK / 2 - 1;
        assert!(word.note(step, 1) && word.note(2 * step, 2) && word.note(last - 1, (1 << 34) - 1));
        assert_eq!(word.of(last - 1), Some((1 << 34) - 1));
        assert!(word.note(0, 7) && !word.note(last, 8));
    }
}
