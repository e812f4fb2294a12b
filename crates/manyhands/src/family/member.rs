//! This process's own slot in the process table, and the slots it reserves for its children.
//!
//! The number of the own slot lies in a page that the kernel wipes in every forked child, whoever forked it: so a
//! process that does not know its slot is a new process, and finds one when it first needs it.

use super::{Family, FamilyError, reclaim};
use crate::sys::{clock, memory};
use manyhands_sync::arena::Owner;
use manyhands_sync::kill_point;
use manyhands_sync::notes::{Notes, Role};
use manyhands_sync::process_table::{ProcessTable, SlotIndex};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A slot, in one of its lives: what a child is told, so that it knows a slot that was given to somebody else meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub(super) index: SlotIndex,
    life: u32,
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

    pub(super) fn owner(self) -> Owner {
        Owner::Member(self.index, self.life)
    }
}

/// A slot reserved for a child: given back when this is dropped after the child's end.
#[derive(Debug)]
pub struct Slot {
    family: &'static Family,
    place: Place,
    /// Who reserved it: a forked child's copy of this gives nothing back.
    owner: u32,
    ended: bool,
}

/// What a process knows of itself, in memory that the kernel wipes in every forked child.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    /// Its [`Place`] as an owner's word; 0 while it has none.
    pub(super) member: &'static AtomicU64,
    /// 1 once its slot says that it may own blocks.
    holds: &'static AtomicU64,
    /// Its process id; 0 until somebody asks.
    pid: &'static AtomicU64,
    /// Its process id and, below, its name as a holder of locks; 0 while it has taken none.
    pub(super) taker: &'static AtomicU64,
}

static OWN: OnceLock<Own> = OnceLock::new();

/// [`Own::taker`], once this process knows anything of itself.
#[inline]
pub(super) fn own_taker_word() -> Option<&'static AtomicU64> {
    OWN.get().map(|own| own.taker)
}

pub(super) fn own() -> Result<Own, FamilyError> {
    if let Some(own) = OWN.get() {
        return Ok(*own);
    }
    let [member, holds, pid, taker] = memory::wiped_on_fork_words()?;
    Ok(*OWN.get_or_init(|| Own { member, holds, pid, taker }))
}

/// This process's id, without a system call: some calls ask for it whenever they are made.
#[must_use]
pub fn process_id() -> u32 {
    let Ok(own) = own() else { return std::process::id() };
    match own.pid.load(Ordering::Relaxed) as u32 {
        0 => {
            let pid = std::process::id();
            own.pid.store(pid.into(), Ordering::Relaxed);
            pid
        }
        known => known,
    }
}

/// This process as the owner of blocks; somebody who never dies while it has no place in a family.
pub(crate) fn me() -> Owner {
    let Ok(own) = own() else { return Owner::Shared };
    let known = Owner::from_word(own.member.load(Ordering::Relaxed));
    let Some(family) = Family::existing() else { return Owner::Shared };
    let index = match known {
        Owner::Member(index, _) => index,
        _ => match family.own_slot().ok().and_then(SlotIndex::new) {
            Some(index) => index,
            None => return Owner::Shared,
        },
    };
    if own.holds.swap(1, Ordering::Relaxed) == 0 {
        family.process_table().note_holds(index);
    }
    Owner::from_word(own.member.load(Ordering::Relaxed))
}

/// Says in a slot that no process waits for its member's end.
const NO_PARENT: u32 = 0;

