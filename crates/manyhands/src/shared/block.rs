//! A block of shared bytes, and what is read and written in it.

use crate::family::{ARENA_MAX_VARIABLE, Extents, Family, FamilyError, Hold};
use crate::sys::plain::{Integer, Plain};
use crate::sys::refusals;
use crate::sys::shared_bytes::SharedBytes;
use manyhands_sync::arena::{AllocateError, Blank, Handle, Kind, ReferError};
use std::ptr::NonNull;
use std::sync::Arc;

/// Bytes in the family's memory, seen from one process; clones are the same bytes. They begin at a multiple of 64 and
/// are zero at first.
///
/// A process that is killed while it writes leaves what it had written so far.
#[derive(Clone, Debug)]
pub struct SharedBlock {
    bytes: SharedBytes,
    hold: Arc<Hold>,
}

/// A new block that nobody holds yet; dropping it frees it.
#[derive(Debug)]
pub struct UnheldBlock {
    family: &'static Family,
    blank: Blank<Extents>,
    len: usize,
}

/// Why there is no shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedError {
    /// The family's limit, or the system's memory, is reached.
    OutOfMemory {
        /// How many bytes were wanted.
        wanted_bytes: u64,
        /// The family's limit.
        limit_bytes: u64,
    },
    /// The handle is of a block that was freed, or of none, or of a shorter one.
    Stale,
    /// The family's memory makes no sense.
    Corrupted,
}

impl std::fmt::Display for SharedError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OutOfMemory { wanted_bytes, limit_bytes } => write!(
                f,
                "no shared memory for {wanted_bytes} bytes: the family's limit is {limit_bytes} bytes \
                 ({ARENA_MAX_VARIABLE}), or the system has none left"
            ),
            Self::Stale => f.write_str(
                "the shared memory no longer exists: nobody holds it any more, or it belongs to another family",
            ),
            Self::Corrupted => f.write_str("the family's memory is damaged"),
        }
    }
}

impl std::error::Error for SharedError {}

impl SharedError {
    /// The error, for somebody who wanted so many bytes.
    pub(super) fn wanting(len: usize, error: AllocateError) -> Self {
        match refusals::explain(error) {
            AllocateError::OutOfMemory { limit_bytes, .. } => {
                Self::OutOfMemory { wanted_bytes: len as u64, limit_bytes }
            }
            AllocateError::Corrupted => Self::Corrupted,
        }
    }

    /// Nothing was found where a handle says: there is nothing, or what is there could not be mapped.
    pub(super) fn not_found() -> Self {
        refusals::take().map_or(Self::Stale, |refusal| Self::OutOfMemory {
            wanted_bytes: refusal.wanted_bytes,
            limit_bytes: refusal.limit_bytes,
        })
    }
}

impl UnheldBlock {
    /// Has `len` bytes of shared memory made ready, which takes about a second for some gigabytes.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(family: &'static Family, len: usize) -> Result<Self, SharedError> {
        family.whole_arena().prepare_for_what_stays();
        Self::with(family, len, family.whole_arena().allocate_zeroed(len as u64))
    }

    /// As [`UnheldBlock::new`], whatever is in the bytes.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn unset(family: &'static Family, len: usize) -> Result<Self, SharedError> {
        family.whole_arena().prepare_for_what_stays();
        Self::with(family, len, family.whole_arena().allocate_exactly(len as u64))
    }

    fn with(
        family: &'static Family,
        len: usize,
        allocated: Result<Blank<Extents>, AllocateError>,
    ) -> Result<Self, SharedError> {
        let blank = allocated.map_err(|error| SharedError::wanting(len, error))?;
        Ok(Self { family, blank, len })
    }

    /// This process holds it from now on.
    ///
    /// # Errors
    /// When there is no memory for the reference.
    pub fn hold(self) -> Result<SharedBlock, SharedError> {
        let handle = self.blank.share();
        SharedBlock::open(self.family, handle, self.len).inspect_err(|_| {
            // Nobody holds it, so it is still this process's.
            let _ = self.family.whole_arena().free(handle);
        })
    }
}

