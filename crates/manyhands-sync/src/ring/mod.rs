//! The ring: frames of bytes from many producers to many consumers, any of whom may be killed. The protocol, who
//! may touch which word, and what happens to whom are in `README.md` beside this file.

mod consumer;
mod crowd;
mod moving;
mod producer;
mod segment;
mod sight;

pub use crate::mutex::Slices;
pub use consumer::{Frame, Taking};
pub(crate) use moving::Spare;
pub use producer::Putting;

use crate::arena::{AllocateError, Arena, Backing, Handle, Owner};
use crate::deadline::Deadline;
use crate::memory::Shareable;
use crate::mutex::{LockError, RobustMutex};
use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::wait_word::{WaitWord, Waited, Waiting};
use segment::{SMALLEST_CAPACITY, Segment};

/// The longest payload a frame may have; longer ones go into a block of their own.
pub const MOST_INLINE_BYTES: usize = if cfg!(loom) { 16 } else { 8 << 10 };

/// A ring's shared words, placed in the arena.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct RingHeader {
    producers: Side,
    consumers: Side,
    /// Consumers wait here.
    pub not_empty: WaitWord,
    /// Producers of a bounded ring wait here.
    pub not_full: WaitWord,
    /// The most frames the ring may hold; 0 when it has no bound.
    bound: AtomicU32,
    /// 1 while a consumer sleeps on a descriptor instead of `not_empty`, and wants it rung.
    bell_wanted: AtomicU32,
}

/// What one side shares: its lock, its segment, its count.
#[derive(Debug)]
#[repr(C, align(64))]
struct Side {
    lock: RobustMutex,
    segment: AtomicU64,
    /// How often a holder of the lock died and the next one repaired.
    recoveries: AtomicU32,
    total: Total,
}

/// A side's count, in a cache line of its own: whoever waits looks at it over and over, and must not take the line
/// of the lock away from those who work.
#[derive(Debug)]
#[repr(C, align(64))]
struct Total(AtomicU32);

impl Side {
    fn new(segment: u64) -> Self {
        Self {
            lock: RobustMutex::new(),
            segment: AtomicU64::new(segment),
            recoveries: AtomicU32::new(0),
            total: Total(AtomicU32::new(0)),
        }
    }
}

// SAFETY: repr(C), atomics, wait words and robust mutexes; segments are checked when opened.
#[allow(unsafe_code)]
unsafe impl Shareable for RingHeader {}

/// Why nothing was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutError {
    /// Another producer holds the tail lock.
    Busy,
    /// The ring's bound is reached.
    Full,
    /// There is no room in the segment: call [`Ring::grow`], then try again.
    NoRoom,
    /// The frame is longer than [`MOST_INLINE_BYTES`].
    TooLong,
    /// The ring's words make no sense.
    Corrupted,
}

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeError {
    /// Another consumer holds the head lock.
    Busy,
    /// There is nothing in the ring.
    Empty,
    /// The ring's words make no sense.
    Corrupted,
}

impl From<LockError> for PutError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Busy => Self::Busy,
            LockError::Corrupted => Self::Corrupted,
        }
    }
}

impl From<LockError> for TakeError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Busy => Self::Busy,
            LockError::Corrupted => Self::Corrupted,
        }
    }
}

/// Whether to wait for a lock that is held.
#[derive(Clone, Copy, Debug)]
pub enum Locking<'a> {
    /// Answer `Busy` after about a microsecond.
    Try,
    /// Wait for the holder: its critical section lasts microseconds, and if it dies the lock is ours. For as long as it is
    /// stopped, if it is.
    Wait,
    /// Wait for the holder, but answer `Busy` at the end of a slice, 10 to 50 ms, or at the deadline: for one who looks around
    /// (for signals, for that deadline) and comes again with the same [`Slices`].
    Slice(&'a Slices),
}

/// A ring, seen from one process.
#[derive(Clone, Copy, Debug)]
pub struct Ring<B: Backing> {
    arena: Arena<B>,
    header: &'static RingHeader,
    /// The block that the ring lies in, which owns its segments.
    home: Handle,
}

impl<B: Backing> Ring<B> {
    /// A new header with its first segment, to be placed by the caller.
    ///
    /// # Errors
    /// When the arena has no memory.
    pub fn new_header(arena: &Arena<B>, bound: u32) -> Result<RingHeader, AllocateError> {
        let segment = new_segment(arena, SMALLEST_CAPACITY, 0)?;
        Ok(RingHeader {
            producers: Side::new(segment.offset),
            consumers: Side::new(segment.offset),
            not_empty: WaitWord::new(),
            not_full: WaitWord::new(),
            bound: AtomicU32::new(bound),
            bell_wanted: AtomicU32::new(0),
        })
    }

    /// The ring with that header, which lies in the block `home`.
    pub fn new(arena: Arena<B>, header: &'static RingHeader, home: Handle) -> Self {
        Self { arena, header, home }
    }

    /// As [`Ring::new`], for the one who has just placed the header: the block owns the first segment from now on.
    pub fn found(arena: Arena<B>, header: &'static RingHeader, home: Handle) -> Self {
        let ring = Self::new(arena, header, home);
        if let Some(first) = Segment::open(arena.backing(), header.producers.segment.load(Ordering::Relaxed))
        {
            ring.own(&first);
        }
        ring
    }

