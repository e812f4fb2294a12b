//! This thread as one that takes locks, and whether a member that took one is gone.

use super::member::{own, own_taker_word};
use super::{Family, FamilyError, forks, holdings};
use crate::sys::{at_exit, memory, stat};
use manyhands_sync::arena::Owner;
use manyhands_sync::lock::{Look, OwnerName, Taker};
use manyhands_sync::process_table::{ProcessTable, SlotIndex};
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

thread_local! {
    /// What this thread last was, and the word of its process then: a forked child has another one.
    static TAKER: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// This thread, as it takes locks, if it has taken one before; in a process that does not hold all that it has open, `None`:
/// there, each use is asked after. (So the fastest way to a lock asks nothing more than this.)
#[inline]
pub(crate) fn known_taker() -> Option<Taker> {
    let process = own_taker_word()?.load(Ordering::Relaxed);
    let (known_in, thread) = TAKER.get();
    let known = process != 0 && process == known_in;
    known.then(|| Taker { owner: OwnerName::from_number(process as u32), thread })
}

impl Family {
    /// This thread, as it takes locks.
    ///
    /// # Errors
    /// When the family has as many members as it can, or the kernel refuses memory.
    #[inline]
    pub(crate) fn taker(&self) -> Result<Taker, FamilyError> {
        known_taker().map_or_else(|| self.become_taker(), Ok)
    }

    #[cold]
    fn become_taker(&self) -> Result<Taker, FamilyError> {
        self.own_slot()?;
        let own = own()?;
        if own.standing.load(Ordering::Relaxed) == 0 {
            self.settle();
        }
        let Owner::Member(slot, life) = Owner::from_word(own.member.load(Ordering::Relaxed)) else {
            return Err(FamilyError::Unwanted);
        };
        let (owner, pid) = (OwnerName::new(slot, life), std::process::id());
        let taker = Taker::new(owner, pid, memory::own_thread());
        if own.taker.load(Ordering::Relaxed) == 0 {
            self.process_table().note_image(slot, own_image());
            keep_locks_at_exit();
        }
        let process = u64::from(pid) << 32 | u64::from(owner.to_number());
        own.taker.store(process, Ordering::Relaxed);
        if forks::is_whole() {
            TAKER.set((process, taker.thread));
        }
        Ok(taker)
    }

    /// This process's name as a holder of locks, if it ever took one.
    pub(super) fn own_name(&self) -> Option<OwnerName> {
        let process = own().ok()?.taker.load(Ordering::Relaxed);
        (process != 0).then(|| OwnerName::from_number(process as u32))
    }

    /// This process ends in an orderly way: the locks that it holds stay locked until somebody releases them, instead of
    /// being found in a dead process's hands.
    pub fn keep_locks(&self) {
        if let Some(owner) = self.own_name() {
            holdings::keep_locks(self.whole_arena(), owner);
        }
    }
}

/// As a forked child has its parent's program, it is asked for once.
fn own_image() -> u64 {
    static IMAGE: OnceLock<u64> = OnceLock::new();
    // Not asked within: a fork by another thread meanwhile would leave it half done in the child, for ever.
    if let Some(image) = IMAGE.get() {
        return *image;
    }
    let image = stat::of(std::process::id()).map_or(0, |stat| stat.image);
    *IMAGE.get_or_init(|| image)
}

fn keep_locks_at_exit() {
    static REGISTERED: OnceLock<()> = OnceLock::new();
    extern "C" fn keep() {
        if let Some(family) = Family::existing() {
            family.keep_locks();
        }
    }
    if REGISTERED.set(()).is_ok() {
        at_exit::register(keep);
    }
}

/// Whether the member with that name is gone, for good: it has ended, or runs another program since.
pub(crate) fn is_gone(table: &ProcessTable, name: OwnerName, look: Look) -> bool {
    let Some(slot) = name.slot() else { return false };
    let life = table.life(slot);
    if !name.is_of(life) || !table.lives(slot, life) {
        return true;
    }
    look == Look::Close && has_ended(table, slot)
}

/// Whether the process that registered in the slot has ended.
fn has_ended(table: &ProcessTable, slot: SlotIndex) -> bool {
    let Some((pid, registered)) = table.member(slot) else { return false };
    let image = table.image(slot);
    match stat::of(pid) {
        // One with that pid that was started after the slot was taken is another one.
        Some(stat) => {
            let replaced = image != 0 && stat.image != 0 && stat.image != image;
            stat.ended || stat.started > registered || replaced
        }
        // There may be no /proc, or the process may be hidden.
        None => stat::is_unknown(pid),
    }
}
