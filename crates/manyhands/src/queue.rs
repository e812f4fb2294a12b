//! A queue of messages between any members of a family: many producers, many consumers, first in first out.
//!
//! `put` copies the message into shared memory and is done: whatever happens to the process afterwards, the
//! message is there. There is no thread behind it and nothing to flush.
//!
//! A message's way: `send` here, through `ring/producer.rs` to `ring/consumer.rs`, and out through `receive` in another
//! process; `docs/journeys.md` walks it.

use crate::family::{Extents, Family, FamilyError, Hold};
use crate::payload::{BLOCK, Block, INLINE, Message};
use crate::sys::refusals::{self, Refusal};
use manyhands_sync::arena::{AllocateError, Arena, Handle, Kind, ReferError, StaleHandle};
use manyhands_sync::queue_header::QueueHeader;
use manyhands_sync::ring::{Frame, Taking};
use manyhands_sync::ring::{Locking, PutError, Ring, TakeError};
use std::sync::Arc;

/// A queue, seen from one process.
///
/// It lives as long as somebody holds it: this value and its clones, those of other processes, and messages on their way
/// that carry its handle. A process that is killed holds nothing.
#[derive(Clone, Debug)]
pub struct Queue {
    pub(crate) arena: Arena<Extents>,
    pub(crate) header: &'static QueueHeader,
    pub(crate) ring: Ring<Extents>,
    hold: Arc<Hold>,
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The queue holds as many messages as it may.
    Full,
    /// Another sender is at it: try again, or wait for it.
    Busy,
    /// The queue was shut: see [`Queue::shut`].
    Shut,
    /// There is no shared memory left.
    OutOfMemory {
        /// How many bytes were wanted.
        wanted_bytes: u64,
        /// The family's limit.
        limit_bytes: u64,
    },
    /// The queue's words make no sense.
    Corrupted,
}

/// Why no message was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveError {
    /// There is none.
    Empty,
    /// Another receiver is at it: try again, or wait for it.
    Busy,
    /// There is none, and there will be none: the queue was shut.
    Shut,
    /// This process has no room for it: it lies in the queue still.
    OutOfMemory {
        /// How many bytes were wanted.
        wanted_bytes: u64,
    },
    /// The queue's words make no sense.
    Corrupted,
}

/// Why there is no queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The handle is of a queue that was destroyed, or of none.
    Stale,
    /// This process has no room to map it.
    OutOfMemory {
        /// How many bytes were wanted.
        wanted_bytes: u64,
    },
}

impl OpenError {
    /// Nothing was found where the handle says: there is nothing, or what is there could not be mapped.
    pub(crate) fn not_found() -> Self {
        refusals::take()
            .map_or(Self::Stale, |refusal| Self::OutOfMemory { wanted_bytes: refusal.wanted_bytes })
    }
}

fn no_room(f: &mut std::fmt::Formatter<'_>, wanted_bytes: u64) -> std::fmt::Result {
    write!(f, "no memory: this process could not have {wanted_bytes} bytes more of address space")
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stale => {
                f.write_str("it no longer exists: nobody holds it any more, or it belongs to another family")
            }
            Self::OutOfMemory { wanted_bytes } => no_room(f, *wanted_bytes),
        }
    }
}

impl std::error::Error for OpenError {}

impl std::fmt::Display for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full => f.write_str("the queue is full"),
            Self::Busy => f.write_str("another sender holds the queue"),
            Self::Shut => f.write_str("the queue was shut"),
            Self::OutOfMemory { wanted_bytes, limit_bytes } => write!(
                f,
                "no shared memory for a message of {wanted_bytes} bytes: the family's limit is {limit_bytes} bytes \
                 ({}), or the system has none left",
                crate::family::ARENA_MAX_VARIABLE
            ),
            Self::Corrupted => f.write_str("the queue's shared memory is damaged"),
        }
    }
}

impl std::error::Error for SendError {}

impl std::fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Empty => "the queue is empty",
            Self::Busy => "another receiver holds the queue",
            Self::Shut => "the queue was shut, and is empty",
            Self::OutOfMemory { wanted_bytes } => return no_room(f, *wanted_bytes),
            Self::Corrupted => "the queue's shared memory is damaged",
        })
    }
}

impl std::error::Error for ReceiveError {}

