//! The family's table of processes: one slot for each member.
//!
//! | state | meaning | who may change it |
//! |---|---|---|
//! | `FREE` | nobody's | anyone, to `RESERVED` by compare-and-swap |
//! | `RESERVED` | for a child that is about to start | the parent that reserved it; the child, to `LIVE` |
//! | `LIVE` | a member runs | that member; whoever saw it die, to `FREE` |
//!
//! A slot names its member by pid and time of registration, so that a reused pid is told apart. The exit word of a slot
//! is written by the child itself before it ends, so that its parent knows the status even when somebody else
//! collected it from the kernel.

use crate::memory::Shareable;
use crate::notes::Notes;
use crate::primitive::{AtomicU32, AtomicU64, Ordering, fence};

/// How many members a family can have at a time.
pub const MOST_MEMBERS: usize = if cfg!(loom) { 2 } else { 4096 };

const FREE: u32 = 0;
const RESERVED: u32 = 1;
const LIVE: u32 = 2;
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
    state: AtomicU32,
    pid: AtomicU32,
    parent: AtomicU32,
    exit: AtomicU32,
    registered_at: AtomicU64,
    notes: Notes,
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
            state: AtomicU32::new(FREE),
            pid: AtomicU32::new(0),
            parent: AtomicU32::new(0),
            exit: AtomicU32::new(0),
            registered_at: AtomicU64::new(0),
            notes: Notes::new(),
        };
        Self { slots: std::array::from_fn(slot), used: AtomicU32::new(0) }
    }

    /// Reserves a slot for a child of `parent` (a pid); `None` when all are taken.
    #[must_use]
    pub fn reserve(&self, parent: u32) -> Option<SlotIndex> {
        let free = |slot: &Slot| {
            slot.state.load(Ordering::Relaxed) == FREE
                && slot.state.compare_exchange(FREE, RESERVED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let index = self.slots.iter().position(free)?;
        let slot = &self.slots[index];
        self.used.fetch_max(index as u32 + 1, Ordering::Relaxed);
        slot.notes.wipe();
        slot.pid.store(0, Ordering::Relaxed);
        // Pairs with the acquires in `member`: who sees a later time of registration also sees that the pid was cleared.
        fence(Ordering::Release);
        slot.exit.store(0, Ordering::Relaxed);
        slot.registered_at.store(0, Ordering::Relaxed);
        slot.parent.store(parent, Ordering::Relaxed);
        SlotIndex::new(u32::try_from(index).ok()?)
    }

    /// The calling process takes the slot that was reserved for it.
    pub fn register(&self, index: SlotIndex, pid: u32, registered_at: u64) {
        let slot = self.slot(index);
        slot.registered_at.store(registered_at, Ordering::Relaxed);
        slot.pid.store(pid, Ordering::Release);
        slot.state.store(LIVE, Ordering::Release);
    }

    /// Gives the slot back, once its member is known to be gone or was never started.
    pub fn release(&self, index: SlotIndex) {
        self.slot(index).state.store(FREE, Ordering::Release);
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

    /// The pid and time of registration of the member in the slot, while one lives there.
    #[must_use]
    pub fn member(&self, index: SlotIndex) -> Option<(u32, u64)> {
        let slot = self.slot(index);
        if slot.state.load(Ordering::Acquire) != LIVE {
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
        self.slot(index).parent.load(Ordering::Relaxed)
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
