//! How a message's bytes travel: inside the ring's frame when they are few, in a block of the arena when they
//! are many.
//!
//! | tag | the frame holds |
//! |---|---|
//! | `INLINE` | the bytes |
//! | `BLOCK` | the handle of a block and how many of its bytes are meant; whoever takes the frame frees the block |
//!
//! A message that carries handles (a queue sent through a queue) always has a block, which begins with a reference to
//! each: what it names lives until the message is taken or dropped. A block belongs to its maker until a frame names it,
//! then to the queue or pool in which it lies, then to its taker; so whoever is killed, a sweep finds it. Between the two
//! stores, of the frame and of the owner, a kill costs the block until its queue is gone.

use crate::family::{Extents, reclaim};
use crate::opening::Opening;
use crate::shared::Manifest;
use crate::sys::refusals::{self, Refusal};
use crate::sys::{limits, memory};
use manyhands_sync::arena::{AllocateError, Arena, Blank, HANDLE_BYTES, Handle, Owner, ReferError};
use manyhands_sync::kill_point;
use manyhands_sync::ring::MOST_INLINE_BYTES;

/// The bytes are in the frame.
pub(crate) const INLINE: u32 = 0;
/// The bytes are in a block that the frame names.
pub(crate) const BLOCK: u32 = 1;

/// What is shorter is not asked for beforehand.
const MUCH_BYTES: usize = 64 << 10;
/// A longer table of parcels is of many that are used where they lie.
const MOST_MANIFEST_BYTES: usize = 4 << 10;

const REFERENCE_BYTES: usize = HANDLE_BYTES + 8;

/// Bytes of a message that were put into a block of their own.
#[derive(Debug)]
pub struct Block {
    arena: Arena<Extents>,
    handle: Handle,
    /// How many bytes at the beginning are references, not message.
    prefix: usize,
    len: usize,
}

/// Handles that a message carries, and the bytes of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'a> {
    /// The parts, one behind the other.
    pub parts: &'a [&'a [u8]],
    /// What the message names and must not disappear before it is taken: queues.
    pub carried: &'a [Handle],
}

impl<'a> From<&'a [&'a [u8]]> for Message<'a> {
    fn from(parts: &'a [&'a [u8]]) -> Self {
        Self { parts, carried: &[] }
    }
}

impl Message<'_> {
    fn len(&self) -> usize {
        self.parts.iter().map(|p| p.len()).sum()
    }

    /// Whether it fits into a frame beside `header_bytes` of the caller's.
    pub(crate) fn fits_inline(&self, header_bytes: usize) -> bool {
        self.carried.is_empty() && header_bytes + self.len() <= MOST_INLINE_BYTES
    }
}

/// How many bytes that many handles take in front of a message.
fn prefix_bytes(carried: usize) -> usize {
    (carried * HANDLE_BYTES).next_multiple_of(8)
}

impl Block {
    /// Copies a message into a new block.
    ///
    /// # Errors
    /// When the arena has no memory, or something that the message carries is gone.
    pub(crate) fn with(arena: Arena<Extents>, message: Message<'_>) -> Result<Self, AllocateError> {
        let (prefix, len) = (prefix_bytes(message.carried.len()), message.len());
        let mut blank = arena.allocate_exactly((prefix + len) as u64)?;
        let filled = fill(arena, &mut blank, prefix, message);
        // The bytes are one owner's at a time: no handle opens them.
        let block = Self { arena, handle: blank.finish(), prefix, len };
        filled?;
        kill_point!(PayloadFilled);
        Ok(block)
    }

    /// The block a frame names; `None` when it names none. It belongs to whom it did: see [`Block::taken`].
    pub(crate) fn named_by(arena: Arena<Extents>, frame: &[u8]) -> Option<Self> {
        let (handle, len) = frame.split_at_checked(HANDLE_BYTES)?;
        let handle = Handle::from_bytes(handle)?;
        let len = usize::try_from(u64::from_le_bytes(len.try_into().ok()?)).ok()?;
        let prefix = prefix_bytes(arena.carried(handle) as usize);
        let fits = arena.payload_bytes(handle).ok()? >= prefix.checked_add(len)? as u64;
        let block = fits.then_some(Self { arena, handle, prefix, len });
        kill_point!(PayloadTaken);
        block
    }