impl From<AllocateError> for SendError {
    fn from(error: AllocateError) -> Self {
        match refusals::explain(error) {
            AllocateError::OutOfMemory { wanted_bytes, limit_bytes } => {
                Self::OutOfMemory { wanted_bytes, limit_bytes }
            }
            AllocateError::Corrupted => Self::Corrupted,
        }
    }
}

impl From<StaleHandle> for OpenError {
    fn from(_: StaleHandle) -> Self {
        Self::not_found()
    }
}

impl From<Refusal> for ReceiveError {
    fn from(refusal: Refusal) -> Self {
        Self::OutOfMemory { wanted_bytes: refusal.wanted_bytes }
    }
}

/// What was received.
#[derive(Debug)]
pub enum Received {
    /// The message was appended to the caller's buffer.
    Inline,
    /// The message is long and waits in a block.
    Block(Block),
}

impl Queue {
    /// A new queue that holds at most `bound` messages; 0 for as many as there is memory for.
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub fn create(family: &Family, bound: u32) -> Result<Self, SendError> {
        let arena = family.whole_arena();
        let block = arena.allocate_kind(Kind::Ring, size_of::<QueueHeader>() as u64)?;
        let header = QueueHeader::new(Ring::new_header(&arena, bound)?);
        let (header, handle) = block.lay(header).map_err(|_| SendError::from(AllocateError::Corrupted))?;
        let ring = Ring::found(arena, &header.ring, handle);
        let hold = family.hold(Kind::Ring, handle).map_err(|error| match error {
            ReferError::Allocate(error) => SendError::from(error),
            ReferError::Stale => SendError::from(AllocateError::Corrupted),
        })?;
        Ok(Self { arena, header, ring, hold: Arc::new(hold) })
    }

    /// The queue with that handle.
    ///
    /// # Errors
    /// When there is no such queue (any more).
    pub fn open(family: &Family, handle: Handle) -> Result<Self, OpenError> {
        let arena = family.whole_arena();
        let hold = family.hold(Kind::Ring, handle).map_err(|_| OpenError::not_found())?;
        let header: &QueueHeader = arena.placed(handle).map_err(|_| OpenError::not_found())?;
        let ring = Ring::new(arena, &header.ring, handle);
        Ok(Self { arena, header, ring, hold: Arc::new(hold) })
    }

