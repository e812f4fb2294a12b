//! The arena's own structures: who owns which bytes of the family's shared memory.
//!
//! # Layout
//! Offset 0 holds the [`ArenaHeader`], the table of units lies behind it. Address space is handed out in *extents* of whole
//! chunks (64 MiB), listed in the header's directory, and used in *units* (256 KiB): each is free, or of one list, of whose
//! size class it holds blocks, or part of one large block (`units.rs`, `region.rs`). A freed block goes on the list of its
//! size class and is reused first: pages that were used before are twenty times cheaper than fresh ones. When neither a
//! list nor free units serve, the units of which all blocks are free are taken back from their lists (`gather.rs`), so that
//! freed memory serves every size; only then the arena grows.
//!
//! # Protocol
//! | structure | lock | commit | the holder died before it | after it |
//! |---|---|---|---|---|
//! | free list, pop | the list's | `head = next` | the block is marked `HELD` but still on the list: repaired to `FREE` | the block is held by a dead member |
//! | free list, push | the list's | `head = block` | the block belongs to a dead member | repaired: it belongs to nobody |
//! | carving, regions, extents | `growth` | one store, see `region.rs` | nothing happened | the block is held by a dead member |
//! | gathering | `room` | see `gather.rs` | its blocks are held by a dead member | their units are free |
//! | reference, count or release | `references` | the log is cleared | undone from the log | done |
//!
//! What a dead member held is garbage, found by its owner word and reclaimed by the next [`Arena::sweep`]; see `owner.rs`,
//! `references.rs`, `sweep.rs`. Each size class has a list for each of four groups of members, and whoever finds its own
//! empty looks at the others'.
//!
//! A large block whose pages were given back, or could not be had, is on its list without pages; they are
//! committed again before it is handed out, so that no first touch of a large block meets a full system.
//!
//! Blocks of a *kind* (rings, pools, seats, references, locks, semaphores) are recycled as the same kind, never for more
//! bytes than they have; their units become something else when all of their blocks are free, and nobody holds a reference
//! to any of them. A stale handle never makes bytes of a message look like a lock: the table of units says what lies where.
//!
//! What outlives messages (kinds, shared bytes, the segments of rings) must not lie in the middle of what they leave: kinds
//! have the first units for themselves, what is made after memory was full looks for its place
//! ([`Arena::prepare_for_what_stays`]), and the segment of an empty ring is moved when somebody is about to be told that
//! there is no memory ([`compact`](crate::compaction::compact)).

mod blank;
mod block;
mod cycles;
mod gather;
mod header;
mod keep;
mod lists;
mod owner;
mod pins;
mod references;
mod region;
mod size_class;
mod survey;
mod sweep;
mod taking;
mod units;
mod walk;

pub use blank::Blank;
pub use block::{BLOCK_HEADER_BYTES, HANDLE_BYTES, Handle};
pub use header::{ArenaHeader, LAYOUT, MOST_CHUNKS};
pub use owner::Owner;
pub use references::ReferError;
pub use size_class::{CHUNK_BYTES, CLASS_COUNT, SizeClass};
pub use survey::Survey;
pub use sweep::Swept;
pub(crate) use units::UNIT_BYTES;

use crate::kill_point;
use crate::memory::{Memory, Placing};
use crate::mutex::LockError;
use crate::primitive::Ordering;
use crate::process_table::ProcessTable;
use block::{BlockHeader, HELD};
use header::{ARENA_MAGIC, header_in, units_in};
use lists::FreeList;
use taking::{Taken, shelf};
use units::Units;

/// What a placed structure is, so that its memory is only ever recycled as the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The header of a ring and of the queue around it.
    Ring = 0,
    /// A pool's shared header.
    Pool = 1,
    /// A pool worker's seat.
    Seat = 2,
    /// A reference to a shared block.
    Reference = 3,
    /// A user's lock.
    Lock = 4,
    /// A user's semaphore.
    Semaphore = 5,
    /// A user's event.
    Event = 6,
    /// A user's condition.
    Condition = 7,
    /// A user's barrier.
    Barrier = 8,
    /// Plain bytes that several share: a block of a size class, recycled as anything.
    Bytes = 255,
}

impl Kind {
    /// The kind of the blocks of a list; `None` for those of a size class.
    pub(crate) fn of_list(list: u32) -> Option<Self> {
        let kinds = [
            Self::Ring,
            Self::Pool,
            Self::Seat,
            Self::Reference,
            Self::Lock,
            Self::Semaphore,
            Self::Event,
            Self::Condition,
            Self::Barrier,
        ];
        kinds.into_iter().find(|&kind| list as usize == CLASS_COUNT + kind as usize)
    }
}