    /// Whether this process can have the message whose block a frame names: all that it names is mapped, and there is address
    /// space for what is made of it. To be asked before the frame is taken: then the message stays where it is.
    ///
    /// # Errors
    /// What was refused.
    pub(crate) fn reach(arena: Arena<Extents>, frame: &[u8]) -> Result<(), Refusal> {
        let (found, refused) = refusals::during(|| Self::map_all(arena, frame));
        if let Some(refusal) = refused {
            return Err(refusal);
        }
        // What makes no sense is found when it is taken.
        let Some(message) = found else { return Ok(()) };
        let may_be_long = message.carried > 0 || message.len >= MUCH_BYTES / 2;
        if !may_be_long || !limits::is_address_space_limited() {
            return Ok(());
        }
        let bytes = message.bytes_to_make(arena).unwrap_or(0);
        if bytes < MUCH_BYTES {
            return Ok(());
        }
        // Given back at once: who wants it asks again.
        let limit_bytes = arena.backing().size();
        let refused = |_| Refusal { wanted_bytes: bytes as u64, limit_bytes };
        Vec::<u8>::new().try_reserve_exact(bytes).map_err(refused)
    }

    /// Maps the block, and everything that the message names.
    fn map_all(arena: Arena<Extents>, frame: &[u8]) -> Option<Lying> {
        let (handle, len) = frame.split_at_checked(HANDLE_BYTES)?;
        let handle = Handle::from_bytes(handle)?;
        let len = usize::try_from(u64::from_le_bytes(len.try_into().ok()?)).ok()?;
        let carried = arena.carried(handle) as usize;
        if arena.payload_bytes(handle).ok()? < prefix_bytes(carried).checked_add(len)? as u64 {
            return None;
        }
        let mut references = Vec::new();
        memory::copy_out_of(arena.backing(), handle.offset, carried * HANDLE_BYTES, &mut references)
            .then_some(())?;
        for reference in references.chunks_exact(HANDLE_BYTES).filter_map(Handle::from_bytes) {
            arena.kind(arena.target_of(reference).ok()?).ok()?;
        }
        Some(Lying { start: handle.offset + prefix_bytes(carried) as u64, len, carried })
    }

    /// This process answers for the block now.
    pub(crate) fn taken(self) -> Self {
        self.arena.give(self.handle, self.arena.me());
        self
    }

    /// What a frame must hold to name this block; the block then belongs to the queue or pool `home`, until somebody
    /// takes the frame.
    pub(crate) fn into_reference(self, home: Handle) -> [u8; REFERENCE_BYTES] {
        let mut bytes = [0; REFERENCE_BYTES];
        let len = self.len as u64;
        bytes[..HANDLE_BYTES].copy_from_slice(&self.into_handle(home).to_bytes());
        bytes[HANDLE_BYTES..].copy_from_slice(&len.to_le_bytes());
        bytes
    }

    /// Keeps the block beyond this value's life, as part of `home`; who has the handle may free it.
    pub(crate) fn into_handle(self, home: Handle) -> Handle {
        let handle = self.handle;
        self.arena.give(handle, Owner::Block(home));
        std::mem::forget(self);
        handle
    }

    /// Keeps the block for the child that will be `owner`.
    pub(crate) fn into_luggage(self, owner: Owner) -> Handle {
        let handle = self.handle;
        self.arena.give(handle, owner);
        std::mem::forget(self);
        handle
    }

    /// What [`Block::into_luggage`] kept.
    pub(crate) fn luggage(arena: Arena<Extents>, handle: Handle) -> Self {
        Self { arena, handle, prefix: prefix_bytes(arena.carried(handle) as usize), len: 0 }
    }