    /// Whether it is certain that this process holds it; if not, [`Queue::ensure_held`] is to be asked.
    #[inline]
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.hold.is_certain()
    }

    /// Makes sure that this process holds it, as a forked child may not; see [`Hold::ensure`](crate::family::Hold::ensure).
    ///
    /// # Errors
    /// When it does not, and cannot.
    #[inline]
    pub fn ensure_held(&self) -> Result<(), FamilyError> {
        self.hold.ensure()
    }

    /// By what another member opens the queue.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.hold.handle()
    }

    /// The most messages it may hold; 0 for as many as there is memory for.
    #[must_use]
    pub fn bound(&self) -> u32 {
        self.ring.bound()
    }

    /// How many messages lie in it; none when it was shut at once.
    #[must_use]
    pub fn len(&self) -> u32 {
        if self.header.is_shut_at_once() { 0 } else { self.ring.len() }
    }

    /// Whether no message lies in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it holds as many messages as it may.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.ring.is_full()
    }

    /// Sends a message made of these parts, one behind the other. Does not wait for room; waits for other
    /// senders (microseconds, or for as long as one of them is stopped) only when told so: see [`Locking`].
    ///
    /// # Errors
    /// See [`SendError`]; nothing was sent then.
    pub fn send(&self, parts: &[&[u8]], locking: Locking<'_>) -> Result<(), SendError> {
        self.send_message(parts.into(), locking)
    }

    /// As [`Queue::send`], for a message that may carry handles.
    ///
    /// # Errors
    /// See [`SendError`]; nothing was sent then.
    #[inline]
    pub fn send_message(&self, message: Message<'_>, locking: Locking<'_>) -> Result<(), SendError> {
        // WAYPOINT message 4/8: few bytes go into the frame, many into a block that the frame names.
        if message.fits_inline(0) {
            return self.put(INLINE, message.parts, locking);
        }
        self.send_long(message, locking)
    }

    fn send_long(&self, message: Message<'_>, locking: Locking<'_>) -> Result<(), SendError> {
        if self.header.is_shut() {
            return Err(SendError::Shut);
        }
        if self.is_full() {
            return Err(SendError::Full);
        }
        if let Locking::Slice(_) = locking {
            // A long message is not copied anew for each slice behind one who holds the queue for long.
            drop(self.ring.putting(locking).map_err(not_put)?);
        }
        let reference = Block::with(self.arena, message)?.into_reference(self.handle());
        self.put(BLOCK, &[&reference], locking).inspect_err(|_| {
            // Not sent: the block is still ours.
            drop(Block::named_by(self.arena, &reference));
        })
    }

    fn put(&self, tag: u32, parts: &[&[u8]], locking: Locking<'_>) -> Result<(), SendError> {
        loop {
            let mut putting = self.ring.putting(locking).map_err(not_put)?;
            if self.header.is_shut() {
                return Err(SendError::Shut);
            }
            match putting.put(tag, parts) {
                Ok(()) => {
                    putting.finish();
                    self.header.wake_for_arrival();
                    return Ok(());
                }
                Err(PutError::NoRoom) => drop(putting),
                Err(error) => return Err(not_put(error)),
            }
            self.ring.grow(parts, locking)?;
        }
    }

    /// Receives a message if there is one: short ones are appended to `out`.
    ///
    /// # Errors
    /// See [`ReceiveError`].
    #[inline]
    pub fn receive(&self, out: &mut Vec<u8>, locking: Locking<'_>) -> Result<Received, ReceiveError> {
        let start = out.len();
        match self.take(out, locking) {
            Ok(INLINE) => Ok(Received::Inline),
            taken => self.receive_otherwise(taken, start, out, locking),
        }
    }

    /// `taken` is what became of the first try, at `start` of `out`.
    fn receive_otherwise(
        &self,
        taken: Result<u32, ReceiveError>,
        start: usize,
        out: &mut Vec<u8>,
        locking: Locking<'_>,
    ) -> Result<Received, ReceiveError> {
        let tag = match taken {
            // It may have come just before the queue was shut.
            Err(ReceiveError::Empty) if self.header.is_shut() => match self.take(out, locking) {
                Err(ReceiveError::Empty) => return Err(ReceiveError::Shut),
                taken => taken?,
            },
            taken => taken?,
        };
        // WAYPOINT message 7/8: a message in a block is handed on as the block; its bytes are copied once.
        match tag {
            INLINE => Ok(Received::Inline),
            BLOCK => {
                let block = self.block_named_by(&out[start..]);
                out.truncate(start);
                block.map(Received::Block).ok_or(ReceiveError::Corrupted)
            }
            _ => {
                out.truncate(start);
                Err(ReceiveError::Corrupted)
            }
        }
    }

    /// Takes one frame; its tag.
    fn take(&self, out: &mut Vec<u8>, locking: Locking<'_>) -> Result<u32, ReceiveError> {
        let mut taking = self.ring.taking(locking).map_err(not_taken)?;
        if self.header.is_shut_at_once() {
            return Err(ReceiveError::Shut);
        }
        let frame = taking.peek().map_err(not_taken)?.ok_or(ReceiveError::Empty)?;
        if frame.tag == BLOCK {
            read_reachable(&mut taking, frame, out)?;
        } else {
            taking.read(frame, out).map_err(not_taken)?;
        }
        taking.commit();
        self.header.wake_if_emptied(&self.ring);
        Ok(frame.tag)
    }

    /// The block of a message that this process has taken.
    pub(crate) fn block_named_by(&self, frame: &[u8]) -> Option<Block> {
        Block::named_by(self.arena, frame).map(Block::taken)
    }

    /// Whether whoever receives need not wait: for a message, or to be told that there will be none.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.header.is_ready(&self.ring)
    }

    /// As [`Queue::is_ready`], what a sender that was killed has not counted included.
    #[must_use]
    pub fn is_ready_at_a_closer_look(&self) -> bool {
        self.is_ready() || {
            // Who holds the lock counts that: nobody waits for a holder here.
            let _ = self.ring.settle_tail(Locking::Try);
            self.is_ready()
        }
    }

    /// Sleeps until [`Queue::is_ready`] may not be as it `was`, until one is `called`, or for half a second.
    pub(crate) fn watch(&self, was: bool, called: impl Fn() -> bool) {
        self.header.watch(&self.ring, was, called);
    }

    /// Those who watch look again.
    pub(crate) fn wake_watchers(&self) {
        self.header.wake_watchers();
    }

    /// How often somebody was killed in the middle of sending, and of receiving, and the next one put it right.
    #[must_use]
    pub fn recoveries(&self) -> (u32, u32) {
        self.ring.recoveries()
    }
}

