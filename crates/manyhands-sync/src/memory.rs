//! From offsets in the arena to places in this process.
#![allow(unsafe_code)] // turns offsets that were checked into references and copies bytes

use core::mem::{align_of, size_of};
use core::ptr::NonNull;

/// Marks types that may be laid in shared memory.
///
/// # Safety
/// `repr(C)` or `repr(transparent)`, no pointers, no `Drop`, only atomics, cells guarded by a lock in the same
/// type, and arrays of such; any bit pattern may be found in it, so its methods check what they read.
pub unsafe trait Shareable: Sync + 'static {}

/// Resolves offsets of one arena. What it resolves stays mapped until the process ends.
///
/// # Safety
/// A returned pointer is valid for reads and writes of `len` bytes, at the same place, for the rest of the
/// process's life, and `offset` alignment (up to a page) carries over to the pointer.
pub unsafe trait Memory: Copy {
    /// Where `len` bytes from `offset` lie; `None` when this process cannot map them, or they are outside of the arena.
    fn resolve(&self, offset: u64, len: usize) -> Option<NonNull<u8>>;

    /// The `T` at `offset`; `None` when it is misaligned or outside the arena.
    fn place<T: Shareable>(&self, offset: u64) -> Option<&'static T> {
        if offset == 0 || !offset.is_multiple_of(align_of::<T>() as u64) {
            return None;
        }
        let place = self.resolve(offset, size_of::<T>())?.cast::<T>();
        // SAFETY: resolve() guarantees validity for the process's life; alignment was checked above (extents are
        // page-aligned); Shareable guarantees that shared references under concurrent change are sound.
        Some(unsafe { place.as_ref() })
    }

    /// Writes a new `T` at `offset`, which must be memory that nobody else uses yet.
    fn place_new<T: Shareable>(&self, offset: u64, value: T) -> Option<&'static T> {
        if offset == 0 || !offset.is_multiple_of(align_of::<T>() as u64) {
            return None;
        }
        let place = self.resolve(offset, size_of::<T>())?.cast::<T>();
        // SAFETY: as in place(); the caller has just allocated the memory, so nobody else reads it.
        unsafe { place.write(value) };
        self.place(offset)
    }

    /// Copies `from` into the arena at `offset`; `false` when it does not fit into one extent.
    #[must_use]
    fn copy_in(&self, offset: u64, from: &[u8]) -> bool {
        let Some(to) = self.resolve(offset, from.len()) else { return false };
        // SAFETY: resolve() vouches for the target; a slice of this process and the arena cannot overlap, since
        // no reference into the arena's bytes is ever handed out as a slice to a caller of this function.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(from).cast(), from.len()) };
        true
    }

    /// Makes `len` bytes at `offset` zero; `false` when they do not lie in one extent.
    #[must_use]
    fn fill_with_zeroes(&self, offset: u64, len: usize) -> bool {
        let Some(place) = self.resolve(offset, len) else { return false };
        // SAFETY: resolve() vouches for `len` writable bytes; the caller has just allocated them.
        unsafe { place.write_bytes(0, len) };
        true
    }

    /// Writes one word at `offset`, which must be a multiple of 8; `false` when it is none or outside the arena.
    #[must_use]
    #[inline]
    fn write_word(&self, offset: u64, word: u64) -> bool {
        offset.is_multiple_of(8) && self.copy_in(offset, &word.to_le_bytes())
    }

    /// Reads one word at `offset`, which must be a multiple of 8; `None` when it is none or outside the arena.
    #[inline]
    fn read_word(&self, offset: u64) -> Option<u64> {
        let from = self.resolve(offset, size_of::<u64>()).filter(|_| offset.is_multiple_of(8))?;
        // SAFETY: resolve() vouches for eight readable bytes, and any bits are a u64; that nobody writes them at
        // the same time is what the caller's lock and marks are for.
        Some(u64::from_le(unsafe { from.cast::<u64>().read_unaligned() }))
    }

    /// Appends `len` bytes of the arena from `offset` to `out`; `false` when they do not lie in one extent.
    #[must_use]
    fn copy_out(&self, offset: u64, len: usize, out: &mut Vec<u8>) -> bool {
        let Some(from) = self.resolve(offset, len) else { return false };
        out.reserve(len);
        // SAFETY: resolve() vouches for the source, reserve() for `len` bytes of spare room; they cannot overlap.
        unsafe { from.copy_to_nonoverlapping(NonNull::from(out.spare_capacity_mut()).cast(), len) };
        // SAFETY: the bytes up to the new length were initialised by the copy above.
        unsafe { out.set_len(out.len() + len) };
        true
    }

    /// Copies `len` bytes of the arena to a place in this process.
    ///
    /// # Safety
    /// `to` is valid for writes of `len` bytes and does not lie in the arena.
    #[must_use]
    unsafe fn copy_out_to(&self, offset: u64, len: usize, to: NonNull<u8>) -> bool {
        let Some(from) = self.resolve(offset, len) else { return false };
        // SAFETY: resolve() vouches for the source, the caller for the target.
        unsafe { from.copy_to_nonoverlapping(to, len) };
        true
    }

    /// Copies `len` bytes from one place of the arena to another; `false` when either is not inside one extent
    /// or they overlap.
    #[must_use]
    fn copy_within(&self, from: u64, to: u64, len: usize) -> bool {
        let apart = from.abs_diff(to) >= len as u64;
        let (Some(source), Some(target), true) = (self.resolve(from, len), self.resolve(to, len), apart)
        else {
            return false;
        };
        // SAFETY: resolve() vouches for both; distinct offsets of one arena are distinct bytes, and `apart` says
        // that the ranges do not overlap.
        unsafe { source.copy_to_nonoverlapping(target, len) };
        true
    }
}
