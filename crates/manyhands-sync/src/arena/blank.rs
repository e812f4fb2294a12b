//! Blocks that were just handed out: the only bytes of the arena that safe code may write.
//!
//! Nobody else can come to the bytes of a [`Blank`]: it is neither `Copy` nor `Clone`, and until it is shared the block's
//! handle opens nothing, whoever guesses it ([`Arena::refer`] refuses it). So they are written plainly, as fast as any
//! memory. Made into a handle, the block can be written plainly no more.
//!
//! | state | `shareable` | what its handle is good for | next |
//! |---|---|---|---|
//! | blank | 0 | nothing | `finish`, `share`, `lay`; dropped: free |
//! | finished | 0 | whoever a frame, a ring or a pool leads there: one owner at a time | freed by the owner |
//! | shared | 1 | any member opens it, by a reference | freed with the last reference |
//!
//! Killed in any state, the block's owner word leads the next sweep to it; a block that is freed is blank again.
#![allow(unsafe_code)] // writes where nobody else can read

use super::block::{BLOCK_HEADER_BYTES, BlockHeader, Handle};
use super::{Arena, Backing, Kind, StaleHandle};
use crate::memory::{self, Placed, Placing};
use crate::primitive::{Ordering, dying};
use core::ptr::NonNull;

/// A new block, which nobody else can come to. Dropping it frees it.
///
/// It dereferences to the handle that it will have.
#[derive(Debug)]
pub struct Blank<B: Backing> {
    arena: Arena<B>,
    handle: Handle,
    kind: Kind,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the bytes are this value's alone, at the same place for every thread of the process.
unsafe impl<B: Backing + Send> Send for Blank<B> {}
// SAFETY: through a shared reference nothing is written or read but the handle.
unsafe impl<B: Backing + Sync> Sync for Blank<B> {}

impl<B: Backing> Blank<B> {
    /// The block that was allocated under that handle just now, for `len` bytes; frees it and says `None` when this
    /// process cannot map them.
    pub(super) fn new(arena: Arena<B>, kind: Kind, handle: Handle, len: u64) -> Option<Self> {
        let start =
            usize::try_from(len).ok().and_then(|len| Some((arena.backing.resolve(handle.offset, len)?, len)));
        let Some((start, len)) = start else {
            // Stale is impossible: nobody else has this handle yet.
            let _ = arena.free(handle);
            return None;
        };
        Some(Self { arena, handle, kind, start, len })
    }

    /// How many bytes may be written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is room for no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies bytes to their place, so many from the start; `false`, and nothing copied, when they do not fit.
    #[must_use]
    #[inline]
    pub fn write(&mut self, at: usize, from: &[u8]) -> bool {
        // SAFETY: a slice is valid, and nobody can have one of these bytes.
        at.checked_add(from.len()).is_some_and(|end| end <= self.len)
            && unsafe { self.arena.backing.copy_in(self.handle.offset + at as u64, from) }
    }

    /// As [`Blank::write`], from bytes that others may change meanwhile: whatever is there at some moment is copied.
    ///
    /// # Safety
    /// `from` is valid for reads of `len` bytes until this returns, and other threads of this process write them meanwhile
    /// only by atomic accesses.
    #[must_use]
    pub unsafe fn write_racing(&mut self, at: usize, from: NonNull<u8>, len: usize) -> bool {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return false;
        }
        // SAFETY: `at` is inside the block, checked just now.
        let to = unsafe { self.start.add(at) };
        // SAFETY: the caller vouches for the source; the target is this value's alone, so the two do not overlap.
        unsafe { memory::copy_racing(from, to, len) };
        true
    }

    /// Copies bytes of another new block into this one; `false`, and nothing copied, when either has not so many.
    #[must_use]
    pub fn write_from(&mut self, at: usize, other: &Self, from: usize, len: usize) -> bool {
        let inside = |of: &Self, at: usize| at.checked_add(len).is_some_and(|end| end <= of.len);
        if !inside(self, at) || !inside(other, from) {
            return false;
        }
        // SAFETY: inside the other block, checked just now.
        let from = unsafe { other.start.add(from) };
        // SAFETY: inside this block, checked just now.
        let to = unsafe { self.start.add(at) };
        // SAFETY: two blocks never overlap, and each is its value's alone.
        unsafe { from.copy_to_nonoverlapping(to, len) };
        true
    }

    /// Makes the first bytes zero; `false` when there are not so many.
    pub(super) fn clear(&mut self, len: usize) -> bool {
        if len > self.len {
            return false;
        }
        // SAFETY: inside the block, which is this value's alone.
        unsafe { self.start.write_bytes(0, len) };
        true
    }

    /// What was written stays as it is, and no member can open it by its handle: for what one owner at a time has, such as
    /// the bytes of a message.
    pub fn finish(self) -> Handle {
        let handle = self.handle;
        core::mem::forget(self);
        handle
    }

    /// What was written is there for every member that gets the handle.
    pub fn share(self) -> Handle {
        if let Some(block) = self.arena.backing.place::<BlockHeader>(self.handle.offset - BLOCK_HEADER_BYTES)
        {
            // Pairs with the acquire of whoever makes a reference to it: all of what was written is seen.
            block.shareable.store(1, Ordering::Release);
        }
        self.finish()
    }

    /// Lays a structure into the block, and shares it with the members that get its handle.
    ///
    /// # Errors
    /// When the block is of another kind or too small; it is freed then.
    pub fn lay<T: Placed>(self, value: T) -> Result<(&'static T, Handle), StaleHandle> {
        if self.kind != T::KIND || self.len < size_of::<T>() {
            return Err(StaleHandle);
        }
        // SAFETY: the block is this value's alone, and of the kind that holds a `T` and nothing else.
        let place = unsafe { memory::place_new(&self.arena.backing, self.handle.offset, value) };
        Ok((place.ok_or(StaleHandle)?, self.share()))
    }
}

impl<B: Backing> core::ops::Deref for Blank<B> {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl<B: Backing> Drop for Blank<B> {
    fn drop(&mut self) {
        if !dying() {
            // Stale is impossible: nobody else can free it.
            let _ = self.arena.free(self.handle);
        }
    }
}

impl<B: Backing> Arena<B> {
    /// What lies in the block that the handle names.
    ///
    /// # Errors
    /// When there is no block of that kind (any more), or nobody has laid anything into it yet.
    pub fn placed<T: Placed>(&self, handle: Handle) -> Result<&'static T, StaleHandle> {
        self.check_kind(T::KIND, handle)?;
        if !self.is_shareable(handle) {
            return Err(StaleHandle);
        }
        // SAFETY: a block of that kind holds a `T`, which was laid before the block was shared.
        unsafe { memory::place(&self.backing, handle.offset) }.ok_or(StaleHandle)
    }

    /// As [`Arena::placed`], for what keeps only offsets: the block is meant that is there now.
    #[must_use]
    pub fn placed_at<T: Placed>(&self, offset: u64) -> Option<&'static T> {
        self.placed(self.handle_at(offset).ok()?).ok()
    }

    /// Whether the block may be opened by its handle.
    pub(super) fn is_shareable(&self, handle: Handle) -> bool {
        self.held(handle).is_ok_and(|block| block.shareable.load(Ordering::Acquire) == 1)
    }

    /// The handle of the block whose payload begins there, in its life of now.
    pub(super) fn handle_at(&self, offset: u64) -> Result<Handle, StaleHandle> {
        let start = offset.checked_sub(BLOCK_HEADER_BYTES).ok_or(StaleHandle)?;
        Ok(Handle { offset, generation: self.block_at(start)?.generation() })
    }
}
