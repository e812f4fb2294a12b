//! What nobody holds any more becomes free memory.

use super::{Extents, FAMILY, Family, member};
use crate::{pool, queue};
use manyhands_sync::arena::{Arena, Handle, Kind, Swept};

impl Family {
    /// Reclaims what members that are gone have left behind in shared memory. Called by itself when a child that held
    /// something has ended, and before the arena grows.
    pub fn sweep(&self) -> Swept {
        member::release_the_dead(self.process_table());
        self.sweep_slots()
    }

    /// As [`Family::sweep`], for members whose slots are free already.
    pub(super) fn sweep_slots(&self) -> Swept {
        let arena = self.arena();
        arena.sweep(|kind, target| destroy(arena, kind, target))
    }
}

/// Before the arena grows: whether something was found that nobody holds.
pub(crate) fn instead_of_growing() -> bool {
    FAMILY.get().is_some_and(|family| family.sweep().reclaimed > 0)
}

/// Frees a shared structure that nobody refers to any more, and what lies in it.
pub(super) fn destroy(arena: Arena<Extents>, kind: Kind, target: Handle) {
    match kind {
        Kind::Ring => queue::dismantle(arena, target),
        Kind::Pool => pool::dismantle(arena, target),
        Kind::Seat | Kind::Reference => {}
    }
    // Whatever was missed belongs to the block, and is garbage with it.
    let _ = arena.free(target);
}

/// Releases a reference, and frees what it was the last one to.
pub(crate) fn release(arena: Arena<Extents>, reference: Handle) {
    if let Ok(Some((kind, target))) = arena.release_reference(reference) {
        destroy(arena, kind, target);
    }
}
