//! This process's own slot in the process table, and the slots it reserves for its children.
//!
//! The number of the own slot lies in a page that the kernel wipes in every forked child, whoever forked it: so a
//! process that does not know its slot is a new process, and finds one when it first needs it.

use super::{Family, FamilyError, forks, reclaim};
use crate::sys::{clock, memory, namespaces, stat};
use manyhands_sync::arena::Owner;
use manyhands_sync::kill_point;
use manyhands_sync::notes::{Notes, Role};
pub use manyhands_sync::process_table::Place;
use manyhands_sync::process_table::{Member, Namespaces, SlotIndex};
use manyhands_sync::taker::OwnerName;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A slot reserved for a child: given back when this is dropped after the child's end.
#[derive(Debug)]
pub struct Slot {
    family: &'static Family,
    place: Place,
    /// Who reserved it, as an owner's word: a forked child's copy of this gives nothing back. (By its pid it could be taken
    /// for its parent, in a pid namespace of its own.)
    owner: u64,
    ended: bool,
}

/// What a process knows of itself, in memory that the kernel wipes in every forked child.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    /// Its [`Place`] as an owner's word; 0 while it has none.
    pub(super) member: &'static AtomicU64,
    /// 1 once its slot says that it may own blocks.
    holds: &'static AtomicU64,
    /// [`process_identity`]; 0 until somebody asks.
    identity: &'static AtomicU64,
    /// Its process id and, below, its name as a holder of locks; 0 while it has taken none.
    pub(super) taker: &'static AtomicU64,
    /// Whether it holds what it has open; see `forks.rs`.
    pub(super) standing: &'static AtomicU64,
}

static OWN: OnceLock<Own> = OnceLock::new();

/// [`Own::taker`], once this process knows anything of itself.
#[inline]
pub(super) fn own_taker_word() -> Option<&'static AtomicU64> {
    OWN.get().map(|own| own.taker)
}

/// [`Own::standing`], once this process knows anything of itself.
#[inline]
pub(super) fn own_standing_word() -> Option<&'static AtomicU64> {
    OWN.get().map(|own| own.standing)
}

pub(super) fn own() -> Result<Own, FamilyError> {
    if let Some(own) = OWN.get() {
        return Ok(*own);
    }
    let [member, holds, identity, taker, standing] = memory::wiped_on_fork_words()?;
    Ok(*OWN.get_or_init(|| Own { member, holds, identity, taker, standing }))
}

/// A number that no other process has, above all none that this one was forked from: a child in a pid namespace of its
/// own, or one that was given the pid of a dead parent, has the same process id. Without a system call but for the first.
#[must_use]
pub fn process_identity() -> u64 {
    let Ok(own) = own() else { return std::process::id().into() };
    match own.identity.load(Ordering::Relaxed) {
        0 => {
            let fresh = memory::random_u64().map_or_else(|_| std::process::id().into(), |random| random | 1);
            // Another thread may have been first.
            let known = own.identity.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed);
            known.map_or_else(|known| known, |_| fresh)
        }
        known => known,
    }
}

/// This process as the owner of blocks; somebody who never dies while it has no place in a family.
pub(crate) fn me() -> Owner {
    let Ok(own) = own() else { return Owner::Shared };
    let Some(family) = Family::existing() else { return Owner::Shared };
    let known = place_in(own.member.load(Ordering::Relaxed));
    let Some(place) = known.or_else(|| family.take_own_place(Looks::AtTimes).ok()) else {
        return Owner::Shared;
    };
    if own.holds.swap(1, Ordering::Relaxed) == 0 {
        family.process_table().note_holds(place);
    }
    owner_of(place)
}

/// This process's own place in a family, if it has one.
pub(super) fn own_place() -> Option<Place> {
    place_in(OWN.get()?.member.load(Ordering::Relaxed))
}

fn place_in(word: u64) -> Option<Place> {
    match Owner::from_word(word) {
        Owner::Member(index, life) => Some(Place { index, life }),
        _ => None,
    }
}

/// Blocks of the arena that belong to the member of that place.
pub(super) fn owner_of(place: Place) -> Owner {
    Owner::Member(place.index, place.life)
}

