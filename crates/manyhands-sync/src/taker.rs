//! Who takes locks, as a lock's words name them.

use crate::process_table::{MOST_MEMBERS, SlotIndex};

/// How many bits of a name are made of its slot's life.
pub(crate) const LIFE_BITS: u32 = 19;
const LIVES: u32 = (1 << LIFE_BITS) - 1;
/// The bits of a name: a lock has another use for the highest one.
const NAME: u32 = (1 << 31) - 1;

const _: () = assert!(MOST_MEMBERS <= 1 << 12);

/// A member, as a lock's word names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnerName(pub(crate) u32);

impl OwnerName {
    /// The name of the member that lives in that slot in that life; never the word of a free lock.
    #[must_use]
    pub fn new(slot: SlotIndex, life: u32) -> Self {
        Self(slot.get() << LIFE_BITS | (life % LIVES + 1))
    }

    /// The name as a number that is not 0.
    #[must_use]
    pub fn to_number(self) -> u32 {
        self.0
    }

    /// Reads what [`OwnerName::to_number`] wrote.
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        Self(number & NAME)
    }

    /// The slot of the member that is named; `None` when the word was damaged.
    #[must_use]
    pub fn slot(self) -> Option<SlotIndex> {
        SlotIndex::new(self.0 >> LIFE_BITS)
    }

    /// Whether that is the name of who lived in its slot in that life.
    #[must_use]
    pub fn is_of(self, life: u32) -> bool {
        self.0 & LIVES == life % LIVES + 1
    }
}

/// A thread that takes and releases locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taker {
    /// Its process.
    pub owner: OwnerName,
    /// Its process's id and its own number of the kernel's, one above the other; never 0.
    pub thread: u64,
}

impl Taker {
    /// The thread with that number, of the process with that id.
    #[must_use]
    pub fn new(owner: OwnerName, pid: u32, thread: u32) -> Self {
        Self { owner, thread: u64::from(pid) << 32 | u64::from(thread) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_one_life_of_one_slot_and_never_that_of_a_free_lock() {
        let slots = [0, 1, MOST_MEMBERS as u32 - 1].map(|index| SlotIndex::new(index).expect("a slot"));
        for slot in slots {
            for life in [0, 1, LIVES - 1, LIVES, LIVES + 1, (1 << 30) - 1] {
                let name = OwnerName::new(slot, life);
                assert!(name.to_number() != 0 && name.to_number() & NAME == name.to_number());
                assert!(name.to_number() & LIVES != 0, "no life at all is what a kept lock has");
                assert_eq!((name.slot(), name.is_of(life)), (Some(slot), true));
                assert!(!name.is_of(life + 1));
                assert_eq!(OwnerName::from_number(name.to_number()), name);
            }
        }
        assert_ne!(OwnerName::new(slots[0], 5), OwnerName::new(slots[1], 5));
    }
}
