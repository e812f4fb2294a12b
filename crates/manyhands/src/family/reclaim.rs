//! What nobody holds any more becomes free memory.

use super::{Extents, FAMILY, Family, absent};
use crate::{barrier, pool, queue};
use manyhands_sync::arena::{Arena, Backing, Handle, Kind, Swept};
use manyhands_sync::compaction;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

impl Family {
    /// Reclaims what members that are gone have left behind in shared memory. Called by itself when a child that held
    /// something has ended, and before the arena grows.
    pub fn sweep(&self) -> Swept {
        self.release_the_dead();
        let arena = self.whole_arena();
        let swept = arena.sweep(|kind, target| destroy(arena, kind, target));
        self.tend(absent::COMES_WITHIN);
        swept
    }
}

/// Before the arena grows: whether something was found that nobody holds.
pub(crate) fn instead_of_growing() -> bool {
    FAMILY.get().is_some_and(|family| family.sweep().reclaimed > 0)
}

/// Before somebody is told that there is no memory: whether something was moved out of the way.
pub(crate) fn compact() -> bool {
    FAMILY.get().is_some_and(|family| compaction::compact(family.whole_arena()))
}

/// How long nobody has wanted a large block when the end of a process, queue or pool is taken for the end of what used
/// them.
const QUIET_AT_END: u64 = 20;
/// And when somebody who has waited for that long takes it for that.
const QUIET_AT_REST: u64 = 1_000;

/// Something has ended that may have sent large messages: the memory they used goes back to the system, unless others
/// send such.
pub(crate) fn trim_at_end() {
    if let Some(family) = FAMILY.get() {
        family.whole_arena().trim(QUIET_AT_END);
    }
}

/// A thread has waited for so many milliseconds, and has nothing better to do yet.
pub(crate) fn trim_at_rest(waited: u64) {
    // A sleep ends a little early or late.
    if waited >= QUIET_AT_REST - QUIET_AT_REST / 10
        && let Some(family) = FAMILY.get()
    {
        family.whole_arena().trim(QUIET_AT_REST - QUIET_AT_REST / 10);
    }
}

thread_local! {
    /// What this thread has yet to free; `None` while it frees nothing.
    static DOOMED: RefCell<Option<Vec<(Kind, Handle)>>> = const { RefCell::new(None) };
}

/// Frees a shared structure that nobody refers to any more, and what lies in it. That may hold the last reference to the
/// next one, and so on: a queue in a queue in a queue is taken apart one by one, not one inside the other.
pub(super) fn destroy(arena: Arena<Extents>, kind: Kind, target: Handle) {
    let outer = DOOMED.with_borrow_mut(|doomed| match doomed {
        Some(doomed) => {
            doomed.push((kind, target));
            false
        }
        None => {
            *doomed = Some(vec![(kind, target)]);
            true
        }
    });
    if !outer {
        return;
    }
    let mut channels = false;
    while let Some((kind, target)) = DOOMED.with_borrow_mut(|doomed| doomed.as_mut().and_then(Vec::pop)) {
        channels |= matches!(kind, Kind::Ring | Kind::Pool);
        match kind {
            Kind::Ring => queue::dismantle(arena, target),
            Kind::Pool => pool::dismantle(arena, target),
            Kind::Barrier => barrier::dismantle(arena, target),
            Kind::Seat
            | Kind::Reference
            | Kind::Lock
            | Kind::Semaphore
            | Kind::Event
            | Kind::Condition
            | Kind::Bytes => {}
        }
        // Whatever was missed belongs to the block, and is garbage with it.
        let _ = arena.free(target);
    }
    DOOMED.set(None);
    if channels {
        trim_at_end();
    }
}

/// Releases a reference, and frees what it was the last one to; whether it was.
pub(crate) fn release(arena: Arena<Extents>, reference: Handle) -> bool {
    let Ok(Some((kind, target))) = arena.release_reference(reference) else { return false };
    destroy(arena, kind, target);
    true
}

/// The last channel of a process is gone: nobody waits for this memory here.
pub(super) fn trim_now(arena: Arena<Extents>) {
    arena.trim(0);
}

/// How often a process that drops bytes looks whether they should go back, in milliseconds: often enough for what is
/// dropped over a while.
const PAUSE: u64 = 100;
/// And how often when they were its last ones, so that a loop that makes and drops some does not fetch their pages anew
/// each time.
const PAUSE_AT_THE_LAST: u64 = 1_000;

/// Bytes that were shared are gone, in a process that has no channel and so never sleeps at one and looks then.
pub(super) fn trim_without_channels(arena: Arena<Extents>, were_the_last: bool) {
    static TRIMMED: AtomicU64 = AtomicU64::new(0);
    let now = arena.backing().milliseconds();
    let since = now.saturating_sub(TRIMMED.load(Ordering::Relaxed));
    let quiet = match were_the_last {
        true if since >= PAUSE_AT_THE_LAST => 0,
        // Others may send large messages all the while.
        true => QUIET_AT_END,
        false if since >= PAUSE => QUIET_AT_END,
        false => return,
    };
    TRIMMED.store(now, Ordering::Relaxed);
    arena.trim(quiet);
}
