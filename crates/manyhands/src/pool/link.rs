//! The pool's shared memory: both rings, the seats, the word that tells workers to leave.

use super::task::{ANSWER_BYTES, Function, TASK_BYTES};
use crate::family::{Extents, Family};
use crate::payload::{BLOCK, Block, Message};
use crate::queue::{OpenError, SendError};
use crate::sys::memory;
use manyhands_sync::arena::{AllocateError, Arena, Handle, Kind, Owner};
use manyhands_sync::kill_point;
use manyhands_sync::pool_header::PoolHeader;
use manyhands_sync::ring::{Locking, Ring};
use manyhands_sync::seat::Seat;

/// A pool's shared memory, seen from one process.
#[derive(Clone, Copy)]
pub(super) struct Link {
    pub(super) arena: Arena<Extents>,
    pub(super) handle: Handle,
    header: &'static PoolHeader,
    pub(super) tasks: Ring<Extents>,
    pub(super) results: Ring<Extents>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn create(family: &Family, seats: usize) -> Result<Self, SendError> {
        let arena = family.whole_arena();
        let block = arena.allocate_kind(Kind::Pool, size_of::<PoolHeader>() as u64)?;
        let header = PoolHeader::new(seats, Ring::new_header(&arena, 0)?, Ring::new_header(&arena, 0)?);
        let (header, handle) = block.lay(header).map_err(|_| SendError::from(AllocateError::Corrupted))?;
        let tasks = Ring::found(arena, &header.tasks, handle);
        let results = Ring::found(arena, &header.results, handle);
        let link = Self { arena, handle, header, tasks, results };
        for index in 0..header.seat_count() {
            let seat = arena.allocate_kind(Kind::Seat, size_of::<Seat>() as u64)?;
            let (_, seat) = seat.lay(Seat::new()).map_err(|_| SendError::from(AllocateError::Corrupted))?;
            arena.give(seat, Owner::Block(handle));
            header.set_seat(index, seat.offset);
            kill_point!(PoolSeatPlaced);
        }
        Ok(link)
    }

    pub(super) fn open(family: &Family, handle: Handle) -> Result<Self, OpenError> {
        family.whole_arena().check(handle)?;
        Self::at(family.whole_arena(), handle).ok_or_else(OpenError::not_found)
    }

    pub(super) fn at(arena: Arena<Extents>, handle: Handle) -> Option<Self> {
        Some(Self::over(arena, handle, arena.placed(handle).ok()?))
    }

    fn over(arena: Arena<Extents>, handle: Handle, header: &'static PoolHeader) -> Self {
        let tasks = Ring::new(arena, &header.tasks, handle);
        let results = Ring::new(arena, &header.results, handle);
        Self { arena, handle, header, tasks, results }
    }

    /// The seat with that number and where it lies; `None` when the pool has no such seat.
    pub(super) fn seat(&self, index: usize) -> Option<(&'static Seat, u64)> {
        let offset = self.header.seat(index)?;
        Some((self.arena.placed_at::<Seat>(offset)?, offset))
    }

    /// How many seats the pool has.
    pub(super) fn seat_count(&self) -> usize {
        self.header.seat_count()
    }

    /// See [`PoolHeader::settle_seats`].
    pub(super) fn settle_seats(&self, taken_total: u32) {
        self.header.settle_seats(self.arena, taken_total);
    }

    pub(super) fn dismiss(&self) {
        self.header.dismiss();
    }

    pub(super) fn is_dismissed(&self) -> bool {
        self.header.is_dismissed()
    }

    /// Puts a function where workers find it.
    pub(super) fn publish(&self, id: u32, function: Message<'_>) -> Result<Function, AllocateError> {
        let block = Block::with(self.arena, function)?;
        let len = block.len() as u32;
        Ok(Function { id, handle: block.into_handle(self.handle), len })
    }

    /// Whether a function is there: its block is still in the life that the handle means.
    pub(super) fn is_published(&self, function: Function) -> bool {
        self.arena.payload_bytes(function.handle).is_ok_and(|bytes| bytes >= u64::from(function.len))
    }

    /// Reads a function; `None` when it is there no more.
    pub(super) fn read_function(&self, function: Function) -> Option<Vec<u8>> {
        if !self.is_published(function) {
            return None;
        }
        let mut bytes = Vec::new();
        let offset = Block::luggage_start(self.arena, function.handle);
        let read = memory::copy_out_racing(self.arena.backing(), offset, function.len as usize, &mut bytes);
        // Withdrawn meanwhile: the bytes may be another block's.
        (read && self.is_published(function)).then_some(bytes)
    }

    /// Frees what lies in a pool that nobody holds any more.
    pub(super) fn dismantle(&self) {
        for (ring, header_bytes) in [(self.tasks, TASK_BYTES), (self.results, ANSWER_BYTES)] {
            let mut frame = Vec::new();
            while let Ok(tag) = ring.try_take(&mut frame, Locking::Wait) {
                if let (BLOCK, Some(reference)) = (tag, frame.get(header_bytes..)) {
                    drop(Block::named_by(self.arena, reference));
                }
                frame.clear();
            }
            ring.dismantle();
        }
        let seats = (0..self.seat_count()).filter_map(|index| self.seat(index));
        for (_, offset) in seats {
            // A seat is made once and freed once, so its first life is the one meant.
            let _ = self.arena.free_at(offset);
        }
        // Functions that were not withdrawn belong to the pool's block: the next sweep finds them.
        self.arena.note_left_behind();
    }
}
