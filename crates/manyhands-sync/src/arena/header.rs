//! What lies at offset 0: the directory of extents, and the roots of all else. The table of units lies behind it.

use super::lists::FreeList;
use super::references::ReferenceLog;
use super::units::{UNIT_BYTES, UNITS_A_CHUNK, Units};
use super::{Backing, CHUNK_BYTES, CLASS_COUNT, KIND_COUNT, LIST_COUNT};
use crate::kill_point;
use crate::memory::Shareable;
use crate::mutex::RobustMutex;
use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::process_table::ProcessTable;

/// How many chunks an arena can have: 1 TiB.
pub const MOST_CHUNKS: usize = if cfg!(loom) { 2 } else { 16_384 };

pub(super) const ARENA_MAGIC: u64 = u64::from_le_bytes(*b"manyhand");

/// Changes whenever any placed structure changes.
pub const LAYOUT: u32 = 10;

/// This part of the arena's units is kept for kinds, but at least and at most so many.
const KINDS_PART: u64 = 64;
const LEAST_FOR_KINDS: u64 = if cfg!(loom) { 0 } else { 16 };
const MOST_FOR_KINDS: u64 = if cfg!(loom) { 0 } else { 64 };

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
    /// Bytes in freed large blocks, and in units that belong to nobody, that still hold pages.
    pub(super) kept_bytes: AtomicU64,
    /// When somebody last wanted a large block, in milliseconds of the members' clock.
    pub(super) large_used: AtomicU64,
    pub(super) growth: RobustMutex,
    /// Chunks handed out so far.
    pub(super) next_chunk: AtomicU32,
    /// No unit before this one is free, but for those that are kept for kinds.
    pub(super) first_free: AtomicU32,
    /// How many free units may hold pages: never fewer than do, more when somebody died changing it.
    pub(super) dirty_units: AtomicU32,
    /// How many units were handed out since the last gathering.
    pub(super) handed_units: AtomicU64,
    /// 1 since somebody was told that there is no memory, until most of it is free again: see `Arena::prepare_for_what_stays`.
    pub(super) refused: AtomicU32,
    /// Before this time nobody gathers for something that stays, in milliseconds of the members' clock.
    pub(super) next_gathering: AtomicU64,
    /// From which unit each list's next small block is carved; 0 when from none.
    pub(super) current: [AtomicU32; CLASS_COUNT + KIND_COUNT],
    /// Held by the one who makes room: sweeps, gathers, grows.
    pub(super) room: RobustMutex,
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
pub(super) fn write_blank_header<B: Backing>(backing: &B, limit_bytes: u64) {
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
        first_free: AtomicU32::new(0),
        dirty_units: AtomicU32::new(0),
        handed_units: AtomicU64::new(0),
        refused: AtomicU32::new(0),
        next_gathering: AtomicU64::new(0),
        current: std::array::from_fn(|_| AtomicU32::new(0)),
        room: RobustMutex::new(),
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
    for word in 0..ArenaHeader::most_chunks(limit_bytes) * UNITS_A_CHUNK {
        let start = backing.resolve(ArenaHeader::table() + word * size_of::<AtomicU64>() as u64, 8);
        let start = start.expect("a model's memory holds the table").cast::<AtomicU64>();
        // SAFETY: as above.
        #[allow(unsafe_code)]
        unsafe {
            start.write(AtomicU64::new(0))
        };
    }
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
        self.room.lay_out();
        self.extents[0].store(1, Ordering::Relaxed);
        self.next_chunk.store(1, Ordering::Relaxed);
        self.first_free.store(self.first_common_unit() as u32, Ordering::Relaxed);
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

    /// So many chunks the arena can have.
    pub(super) fn most_chunks(limit_bytes: u64) -> u64 {
        (limit_bytes / CHUNK_BYTES).clamp(1, MOST_CHUNKS as u64)
    }

    /// Where the table of units begins: behind this header.
    fn table() -> u64 {
        (size_of::<Self>() as u64).next_multiple_of(4096)
    }

    /// The first unit behind the table.
    pub(super) fn first_unit(&self) -> u64 {
        let words = Self::most_chunks(self.limit_bytes.load(Ordering::Relaxed)) * UNITS_A_CHUNK;
        (Self::table() + words * size_of::<AtomicU64>() as u64).div_ceil(UNIT_BYTES)
    }

    /// The first unit that anything may lie in. Those before it are kept for blocks of kinds, which outlive messages: made
    /// while the arena is full, they would lie wherever something was free, and part it for as long as they are held.
    /// Nothing but address space is kept: their pages come when they are used.
    pub(super) fn first_common_unit(&self) -> u64 {
        let part = self.limit_bytes.load(Ordering::Relaxed) / UNIT_BYTES / KINDS_PART;
        self.first_unit() + part.clamp(LEAST_FOR_KINDS, MOST_FOR_KINDS)
    }

    /// Puts right what a member that died while growing the arena has left. Nothing: each change is one store.
    pub(super) fn settle_growth(&self) {
        // A lock that makes no sense says so when it is used.
        let _ = self.growth.lock(|| {});
    }

    /// More address space: so many chunks, of which nothing is in use yet. `None` at the arena's limit, or when the system
    /// has no memory for what is noted of them. Under the growth lock.
    pub(super) fn new_extent<B: Backing>(&self, backing: &B, chunks: u64) -> Option<()> {
        let first = u64::from(self.next_chunk.load(Ordering::Relaxed));
        let limit = Self::most_chunks(self.limit_bytes.load(Ordering::Relaxed));
        let end = first.checked_add(chunks).filter(|&end| end <= limit)?;
        // The first touch of their words must not meet a full system.
        let bytes = UNITS_A_CHUNK * size_of::<AtomicU64>() as u64;
        backing.commit(Self::table() + first * bytes, chunks * bytes).ok()?;
        self.extents[first as usize].store(chunks as u32, Ordering::Relaxed);
        self.next_chunk.store(end as u32, Ordering::Release);
        kill_point!(ArenaExtentReserved);
        Some(())
    }
}

/// The table of units of an arena with that limit; `None` when it does not fit into the first extent.
pub(super) fn units_in<B: Backing>(backing: &B, limit_bytes: u64) -> Option<Units> {
    let count = usize::try_from(ArenaHeader::most_chunks(limit_bytes) * UNITS_A_CHUNK).ok()?;
    let start = backing.resolve(ArenaHeader::table(), count * size_of::<AtomicU64>())?;
    // SAFETY: resolve() vouches for so many bytes for the process's life; the table begins at a page; every change of it is
    // atomic, and any bits are a word.
    #[allow(unsafe_code)]
    Some(Units(unsafe { std::slice::from_raw_parts(start.cast::<AtomicU64>().as_ptr(), count) }))
}
