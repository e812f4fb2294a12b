//! The arena's own structures: who owns which bytes of the family's shared memory.
//!
//! # Layout
//! Offset 0 holds the [`ArenaHeader`]; the memory is handed out in *extents* of whole chunks (64 MiB), listed
//! in the header's directory. Small blocks are carved from the current extent, a block of more than a chunk
//! gets an extent of its own. A freed block goes on the list of its size class and is reused first: pages that
//! were used before are twenty times cheaper than fresh ones.
//!
//! # Protocol
//! | structure | lock | commit | the holder died before it | after it |
//! |---|---|---|---|---|
//! | free list, pop | the list's | `head = next` | the block is marked `HELD` but still on the list: repaired to `FREE` | the block is lost |
//! | free list, push | the list's | `head = block` | the block is lost | done |
//! | carving | `growth` | `carved = end of block` | nothing happened | the block is lost |
//! | new extent | `growth` | `next_chunk += n` | the directory entry is written again by the next | the extent is empty, the next carver uses it or skips it |
//!
//! A large block whose pages were given back, or could not be had, is on its list without pages; they are
//! committed again before it is handed out, so that no first touch of a large block meets a full system.
//!
//! "Lost" is the block in question, and only until the family ends. Blocks of a *kind* (rings, locks, seats)
//! are recycled only as the same kind, never for more bytes than they have, and never given back to the system, so that a stale handle never makes
//! bytes of a message look like a lock.

mod block;
mod lists;
mod size_class;
mod survey;

pub use block::{BLOCK_HEADER_BYTES, HANDLE_BYTES, Handle};
pub use size_class::{CHUNK_BYTES, CLASS_COUNT, SizeClass};
pub use survey::Survey;

use crate::kill_point;
use crate::memory::{Memory, Shareable};
use crate::mutex::{LockError, RobustMutex};
use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::process_table::ProcessTable;
use block::{BlockHeader, FREE, HELD, MAGIC};
use lists::FreeList;

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
}

const KIND_COUNT: usize = 3;
const LIST_COUNT: usize = CLASS_COUNT + KIND_COUNT;

/// How many chunks an arena can have: 1 TiB.
pub const MOST_CHUNKS: usize = if cfg!(loom) { 2 } else { 16_384 };

const ARENA_MAGIC: u64 = u64::from_le_bytes(*b"manyhand");

/// Changes whenever any placed structure changes.
pub const LAYOUT: u32 = 3;

/// At offset 0 of every arena.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct ArenaHeader {
    magic: AtomicU64,
    layout: AtomicU32,
    pointer_bytes: AtomicU32,
    build: AtomicU64,
    family: AtomicU64,
    limit_bytes: AtomicU64,
    /// Bytes in freed blocks that still hold pages.
    kept_bytes: AtomicU64,
    growth: RobustMutex,
    /// Chunks handed out so far.
    next_chunk: AtomicU32,
    /// What is left of the current extent.
    carved: AtomicU64,
    carve_end: AtomicU64,
    lists: [FreeList; LIST_COUNT],
    /// For each chunk: how many chunks the extent that begins there has, or 0.
    extents: [AtomicU32; MOST_CHUNKS],
    table: ProcessTable,
}

// SAFETY: repr(C), atomics and robust mutexes only; readers check what they load.
#[allow(unsafe_code)]
unsafe impl Shareable for ArenaHeader {}

/// What an arena needs from the one who maps it.
pub trait Backing: Memory {
    /// Makes sure that `len` fresh bytes at `offset` can be touched without a fault that kills.
    ///
    /// # Errors
    /// When the system has no memory for them.
    fn commit(&self, offset: u64, len: u64) -> Result<(), CommitError>;

    /// Gives the pages of `len` bytes at `offset` back to the system; they read as zeroes afterwards.
    fn give_back(&self, offset: u64, len: u64);
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

/// Freed blocks of at least this many bytes count against the cap on what is kept.
const LARGE_BYTES: u64 = 256 << 10;
/// How many bytes of freed large blocks keep their pages.
const MOST_KEPT_BYTES: u64 = 256 << 20;
/// Blocks of at least this many bytes are committed before they are handed out.
const COMMIT_BYTES: u64 = 1 << 20;

/// An arena, seen from one process.
#[derive(Clone, Copy, Debug)]
pub struct Arena<B: Backing> {
    backing: B,
    header: &'static ArenaHeader,
}

impl<B: Backing> Arena<B> {
    /// Lays out a new arena in fresh, zeroed memory.
    ///
    /// # Errors
    /// `NotAnArena` when the first extent cannot be resolved.
    pub fn create(backing: B, family: u64, build: u64, limit_bytes: u64) -> Result<Self, OpenError> {
        #[cfg(loom)]
        write_blank_header(&backing);
        let header = header_in(&backing).ok_or(OpenError::NotAnArena)?;
        header.lay_out(family, build, limit_bytes);
        Ok(Self { backing, header })
    }

