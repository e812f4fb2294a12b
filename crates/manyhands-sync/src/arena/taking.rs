//! Where a block comes from: off its list, out of free units, or by making room.

use super::block::{BLOCK_HEADER_BYTES, BlockHeader};
use super::keep::LARGE_BYTES;
use super::owner::Owner;
use super::region::Reach;
use super::units::UNIT_BYTES;
use super::{AllocateError, Arena, Backing, CLASS_COUNT, Handle, SHARDS, SizeClass};
use crate::kill_point;
use crate::memory::Placing;
use crate::primitive::Ordering;

/// So often at most what can be moved is moved for one block.
const MOST_MOVES: usize = 4;

/// A block that was just handed out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) handle: Handle,
    /// Behind so many bytes from the block's start, nothing but zeroes.
    pub(super) dirty_bytes: u64,
}

/// What was found for who wanted a block.
#[derive(Clone, Copy, Debug)]
enum Room {
    /// A block off its list.
    Freed(Handle),
    /// A block of free units.
    Fresh(Taken),
}

impl<B: Backing> Arena<B> {
    /// A block of `bytes`, of which the first `wanted` have pages if it is a large one.
    pub(super) fn allocate_from(&self, list: usize, bytes: u64, wanted: u64) -> Result<Taken, AllocateError> {
        self.note_use(list, bytes);
        if let Some(handle) = self.pop(list, bytes)? {
            return self.reuse(handle, bytes, wanted);
        }
        if let Some(taken) = self.carve(list, bytes, Reach::Extent)? {
            return self.fresh(taken, bytes, wanted);
        }
        // Walking over everything before each extent would take a time that grows with the square of the arena.
        let due = self.wants_gathering();
        if due
            && self.backing.reclaim()
            && let Some(handle) = self.pop(list, bytes)?
        {
            return self.reuse(handle, bytes, wanted);
        }
        let mut room = self.make_room(list, bytes)?;
        if room.is_none() && !due && self.backing.reclaim() {
            room = self.make_room(list, bytes)?;
        }
        // What one round has left behind lets the next one move more.
        for _ in 0..MOST_MOVES {
            if room.is_some() || !self.backing.compact() {
                break;
            }
            room = self.make_room(list, bytes)?;
        }
        match room {
            Some(Room::Freed(handle)) => self.reuse(handle, bytes, wanted),
            Some(Room::Fresh(taken)) => self.fresh(taken, bytes, wanted),
            // None also when this process may not map more: its own limit, not the arena's.
            None => {
                self.header.refused.store(1, Ordering::Relaxed);
                Err(self.out_of_memory(bytes))
            }
        }
    }

    /// Neither the list nor free units serve: gathers, grows, or both, until something does.
    fn make_room(&self, list: usize, bytes: u64) -> Result<Option<Room>, AllocateError> {
        let _making_room = self.header.room.lock(|| {})?;
        let mut gathered = false;
        // Somebody may have made room, or freed a block, since.
        for reach in [Reach::Extent, Reach::Growth, Reach::Anywhere] {
            if reach != Reach::Extent && !gathered && (reach == Reach::Anywhere || self.wants_gathering()) {
                gathered = true;
                if self.gather() > 0
                    && let Some(taken) = self.carve(list, bytes, Reach::Extent)?
                {
                    return Ok(Some(Room::Fresh(taken)));
                }
            }
            if let Some(handle) = self.pop(list, bytes)? {
                return Ok(Some(Room::Freed(handle)));
            }
            if let Some(taken) = self.carve(list, bytes, reach)? {
                return Ok(Some(Room::Fresh(taken)));
            }
        }
        Ok(self.pop(list, bytes)?.map(Room::Freed))
    }

    /// A small block that lies before that offset of the arena, of memory that is free now. Makes no room for it.
    pub(crate) fn allocate_before(&self, payload_bytes: u64, before: u64) -> Option<Handle> {
        let class = SizeClass::holding(payload_bytes.saturating_add(BLOCK_HEADER_BYTES))?;
        let (list, bytes) = (class.index(), class.block_bytes());
        if bytes >= UNIT_BYTES.min(LARGE_BYTES) {
            return None;
        }
        if let Some(handle) = self.pop(list, bytes).ok()? {
            if handle.offset < before {
                return Some(handle);
            }
            let _ = self.free(handle);
        }
        Some(self.carve_before(list, bytes, before / UNIT_BYTES).ok()??.handle)
    }

    /// A block that was carved just now is handed out.
    fn fresh(&self, taken: Taken, bytes: u64, wanted: u64) -> Result<Taken, AllocateError> {
        kill_point!(ArenaCarved);
        self.committed(taken.handle, bytes, wanted, 0)?;
        Ok(taken)
    }

    /// A block off its list is handed out again.
    fn reuse(&self, handle: Handle, bytes: u64, wanted: u64) -> Result<Taken, AllocateError> {
        let pages = self.unkeep(handle, bytes);
        self.committed(handle, bytes, wanted, pages.certain_bytes)?;
        Ok(Taken { handle, dirty_bytes: pages.dirty_bytes })
    }

    /// The first free block: of this member's own shard, then of the others.
    fn pop(&self, list: usize, bytes: u64) -> Result<Option<Handle>, AllocateError> {
        let me = self.backing.me();
        for turn in 0..if list < CLASS_COUNT { SHARDS } else { 1 } {
            let shelf = &self.header.lists[shelf(list, me, turn)];
            if let Some(handle) = shelf.pop(&self.backing, self.units, list as u32, bytes, me)? {
                return Ok(Some(handle));
            }
        }
        Ok(None)
    }

    /// Makes sure that the first `wanted` bytes of a large block have pages; `has_pages` of them have. When the system has
    /// none, the block goes on its free list, so that trying again later does not eat the arena.
    fn committed(
        &self,
        handle: Handle,
        bytes: u64,
        wanted: u64,
        has_pages: u64,
    ) -> Result<(), AllocateError> {
        let start = handle.offset - BLOCK_HEADER_BYTES;
        if has_pages >= wanted || bytes < LARGE_BYTES {
            return Ok(());
        }
        let note = |mib: u64| {
            if let Some(block) = self.backing.place::<BlockHeader>(start) {
                block.committed_mib.store(mib as u32, Ordering::Relaxed);
            }
        };
        // Never more than there is, whenever this process is killed.
        note(has_pages >> 20);
        let wanted = wanted.next_multiple_of(1 << 20).min(bytes);
        if self.backing.commit(start, wanted).is_ok() {
            note(wanted.div_ceil(1 << 20));
            return Ok(());
        }
        if let Some(block) = self.backing.place::<BlockHeader>(start) {
            self.give_back(handle.offset, bytes, block);
        }
        // Stale is impossible: nobody else has this handle yet.
        let _ = self.release(handle, false);
        Err(self.out_of_memory(bytes))
    }
}

/// Where among all lists that list lies for a member: its own shard on the first turn, then the others.
pub(super) fn shelf(list: usize, member: Owner, turn: usize) -> usize {
    if list >= CLASS_COUNT {
        return list - CLASS_COUNT + CLASS_COUNT * SHARDS;
    }
    let own = match member {
        Owner::Member(slot, _) => slot.get() as usize,
        _ => 0,
    };
    list * SHARDS + (own + turn) % SHARDS
}