/// What this process is known by in its slot. (`exec` makes it another program; a forked child has its parent's.)
fn known_by() -> Member {
    static IMAGE: AtomicU64 = AtomicU64::new(0);
    let image = match IMAGE.load(Ordering::Relaxed) {
        0 => stat::own_image(),
        known => known,
    };
    IMAGE.store(image, Ordering::Relaxed);
    let registered_at = Some(clock::ticks_since_boot());
    let namespaces = forks::namespaces_at_birth().unwrap_or_else(namespaces::own);
    Member { pid: std::process::id(), namespaces, registered_at, image }
}

/// How often a process that takes a slot of its own begins anew when it was taken for an orphan's just before.
const MOST_TRIES: u32 = 1_000;

impl Family {
    /// The number of this process's slot; taken now if it has none, as a process that users forked has not.
    ///
    /// # Errors
    /// When the kernel refuses memory, or the family has as many members as it can.
    pub fn own_slot(&self) -> Result<u32, FamilyError> {
        match own_place() {
            Some(place) => Ok(place.index.get()),
            None => Ok(self.take_own_place(Looks::Always)?.index.get()),
        }
    }

    #[cold]
    fn take_own_place(&self, looks: Looks) -> Result<Place, FamilyError> {
        // A child that is asked before it was told of its fork: its parent has reserved a place for it.
        if forks::is_unsettled_child() {
            self.settle();
            if let Some(place) = own_place() {
                return Ok(place);
            }
        }
        let (own, table) = (own()?.member, self.process_table());
        // Nobody waits for this process as a child: until it is registered, a process that looks for the dead takes its
        // slot for one of a child that never came.
        for _ in 0..MOST_TRIES {
            let place = self.reserve(None, looks)?;
            if !table.register(place, known_by()) {
                continue;
            }
            // Two threads may come here at once: the slot of the second one is not needed.
            let word = owner_of(place).to_word();
            return match own.compare_exchange(0, word, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => Ok(place),
                Err(other) => {
                    table.end(place);
                    place_in(other).ok_or(FamilyError::Unwanted)
                }
            };
        }
        Err(FamilyError::Unwanted)
    }

    /// Reserves a slot for a child.
    ///
    /// # Errors
    /// When the family has as many members as it can.
    pub fn reserve_slot(&'static self) -> Result<Slot, FamilyError> {
        // What a child needs to take its slot is made here once, not in each child.
        let _ = (own()?, clock::ticks_since_boot());
        let place = self.reserve_place_tending()?;
        kill_point!(SlotReserved);
        let owner = own()?.member.load(Ordering::Relaxed);
        Ok(Slot { family: self, place, owner, ended: false })
    }

    /// Reserves a place for a child of this process, which decides over it while it lives.
    pub(super) fn reserve_place(&self) -> Result<Place, FamilyError> {
        self.own_slot()?;
        let own = own_place().ok_or(FamilyError::Unwanted)?;
        self.reserve(Some(OwnerName::new(own.index, own.life)), Looks::Always)
    }

    /// As [`Family::reserve_place`], for a fork of the user's, which goes on without one: see [`Looks`].
    pub(super) fn reserve_place_for_fork(&self) -> Option<Place> {
        let own = own_place().or_else(|| self.take_own_place(Looks::AtTimes).ok())?;
        self.reserve(Some(OwnerName::new(own.index, own.life)), Looks::AtTimes).ok()
    }

    fn reserve(&self, parent: Option<OwnerName>, looks: Looks) -> Result<Place, FamilyError> {
        let table = self.process_table();
        if let Some(place) = table.reserve(parent) {
            return Ok(place);
        }
        let began = looks.begin().ok_or(FamilyError::Full { unknown: 0 })?;
        let unknown = self.release_the_dead();
        let found = table.reserve(parent);
        Looks::ended(began, found.is_some());
        found.ok_or(FamilyError::Full { unknown })
    }

    /// This process takes the slot that was reserved for it; once is enough.
    ///
    /// # Errors
    /// When the kernel refuses memory, or the parent has taken the slot back: this process should end.
    pub fn take_slot(&self, place: Place) -> Result<(), FamilyError> {
        let (own, word) = (own()?.member, owner_of(place).to_word());
        if own.load(Ordering::Relaxed) == word {
            return Ok(());
        }
        if !self.process_table().register(place, known_by()) {
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
        if let Some(place) = own_place() {
            self.process_table().note_exit(place, status);
        }
    }
}

impl Slot {
    /// What the child is told.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// The child was forked by this process, in whose pid namespace it has that pid.
    pub(crate) fn note_forked(&self, pid: u32) {
        kill_point!(ChildForked);
        let here = self.family.own_pid_namespace();
        if here != 0 {
            self.family.process_table().note_forked(self.place, pid, here);
        }
    }