    /// Opens an arena that another member made.
    ///
    /// # Errors
    /// When there is none, or one of another build.
    pub fn open(backing: B, build: u64) -> Result<Self, OpenError> {
        let header = header_in(&backing).ok_or(OpenError::NotAnArena)?;
        if header.magic.load(Ordering::Acquire) != ARENA_MAGIC {
            return Err(OpenError::NotAnArena);
        }
        let same = header.layout.load(Ordering::Relaxed) == LAYOUT
            && header.pointer_bytes.load(Ordering::Relaxed) == size_of::<usize>() as u32
            && header.build.load(Ordering::Relaxed) == build;
        if same { Ok(Self { backing, header }) } else { Err(OpenError::OtherBuild) }
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
        u64::from(self.header.next_chunk.load(Ordering::Relaxed)) * CHUNK_BYTES
    }

    /// A block whose payload holds at least `payload_bytes`.
    ///
    /// # Errors
    /// When the limit or the system's memory is reached.
    pub fn allocate(&self, payload_bytes: u64) -> Result<Handle, AllocateError> {
        let class = SizeClass::holding(payload_bytes.saturating_add(BLOCK_HEADER_BYTES))
            .ok_or_else(|| self.out_of_memory(payload_bytes))?;
        self.allocate_from(class.index(), class.block_bytes())
    }

    /// A block for a placed structure of that kind.
    ///
    /// # Errors
    /// As [`Arena::allocate`].
    pub fn allocate_kind(&self, kind: Kind, payload_bytes: u64) -> Result<Handle, AllocateError> {
        let bytes = payload_bytes
            .checked_add(BLOCK_HEADER_BYTES)
            .and_then(|bytes| bytes.checked_next_multiple_of(BLOCK_HEADER_BYTES))
            .ok_or_else(|| self.out_of_memory(payload_bytes))?;
        self.allocate_from(CLASS_COUNT + kind as usize, bytes)
    }

    fn allocate_from(&self, list: usize, bytes: u64) -> Result<Handle, AllocateError> {
        if let Some(handle) = self.header.lists[list].pop(&self.backing, list as u32, bytes)? {
            let has_pages = self.unkeep(handle, bytes);
            return self.committed(handle, bytes, has_pages);
        }
        let offset = self.carve(bytes)?;
        kill_point!(ArenaCarved);
        if bytes >= COMMIT_BYTES && self.backing.commit(offset, BLOCK_HEADER_BYTES).is_err() {
            return Err(self.out_of_memory(bytes));
        }
        // Unresolvable means that this process may not map more: its own limit, not the arena's.
        let placed = self.backing.place_new(offset, BlockHeader::new(list as u32, bytes));
        placed.ok_or_else(|| self.out_of_memory(bytes))?;
        self.committed(Handle { offset: offset + BLOCK_HEADER_BYTES, generation: 1 }, bytes, false)
    }

    /// Makes sure that a large block has pages. When the system has none, the block goes on its free list, so that
    /// trying again later does not eat the arena.
    fn committed(&self, handle: Handle, bytes: u64, has_pages: bool) -> Result<Handle, AllocateError> {
        let start = handle.offset - BLOCK_HEADER_BYTES;
        if has_pages || bytes < COMMIT_BYTES || self.backing.commit(start, bytes).is_ok() {
            return Ok(handle);
        }
        // Stale is impossible: nobody else has this handle yet.
        let _ = self.release(handle, false);
        Err(self.out_of_memory(bytes))
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

    /// Checks that the handle names a block that is held.
    ///
    /// # Errors
    /// When it does not (any more).
    pub fn check(&self, handle: Handle) -> Result<(), StaleHandle> {
        self.held(handle).map(|_| ())
    }

    fn held(&self, handle: Handle) -> Result<&'static BlockHeader, StaleHandle> {
        let start = handle.offset.checked_sub(BLOCK_HEADER_BYTES).ok_or(StaleHandle)?;
        let block = self.backing.place::<BlockHeader>(start).ok_or(StaleHandle)?;
        let live = block.magic.load(Ordering::Relaxed) == MAGIC
            && block.state.load(Ordering::Acquire) == HELD
            && block.generation.load(Ordering::Relaxed) == handle.generation;
        if live { Ok(block) } else { Err(StaleHandle) }
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
        let Some(free_list) = self.header.lists.get(list) else { return Err(StaleHandle) };
        // A damaged header must not bring the block among larger ones, to be handed out with its neighbours.
        let bytes = block.bytes.load(Ordering::Relaxed);
        if SizeClass::from_index(list).is_some_and(|class| class.block_bytes() != bytes) {
            return Err(StaleHandle);
        }
        let next_life = handle.generation.wrapping_add(1).max(1);
        block
            .generation
            .compare_exchange(handle.generation, next_life, Ordering::AcqRel, Ordering::Relaxed)
            .map_err(|_| StaleHandle)?;
        if has_pages {
            self.keep_or_give_back(list, handle.offset, block);
        }
        block.state.store(FREE, Ordering::Release);
        kill_point!(ArenaPushMarked);
        // A damaged list loses the block; the caller is rid of it either way.
        let _ = free_list.push(&self.backing, handle.offset - BLOCK_HEADER_BYTES, block);
        Ok(())
    }