    /// A segment belongs to the ring's block, before the ring leads to it.
    fn own(&self, segment: &Segment) {
        let generation = segment.header.generation.load(Ordering::Relaxed);
        self.arena.give(Handle { offset: segment.offset, generation }, Owner::Block(self.home));
    }

    /// The ring's shared words.
    pub fn header(&self) -> &'static RingHeader {
        self.header
    }

    /// How many frames lie in the ring, as far as the two sides have said.
    pub fn len(&self) -> u32 {
        let taken = self.header.consumers.total.0.load(Ordering::Acquire);
        let put = self.header.producers.total.0.load(Ordering::Acquire);
        let len = put.wrapping_sub(taken);
        // The two loads are not one: a take in between can make the difference negative.
        if len > u32::MAX / 2 { 0 } else { len }
    }

    /// Whether nothing lies in the ring.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most frames it may hold; 0 when it has no bound.
    pub fn bound(&self) -> u32 {
        self.header.bound.load(Ordering::Relaxed)
    }

    /// Whether its bound is reached.
    pub fn is_full(&self) -> bool {
        let bound = self.bound();
        bound != 0 && self.len() >= bound
    }

    /// Frames that were ever taken, modulo 2^32. Exact only while the caller holds the head lock.
    pub fn taken_total(&self) -> u32 {
        self.header.consumers.total.0.load(Ordering::Acquire)
    }

    /// Frames that were ever put, modulo 2^32. Exact only while the caller holds the tail lock.
    pub fn put_total(&self) -> u32 {
        self.header.producers.total.0.load(Ordering::Acquire)
    }

    /// How often somebody died holding one of its locks: the tail's, the head's.
    pub fn recoveries(&self) -> (u32, u32) {
        let of = |side: &Side| side.recoveries.load(Ordering::Relaxed);
        (of(&self.header.producers), of(&self.header.consumers))
    }

    /// Asks the next producer to ring the consumer's bell; look at the ring once more before sleeping on it.
    pub fn want_bell(&self) {
        self.header.bell_wanted.store(1, Ordering::SeqCst);
        crate::primitive::fence(Ordering::SeqCst);
    }

    /// The consumer is awake: no need to ring.
    pub fn unwant_bell(&self) {
        self.header.bell_wanted.store(0, Ordering::Relaxed);
    }

    /// Waits on `not_empty` until there may be a frame to take, the deadline passes or a signal arrives.
    ///
    /// "May": a producer that was killed between its commit and its count leaves a frame that only the marks know of. So the
    /// caller also tries to take after [`Waited::Interrupted`], as comes at the end of each sleep.
    pub fn wait_for_frame(&self, waiting: &mut Waiting, deadline: Deadline) -> Waited {
        self.wait_for_frame_or(|| false, waiting, deadline, |_| ())
    }

    /// As [`Ring::wait_for_frame`], for a consumer that is also `called` by other means. What `note` returns is dropped
    /// after the sleep; when there is none, `note` is not called.
    pub fn wait_for_frame_or<N>(
        &self,
        called: impl Fn() -> bool,
        waiting: &mut Waiting,
        deadline: Deadline,
        note: impl FnOnce(&mut Waiting) -> N,
    ) -> Waited {
        self.header.not_empty.wait(|| !self.is_empty() || called(), waiting, deadline, note)
    }

    /// Waits on `not_full` until there may be room under the bound, the deadline passes or a signal arrives; "may"
    /// as in [`Ring::wait_for_frame`].
    pub fn wait_for_room(&self, waiting: &mut Waiting, deadline: Deadline) -> Waited {
        self.wait_for_room_or(|| false, waiting, deadline, |_| ())
    }

    /// As [`Ring::wait_for_room`]; `called` and `note` as in [`Ring::wait_for_frame_or`].
    pub fn wait_for_room_or<N>(
        &self,
        called: impl Fn() -> bool,
        waiting: &mut Waiting,
        deadline: Deadline,
        note: impl FnOnce(&mut Waiting) -> N,
    ) -> Waited {
        self.header.not_full.wait(|| !self.is_full() || called(), waiting, deadline, note)
    }

    /// Frees every segment. Nobody may use the ring afterwards.
    pub fn dismantle(&self) {
        let mut offset = self.header.consumers.segment.load(Ordering::Acquire);
        let mut open = Segment::open(self.arena.backing(), offset);
        while let Some(segment) = open {
            offset = segment.header.next.load(Ordering::Acquire);
            open = segment.successor(self.arena.backing(), offset);
            // A segment that cannot be freed was freed before: the chain is damaged and leads in a circle.
            if !free_segment(&self.arena, &segment) {
                return;
            }
        }
    }
}

fn new_segment<B: Backing>(arena: &Arena<B>, capacity: u32, base: u32) -> Result<Segment, AllocateError> {
    let handle = arena.allocate(Segment::block_bytes(capacity))?.finish();
    Segment::create(arena.backing(), handle.offset, capacity, handle.generation, base)
        .ok_or(AllocateError::Corrupted)
}

/// Whether the segment was there to be freed; a stale handle means that its block was already recycled.
fn free_segment<B: Backing>(arena: &Arena<B>, segment: &Segment) -> bool {
    let generation = segment.header.generation.load(Ordering::Relaxed);
    arena.free(Handle { offset: segment.offset, generation }).is_ok()
}
