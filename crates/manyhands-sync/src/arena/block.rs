//! The header in front of every block, and the handle by which others name a block.
//!
//! | state | who may touch the block | when its holder dies |
//! |---|---|---|
//! | `FREE` | the list it is on, under that list's lock | nothing to do |
//! | `HELD` | whoever has its handle | its owner word (see `owner.rs`) says so, and the next sweep reclaims it |
//!
//! The generation grows by one each time the block is freed, and begins with one that no block in this part of the arena
//! has had (`units.rs`), so a handle from before is told apart. It shares a word with the header's magic: the one exchange
//! that frees a block can only succeed on a header, never on bytes of a message that have taken its place meanwhile.

use super::owner::Owner;
use crate::memory::Shareable;
use crate::primitive::{AtomicU32, AtomicU64, Ordering};

/// How many bytes the header takes; payloads are aligned to it.
pub const BLOCK_HEADER_BYTES: u64 = if cfg!(loom) { 256 } else { 64 };

const _: () = assert!(size_of::<BlockHeader>() as u64 <= BLOCK_HEADER_BYTES);

const MAGIC: u32 = 0x6d68_626c;
pub(super) const FREE: u32 = 1;
pub(super) const HELD: u32 = 2;

fn life(generation: u32) -> u64 {
    u64::from(MAGIC) << 32 | u64::from(generation)
}

/// The generation of the next life. None is 0.
pub(super) fn next_generation(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

/// In front of every block.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct BlockHeader {
    /// The magic, and the generation in the lower half.
    life: AtomicU64,
    pub(super) state: AtomicU32,
    pub(super) list: AtomicU32,
    /// The next free block of the list; meaningful while `FREE`.
    pub(super) next: AtomicU64,
    /// How many bytes the block has, this header included. Never changes while there is such a block.
    pub(super) bytes: AtomicU64,
    /// 1 while a freed large block counts among those that keep their pages.
    pub(super) kept: AtomicU32,
    /// How many references to it are counted; under the references' lock.
    pub(super) holders: AtomicU32,
    /// Who answers for it: an [`Owner`](super::Owner) as a word.
    pub(super) owner: AtomicU64,
    /// How many handles of references its payload begins with: what a message carries.
    pub(super) carried: AtomicU32,
    /// How many MiB of a large block, from its start, were made sure to have pages; meaningful while they are kept.
    pub(super) committed_mib: AtomicU32,
    /// 1 once the block may be opened by its handle; see `blank.rs`.
    pub(super) shareable: AtomicU32,
}

// SAFETY: repr(C), atomics only; every reader checks magic, state and list.
#[allow(unsafe_code)]
unsafe impl Shareable for BlockHeader {}

impl BlockHeader {
    pub(super) fn new(list: u32, bytes: u64, owner: Owner, generation: u32) -> Self {
        Self {
            life: AtomicU64::new(life(generation)),
            state: AtomicU32::new(HELD),
            list: AtomicU32::new(list),
            next: AtomicU64::new(0),
            bytes: AtomicU64::new(bytes),
            kept: AtomicU32::new(0),
            holders: AtomicU32::new(0),
            owner: AtomicU64::new(owner.to_word()),
            carried: AtomicU32::new(0),
            committed_mib: AtomicU32::new(0),
            shareable: AtomicU32::new(0),
        }
    }

    /// Whether this is a block's header at all.
    pub(super) fn is_header(&self) -> bool {
        self.life.load(Ordering::Acquire) >> 32 == u64::from(MAGIC)
    }

    /// Whether this is a block's header, and the block in that life.
    pub(super) fn is_in_life(&self, generation: u32) -> bool {
        self.life.load(Ordering::Acquire) == life(generation)
    }

    /// Which life it is in.
    pub(super) fn generation(&self) -> u32 {
        self.life.load(Ordering::Acquire) as u32
    }

    /// Ends that life, unless somebody else has; whether this did.
    pub(super) fn end_life(&self, generation: u32) -> bool {
        let next = life(next_generation(generation));
        self.life.compare_exchange(life(generation), next, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Who answers for the block.
    pub(super) fn owner(&self) -> Owner {
        Owner::from_word(self.owner.load(Ordering::Acquire))
    }

    /// From now on that one answers for it.
    pub(super) fn give(&self, owner: Owner) {
        self.owner.store(owner.to_word(), Ordering::Release);
    }
}

/// Names a block: where its payload begins, and which life of the block is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    /// Where the payload begins in the arena.
    pub offset: u64,
    /// The block's generation when the handle was made.
    pub generation: u32,
}

/// How many bytes an encoded handle takes.
pub const HANDLE_BYTES: usize = 12;

impl Handle {
    /// The handle as bytes, for a message.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HANDLE_BYTES] {
        let mut bytes = [0; HANDLE_BYTES];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..].copy_from_slice(&self.generation.to_le_bytes());
        bytes
    }

    /// Reads what [`Handle::to_bytes`] wrote; `None` when the length is another.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (offset, generation) = bytes.split_first_chunk::<8>()?;
        Some(Self {
            offset: u64::from_le_bytes(*offset),
            generation: u32::from_le_bytes(generation.try_into().ok()?),
        })
    }
}