    /// Frees the block whose payload begins at `offset`, whichever life it is in: for the one owner of a placed
    /// structure that keeps only offsets.
    ///
    /// # Errors
    /// When no block is held there.
    pub fn free_at(&self, offset: u64) -> Result<(), StaleHandle> {
        let start = offset.checked_sub(BLOCK_HEADER_BYTES).ok_or(StaleHandle)?;
        let block = self.backing.place::<BlockHeader>(start).ok_or(StaleHandle)?;
        self.free(Handle { offset, generation: block.generation.load(Ordering::Acquire) })
    }

    /// Lazily: pages stay with a freed block until the freed blocks hold too many.
    fn keep_or_give_back(&self, list: usize, payload: u64, block: &BlockHeader) {
        let Some(class) = SizeClass::from_index(list) else { return };
        let bytes = class.block_bytes();
        if bytes < LARGE_BYTES {
            return;
        }
        if self.header.kept_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= MOST_KEPT_BYTES
        {
            block.kept.store(1, Ordering::Relaxed);
            return;
        }
        self.header.kept_bytes.fetch_sub(bytes, Ordering::Relaxed);
        block.kept.store(0, Ordering::Relaxed);
        let first_page = payload.next_multiple_of(4096);
        self.backing.give_back(first_page, payload - BLOCK_HEADER_BYTES + bytes - first_page);
    }

