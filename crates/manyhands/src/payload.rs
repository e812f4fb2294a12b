//! How a message's bytes travel: inside the ring's frame when they are few, in a block of the arena when they
//! are many.
//!
//! | tag | the frame holds |
//! |---|---|
//! | `INLINE` | the bytes |
//! | `BLOCK` | the handle of a block and how many of its bytes are meant; whoever takes the frame frees the block |

use crate::family::Extents;
use manyhands_sync::arena::{AllocateError, Arena, HANDLE_BYTES, Handle};
use manyhands_sync::kill_point;
use manyhands_sync::memory::Memory;
use manyhands_sync::ring::MOST_INLINE_BYTES;
use std::ptr::NonNull;

/// The bytes are in the frame.
pub(crate) const INLINE: u32 = 0;
/// The bytes are in a block that the frame names.
pub(crate) const BLOCK: u32 = 1;

const REFERENCE_BYTES: usize = HANDLE_BYTES + 8;

/// Bytes of a message that were put into a block of their own.
#[derive(Debug)]
pub struct Block {
    arena: Arena<Extents>,
    handle: Handle,
    len: usize,
}

impl Block {
    /// Copies the parts, one behind the other, into a new block.
    ///
    /// # Errors
    /// When the arena has no memory.
    pub(crate) fn with(arena: Arena<Extents>, parts: &[&[u8]]) -> Result<Self, AllocateError> {
        let len = parts.iter().map(|p| p.len()).sum();
        let block = Self { arena, handle: arena.allocate(len as u64)?, len };
        let mut at = block.handle.offset;
        for part in parts {
            if !arena.backing().copy_in(at, part) {
                return Err(AllocateError::Corrupted);
            }
            at += part.len() as u64;
        }
        kill_point!(PayloadFilled);
        Ok(block)
    }

    /// The block a frame names; `None` when it names none.
    pub(crate) fn named_by(arena: Arena<Extents>, frame: &[u8]) -> Option<Self> {
        let (handle, len) = frame.split_at_checked(HANDLE_BYTES)?;
        let handle = Handle::from_bytes(handle)?;
        let len = u64::from_le_bytes(len.try_into().ok()?);
        let fits = arena.payload_bytes(handle).ok()? >= len;
        let block = fits.then_some(Self { arena, handle, len: usize::try_from(len).ok()? });
        kill_point!(PayloadTaken);
        block
    }

    /// What a frame must hold to name this block; the block then belongs to whoever takes the frame.
    pub(crate) fn into_reference(self) -> [u8; REFERENCE_BYTES] {
        let mut bytes = [0; REFERENCE_BYTES];
        bytes[..HANDLE_BYTES].copy_from_slice(&self.handle.to_bytes());
        bytes[HANDLE_BYTES..].copy_from_slice(&(self.len as u64).to_le_bytes());
        std::mem::forget(self);
        bytes
    }

    /// Keeps the block beyond this value's life; who has the handle frees it.
    pub(crate) fn into_handle(self) -> Handle {
        let handle = self.handle;
        std::mem::forget(self);
        handle
    }

    /// How many bytes the message has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the message has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies the message out; `to` must have room for exactly its bytes.
    ///
    /// # Panics
    /// When `to` has another length.
    pub fn copy_to(&self, to: &mut [u8]) {
        assert_eq!(to.len(), self.len, "the target has the message's length");
        crate::sys::memory::copy_out(self.arena.backing(), self.handle.offset, NonNull::from(to));
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // Stale only if somebody else freed it, which is what is wanted.
        let _ = self.arena.free(self.handle);
    }
}

/// How many bytes the parts have together, and whether they fit into a frame beside `header_bytes` of the caller's.
pub(crate) fn fits_inline(parts: &[&[u8]], header_bytes: usize) -> bool {
    header_bytes + parts.iter().map(|p| p.len()).sum::<usize>() <= MOST_INLINE_BYTES
}
