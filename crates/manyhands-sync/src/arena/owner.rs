//! Who answers for a block: one word in its header, stored whole, so that at any instant exactly one answers.
//!
//! | owner | meaning | the block is garbage when |
//! |---|---|---|
//! | nobody | it is on a free list | never: it is free |
//! | a member | that process made it, or took it out of a ring | the member's slot is free, or in a later life |
//! | a block | it is part of that block, or lies in it: a segment of a ring, a message in a queue | that block is freed |
//! | shared | it lives as long as references to it are counted | never: who takes the last reference owns it |
//!
//! Who dies leaves its words standing; [`Arena::sweep`](super::Arena::sweep) finds them.

use super::block::{BLOCK_HEADER_BYTES, Handle};
use crate::process_table::{MOST_MEMBERS, SlotIndex};

/// Who answers for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nobody: the block is on a free list.
    Nobody,
    /// A process: its slot, and which life of the slot is meant.
    Member(SlotIndex, u32),
    /// Another block.
    Block(Handle),
    /// Whoever holds a reference.
    Shared,
}

const KIND_SHIFT: u32 = 62;
const MEMBER: u64 = 1;
const BLOCK: u64 = 2;
const SHARED: u64 = 3;
const GENERATION_BITS: u32 = 28;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;
const LIFE_BITS: u32 = 30;

impl Owner {
    /// The word that stands for it.
    #[must_use]
    pub fn to_word(self) -> u64 {
        match self {
            Self::Nobody => 0,
            Self::Member(slot, life) => {
                MEMBER << KIND_SHIFT
                    | u64::from(slot.get()) << LIFE_BITS
                    | u64::from(life & ((1 << LIFE_BITS) - 1))
            }
            Self::Block(handle) => {
                BLOCK << KIND_SHIFT
                    | (handle.offset / BLOCK_HEADER_BYTES) << GENERATION_BITS
                    | u64::from(handle.generation & GENERATION_MASK)
            }
            Self::Shared => SHARED << KIND_SHIFT,
        }
    }

    /// What a word stands for; a word that makes no sense stands for somebody who lives for ever.
    #[must_use]
    pub fn from_word(word: u64) -> Self {
        let rest = word & ((1 << KIND_SHIFT) - 1);
        match word >> KIND_SHIFT {
            0 => Self::Nobody,
            MEMBER => {
                let slot = rest >> LIFE_BITS;
                let index = u32::try_from(slot).ok().filter(|&slot| (slot as usize) < MOST_MEMBERS);
                match index.and_then(SlotIndex::new) {
                    Some(index) => Self::Member(index, (rest & ((1 << LIFE_BITS) - 1)) as u32),
                    None => Self::Shared,
                }
            }
            BLOCK => Self::Block(Handle {
                offset: (rest >> GENERATION_BITS) * BLOCK_HEADER_BYTES,
                generation: rest as u32 & GENERATION_MASK,
            }),
            _ => Self::Shared,
        }
    }
}

/// Whether a block's generation is the one that an owner word means: the word has room for its lower bits only.
pub(super) fn same_generation(of_block: u32, in_word: u32) -> bool {
    of_block & GENERATION_MASK == in_word & GENERATION_MASK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_what_they_were_made_of() {
        let slot = SlotIndex::new(MOST_MEMBERS as u32 - 1).expect("a slot");
        let block = Handle { offset: (1 << 40) - 64, generation: GENERATION_MASK };
        let owners = [Owner::Nobody, Owner::Member(slot, (1 << 30) - 1), Owner::Block(block), Owner::Shared];
        for owner in owners {
            assert_eq!(Owner::from_word(owner.to_word()), owner);
        }
    }

    #[test]
    fn senseless_words_belong_to_somebody_who_never_dies() {
        assert_eq!(Owner::from_word(MEMBER << KIND_SHIFT | u64::from(u32::MAX) << LIFE_BITS), Owner::Shared);
        assert_eq!(Owner::from_word(u64::MAX), Owner::Shared);
    }
}
