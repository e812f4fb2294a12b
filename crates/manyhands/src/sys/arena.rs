//! The two doors to the family's arena, and what safe code gets to see of it.
//!
//! An [`Arena`] is the right to free, give and lead others to whatever lies in the family's memory. So the engine keeps it to
//! itself: [`Family::arena`](crate::family::Family::arena) hands out an [`ArenaView`], which allocates new blocks and resolves
//! addresses, and can touch nothing that is somebody's.
#![allow(unsafe_code)] // opens the arena, implements Memory

use super::Extents;
use manyhands_sync::arena::{AllocateError, Arena, Blank, Handle, Kind, OpenError, StaleHandle, Survey};
use manyhands_sync::memory::Memory;
use manyhands_sync::process_table::ProcessTable;
use std::ptr::NonNull;

/// Lays out the arena of a new family.
pub(crate) fn create(
    extents: Extents,
    family: u64,
    build: u64,
    bytes: u64,
) -> Result<Arena<Extents>, OpenError> {
    // SAFETY: the memory was made for this, a moment ago. The arena stays inside the engine, whose modules keep the
    // protocols: `Family` gives out nothing but a view.
    unsafe { Arena::create(extents, family, build, bytes) }
}

/// Opens the arena of a family that exists.
pub(crate) fn open(extents: Extents, build: u64) -> Result<Arena<Extents>, OpenError> {
    // SAFETY: the arena stays inside the engine, as in create().
    unsafe { Arena::open(extents, build) }
}

/// The family's memory, for everybody.
///
/// What was just allocated is a [`Blank`], and written through it. Whatever else lies in the memory is reached through the
/// structures of this crate. Plain bytes cannot be written over a lock:
///
/// ```compile_fail,E0133
/// use manyhands::{Lock, family::Family, lock::Nature};
/// use manyhands_sync::memory::Memory;
///
/// let family = Family::current()?;
/// let lock = Lock::create(family, Nature::default())?;
/// let taker = lock.clone();
/// std::thread::scope(|threads| {
///     threads.spawn(move || taker.try_acquire());
///     // Were this safe, a plain store could race with the exchange above, and unlock what is locked.
///     family.arena().backing().copy_in(lock.handle().offset, &[0; 4])
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// This is how bytes come into shared memory:
///
/// ```
/// use manyhands::{SharedBlock, family::Family};
///
/// let family = Family::current()?;
/// let mut blank = family.arena().allocate(4).expect("memory");
/// assert!(blank.write(0, &[1, 2, 3, 4]));
/// assert!(!blank.write(blank.len(), &[5]));
/// // From here on others may come to the bytes, and nobody can write them plainly any more.
/// let block = SharedBlock::open(family, blank.share(), 4)?;
/// assert_eq!(block.load::<u8>(2), Some(3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A `Blank` that was shared is gone:
///
/// ```compile_fail,E0382
/// # use manyhands::family::Family;
/// let mut blank = Family::current()?.arena().allocate(4).expect("memory");
/// let handle = blank.share();
/// let _ = blank.write(0, &[1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ArenaView {
    arena: Arena<Extents>,
    mapped: Mapped,
}

/// Where the family's memory lies in this process.
#[derive(Clone, Copy, Debug)]
pub struct Mapped(Extents);

// SAFETY: as Extents, which does it.
unsafe impl Memory for Mapped {
    fn resolve(&self, offset: u64, len: usize) -> Option<NonNull<u8>> {
        self.0.resolve(offset, len)
    }
}

impl ArenaView {
    pub(crate) fn of(arena: Arena<Extents>) -> Self {
        Self { arena, mapped: Mapped(*arena.backing()) }
    }

    /// A new block of at least so many bytes, whatever is in them.
    ///
    /// # Errors
    /// When the family's limit or the system's memory is reached.
    pub fn allocate(&self, bytes: u64) -> Result<Blank<Extents>, AllocateError> {
        self.arena.allocate(bytes)
    }

    /// Where the memory lies.
    #[must_use]
    pub fn backing(&self) -> &Mapped {
        &self.mapped
    }

    /// How many bytes of address space have been handed out so far, freed ones included.
    #[must_use]
    pub fn extent_bytes(&self) -> u64 {
        self.arena.extent_bytes()
    }

    /// As [`ArenaView::allocate`], but only the first `bytes` have pages for certain; the rest of the block must not be
    /// touched.
    ///
    /// # Errors
    /// When the family's limit or the system's memory is reached.
    pub fn allocate_exactly(&self, bytes: u64) -> Result<Blank<Extents>, AllocateError> {
        self.arena.allocate_exactly(bytes)
    }

    /// Gives the pages of free memory back to the system, if nobody has wanted a large block for so many milliseconds; how
    /// many bytes that were.
    pub fn trim(&self, quiet_milliseconds: u64) -> u64 {
        self.arena.trim(quiet_milliseconds)
    }

    /// The table of the family's processes.
    ///
    /// # Safety
    /// A place is ended or released only when its member is gone, or never came: what a living member holds is freed with
    /// its place.
    #[must_use]
    pub unsafe fn process_table(&self) -> &'static ProcessTable {
        self.arena.process_table()
    }

    /// Gives back a block that nobody else knows.
    pub fn free(&self, blank: Blank<Extents>) {
        // Stale is impossible: nobody else has this handle.
        let _ = self.arena.free(blank.finish());
    }

    /// Counts all blocks, and what lies in at most so many of them.
    #[must_use]
    pub fn survey(&self, most: usize) -> Survey {
        self.arena.survey(most)
    }

    /// What the block is that the handle names.
    ///
    /// # Errors
    /// When the handle names nothing (any more).
    pub fn kind(&self, handle: Handle) -> Result<Kind, StaleHandle> {
        self.arena.kind(handle)
    }

    /// How many references to the shared block there are.
    ///
    /// # Errors
    /// When the handle names nothing (any more).
    pub fn holders(&self, handle: Handle) -> Result<u32, StaleHandle> {
        self.arena.holders(handle)
    }

    /// How often somebody died holding a free list's lock.
    #[must_use]
    pub fn recoveries(&self) -> u32 {
        self.arena.recoveries()
    }
}