impl Kind {
    /// What a shared block of that list is.
    pub(crate) fn of_target(list: u32) -> Option<Self> {
        if (list as usize) < CLASS_COUNT { Some(Self::Bytes) } else { Self::of_list(list) }
    }
}

const KIND_COUNT: usize = 9;
/// Each size class has so many lists, so that members that allocate at once seldom meet.
const SHARDS: usize = if cfg!(loom) { 1 } else { 4 };
const LIST_COUNT: usize = CLASS_COUNT * SHARDS + KIND_COUNT;

/// What an arena needs from the one who maps it.
pub trait Backing: Memory {
    /// Makes sure that `len` fresh bytes at `offset` can be touched without a fault that kills.
    ///
    /// # Errors
    /// When the system has no memory for them.
    fn commit(&self, offset: u64, len: u64) -> Result<(), CommitError>;

    /// Gives the pages of `len` bytes at `offset` back to the system; they read as zeroes afterwards.
    fn give_back(&self, offset: u64, len: u64);

    /// This process as the owner of what it allocates.
    fn me(&self) -> Owner;

    /// Called before the arena grows, if much was handed out since the last time, or cannot grow; with no lock held: whether
    /// something was reclaimed instead.
    fn reclaim(&self) -> bool {
        false
    }

    /// Called before it is said that there is no memory, with no lock held: moves what can be moved to where less is in its
    /// way, see [`compact`](crate::compaction::compact); whether something was moved.
    fn compact(&self) -> bool {
        false
    }

    /// A clock that all members read alike, in milliseconds.
    fn milliseconds(&self) -> u64 {
        0
    }
}

/// The system has no memory for fresh pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitError;

/// Why no block could be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocateError {
    /// The arena's limit, or the system's memory, is reached.
    OutOfMemory {
        /// How many bytes were wanted.
        wanted_bytes: u64,
        /// The arena's limit.
        limit_bytes: u64,
    },
    /// A lock or list makes no sense; other lists may still work.
    Corrupted,
}

impl From<LockError> for AllocateError {
    fn from(_: LockError) -> Self {
        Self::Corrupted
    }
}

/// Why a handle names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleHandle;

/// Why a mapping is not an arena that this build can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// There is no arena.
    NotAnArena,
    /// It was made by another build of manyhands, or for another architecture.
    OtherBuild,
}

/// No system's pages are smaller.
const PAGE_BYTES: u64 = 4096;

/// An arena, seen from one process.
#[derive(Clone, Copy, Debug)]
pub struct Arena<B: Backing> {
    backing: B,
    header: &'static ArenaHeader,
    units: Units,
}

impl<B: Backing> Arena<B> {
    /// Lays out a new arena in fresh, zeroed memory.
    ///
    /// # Errors
    /// `NotAnArena` when the first extent cannot be resolved.
    ///
    /// # Safety
    /// Nobody else uses the memory yet. And an `Arena` is the right to free, to give and to lead others to whatever lies in
    /// the memory: it reaches only code that keeps the protocol of each structure, as it stands beside it.
    #[allow(unsafe_code)] // the door to all of the memory
    pub unsafe fn create(backing: B, family: u64, build: u64, limit_bytes: u64) -> Result<Self, OpenError> {
        #[cfg(loom)]
        header::write_blank_header(&backing, limit_bytes);
        let header = header_in(&backing).ok_or(OpenError::NotAnArena)?;
        let units = units_in(&backing, limit_bytes).ok_or(OpenError::NotAnArena)?;
        header.lay_out(family, build, limit_bytes);
        Ok(Self { backing, header, units })
    }

    /// Opens an arena that another member made.
    ///
    /// # Errors
    /// When there is none, or one of another build.
    ///
    /// # Safety
    /// The second half of what [`Arena::create`] asks for.
    #[allow(unsafe_code)] // the door to all of the memory
    pub unsafe fn open(backing: B, build: u64) -> Result<Self, OpenError> {
        let header = header_in(&backing).ok_or(OpenError::NotAnArena)?;
        if header.magic.load(Ordering::Acquire) != ARENA_MAGIC {
            return Err(OpenError::NotAnArena);
        }
        let same = header.layout.load(Ordering::Relaxed) == LAYOUT
            && header.pointer_bytes.load(Ordering::Relaxed) == size_of::<usize>() as u32
            && header.build.load(Ordering::Relaxed) == build;
        if !same {
            return Err(OpenError::OtherBuild);
        }
        let limit_bytes = header.limit_bytes.load(Ordering::Relaxed);
        let units = units_in(&backing, limit_bytes).ok_or(OpenError::NotAnArena)?;
        Ok(Self { backing, header, units })
    }

    /// The memory the arena lies in.
    pub fn backing(&self) -> &B {
        &self.backing
    }