    /// The exit status the child noted, if it came that far.
    pub fn noted_exit(&self) -> Option<i32> {
        self.family.process_table().noted_exit(self.place)
    }

    /// The child has ended, or was never started: what it held is free from now on.
    pub fn note_end(&mut self) {
        self.ended = true;
        self.give_back();
    }

    /// The pid of the child, and when it took the slot, if it has come so far. The pid is 0 when the child counts pids in
    /// another namespace than this process: here nobody has its pid.
    pub(crate) fn taken(&self) -> Option<(u32, u64)> {
        let seen = self.family.process_table().look(self.place.index);
        let child = self.family.process_table().identity(seen).filter(|_| seen.place() == self.place)?;
        let here = Namespaces { pids: self.family.own_pid_namespace(), clock: namespaces::own_clock() };
        let shared = here.pids == 0 || child.namespaces.pids == 0 || here.pids == child.namespaces.pids;
        let clock = here.clock != 0 && here.clock == child.namespaces.clock;
        // While it registers, and by another clock, nobody here knows when it began.
        let registered_at = child.registered_at.filter(|_| clock).unwrap_or(u64::MAX);
        Some((if shared { child.pid } else { 0 }, registered_at))
    }

    /// As for `taken`; if it has not come so far, it never will.
    pub fn cancel(&self) -> Option<(u32, u64)> {
        if own_place().map(|place| owner_of(place).to_word()) != Some(self.owner) {
            // A forked child's copy: the start is its parent's.
            return None;
        }
        let table = self.family.process_table();
        let held = table.holds(self.place);
        if table.cancel(self.place) {
            self.left_behind(held);
            return None;
        }
        self.taken()
    }
}

impl Slot {
    fn give_back(&self) {
        if own_place().map(|place| owner_of(place).to_word()) != Some(self.owner) {
            return;
        }
        let (table, place) = (self.family.process_table(), self.place);
        // Of a slot that was given back before there is nothing to do.
        if !table.lives(place) {
            return;
        }
        let held = table.holds(place);
        if self.ended {
            table.end(place);
        } else if !table.cancel(place) {
            // It runs: a process that needs the slot finds out when it does not any more.
            table.disown(place);
            return;
        }
        self.left_behind(held);
        reclaim::trim_at_end();
    }

    /// What the child held, or was packed, is nobody's.
    fn left_behind(&self, held: bool) {
        if held {
            self.family.whole_arena().note_left_behind();
            if self.family.whole_arena().wants_sweep() {
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

/// When a full table is looked through for members that have ended unseen. One look asks the kernel for each member, and takes
/// long. So a fork that can go on without a place looks [`Looks::AtTimes`]: after a look in vain there is none for [`REST`]
/// times as long as it took, and no program spends more than a fraction of its time with them, however often it forks. The
/// price: until then such a fork has no place, and its child asks for one when it needs it. Starts of processes, and what else
/// fails without a place, look [`Looks::Always`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looks {
    Always,
    AtTimes,
}

const REST: u64 = 20;

/// Until when there is none, by the clock that all processes share. (A forked child has its parent's.)
static NO_LOOK_UNTIL: AtomicU64 = AtomicU64::new(0);

impl Looks {
    /// The time now, if it is time for a look.
    fn begin(self) -> Option<u64> {
        let now = clock::monotonic_nanoseconds();
        let rested = now >= NO_LOOK_UNTIL.load(Ordering::Relaxed);
        (rested || self == Self::Always).then_some(now)
    }

    fn ended(began: u64, found: bool) {
        let now = clock::monotonic_nanoseconds();
        let rest = if found { 0 } else { now.saturating_sub(began).saturating_mul(REST) };
        NO_LOOK_UNTIL.store(now.saturating_add(rest), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_rest_after_a_look_in_vain_and_starts_do_not() {
        let began = Looks::AtTimes.begin().expect("none was in vain so far");
        let long_ago = began.saturating_sub(1_000_000_000);
        Looks::ended(long_ago, false);
        assert_eq!(Looks::AtTimes.begin(), None);
        let began = Looks::Always.begin().expect("whatever was before");
        Looks::ended(began, true);
        assert!(Looks::AtTimes.begin().is_some());
    }
}
