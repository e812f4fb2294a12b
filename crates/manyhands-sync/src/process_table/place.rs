//! What names a slot, a life of it, its state and its member.

use super::MOST_MEMBERS;
use super::noted::is_earlier;
use crate::taker::OwnerName;

pub(super) const FREE: u64 = 0;
pub(super) const RESERVED: u64 = 1;
pub(super) const LIVE: u64 = 2;
pub(super) const REGISTERING: u64 = 3;
pub(super) const STATE_BITS: u32 = 2;
pub(super) const STATE_MASK: u64 = (1 << STATE_BITS) - 1;
pub(super) const LIFE_MASK: u32 = (1 << 30) - 1;
/// In place of a parent's name: nobody waits for the member.
pub(super) const NO_PARENT: u32 = 0;

pub(super) fn word(parent: u32, life: u32, state: u64) -> u64 {
    u64::from(parent) << 32 | u64::from(life & LIFE_MASK) << STATE_BITS | state
}

pub(super) fn life_in(word: u64) -> u32 {
    (word >> STATE_BITS) as u32 & LIFE_MASK
}

/// Names a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotIndex(pub(super) u32);

impl SlotIndex {
    /// The slot with that number, if there is one.
    #[must_use]
    pub fn new(index: u32) -> Option<Self> {
        ((index as usize) < MOST_MEMBERS).then_some(Self(index))
    }

    /// Its number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

/// A slot in one of its lives. What is done to a place is not done to the slot's next life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The slot.
    pub index: SlotIndex,
    /// Which of its lives.
    pub life: u32,
}

impl Place {
    /// As one number, to be told to a child.
    #[must_use]
    pub fn to_number(self) -> u64 {
        u64::from(self.life) << 32 | u64::from(self.index.get())
    }

    /// Reads what [`Place::to_number`] wrote; `None` when there is no such slot.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Some(Self { index: SlotIndex::new(number as u32)?, life: (number >> 32) as u32 })
    }
}

/// How a slot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody has it.
    Free,
    /// It waits for a child that has not come.
    Reserved,
    /// A process has it, and is not known by more than its pid yet.
    Registering,
    /// A member has it.
    Live,
}

/// A slot as it was at one moment: which life, in which state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub(super) index: SlotIndex,
    pub(super) word: u64,
}

impl Seen {
    /// Which life of which slot.
    #[must_use]
    pub fn place(self) -> Place {
        Place { index: self.index, life: life_in(self.word) }
    }

    /// How it stood.
    #[must_use]
    pub fn state(self) -> State {
        match self.word & STATE_MASK {
            RESERVED => State::Reserved,
            REGISTERING => State::Registering,
            LIVE => State::Live,
            _ => State::Free,
        }
    }

    /// Whether it waits for the child that the place is reserved for.
    #[must_use]
    pub fn is_reserved(self, place: Place) -> bool {
        self.place() == place && self.state() == State::Reserved
    }

    /// The member that reserved it and decides over it while it lives; `None` when nobody waits for the slot's member.
    #[must_use]
    pub fn parent(self) -> Option<OwnerName> {
        let number = (self.word >> 32) as u32;
        (number != NO_PARENT).then(|| OwnerName::from_number(number))
    }

    pub(super) fn is_same(self, word: u64) -> bool {
        (self.word ^ word) as u32 == 0
    }
}

/// Where a member counts processes and time. A number of 0 is not known, and equals no other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// The pid namespace, as the kernel numbers it: what its pid means something in.
    pub pids: u32,
    /// The time namespace: what its time of registration means something in.
    pub clock: u32,
}

/// What a member is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its pid, as it sees it itself.
    pub pid: u32,
    /// Where that pid, and the time below, mean something.
    pub namespaces: Namespaces,
    /// When it took its slot, in clock ticks since the machine was started; `None` while it is only registering.
    pub registered_at: Option<u64>,
    /// What the kernel says of the program that it runs, to tell another one by; 0 when it does not know.
    pub image: u64,
}

/// Whether the word says that somebody has the slot in that life.
pub(super) fn is_of(word: u64, place: Place) -> bool {
    life_in(word) == place.life & LIFE_MASK && word & STATE_MASK != FREE
}

/// Who lived at a moment.
#[derive(Clone, Debug)]
pub struct Census(pub(super) Vec<u64>);

impl Census {
    /// Whether the member of that life was gone by then. Those who came later were not.
    #[must_use]
    pub fn knows_dead(&self, place: Place) -> bool {
        let Some(&word) = self.0.get(place.index.get() as usize) else { return false };
        let now = life_in(word);
        if now == place.life & LIFE_MASK { word & STATE_MASK == FREE } else { is_earlier(place.life, now) }
    }
}
