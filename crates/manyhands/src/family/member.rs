//! This process's own slot in the process table, and the slots it reserves for its children.
//!
//! The number of the own slot lies in a page that the kernel wipes in every forked child, whoever forked it: so a
//! process that does not know its slot is a new process, and finds one when it first needs it.

use super::{Family, FamilyError};
use crate::sys::{clock, memory};
use manyhands_sync::kill_point;
use manyhands_sync::notes::{Notes, Role};
use manyhands_sync::process_table::{ProcessTable, SlotIndex};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A slot reserved for a child: given back when this is dropped, once the child's end is known.
#[derive(Debug)]
pub struct Slot {
    family: &'static Family,
    index: SlotIndex,
    /// Who reserved it: a forked child's copy of this gives nothing back.
    owner: u32,
}

/// The number of this process's slot plus one; 0 while it has none.
fn own() -> Result<&'static AtomicU32, FamilyError> {
    static OWN: OnceLock<&'static AtomicU32> = OnceLock::new();
    if let Some(own) = OWN.get() {
        return Ok(own);
    }
    let word = memory::wiped_on_fork_word()?;
    Ok(OWN.get_or_init(|| word))
}

/// Says in a slot that no process waits for its member's end.
const NO_PARENT: u32 = 0;

impl Family {
    /// The number of this process's slot; taken now if it has none, as a process that users forked has not.
    ///
    /// # Errors
    /// When the kernel refuses memory, or the family has as many members as it can.
    pub fn own_slot(&self) -> Result<u32, FamilyError> {
        if let Some(index) = own()?.load(Ordering::Relaxed).checked_sub(1) {
            return Ok(index);
        }
        let index = self.reserve(NO_PARENT).ok_or(FamilyError::Full)?;
        self.process_table().register(index, std::process::id(), clock::ticks_since_boot());
        // Two threads may come here at once: the slot of the second one is not needed.
        match own()?.compare_exchange(0, index.get() + 1, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Ok(index.get()),
            Err(other) => {
                self.process_table().release(index);
                Ok(other - 1)
            }
        }
    }

    /// Reserves a slot for a child.
    ///
    /// # Errors
    /// When the family has as many members as it can.
    pub fn reserve_slot(&'static self) -> Result<Slot, FamilyError> {
        // What a child needs to take its slot is made here once, not in each child.
        let _ = (own()?, clock::ticks_since_boot());
        let owner = std::process::id();
        let index = self.reserve(owner).ok_or(FamilyError::Full)?;
        kill_point!(SlotReserved);
        Ok(Slot { family: self, index, owner })
    }

    fn reserve(&self, parent: u32) -> Option<SlotIndex> {
        let table = self.process_table();
        table.reserve(parent).or_else(|| {
            release_the_dead(table);
            table.reserve(parent)
        })
    }

    /// This process takes the slot that was reserved for it.
    ///
    /// # Errors
    /// When the kernel refuses memory.
    pub fn take_slot(&self, index: u32) -> Result<(), FamilyError> {
        if let Some(index) = SlotIndex::new(index) {
            let pid = std::process::id();
            self.process_table().register(index, pid, clock::ticks_since_boot());
            kill_point!(SlotRegistered);
            own()?.store(index.get() + 1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What this process says about itself in its slot, taken now if it has none; `None` when there is none to be had.
    pub(crate) fn own_notes(&self) -> Option<&'static Notes> {
        self.notes_of(self.own_slot().ok()?)
    }

    /// What the member in that slot says about itself; `None` when there is no such slot.
    pub(crate) fn notes_of(&self, slot: u32) -> Option<&'static Notes> {
        Some(self.process_table().notes(SlotIndex::new(slot)?))
    }

    /// Says what this process is, for whoever looks.
    pub(crate) fn note_role(&self, role: Role) {
        if let Some(notes) = self.own_notes() {
            notes.set_role(role);
        }
    }

    /// Says what this process runs, for whoever looks: the first 64 bytes of the text.
    pub fn note_label(&self, text: &str) {
        if let Some(notes) = self.own_notes() {
            notes.set_label(text);
        }
    }

    /// Notes the status this process is about to end with, for a parent from whom the kernel's is taken.
    pub fn note_exit(&self, status: i32) {
        let Ok(own) = own() else { return };
        if let Some(index) = own.load(Ordering::Relaxed).checked_sub(1).and_then(SlotIndex::new) {
            self.process_table().note_exit(index, status);
        }
    }
}

/// Gives back the slots of members that are gone and that no living parent will give back.
fn release_the_dead(table: &ProcessTable) {
    for index in table.members() {
        let Some((pid, taken)) = table.member(index) else { continue };
        let parent = table.parent(index);
        let orphan = parent == NO_PARENT || memory::start_time(parent).is_none();
        // A process with that pid that was started after the slot was taken is another one.
        if orphan && memory::start_time(pid).is_none_or(|started| started > taken) {
            table.release(index);
        }
    }
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
        if self.owner == std::process::id() {
            self.family.process_table().release(self.index);
        }
    }
}