    /// The family the arena belongs to.
    pub fn family(&self) -> u64 {
        self.header.family.load(Ordering::Relaxed)
    }

    /// The table of the family's processes.
    pub fn process_table(&self) -> &'static ProcessTable {
        &self.header.table
    }

    /// How many bytes of address space have been handed out so far, freed ones included.
    pub fn extent_bytes(&self) -> u64 {
        u64::from(self.header.next_chunk.load(Ordering::Relaxed)).min(MOST_CHUNKS as u64) * CHUNK_BYTES
    }

    /// A block whose payload holds at least `payload_bytes`.
    ///
    /// # Errors
    /// When the limit or the system's memory is reached.
    pub fn allocate(&self, payload_bytes: u64) -> Result<Blank<B>, AllocateError> {
        let class = SizeClass::holding(payload_bytes.saturating_add(BLOCK_HEADER_BYTES))
            .ok_or_else(|| self.out_of_memory(payload_bytes))?;
        let taken = self.allocate_from(class.index(), class.block_bytes(), class.block_bytes())?;
        self.blank(Kind::Bytes, taken, class.block_bytes() - BLOCK_HEADER_BYTES)
    }

    /// The block that was taken, for its taker to write.
    fn blank(&self, kind: Kind, taken: Taken, payload_bytes: u64) -> Result<Blank<B>, AllocateError> {
        // None when it cannot be mapped here: this process's own limit.
        Blank::new(*self, kind, taken.handle, payload_bytes).ok_or_else(|| self.out_of_memory(payload_bytes))
    }

    /// As [`Arena::allocate`], but only the payload's first `payload_bytes` have pages for certain: the rest of the block
    /// must not be touched. A class's blocks may have half as many bytes again as are wanted.
    ///
    /// # Errors
    /// As [`Arena::allocate`].
    pub fn allocate_exactly(&self, payload_bytes: u64) -> Result<Blank<B>, AllocateError> {
        self.blank(Kind::Bytes, self.take_exactly(payload_bytes)?, payload_bytes)
    }

    fn take_exactly(&self, payload_bytes: u64) -> Result<Taken, AllocateError> {
        let wanted = payload_bytes.saturating_add(BLOCK_HEADER_BYTES);
        let class = SizeClass::holding(wanted).ok_or_else(|| self.out_of_memory(payload_bytes))?;
        self.allocate_from(class.index(), class.block_bytes(), wanted)
    }

    /// As [`Arena::allocate_exactly`], and the payload's first `payload_bytes` are zero.
    ///
    /// # Errors
    /// As [`Arena::allocate`].
    pub fn allocate_zeroed(&self, payload_bytes: u64) -> Result<Blank<B>, AllocateError> {
        let taken = self.take_exactly(payload_bytes)?;
        let dirty = usize::try_from(taken.dirty_bytes.min(payload_bytes)).unwrap_or(usize::MAX);
        let mut blank = self.blank(Kind::Bytes, taken, payload_bytes)?;
        if blank.clear(dirty) { Ok(blank) } else { Err(self.out_of_memory(payload_bytes)) }
    }

    /// A block for a placed structure of that kind.
    ///
    /// # Errors
    /// As [`Arena::allocate`].
    pub fn allocate_kind(&self, kind: Kind, payload_bytes: u64) -> Result<Blank<B>, AllocateError> {
        if kind == Kind::Bytes {
            return self.allocate(payload_bytes);
        }
        self.prepare_for_what_stays();
        let bytes = payload_bytes
            .checked_add(BLOCK_HEADER_BYTES)
            .and_then(|bytes| bytes.checked_next_multiple_of(BLOCK_HEADER_BYTES))
            .ok_or_else(|| self.out_of_memory(payload_bytes))?;
        self.blank(kind, self.allocate_from(CLASS_COUNT + kind as usize, bytes, bytes)?, payload_bytes)
    }

    /// How many bytes the block's payload has.
    ///
    /// # Errors
    /// When the handle is stale or names no block.
    pub fn payload_bytes(&self, handle: Handle) -> Result<u64, StaleHandle> {
        let list = self.held(handle)?.list.load(Ordering::Relaxed) as usize;
        let class = SizeClass::from_index(list).ok_or(StaleHandle)?;
        Ok(class.block_bytes() - BLOCK_HEADER_BYTES)
    }

    /// What the block is that the handle names.
    ///
    /// # Errors
    /// When it names none (any more).
    pub fn kind(&self, handle: Handle) -> Result<Kind, StaleHandle> {
        Kind::of_target(self.held(handle)?.list.load(Ordering::Relaxed)).ok_or(StaleHandle)
    }

    /// Checks that the handle names a block that is held.
    ///
    /// # Errors
    /// When it does not (any more).
    pub fn check(&self, handle: Handle) -> Result<(), StaleHandle> {
        self.held(handle).map(|_| ())
    }

    /// Checks that the handle names a block of that kind that is held.
    ///
    /// # Errors
    /// When it does not (any more).
    pub fn check_kind(&self, kind: Kind, handle: Handle) -> Result<(), StaleHandle> {
        let list = self.held(handle)?.list.load(Ordering::Relaxed);
        if Kind::of_list(list) == Some(kind) { Ok(()) } else { Err(StaleHandle) }
    }

    fn held(&self, handle: Handle) -> Result<&'static BlockHeader, StaleHandle> {
        let start = handle.offset.checked_sub(BLOCK_HEADER_BYTES).ok_or(StaleHandle)?;
        let (block, list) = self.place_at(start)?;
        let live = block.state.load(Ordering::Acquire) == HELD
            && block.is_in_life(handle.generation)
            && block.list.load(Ordering::Relaxed) as usize == list;
        if live { Ok(block) } else { Err(StaleHandle) }
    }

    /// Where a block begins, if the table of units says that one does, and its list.
    #[inline]
    fn place_at(&self, start: u64) -> Result<(&'static BlockHeader, usize), StaleHandle> {
        let list = self.units.list_of_block(start).ok_or(StaleHandle)?;
        Ok((self.backing.place::<BlockHeader>(start).ok_or(StaleHandle)?, list))
    }

    /// The block whose header begins there, if the table of units says that one does.
    fn block_at(&self, start: u64) -> Result<&'static BlockHeader, StaleHandle> {
        let (block, list) = self.place_at(start)?;
        let sound = block.is_header() && block.list.load(Ordering::Relaxed) as usize == list;
        if sound { Ok(block) } else { Err(StaleHandle) }
    }

    /// From now on `owner` answers for the block, which this process held.
    pub fn give(&self, handle: Handle, owner: Owner) {
        if let Ok(block) = self.held(handle) {
            block.give(owner);
        }
    }

    /// This process as an owner.
    pub fn me(&self) -> Owner {
        self.backing.me()
    }

    /// Notes that the block's payload begins with so many handles of references.
    pub fn note_carried(&self, handle: Handle, count: u32) {
        if let Ok(block) = self.held(handle) {
            block.carried.store(count, Ordering::Release);
        }
    }

    /// With how many handles of references the block's payload begins.
    pub fn carried(&self, handle: Handle) -> u32 {
        self.held(handle).map_or(0, |block| block.carried.load(Ordering::Acquire))
    }

    /// Frees the block. Exactly one of several who free the same handle succeeds.
    ///
    /// # Errors
    /// When the handle is stale: it was freed before.
    pub fn free(&self, handle: Handle) -> Result<(), StaleHandle> {
        self.release(handle, true)
    }

    fn release(&self, handle: Handle, has_pages: bool) -> Result<(), StaleHandle> {
        let block = self.held(handle)?;
        let list = block.list.load(Ordering::Relaxed) as usize;
        if list >= CLASS_COUNT + KIND_COUNT {
            return Err(StaleHandle);
        }
        // A damaged header must not bring the block among larger ones, to be handed out with its neighbours.
        let bytes = block.bytes.load(Ordering::Relaxed);
        if SizeClass::from_index(list).is_some_and(|class| class.block_bytes() != bytes) {
            return Err(StaleHandle);
        }
        if !block.end_life(handle.generation) {
            return Err(StaleHandle);
        }
        let me = self.backing.me();
        block.give(me);
        kill_point!(ArenaFreed);
        block.shareable.store(0, Ordering::Relaxed);
        block.holders.store(0, Ordering::Relaxed);
        block.carried.store(0, Ordering::Relaxed);
        if has_pages {
            self.keep_or_give_back(list, handle.offset, block);
        }
        // A damaged list loses the block; the caller is rid of it either way.
        let free_list = &self.header.lists[shelf(list, me, 0)];
        let _ = free_list.push(&self.backing, handle.offset - BLOCK_HEADER_BYTES, block, me);
        Ok(())
    }

    /// Frees the block whose payload begins at `offset`, whichever life it is in: for the one owner of a placed
    /// structure that keeps only offsets.
    ///
    /// # Errors
    /// When no block is held there.
    pub fn free_at(&self, offset: u64) -> Result<(), StaleHandle> {
        self.free(self.handle_at(offset)?)
    }

    /// How often somebody died holding a free list's lock.
    pub fn recoveries(&self) -> u32 {
        self.header.lists.iter().map(FreeList::recoveries).sum()
    }

    fn out_of_memory(&self, wanted_bytes: u64) -> AllocateError {
        AllocateError::OutOfMemory {
            wanted_bytes,
            limit_bytes: self.header.limit_bytes.load(Ordering::Relaxed),
        }
    }
}
