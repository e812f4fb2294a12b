//! What lies at offset 0: the directory of extents, from which fresh memory is carved, and the roots of all else.

use super::block::{BLOCK_HEADER_BYTES, BlockHeader};
use super::lists::FreeList;
use super::references::ReferenceLog;
use super::{Backing, CHUNK_BYTES, LIST_COUNT};
use crate::kill_point;
use crate::memory::Shareable;
use crate::mutex::{LockError, RobustMutex};
use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::process_table::ProcessTable;

/// How many chunks an arena can have: 1 TiB.
pub const MOST_CHUNKS: usize = if cfg!(loom) { 2 } else { 16_384 };

pub(super) const ARENA_MAGIC: u64 = u64::from_le_bytes(*b"manyhand");

/// Changes whenever any placed structure changes.
pub const LAYOUT: u32 = 7;

/// At offset 0 of every arena.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct ArenaHeader {
    pub(super) magic: AtomicU64,
    pub(super) layout: AtomicU32,
    pub(super) pointer_bytes: AtomicU32,
    pub(super) build: AtomicU64,
    pub(super) family: AtomicU64,
    pub(super) limit_bytes: AtomicU64,
    /// Bytes in freed blocks that still hold pages.
    pub(super) kept_bytes: AtomicU64,
    /// When somebody last wanted a large block, in milliseconds of the members' clock.
    pub(super) large_used: AtomicU64,
    pub(super) growth: RobustMutex,
    /// Chunks handed out so far.
    pub(super) next_chunk: AtomicU32,
    /// What is left of the current extent.
    pub(super) carved: AtomicU64,
    pub(super) carve_end: AtomicU64,
    /// One for each size class and shard, then one for each kind.
    pub(super) lists: [FreeList; LIST_COUNT],
    /// For each chunk: how many chunks the extent that begins there has, or 0.
    pub(super) extents: [AtomicU32; MOST_CHUNKS],
    /// References to shared blocks are counted under this.
    pub(super) references: ReferenceLog,
    /// Members that may have left blocks behind, since the last sweep.
    pub(super) left_behind: AtomicU32,
    /// How many blocks the last sweep looked at.
    pub(super) last_visited: AtomicU64,
    pub(super) table: ProcessTable,
}

// SAFETY: repr(C), atomics and robust mutexes only; readers check what they load.
#[allow(unsafe_code)]
unsafe impl Shareable for ArenaHeader {}

pub(super) fn header_in<B: Backing>(backing: &B) -> Option<&'static ArenaHeader> {
    let start = backing.resolve(0, size_of::<ArenaHeader>())?;
    // SAFETY: resolve() guarantees validity for the process's life, offset 0 of an extent is page-aligned, and
    // ArenaHeader is Shareable: zeroed or foreign bytes are checked by `open` before use.
    #[allow(unsafe_code)]
    Some(unsafe { start.cast::<ArenaHeader>().as_ref() })
}

/// What zeroed bytes are to the real atomics.
#[cfg(loom)]
pub(super) fn write_blank_header<B: Backing>(backing: &B) {
    let header = ArenaHeader {
        magic: AtomicU64::new(0),
        layout: AtomicU32::new(0),
        pointer_bytes: AtomicU32::new(0),
        build: AtomicU64::new(0),
        family: AtomicU64::new(0),
        limit_bytes: AtomicU64::new(0),
        kept_bytes: AtomicU64::new(0),
        large_used: AtomicU64::new(0),
        growth: RobustMutex::new(),
        next_chunk: AtomicU32::new(0),
        carved: AtomicU64::new(0),
        carve_end: AtomicU64::new(0),
        lists: std::array::from_fn(|_| FreeList::new()),
        extents: std::array::from_fn(|_| AtomicU32::new(0)),
        references: ReferenceLog::new(),
        left_behind: AtomicU32::new(0),
        last_visited: AtomicU64::new(0),
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
    pub(super) fn lay_out(&'static self, family: u64, build: u64, limit_bytes: u64) {
        self.layout.store(LAYOUT, Ordering::Relaxed);
        self.pointer_bytes.store(size_of::<usize>() as u32, Ordering::Relaxed);
        self.build.store(build, Ordering::Relaxed);
        self.family.store(family, Ordering::Relaxed);
        self.limit_bytes.store(limit_bytes, Ordering::Relaxed);
        self.growth.lay_out();
        self.references.lay_out();
        for list in &self.lists {
            list.lay_out();
        }
        let first = Self::first_block();
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

    /// Where the first block begins.
    pub(super) fn first_block() -> u64 {
        (size_of::<Self>() as u64).next_multiple_of(4096)
    }

    /// Puts right what a member that died while growing the arena has left. Nothing: each change is one store.
    pub(super) fn settle_growth(&self) {
        // A lock that makes no sense says so when it is used.
        let _ = self.growth.lock(|| {});
    }

    /// Whether a block of so many bytes needs a new extent.
    pub(super) fn must_grow(&self, bytes: u64) -> bool {
        let left = self.carve_end.load(Ordering::Relaxed).saturating_sub(self.carved.load(Ordering::Relaxed));
        bytes > left
    }

    /// Carves a block, with its header, off memory that was never used; where it begins. `None` when the arena's limit
    /// is reached, or this process cannot map or touch more.
    pub(super) fn carve<B: Backing>(
        &self,
        backing: &B,
        list: u32,
        bytes: u64,
    ) -> Result<Option<u64>, LockError> {
        let block = BlockHeader::new(list, bytes, backing.me());
        let _growing = self.growth.lock(|| {})?;
        Ok(self.carve_locked(backing, block, bytes))
    }

    fn carve_locked<B: Backing>(&self, backing: &B, block: BlockHeader, bytes: u64) -> Option<u64> {
        if bytes > CHUNK_BYTES / 2 {
            let (start, _) = self.new_extent(bytes.div_ceil(CHUNK_BYTES))?;
            // Its first touch must not meet a full system.
            backing.commit(start, BLOCK_HEADER_BYTES).ok()?;
            backing.place_new(start, block)?;
            return Some(start);
        }
        let start = self.carved.load(Ordering::Relaxed);
        if let Some(end) = start.checked_add(bytes).filter(|&e| e <= self.carve_end.load(Ordering::Relaxed)) {
            backing.place_new(start, block)?;
            kill_point!(ArenaHeaderWritten);
            self.carved.store(end, Ordering::Release);
            return Some(start);
        }
        let (start, end) = self.new_extent(1)?;
        // In this order: between the two stores the current extent looks full, never longer than it is.
        self.carved.store(end, Ordering::Relaxed);
        self.carve_end.store(end, Ordering::Relaxed);
        backing.place_new(start, block)?;
        self.carved.store(start + bytes, Ordering::Release);
        Some(start)
    }

    /// Makes a block of an extent that somebody reserved and died, or could not map; where it begins.
    pub(super) fn adopt_extent<B: Backing>(
        &self,
        backing: &B,
        start: u64,
        block: BlockHeader,
    ) -> Option<u64> {
        let _growing = self.growth.lock(|| {}).ok()?;
        let unused = backing.place::<BlockHeader>(start)?.magic.load(Ordering::Relaxed) == 0;
        let current = self.carve_end.load(Ordering::Relaxed).checked_sub(CHUNK_BYTES) == Some(start)
            && self.carved.load(Ordering::Relaxed) < start + CHUNK_BYTES;
        if !unused || current {
            return None;
        }
        backing.place_new(start, block).map(|_| start)
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