    /// Where the message of a kept block begins.
    pub(crate) fn luggage_start(arena: Arena<Extents>, handle: Handle) -> u64 {
        handle.offset + prefix_bytes(arena.carried(handle) as usize) as u64
    }

    /// Where the message begins.
    fn start(&self) -> u64 {
        self.handle.offset + self.prefix as u64
    }

    /// Releases what the message carried, but for what its receiver has made its own.
    fn drop_references(&self) {
        for reference in carried_by(self.arena, self.handle) {
            if self.arena.is_carried_by(reference, self.handle) {
                reclaim::release(self.arena, reference);
            }
        }
    }

    /// While the value is there, what this thread opens of what the message carries needs no shared memory: there may be
    /// none, and the message is out of its queue.
    #[must_use]
    pub fn opening(&self) -> Opening<'_> {
        Opening::of(self, self.arena, self.handle)
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

    /// Whether the message carries handles: then it must be kept until what they name has been opened.
    #[must_use]
    pub fn carries(&self) -> bool {
        self.prefix > 0
    }

    /// Copies the message out; `to` must have room for exactly its bytes.
    ///
    /// # Panics
    /// When `to` has another length.
    pub fn copy_to(&self, to: &mut [u8]) {
        assert_eq!(to.len(), self.len, "the target has the message's length");
        memory::copy_out(self.arena.backing(), self.start(), to);
    }
}

/// The references that a block begins with.
pub(crate) fn carried_by(arena: Arena<Extents>, handle: Handle) -> Vec<Handle> {
    let (mut bytes, len) = (Vec::new(), arena.carried(handle) as usize * HANDLE_BYTES);
    let fits = arena.payload_bytes(handle).is_ok_and(|room| len as u64 <= room);
    if len == 0 || !fits || !memory::copy_out_of(arena.backing(), handle.offset, len, &mut bytes) {
        return Vec::new();
    }
    bytes.chunks_exact(HANDLE_BYTES).filter_map(Handle::from_bytes).collect()
}

/// Writes a message into its block. When that fails, what is carried so far is noted, and goes with the block.
fn fill(
    arena: Arena<Extents>,
    blank: &mut Blank<Extents>,
    prefix: usize,
    message: Message<'_>,
) -> Result<(), AllocateError> {
    let handle = **blank;
    for (count, &carried) in (1..).zip(message.carried) {
        // Each reference belongs to the block from the start: it goes with the block, whatever happens to us.
        let reference = arena.refer(carried, Owner::Block(handle)).map_err(|error| match error {
            ReferError::Allocate(error) => error,
            ReferError::Stale => AllocateError::Corrupted,
        })?;
        if !blank.write((count as usize - 1) * HANDLE_BYTES, &reference.to_bytes()) {
            return Err(AllocateError::Corrupted);
        }
        arena.note_carried(handle, count);
    }
    let mut at = prefix;
    for part in message.parts {
        if !blank.write(at, part) {
            return Err(AllocateError::Corrupted);
        }
        at += part.len();
    }
    Ok(())
}

/// A message that lies in a queue.
#[derive(Clone, Copy, Debug)]
struct Lying {
    start: u64,
    len: usize,
    carried: usize,
}

impl Lying {
    /// How many bytes its receiver will make of it: once as it comes, and once as what it says. Bytes and texts in a parcel
    /// are copied out of it; other parcels are used where they lie.
    fn bytes_to_make(self, arena: Arena<Extents>) -> Option<usize> {
        let mut head = Vec::new();
        let most = self.len.min(MOST_MANIFEST_BYTES);
        memory::copy_out_of(arena.backing(), self.start, most, &mut head).then_some(())?;
        let body = Manifest::read(&head).filter(|(manifest, _)| manifest.body_is_last);
        let body = body.and_then(|(manifest, _)| manifest.parts.last().map(|part| part.len)).unwrap_or(0);
        self.len.checked_mul(2)?.checked_add(usize::try_from(body).ok()?)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.drop_references();
        // Stale only if somebody else freed it, which is what is wanted.
        let _ = self.arena.free(self.handle);
    }
}
