//! This thread as one that takes locks, and whether a member that took one is gone.

use super::member::{own, own_place, own_taker_word};
use super::orphans::Round;
use super::{Family, FamilyError, forks, holdings};
use crate::sys::liveness::Liveness;
use crate::sys::{at_exit, memory};
use manyhands_sync::lock::{Look, OwnerName, Taker};
use manyhands_sync::process_table::State;
use std::cell::{Cell, OnceCell};
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
        let Some(place) = own_place() else { return Err(FamilyError::Unwanted) };
        let (owner, pid) = (OwnerName::new(place.index, place.life), std::process::id());
        let taker = Taker::new(owner, pid, memory::own_thread());
        if own.taker.load(Ordering::Relaxed) == 0 {
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

/// Whether the member with that name is gone, for good: it has ended, or runs another program since. What cannot be found
/// out is not gone.
pub(crate) fn is_gone(family: &Family, name: OwnerName, look: Look) -> bool {
    is_gone_in(family, &OnceCell::new(), name, look)
}

/// As [`is_gone`], for a look at many: what the first close one opens serves the others. To be dropped after the look.
pub(crate) fn is_gone_in(family: &Family, round: &OnceCell<Round>, name: OwnerName, look: Look) -> bool {
    let (table, Some(slot)) = (family.process_table(), name.slot()) else { return false };
    let seen = table.look(slot);
    if !name.is_of(seen.place().life) || seen.state() == State::Free {
        return true;
    }
    look == Look::Close && round.get_or_init(|| Round::of(family)).of_name(name) == Liveness::Dead
}
