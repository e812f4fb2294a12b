//! The family's table of processes: one slot for each member.
//!
//! | state | meaning | who may change it |
//! |---|---|---|
//! | `FREE` | nobody's | anyone, to `RESERVED` |
//! | `RESERVED` | for a child that is about to start | the child, to `LIVE`; its parent, or whoever saw the parent die, to `FREE` |
//! | `LIVE` | a member runs | whoever saw it die, to `FREE` |
//!
//! State, *life* and parent are one word, changed by compare-and-swap: a child whose slot was taken back finds that out
//! when it registers, and must end. The life grows by one with each reservation; a block of the arena names its owner by
//! slot and life, so that freeing the slot makes all that its member held garbage, in one store.
//!
//! A slot names its member by pid and time of registration, so that a reused pid is told apart. The exit word of a slot
//! is written by the child itself before it ends, so that its parent knows the status even when somebody else
//! collected it from the kernel. The *luggage* is the block of references that a parent packed for its child.

use crate::arena::Handle;
use crate::kill_point;
use crate::memory::Shareable;
use crate::notes::Notes;
use crate::primitive::{AtomicU32, AtomicU64, Ordering, fence};

/// How many members a family can have at a time.
pub const MOST_MEMBERS: usize = if cfg!(loom) { 2 } else { 4096 };

const FREE: u64 = 0;
const RESERVED: u64 = 1;
const LIVE: u64 = 2;
const EXITED: u32 = 1 << 31;

/// Names a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotIndex(u32);

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

/// One member.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Slot {
    /// The parent's pid, the slot's life, the state.
    word: AtomicU64,
    pid: AtomicU32,
    exit: AtomicU32,
    registered_at: AtomicU64,
    /// Whether the member may own blocks of the arena.
    holds: AtomicU32,
    luggage_generation: AtomicU32,
    luggage_offset: AtomicU64,
    /// What the kernel says of the program that the member runs, to tell another one by; 0 when it has not noted it.
    image: AtomicU64,
    notes: Notes,
}

const STATE_BITS: u32 = 2;
const STATE_MASK: u64 = (1 << STATE_BITS) - 1;
const LIFE_MASK: u32 = (1 << 30) - 1;

fn word(parent: u32, life: u32, state: u64) -> u64 {
    u64::from(parent) << 32 | u64::from(life & LIFE_MASK) << STATE_BITS | state
}

fn life_in(word: u64) -> u32 {
    (word >> STATE_BITS) as u32 & LIFE_MASK
}

/// All slots.
#[derive(Debug)]
#[repr(C)]
pub struct ProcessTable {
    slots: [Slot; MOST_MEMBERS],
    /// How many slots were ever in use at a time: nothing lies behind them.
    used: AtomicU32,
}

// SAFETY: repr(C), atomics only; any bit pattern is some state.
#[allow(unsafe_code)]
unsafe impl Shareable for ProcessTable {}

