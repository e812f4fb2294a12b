//! One circular buffer of a ring, and the marks that commit changes to it.
//!
//! Its bytes are copied plainly, without a reference to them: between the tail mark and the head mark a whole length further
//! they belong to the producer that holds the tail lock, between the head mark and the tail mark to the consumer that holds
//! the head lock, and each side publishes what it is done with by the release of its mark. Who only looks (`sight.rs`) holds
//! one of the locks, too, or copies word by word.
#![allow(unsafe_code)] // copies bytes that a lock and a mark guard

use crate::memory::{Memory, Placing, Shareable};
use crate::primitive::{AtomicU32, AtomicU64, Ordering};

/// Frames passed and bytes passed, both modulo 2^32, in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) frames: u32,
    pub(super) bytes: u32,
}

impl Mark {
    pub(super) fn from_word(word: u64) -> Self {
        Self { frames: (word >> 32) as u32, bytes: word as u32 }
    }

    pub(super) fn to_word(self) -> u64 {
        u64::from(self.frames) << 32 | u64::from(self.bytes)
    }

    /// The mark one frame of `bytes` further.
    pub(super) fn advanced(self, bytes: u32) -> Self {
        Self { frames: self.frames.wrapping_add(1), bytes: self.bytes.wrapping_add(bytes) }
    }
}

/// In front of a segment's bytes. Producers' and consumers' words lie in different cache lines.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct SegmentHeader {
    /// Bytes behind this header: a power of two.
    pub(super) capacity: AtomicU32,
    /// Frames that passed through the ring before this segment.
    pub(super) base: AtomicU32,
    pub(super) generation: AtomicU32,
    pub(super) next: AtomicU64,
    pub(super) tail: Line,
    pub(super) head: Line,
}

/// A side's own words: its mark, and the opposite one as it last saw it.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Line {
    pub(super) mark: AtomicU64,
    pub(super) seen_opposite: AtomicU64,
}

// SAFETY: repr(C), atomics only; `Segment::open` checks the capacity.
#[allow(unsafe_code)]
unsafe impl Shareable for SegmentHeader {}

/// The smallest segment; the first one of every ring: many queues never hold more. Under loom two small frames fill one.
pub(super) const SMALLEST_CAPACITY: u32 = if cfg!(loom) { 32 } else { 8 << 10 };
/// The next one, in which the longest frames fit several times.
const SECOND_CAPACITY: u32 = if cfg!(loom) { 64 } else { 64 << 10 };
/// From then on segments grow by doubling up to here.
pub(super) const LARGEST_CAPACITY: u32 = if cfg!(loom) { 64 } else { 1 << 20 };

/// In front of every frame: its payload's length and its tag.
pub(super) const FRAME_HEADER_BYTES: u32 = 8;

/// How many bytes of a segment a frame takes.
pub(super) fn frame_bytes(payload: u32) -> u32 {
    (FRAME_HEADER_BYTES + payload).next_multiple_of(8)
}

/// A segment, seen from one process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) header: &'static SegmentHeader,
    capacity: u32,
}

impl Segment {
    /// How many bytes a segment of that capacity takes in the arena.
    pub(super) fn block_bytes(capacity: u32) -> u64 {
        size_of::<SegmentHeader>() as u64 + u64::from(capacity)
    }

    /// Lays an empty segment into a block.
    pub(super) fn create<M: Memory>(
        memory: &M,
        offset: u64,
        capacity: u32,
        generation: u32,
        base: u32,
    ) -> Option<Self> {
        let header = SegmentHeader {
            capacity: AtomicU32::new(capacity),
            base: AtomicU32::new(base),
            generation: AtomicU32::new(generation),
            next: AtomicU64::new(0),
            tail: Line::default(),
            head: Line::default(),
        };
        Some(Self { offset, header: memory.place_new(offset, header)?, capacity })
    }

    /// The segment at `offset`; `None` when there is none that makes sense.
    pub(super) fn open<M: Memory>(memory: &M, offset: u64) -> Option<Self> {
        let header = memory.place::<SegmentHeader>(offset)?;
        let capacity = header.capacity.load(Ordering::Relaxed);
        let sound = capacity.is_power_of_two() && (SMALLEST_CAPACITY..=LARGEST_CAPACITY).contains(&capacity);
        sound.then_some(Self { offset, header, capacity })
    }

    pub(super) fn tail(&self) -> Mark {
        Mark::from_word(self.header.tail.mark.load(Ordering::Acquire))
    }

    pub(super) fn head(&self) -> Mark {
        Mark::from_word(self.header.head.mark.load(Ordering::Acquire))
    }

    /// Bytes free behind `tail`, looking at the consumers' mark only when the one last seen is not enough.
    pub(super) fn room(&self, tail: Mark, wanted: u32) -> u32 {
        let seen = Mark::from_word(self.header.tail.seen_opposite.load(Ordering::Relaxed));
        let room = self.capacity.saturating_sub(tail.bytes.wrapping_sub(seen.bytes));
        if room >= wanted {
            return room;
        }
        let head = self.head();
        self.header.tail.seen_opposite.store(head.to_word(), Ordering::Relaxed);
        self.capacity.saturating_sub(tail.bytes.wrapping_sub(head.bytes))
    }