impl SharedBlock {
    /// A new block of `len` bytes, all zero.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn create(family: &'static Family, len: usize) -> Result<Self, SharedError> {
        UnheldBlock::new(family, len)?.hold()
    }

    /// The first `len` bytes of the block with that handle.
    ///
    /// # Errors
    /// When there is no such block (any more), or it is shorter.
    pub fn open(family: &Family, handle: Handle, len: usize) -> Result<Self, SharedError> {
        let arena = family.whole_arena();
        // Also what keeps the handle of a queue from being opened as bytes.
        let room = arena.payload_bytes(handle).map_err(|_| SharedError::not_found())?;
        if room < len as u64 {
            return Err(SharedError::Stale);
        }
        let hold = family.hold(Kind::Bytes, handle).map_err(|error| match error {
            ReferError::Stale => SharedError::not_found(),
            ReferError::Allocate(error) => SharedError::wanting(len, error),
        })?;
        let bytes = SharedBytes::within(arena.backing(), handle.offset, room, 0, len)
            .ok_or_else(SharedError::not_found)?;
        Ok(Self { bytes, hold: Arc::new(hold) })
    }

    /// Makes sure that this process holds it, as a forked child may not; see [`Hold::ensure`](crate::family::Hold::ensure).
    ///
    /// # Errors
    /// When it does not, and cannot.
    #[inline]
    pub fn ensure_held(&self) -> Result<(), FamilyError> {
        self.hold.ensure()
    }

    /// By what another member opens the block, together with its length.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.hold.handle()
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where it begins in this process. Valid for `len` bytes until the process ends; whoever uses it while this value
    /// is gone may use memory that has become something else's.
    #[must_use]
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.bytes.start()
    }

    /// Reads a `T` at so many bytes from the start; `None` when it is misaligned or not inside.
    #[inline]
    #[must_use]
    pub fn load<T: Plain>(&self, at: usize) -> Option<T> {
        self.bytes.load(at)
    }

    /// Writes a `T` at so many bytes from the start; `false`, and nothing written, when it is misaligned or not inside.
    #[inline]
    #[must_use]
    pub fn store<T: Plain>(&self, at: usize, value: T) -> bool {
        self.bytes.store(at, value)
    }

    /// Adds, wrapping around, and returns what was there before; one step, whatever other processes do. `None` as
    /// [`SharedBlock::load`].
    #[must_use]
    pub fn fetch_add<T: Integer>(&self, at: usize, value: T) -> Option<T> {
        T::fetch_add(&self.bytes, at, value)
    }

    /// Writes, and returns what was there before; one step. `None` as [`SharedBlock::load`].
    #[must_use]
    pub fn exchange<T: Integer>(&self, at: usize, value: T) -> Option<T> {
        T::exchange(&self.bytes, at, value)
    }

    /// Writes `new` if `expected` is there; one step. `Ok` when it was, `Err` with what was there when not. `None` as
    /// [`SharedBlock::load`].
    #[must_use]
    pub fn compare_exchange<T: Integer>(&self, at: usize, expected: T, new: T) -> Option<Result<T, T>> {
        T::compare_exchange(&self.bytes, at, expected, new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Queue;

    fn family() -> &'static Family {
        Family::current().expect("memory")
    }

    #[test]
    fn a_block_is_zero_however_often_its_memory_was_used() {
        for len in [1, 64, 200, 5_000, 300_000, 1_500_000, 3_000_000] {
            for _ in 0..3 {
                let block = SharedBlock::create(family(), len).expect("memory");
                assert!((0..len).all(|at| block.load::<u8>(at) == Some(0)), "{len}");
                (0..len).for_each(|at| assert!(block.store(at, 0xeeu8)));
            }
        }
    }

    #[test]
    fn a_short_block_then_a_long_one_of_the_same_class_are_zero() {
        for len in [1_100_000, 1_400_000, 1_100_000, 1_500_000] {
            let block = SharedBlock::create(family(), len).expect("memory");
            assert!((0..len).all(|at| block.load::<u8>(at) == Some(0)), "{len}");
            (0..len).for_each(|at| assert!(block.store(at, 0xeeu8)));
        }
    }

    #[test]
    fn handles_of_other_things_and_of_freed_blocks_are_refused() {
        let block = SharedBlock::create(family(), 100).expect("memory");
        let handle = block.handle();
        assert!(SharedBlock::open(family(), handle, 100).is_ok());
        assert_eq!(SharedBlock::open(family(), handle, 1_000).err(), Some(SharedError::Stale));
        let queue = Queue::create(family(), 0).expect("memory");
        assert_eq!(SharedBlock::open(family(), queue.handle(), 8).err(), Some(SharedError::Stale));
        assert!(Queue::open(family(), handle).is_err());
        drop(block);
        assert_eq!(SharedBlock::open(family(), handle, 100).err(), Some(SharedError::Stale));
    }

    #[test]
    fn what_is_not_inside_or_misaligned_is_neither_read_nor_written() {
        let block = SharedBlock::create(family(), 12).expect("memory");
        assert_eq!(block.load::<u64>(8), None);
        assert_eq!(block.load::<u32>(8), Some(0));
        assert_eq!(block.load::<u32>(2), None);
        assert!(!block.store(usize::MAX, 1u8));
        assert_eq!(block.fetch_add(12, 1u8), None);
        assert_eq!(block.fetch_add(11, 255u8), Some(0));
        assert_eq!(block.fetch_add(11, 2u8), Some(255));
        assert_eq!(block.compare_exchange(11, 1u8, 7), Some(Ok(1)));
        assert_eq!(block.compare_exchange(11, 1u8, 9), Some(Err(7)));
        assert_eq!(block.exchange(11, 3i8), Some(7));
    }
}