impl Family {
    /// The number of this process's slot; taken now if it has none, as a process that users forked has not.
    ///
    /// # Errors
    /// When the kernel refuses memory, or the family has as many members as it can.
    pub fn own_slot(&self) -> Result<u32, FamilyError> {
        let own = own()?.member;
        if let Owner::Member(index, _) = Owner::from_word(own.load(Ordering::Relaxed)) {
            return Ok(index.get());
        }
        let place = self.reserve(NO_PARENT).ok_or(FamilyError::Full)?;
        let registered = clock::ticks_since_boot();
        if !self.process_table().register(place.index, place.life, std::process::id(), registered) {
            return Err(FamilyError::Unwanted);
        }
        // Two threads may come here at once: the slot of the second one is not needed.
        let word = place.owner().to_word();
        match own.compare_exchange(0, word, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Ok(place.index.get()),
            Err(other) => {
                self.process_table().release(place.index);
                match Owner::from_word(other) {
                    Owner::Member(index, _) => Ok(index.get()),
                    _ => Err(FamilyError::Unwanted),
                }
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
        let place = self.reserve_place().ok_or(FamilyError::Full)?;
        kill_point!(SlotReserved);
        Ok(Slot { family: self, place, owner: std::process::id(), ended: false })
    }

    pub(super) fn reserve_place(&self) -> Option<Place> {
        self.reserve(std::process::id())
    }

    fn reserve(&self, parent: u32) -> Option<Place> {
        let table = self.process_table();
        let index = table.reserve(parent).or_else(|| {
            release_the_dead(table);
            table.reserve(parent)
        })?;
        Some(Place { index, life: table.life(index) })
    }

    /// This process takes the slot that was reserved for it; once is enough.
    ///
    /// # Errors
    /// When the kernel refuses memory, or the parent has taken the slot back: this process should end.
    pub fn take_slot(&self, place: Place) -> Result<(), FamilyError> {
        let (own, word) = (own()?.member, place.owner().to_word());
        if own.load(Ordering::Relaxed) == word {
            return Ok(());
        }
        let registered = clock::ticks_since_boot();
        if !self.process_table().register(place.index, place.life, std::process::id(), registered) {
            return Err(FamilyError::Unwanted);
        }
        kill_point!(SlotRegistered);
        own.store(word, Ordering::Relaxed);
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
        reclaim::trim_at_end();
        let Ok(own) = own() else { return };
        if let Owner::Member(index, _) = Owner::from_word(own.member.load(Ordering::Relaxed)) {
            self.process_table().note_exit(index, status);
        }
    }
}

/// Gives back the slots of members that are gone, and of children that never came, where no living parent will do it.
pub(super) fn release_the_dead(table: &ProcessTable) {
    // Without /proc nobody can tell.
    let me = std::process::id();
    if memory::start_time(me).is_none() {
        return;
    }
    for index in table.used() {
        let parent = table.parent(index);
        let orphan = parent == NO_PARENT || (parent != me && memory::start_time(parent).is_none());
        if !orphan {
            continue;
        }
        if table.is_reserved(index) {
            let _ = table.cancel(index);
        } else if let Some((pid, taken)) = table.member(index)
            // A process with that pid that was started after the slot was taken is another one.
            && memory::start_time(pid).is_none_or(|started| started > taken)
        {
            table.release(index);
        }
    }
}

impl Slot {
    /// What the child is told.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// The exit status the child noted, if it came that far.
    pub fn noted_exit(&self) -> Option<i32> {
        self.family.process_table().noted_exit(self.place.index)
    }

    /// The child has ended, or was never started: what it held is free from now on.
    pub fn note_end(&mut self) {
        self.ended = true;
        self.give_back();
    }

    /// The pid of the child, and when it took the slot, if it has come so far.
    pub(crate) fn taken(&self) -> Option<(u32, u64)> {
        self.family.process_table().member(self.place.index)
    }

    /// As for `taken`; if it has not come so far, it never will.
    pub fn cancel(&self) -> Option<(u32, u64)> {
        if self.owner != std::process::id() {
            // A forked child's copy: the start is its parent's.
            return None;
        }
        let table = self.family.process_table();
        let held = table.holds(self.place.index);
        if table.cancel(self.place.index) {
            self.left_behind(held);
            return None;
        }
        self.taken()
    }
}

impl Slot {
    fn give_back(&self) {
        if self.owner != std::process::id() {
            return;
        }
        let (table, index) = (self.family.process_table(), self.place.index);
        // Of a slot that somebody else has given back meanwhile there is nothing to do.
        if !table.lives(index, self.place.life) {
            return;
        }
        let held = table.holds(index);
        if self.ended {
            table.release(index);
        } else if !table.cancel(index) {
            // It runs: whoever needs the slot finds out when it does not any more.
            return table.disown(index);
        }
        self.left_behind(held);
        reclaim::trim_at_end();
    }

    /// What the child held, or was packed, is nobody's.
    fn left_behind(&self, held: bool) {
        if held {
            self.family.arena().note_left_behind();
            if self.family.arena().wants_sweep() {
                self.family.sweep();
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.give_back();
    }
}
