//! This process's own slot in the process table, and the slots it reserves for its children.

use super::Family;
use crate::sys::memory;
use manyhands_sync::process_table::SlotIndex;
use std::sync::atomic::{AtomicU32, Ordering};

/// A slot reserved for a child: given back when the child's end is known.
#[derive(Debug)]
pub struct Slot {
    family: &'static Family,
    index: SlotIndex,
}

/// The slot of this process plus one; 0 when it has none. A forked child sets its own before anything else.
static OWN: AtomicU32 = AtomicU32::new(0);

impl Family {
    /// Reserves a slot for a child; `None` when the family has as many members as it can.
    pub fn reserve_slot(&'static self) -> Option<Slot> {
        let index = self.process_table().reserve(std::process::id())?;
        Some(Slot { family: self, index })
    }

    /// This process takes the slot its parent reserved for it.
    pub fn take_slot(&self, index: u32) {
        if let Some(index) = SlotIndex::new(index) {
            let pid = std::process::id();
            self.process_table().register(index, pid, memory::start_time(pid).unwrap_or(0));
            OWN.store(index.get() + 1, Ordering::Relaxed);
        }
    }

    /// Notes the status this process is about to end with, for a parent from whom the kernel's is taken.
    pub fn note_exit(&self, status: i32) {
        if let Some(index) = OWN.load(Ordering::Relaxed).checked_sub(1).and_then(SlotIndex::new) {
            self.process_table().note_exit(index, status);
        }
    }
}

/// A forked child is not its parent: whatever slot the parent sits in is not the child's.
pub fn forget_own_slot() {
    OWN.store(0, Ordering::Relaxed);
}

impl Slot {
    /// Its number, for the child.
    pub fn index(&self) -> u32 {
        self.index.get()
    }

    /// The exit status the child noted, if it came that far.
    pub fn noted_exit(&self) -> Option<i32> {
        self.family.process_table().noted_exit(self.index)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.family.process_table().release(self.index);
    }
}