impl ProcessTable {
    /// A table of free slots: loom's atomics are not made of zeroed bytes.
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        let slot = |_| Slot {
            word: AtomicU64::new(word(0, 0, FREE)),
            pid: AtomicU32::new(0),
            exit: AtomicU32::new(0),
            registered_at: AtomicU64::new(0),
            holds: AtomicU32::new(0),
            luggage_generation: AtomicU32::new(0),
            luggage_offset: AtomicU64::new(0),
            image: AtomicU64::new(0),
            notes: Notes::new(),
        };
        Self { slots: std::array::from_fn(slot), used: AtomicU32::new(0) }
    }

    /// Reserves a slot for a child of `parent` (a pid); `None` when all are taken.
    #[must_use]
    pub fn reserve(&self, parent: u32) -> Option<SlotIndex> {
        let mut number = 0;
        let free = |slot: &Slot| {
            number += 1;
            let seen = slot.word.load(Ordering::Relaxed);
            let next = word(parent, life_in(seen).wrapping_add(1), RESERVED);
            // Counted as used first: who looks for the dead must not miss this one.
            seen & STATE_MASK == FREE
                && self.used.fetch_max(number, Ordering::AcqRel) < u32::MAX
                && slot.word.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let index = self.slots.iter().position(free)?;
        kill_point!(SlotClaimed);
        let slot = &self.slots[index];
        slot.notes.wipe();
        slot.pid.store(0, Ordering::Relaxed);
        // Pairs with the acquires in `member`: who sees a later time of registration also sees that the pid was cleared.
        fence(Ordering::Release);
        slot.exit.store(0, Ordering::Relaxed);
        slot.registered_at.store(0, Ordering::Relaxed);
        slot.holds.store(0, Ordering::Relaxed);
        slot.luggage_offset.store(0, Ordering::Relaxed);
        slot.image.store(0, Ordering::Relaxed);
        SlotIndex::new(u32::try_from(index).ok()?)
    }

    /// The calling process takes the slot that was reserved for it in that life. `false` when it was taken back
    /// meanwhile: nobody counts on this process any more.
    #[must_use]
    pub fn register(&self, index: SlotIndex, life: u32, pid: u32, registered_at: u64) -> bool {
        let slot = self.slot(index);
        let mine = |seen: u64| seen & STATE_MASK == RESERVED && life_in(seen) == life & LIFE_MASK;
        if !mine(slot.word.load(Ordering::Acquire)) {
            return false;
        }
        slot.registered_at.store(registered_at, Ordering::Relaxed);
        slot.pid.store(pid, Ordering::Release);
        kill_point!(SlotNamed);
        self.change(index, |seen| mine(seen).then_some(seen & !STATE_MASK | LIVE))
    }

    /// Gives the slot back, once its member is known to be gone or was never started.
    pub fn release(&self, index: SlotIndex) {
        let _ = self.change(index, |seen| Some(word(0, life_in(seen), FREE)));
    }

    /// Takes a reserved slot back from a child that may not have started; `false` when it has taken the slot.
    #[must_use]
    pub fn cancel(&self, index: SlotIndex) -> bool {
        self.change(index, |seen| (seen & STATE_MASK == RESERVED).then(|| word(0, life_in(seen), FREE)))
    }

    /// Says that no process waits for the member's end, whoever reserved its slot.
    pub fn disown(&self, index: SlotIndex) {
        let _ = self.change(index, |seen| Some(word(0, life_in(seen), seen & STATE_MASK)));
    }

    fn change(&self, index: SlotIndex, next: impl Fn(u64) -> Option<u64>) -> bool {
        let word = &self.slot(index).word;
        let mut seen = word.load(Ordering::Acquire);
        loop {
            let Some(next) = next(seen) else { return false };
            match word.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// Which of its lives the slot is in.
    #[must_use]
    pub fn life(&self, index: SlotIndex) -> u32 {
        life_in(self.slot(index).word.load(Ordering::Acquire))
    }

    /// Whether the member of that life may still run, or is about to start.
    #[must_use]
    pub fn lives(&self, index: SlotIndex, life: u32) -> bool {
        let word = self.slot(index).word.load(Ordering::Acquire);
        life_in(word) == life & LIFE_MASK && word & STATE_MASK != FREE
    }

    /// Who lives now, in a form that stays as it is.
    #[must_use]
    pub fn census(&self) -> Census {
        let words = self.used().map(|index| self.slot(index).word.load(Ordering::Acquire));
        Census(words.collect())
    }

    /// Whether the slot waits for a child that has not registered.
    #[must_use]
    pub fn is_reserved(&self, index: SlotIndex) -> bool {
        self.slot(index).word.load(Ordering::Acquire) & STATE_MASK == RESERVED
    }

    /// Says that the member may own blocks of the arena from now on.
    pub fn note_holds(&self, index: SlotIndex) {
        self.slot(index).holds.store(1, Ordering::Relaxed);
    }

    /// Whether the member may own blocks of the arena.
    #[must_use]
    pub fn holds(&self, index: SlotIndex) -> bool {
        self.slot(index).holds.load(Ordering::Relaxed) != 0
    }

    /// Leaves a block of references for the child that the slot is reserved for.
    pub fn pack(&self, index: SlotIndex, luggage: Handle) {
        let slot = self.slot(index);
        slot.luggage_generation.store(luggage.generation, Ordering::Relaxed);
        slot.luggage_offset.store(luggage.offset, Ordering::Release);
        slot.holds.store(1, Ordering::Relaxed);
    }

    /// Takes what the parent packed, once.
    #[must_use]
    pub fn unpack(&self, index: SlotIndex) -> Option<Handle> {
        let slot = self.slot(index);
        let offset = slot.luggage_offset.swap(0, Ordering::AcqRel);
        (offset != 0).then(|| Handle { offset, generation: slot.luggage_generation.load(Ordering::Relaxed) })
    }

    /// Notes the exit status (as Python's `exitcode`, -128..=255) that the member is about to end with.
    pub fn note_exit(&self, index: SlotIndex, status: i32) {
        self.slot(index).exit.store(EXITED | (status.cast_unsigned() & 0xffff), Ordering::Release);
    }

    /// The exit status the member noted, if it came that far.
    #[must_use]
    pub fn noted_exit(&self, index: SlotIndex) -> Option<i32> {
        let word = self.slot(index).exit.load(Ordering::Acquire);
        (word & EXITED != 0).then(|| i32::from((word & 0xffff) as u16 as i16))
    }

    /// The member says what program it runs, as the kernel tells: `exec` makes it another one, and ends the member.
    pub fn note_image(&self, index: SlotIndex, image: u64) {
        self.slot(index).image.store(image, Ordering::Relaxed);
    }

    /// What program the member said that it runs; 0 when it did not.
    #[must_use]
    pub fn image(&self, index: SlotIndex) -> u64 {
        self.slot(index).image.load(Ordering::Relaxed)
    }

    /// The pid and time of registration of the member in the slot, while one lives there.
    #[must_use]
    pub fn member(&self, index: SlotIndex) -> Option<(u32, u64)> {
        let slot = self.slot(index);
        if slot.word.load(Ordering::Acquire) & STATE_MASK != LIVE {
            return None;
        }
        let pid = slot.pid.load(Ordering::Acquire);
        let registered_at = slot.registered_at.load(Ordering::Acquire);
        // The slot may have been given to another member meanwhile. `reserve` clears the pid first and `register`
        // writes it last, so an unchanged pid means that the time of registration is of the same member.
        (slot.pid.load(Ordering::Relaxed) == pid && pid != 0).then_some((pid, registered_at))
    }

    /// The pid of the process that reserved the slot; 0 when its member took it by itself.
    #[must_use]
    pub fn parent(&self, index: SlotIndex) -> u32 {
        (self.slot(index).word.load(Ordering::Relaxed) >> 32) as u32
    }

    /// Every slot in which a member lives.
    pub fn members(&self) -> impl Iterator<Item = SlotIndex> + '_ {
        (0..MOST_MEMBERS as u32).map(SlotIndex).filter(|&i| self.member(i).is_some())
    }

    /// What the member in the slot says about itself.
    #[must_use]
    pub fn notes(&self, index: SlotIndex) -> &Notes {
        &self.slot(index).notes
    }

    /// The slots that may hold a member, for a reader who shall not touch the memory of the others.
    pub fn used(&self) -> impl Iterator<Item = SlotIndex> + use<> {
        let used = (self.used.load(Ordering::Relaxed) as usize).min(MOST_MEMBERS);
        (0..used as u32).map(SlotIndex)
    }

    fn slot(&self, index: SlotIndex) -> &Slot {
        &self.slots[index.0 as usize]
    }
}

/// Who lived at a moment.
#[derive(Clone, Debug)]
pub struct Census(Vec<u64>);

impl Census {
    /// Whether the member of that life was gone by then. Those who came later were not.
    #[must_use]
    pub fn knows_dead(&self, index: SlotIndex, life: u32) -> bool {
        let Some(&word) = self.0.get(index.get() as usize) else { return false };
        let older = life_in(word).wrapping_sub(life) & LIFE_MASK;
        if older == 0 { word & STATE_MASK == FREE } else { older < LIFE_MASK / 2 }
    }
}