    /// Bytes to take from `head`, looking at the producers' mark only when the one last seen says there are none.
    /// `None` when the marks are further apart than the segment is long.
    pub(super) fn waiting(&self, head: Mark) -> Option<u32> {
        let seen = Mark::from_word(self.header.head.seen_opposite.load(Ordering::Relaxed));
        let mut waiting = seen.bytes.wrapping_sub(head.bytes);
        if waiting == 0 {
            let tail = self.tail();
            self.header.head.seen_opposite.store(tail.to_word(), Ordering::Relaxed);
            waiting = tail.bytes.wrapping_sub(head.bytes);
        }
        (waiting <= self.capacity).then_some(waiting)
    }

    /// How many frames had passed through the ring at that mark of this segment, modulo 2^32.
    pub(super) fn total_at(&self, mark: Mark) -> u32 {
        self.header.base.load(Ordering::Relaxed).wrapping_add(mark.frames)
    }

    /// The segment at `offset`, if it is one that may come behind this full one: its count begins where this one's
    /// ends, which a damaged link, or one that leads back, does not.
    pub(super) fn successor<M: Memory>(&self, memory: &M, offset: u64) -> Option<Self> {
        let next = Self::open(memory, offset)?;
        let continues = next.header.base.load(Ordering::Relaxed) == self.total_at(self.tail());
        (continues && offset != self.offset).then_some(next)
    }

    /// The capacity of the segment that should follow this one.
    pub(super) fn next_capacity(&self) -> u32 {
        (self.capacity * 2).clamp(SECOND_CAPACITY, LARGEST_CAPACITY)
    }

    pub(super) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Writes `bytes` at a position, around the end if need be; `false` when the arena does not hold them. For the holder
    /// of the tail lock, in the room behind its tail.
    pub(super) fn write<M: Memory>(&self, memory: &M, position: u32, bytes: &[u8]) -> bool {
        let (at, first) = self.split(position, bytes.len());
        // SAFETY: the room behind the tail is the lock's holder's; `bytes` is a slice, and none lies in the arena.
        let sound = unsafe { memory.copy_in(self.start() + u64::from(at), &bytes[..first]) };
        // SAFETY: the room behind the tail goes on at the beginning, and is the lock's holder's there, too.
        sound && (first == bytes.len() || unsafe { memory.copy_in(self.start(), &bytes[first..]) })
    }

    /// Appends `len` bytes from a position to `out`; `false` when the arena does not hold them. For the holder of the head
    /// lock, of what was committed.
    pub(super) fn read<M: Memory>(&self, memory: &M, position: u32, len: u32, out: &mut Vec<u8>) -> bool {
        let (at, first) = self.split(position, len as usize);
        // SAFETY: nobody writes what was committed until the head mark, which the lock's holder moves, has passed it.
        let sound = unsafe { memory.copy_out(self.start() + u64::from(at), first, out) };
        // SAFETY: what was committed goes on at the beginning; nobody writes it there, either.
        sound
            && (first == len as usize || unsafe { memory.copy_out(self.start(), len as usize - first, out) })
    }

    /// Copies `len` bytes from a position to an inbox, which lies elsewhere in the arena; otherwise as `read`.
    pub(super) fn read_within<M: Memory>(&self, memory: &M, position: u32, len: u32, to: u64) -> bool {
        let (at, first) = self.split(position, len as usize);
        // SAFETY: nobody writes what was committed, as in read(); an inbox is read and written by words alone.
        let sound = unsafe { memory.copy_within(self.start() + u64::from(at), to, first) };
        let rest = len as usize - first;
        // SAFETY: what was committed goes on at the beginning; the inbox is behind the part that was copied.
        sound && (rest == 0 || unsafe { memory.copy_within(self.start(), to + first as u64, rest) })
    }

    /// Reads a frame's header; otherwise as `read`.
    pub(super) fn frame_header<M: Memory>(&self, memory: &M, position: u32) -> Option<(u32, u32)> {
        // Frames are multiples of 8 bytes, so a header never wraps.
        let at = self.start() + u64::from(position & (self.capacity - 1));
        // SAFETY: nobody writes what was committed, as in read().
        let word = unsafe { memory.read_word(at) }?;
        Some((word as u32, (word >> 32) as u32))
    }

    /// Writes a frame's header; otherwise as `write`.
    pub(super) fn write_frame_header<M: Memory>(
        &self,
        memory: &M,
        position: u32,
        len: u32,
        tag: u32,
    ) -> bool {
        let at = self.start() + u64::from(position & (self.capacity - 1));
        // SAFETY: the room behind the tail is the lock's holder's.
        unsafe { memory.write_word(at, u64::from(tag) << 32 | u64::from(len)) }
    }

    fn start(&self) -> u64 {
        self.offset + size_of::<SegmentHeader>() as u64
    }

    fn split(&self, position: u32, len: usize) -> (u32, usize) {
        let at = position & (self.capacity - 1);
        (at, len.min((self.capacity - at) as usize))
    }
}
