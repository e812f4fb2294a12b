//! The units of the arena's memory, and what each one is: one word a unit, in a table behind the arena's header.
//!
//! | word | meaning |
//! |---|---|
//! | free | the unit belongs to nobody; or it is a later unit of a region that begins before it |
//! | region of small blocks | the unit belongs to one list; so many bytes from its start are blocks of that list |
//! | region of one block | so many units from here on are one block |
//!
//! A word is changed by one store, under the growth lock, and each store leaves a table that makes sense: there is nothing
//! to repair. Every word also has the unit's *floor*: no block that ever lay in the unit had this generation or a higher
//! one, so blocks that begin with it are told apart from all that were there before.
//!
//! The table, not what lies in the memory, says where blocks begin: bytes of a message are never taken for a block's
//! header, whatever handle leads there.

use super::size_class::{CHUNK_BYTES, CLASS_COUNT, SizeClass};
use super::{BLOCK_HEADER_BYTES, KIND_COUNT};
use crate::primitive::{AtomicU64, Ordering};

/// Memory changes from one use to another in units of this many bytes.
pub(crate) const UNIT_BYTES: u64 = if cfg!(loom) { 4 << 10 } else { 256 << 10 };
/// So many units are a chunk.
pub(super) const UNITS_A_CHUNK: u64 = CHUNK_BYTES / UNIT_BYTES;

const LIST_BITS: u32 = 8;
const DIRTY: u64 = 1 << LIST_BITS;
const WHOLE: u64 = DIRTY << 1;
const COUNT_SHIFT: u32 = LIST_BITS + 2;
const COUNT_MASK: u64 = (1 << (FLOOR_SHIFT - COUNT_SHIFT)) - 1;
const FLOOR_SHIFT: u32 = 32;

const _: () = assert!(CLASS_COUNT + KIND_COUNT < 1 << LIST_BITS);

/// What a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Free,
    /// Blocks of that list, so many bytes of them.
    Small {
        list: usize,
        carved: u64,
    },
    /// One block of that list, of so many units.
    Whole {
        list: usize,
        units: u64,
    },
}

/// A unit's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) using: Use,
    /// Whether the memory may hold something else than zeroes, and pages: of a region, when it was made.
    pub(super) dirty: bool,
    /// No block in it has had this generation yet.
    pub(super) floor: u32,
}

impl Unit {
    pub(super) fn free(floor: u32, dirty: bool) -> Self {
        Self { using: Use::Free, dirty, floor }
    }

    pub(super) fn to_word(self) -> u64 {
        let (list, whole, count) = match self.using {
            Use::Free => (0, 0, 0),
            Use::Small { list, carved } => (list as u64 + 1, 0, carved / BLOCK_HEADER_BYTES),
            Use::Whole { list, units } => (list as u64 + 1, WHOLE, units),
        };
        u64::from(self.floor) << FLOOR_SHIFT
            | (count & COUNT_MASK) << COUNT_SHIFT
            | whole
            | if self.dirty { DIRTY } else { 0 }
            | list
    }

    /// What a word means. One that makes no sense is a region that holds no block.
    pub(super) fn from_word(word: u64) -> Self {
        let count = word >> COUNT_SHIFT & COUNT_MASK;
        let using = match (word & ((1 << LIST_BITS) - 1)).checked_sub(1) {
            None => Use::Free,
            Some(list) if word & WHOLE != 0 => Use::Whole { list: list as usize, units: count },
            Some(list) => {
                Use::Small { list: list as usize, carved: (count * BLOCK_HEADER_BYTES).min(UNIT_BYTES) }
            }
        };
        Self { using, dirty: word & DIRTY != 0, floor: (word >> FLOOR_SHIFT) as u32 }
    }

    /// How many units it takes.
    pub(super) fn units(self) -> u64 {
        match self.using {
            Use::Whole { units, .. } => units.max(1),
            Use::Small { .. } | Use::Free => 1,
        }
    }

    /// The list whose block begins so far behind the unit's start, if one does.
    pub(super) fn list_of_block(self, within: u64) -> Option<usize> {
        match self.using {
            Use::Free => None,
            Use::Whole { list, .. } => (within == 0).then_some(list),
            Use::Small { list, carved } => {
                let sound = match SizeClass::from_index(list) {
                    Some(class) => class.divides(within) && within + class.block_bytes() <= carved,
                    // Blocks of a kind differ in size; what lies in one is no message.
                    None => within + BLOCK_HEADER_BYTES <= carved,
                };
                sound.then_some(list)
            }
        }
    }
}

/// The first generation of a block in a unit with that floor.
pub(super) fn first_generation(floor: u32) -> u32 {
    floor.max(1)
}

/// The table of all units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Units(pub(super) &'static [AtomicU64]);

impl Units {
    #[inline]
    pub(super) fn get(self, number: u64) -> Unit {
        let word = self.0.get(number as usize).map_or(0, |word| word.load(Ordering::Acquire));
        Unit::from_word(word)
    }

    pub(super) fn set(self, number: u64, unit: Unit) {
        if let Some(word) = self.0.get(number as usize) {
            word.store(unit.to_word(), Ordering::Release);
        }
    }

    /// The list of the block whose header begins at `start`, if one does.
    #[inline]
    pub(super) fn list_of_block(self, start: u64) -> Option<usize> {
        self.get(start / UNIT_BYTES).list_of_block(start % UNIT_BYTES)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_what_they_were_made_of() {
        let uses = [
            Use::Free,
            Use::Small { list: 0, carved: 0 },
            Use::Small { list: CLASS_COUNT + 8, carved: UNIT_BYTES },
            Use::Whole { list: CLASS_COUNT - 1, units: (1 << 38) / UNIT_BYTES },
        ];
        for using in uses {
            for (dirty, floor) in [(false, 0), (true, u32::MAX), (false, 77)] {
                let unit = Unit { using, dirty, floor };
                assert_eq!(Unit::from_word(unit.to_word()), unit);
            }
        }
        assert_eq!(Unit::from_word(0), Unit::free(0, false));
    }

    #[test]
    fn blocks_begin_where_the_table_says_and_nowhere_else() {
        let class = SizeClass::holding(100).expect("small");
        let carved = 5 * class.block_bytes();
        let unit = Unit { using: Use::Small { list: class.index(), carved }, dirty: true, floor: 3 };
        let starts: Vec<u64> = (0..UNIT_BYTES).filter(|&at| unit.list_of_block(at).is_some()).collect();
        assert_eq!(starts, (0..5).map(|n| n * class.block_bytes()).collect::<Vec<_>>());
        let whole = Unit { using: Use::Whole { list: 40, units: 3 }, dirty: false, floor: 0 };
        assert_eq!((whole.list_of_block(0), whole.list_of_block(64), whole.units()), (Some(40), None, 3));
        assert_eq!(Unit::free(9, true).list_of_block(0), None);
    }

    #[test]
    fn words_that_make_no_sense_lead_nowhere() {
        for word in [u64::MAX, 0xff, u64::MAX - 1, WHOLE | 5, WHOLE] {
            let unit = Unit::from_word(word);
            assert!(unit.units() >= 1);
            for within in (0..UNIT_BYTES).step_by(64) {
                let _ = unit.list_of_block(within);
            }
        }
    }
}