    /// A block that was taken off its list no longer counts among the kept ones; whether it was one of them, and so
    /// has its pages.
    fn unkeep(&self, handle: Handle, bytes: u64) -> bool {
        if bytes < LARGE_BYTES {
            return true;
        }
        let block = self.backing.place::<BlockHeader>(handle.offset - BLOCK_HEADER_BYTES);
        let kept = block.is_some_and(|b| b.kept.swap(0, Ordering::Relaxed) == 1);
        if kept {
            self.header.kept_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        kept
    }

    /// How often somebody died holding a free list's lock.
    pub fn recoveries(&self) -> u32 {
        self.header.lists.iter().map(FreeList::recoveries).sum()
    }

    /// How many bytes of freed large blocks still hold pages.
    pub fn kept_bytes(&self) -> u64 {
        self.header.kept_bytes.load(Ordering::Relaxed)
    }

    fn out_of_memory(&self, wanted_bytes: u64) -> AllocateError {
        AllocateError::OutOfMemory {
            wanted_bytes,
            limit_bytes: self.header.limit_bytes.load(Ordering::Relaxed),
        }
    }

    fn carve(&self, bytes: u64) -> Result<u64, AllocateError> {
        // Nothing to repair: each change of the carving state is one store.
        let guard = self.header.growth.lock(|| {})?;
        let found = self.header.carve(bytes);
        drop(guard);
        found.ok_or_else(|| self.out_of_memory(bytes))
    }
}

fn header_in<B: Backing>(backing: &B) -> Option<&'static ArenaHeader> {
    let start = backing.resolve(0, size_of::<ArenaHeader>())?;
    // SAFETY: resolve() guarantees validity for the process's life, offset 0 of an extent is page-aligned, and
    // ArenaHeader is Shareable: zeroed or foreign bytes are checked by `open` before use.
    #[allow(unsafe_code)]
    Some(unsafe { start.cast::<ArenaHeader>().as_ref() })
}

/// What zeroed bytes are to the real atomics.
#[cfg(loom)]
fn write_blank_header<B: Backing>(backing: &B) {
    let header = ArenaHeader {
        magic: AtomicU64::new(0),
        layout: AtomicU32::new(0),
        pointer_bytes: AtomicU32::new(0),
        build: AtomicU64::new(0),
        family: AtomicU64::new(0),
        limit_bytes: AtomicU64::new(0),
        kept_bytes: AtomicU64::new(0),
        growth: RobustMutex::new(),
        next_chunk: AtomicU32::new(0),
        carved: AtomicU64::new(0),
        carve_end: AtomicU64::new(0),
        lists: std::array::from_fn(|_| FreeList::new()),
        extents: std::array::from_fn(|_| AtomicU32::new(0)),
        table: ProcessTable::new(),
    };
    let start = backing.resolve(0, size_of::<ArenaHeader>()).expect("a model's memory holds the header");
    // SAFETY: resolve() vouches for the place, and no thread of the model runs yet.
    #[allow(unsafe_code)]
    unsafe {
        start.cast::<ArenaHeader>().write(header)
    };
}

impl ArenaHeader {
    fn lay_out(&'static self, family: u64, build: u64, limit_bytes: u64) {
        self.layout.store(LAYOUT, Ordering::Relaxed);
        self.pointer_bytes.store(size_of::<usize>() as u32, Ordering::Relaxed);
        self.build.store(build, Ordering::Relaxed);
        self.family.store(family, Ordering::Relaxed);
        self.limit_bytes.store(limit_bytes, Ordering::Relaxed);
        self.growth.lay_out();
        for list in &self.lists {
            list.lay_out();
        }
        let first = (size_of::<Self>() as u64).next_multiple_of(4096);
        self.extents[0].store(1, Ordering::Relaxed);
        self.next_chunk.store(1, Ordering::Relaxed);
        self.carved.store(first, Ordering::Relaxed);
        self.carve_end.store(CHUNK_BYTES, Ordering::Relaxed);
        self.magic.store(ARENA_MAGIC, Ordering::Release);
    }

    /// The extent that holds `offset`: where it begins, and how many bytes it has.
    pub fn extent_of(&self, offset: u64) -> Option<(u64, u64)> {
        let chunk = usize::try_from(offset / CHUNK_BYTES).ok()?;
        if chunk >= (self.next_chunk.load(Ordering::Acquire) as usize).min(MOST_CHUNKS) {
            return None;
        }
        let first = (0..=chunk).rev().find(|&c| self.extents[c].load(Ordering::Relaxed) != 0)?;
        let chunks = self.extents[first].load(Ordering::Relaxed) as usize;
        (chunk < first + chunks && first + chunks <= MOST_CHUNKS)
            .then_some((first as u64 * CHUNK_BYTES, chunks as u64 * CHUNK_BYTES))
    }

    /// Under the growth lock.
    fn carve(&self, bytes: u64) -> Option<u64> {
        if bytes > CHUNK_BYTES / 2 {
            let (start, _) = self.new_extent(bytes.div_ceil(CHUNK_BYTES))?;
            return Some(start);
        }
        let start = self.carved.load(Ordering::Relaxed);
        if let Some(end) = start.checked_add(bytes).filter(|&e| e <= self.carve_end.load(Ordering::Relaxed)) {
            self.carved.store(end, Ordering::Relaxed);
            return Some(start);
        }
        let (start, end) = self.new_extent(1)?;
        // In this order: between the two stores the current extent looks full, never longer than it is.
        self.carved.store(end, Ordering::Relaxed);
        self.carve_end.store(end, Ordering::Relaxed);
        self.carved.store(start + bytes, Ordering::Relaxed);
        Some(start)
    }

    fn new_extent(&self, chunks: u64) -> Option<(u64, u64)> {
        let first = u64::from(self.next_chunk.load(Ordering::Relaxed));
        let end = first.checked_add(chunks)?;
        let limit = self.limit_bytes.load(Ordering::Relaxed);
        if end > MOST_CHUNKS as u64 || end * CHUNK_BYTES > limit.max(CHUNK_BYTES) {
            return None;
        }
        self.extents[usize::try_from(first).ok()?].store(u32::try_from(chunks).ok()?, Ordering::Relaxed);
        self.next_chunk.store(u32::try_from(end).ok()?, Ordering::Release);
        kill_point!(ArenaExtentReserved);
        Some((first * CHUNK_BYTES, end * CHUNK_BYTES))
    }
}