/// Reads a frame that names a block, if this process has room for the message; else the frame is the next one still.
pub(crate) fn read_reachable(
    taking: &mut Taking<'_, Extents>,
    frame: Frame,
    out: &mut Vec<u8>,
) -> Result<(), ReceiveError> {
    let (arena, mut refused) = (taking.arena(), None);
    let reach = |bytes: &[u8]| {
        refused = Block::reach(arena, bytes).err();
        refused.is_none()
    };
    taking.read_if(frame, out, reach).map_err(not_taken)?;
    refused.map_or(Ok(()), |refusal| Err(refusal.into()))
}

pub(crate) fn not_put(error: PutError) -> SendError {
    match error {
        PutError::Full => SendError::Full,
        PutError::Busy => SendError::Busy,
        PutError::NoRoom | PutError::TooLong | PutError::Corrupted => AllocateError::Corrupted.into(),
    }
}

pub(crate) fn not_taken(error: TakeError) -> ReceiveError {
    match error {
        TakeError::Empty => ReceiveError::Empty,
        TakeError::Busy => ReceiveError::Busy,
        TakeError::Corrupted => refusals::take().map_or(ReceiveError::Corrupted, ReceiveError::from),
    }
}

/// Frees what lies in a queue that nobody holds any more.
pub(crate) fn dismantle(arena: Arena<Extents>, handle: Handle) {
    let Ok(header) = arena.placed::<QueueHeader>(handle) else { return };
    let ring = Ring::new(arena, &header.ring, handle);
    discard(arena, &ring, Locking::Wait);
    ring.dismantle();
}

/// Takes everything and frees it; `false` when others hold the ring for longer than `locking` waits.
pub(crate) fn discard(arena: Arena<Extents>, ring: &Ring<Extents>, locking: Locking<'_>) -> bool {
    let mut frame = Vec::new();
    loop {
        match ring.try_take(&mut frame, locking) {
            Ok(BLOCK) => drop(Block::named_by(arena, &frame)),
            Ok(_) => {}
            Err(error) => return error != TakeError::Busy,
        }
        frame.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random_bytes::RandomBytes;

    #[test]
    fn frames_that_no_sender_wrote_are_refused_one_by_one() {
        let queue = Queue::create(Family::current().expect("memory"), 0).expect("memory");
        let mut random = RandomBytes::new(4);
        let mut refused = 0;
        for _ in 0..20_000 {
            let frame = random.bytes(60);
            queue.put(random.below(4) as u32, &[&frame], Locking::Wait).expect("room");
            let mut out = b"before".to_vec();
            match queue.receive(&mut out, Locking::Wait) {
                Ok(Received::Inline) => assert_eq!(out, [b"before", &frame[..]].concat()),
                Ok(Received::Block(block)) => panic!("a block out of nothing: {block:?}"),
                Err(ReceiveError::Corrupted) => {
                    refused += 1;
                    assert_eq!(out, b"before");
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(refused > 10_000, "{refused}");
    }

    #[test]
    fn a_damaged_reference_names_its_block_or_none() {
        let family = Family::current().expect("memory");
        let home = Queue::create(family, 0).expect("memory");
        let mut random = RandomBytes::new(5);
        let mut refused = 0;
        for _ in 0..20_000 {
            let bytes = vec![7; 10_000 + random.below(10_000)];
            let block = Block::with(family.whole_arena(), Message { parts: &[&bytes], carried: &[] })
                .expect("memory");
            let reference = block.into_reference(home.handle());
            let room =
                family.whole_arena().payload_bytes(Handle::from_bytes(&reference[..12]).expect("twelve"));
            match Block::named_by(family.whole_arena(), &random.damaged(&reference)) {
                // The same block, and no longer than it is: what a receiver makes room for is bounded by what is there.
                Some(damaged) => {
                    assert!(damaged.len() as u64 <= room.expect("held"));
                    let mut out = vec![0; damaged.len()];
                    damaged.copy_to(&mut out);
                }
                None => {
                    refused += 1;
                    drop(Block::named_by(family.whole_arena(), &reference));
                }
            }
        }
        assert!(refused > 10_000, "{refused}");
    }
}
