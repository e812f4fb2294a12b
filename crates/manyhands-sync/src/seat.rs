//! A pool worker's seat: what the worker has taken, and how far it is. It outlives the worker.
//!
//! # Protocol
//! One word, `progress`, tells everything: the number of the batch's first frame in the task ring, how many
//! tasks it has, whether the ring's commit has happened, how many were started and how many answered. Every
//! step is one store of the whole word by the worker that sits here.
//!
//! The numbers are those of the [kill points](crate::kill_point).
//!
//! | step | store | killed right after it |
//! |---|---|---|
//! | tasks copied into the inbox (16) | none: the word still says that the last batch is answered | nothing was taken |
//! | batch noted (8, 9, 43) | `first, count`, not taken | the tasks are still in the ring, or the ring's commit happened: whoever repairs the ring's head settles which (`settle`) |
//! | ring committed, then noted (44, 17) | `taken` | the whole batch is here, none of it started |
//! | task started (18) | `started + 1` | that task is the one in progress; the others go back |
//! | answer committed to the result ring (19) | none | its answer is in the ring: not lost |
//! | answer noted | `answered + 1` | done |
//!
//! The inbox holds the noted batch only while one of its tasks is unanswered; after that the worker may have been
//! killed while it copied the next one over it. So nobody reads the inbox of a batch that is all answered, or not
//! taken.
//!
//! Inside a task of many items, `item` counts the items begun, so a death names the item.
//!
//! Whoever locks the task ring's head passes `settle` for every seat: the one who is told of the death is the only
//! one who can decide. If that one dies between two seats (48), the next repairs all of it again, by the same count:
//! a seat that was settled stays as it is. A pool that buries a worker calls [`Ring::settle`](crate::ring::Ring::settle) before it reads
//! the seat.
//!
//! Only the worker writes, with two exceptions: the repairer of the task ring's head (the worker is dead), and the
//! pool, which clears the seat once it has buried the worker.
#![allow(unsafe_code)] // copies bytes of its inbox

use crate::arena::{Arena, Backing, Kind};
use crate::kill_point;
use crate::memory::{Placed, Shareable};
use crate::primitive::{AtomicU32, AtomicU64, ByteWord, Ordering};

/// How many bytes of tasks a batch can have, frame headers included.
pub const INBOX_BYTES: usize = if cfg!(loom) { 64 } else { 16 << 10 };
/// How many tasks a batch can have.
pub const MOST_TASKS: u8 = 64;

const TASK_HEADER_BYTES: u32 = 8;

/// Where the worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Phase {
    /// Nobody sits here, or the worker has not come up yet.
    Starting = 0,
    /// The worker has run its initializer and takes tasks.
    Ready = 1,
    /// The worker has ended of its own will: told to, or after its share of tasks.
    Leaving = 2,
}

/// How far a worker is with its batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The number of the batch's first frame in the task ring.
    pub first: u32,
    /// How many tasks the batch has.
    pub count: u8,
    /// Whether the batch is out of the ring.
    pub taken: bool,
    /// How many of its tasks were started.
    pub started: u8,
    /// How many of its tasks were answered.
    pub answered: u8,
}

impl Progress {
    fn from_word(word: u64) -> Self {
        let [_, _, _, _, count, taken, started, answered] = word.to_le_bytes();
        Self { first: word as u32, count, taken: taken != 0, started, answered }
    }

    fn to_word(self) -> u64 {
        let [a, b, c, d] = self.first.to_le_bytes();
        u64::from_le_bytes([a, b, c, d, self.count, self.taken.into(), self.started, self.answered])
    }
}

/// A seat, placed in the arena.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Seat {
    progress: AtomicU64,
    item: AtomicU32,
    phase: AtomicU32,
    /// When the task in progress was started, in nanoseconds of the monotonic clock: for whoever looks.
    started_at: AtomicU64,
    inbox: [ByteWord; INBOX_BYTES / 8],
}

// SAFETY: repr(C), atomics only; readers check counts and lengths against the inbox.
unsafe impl Shareable for Seat {}

// SAFETY: the only structure that is laid into blocks of this kind.
unsafe impl Placed for Seat {
    const KIND: Kind = Kind::Seat;
}

impl Default for Seat {
    fn default() -> Self {
        Self::new()
    }
}

impl Seat {
    /// A seat nobody sits on.
    #[must_use]
    pub fn new() -> Self {
        Self {
            progress: AtomicU64::new(0),
            item: AtomicU32::new(0),
            phase: AtomicU32::new(Phase::Starting as u32),
            started_at: AtomicU64::new(0),
            inbox: std::array::from_fn(|_| ByteWord::new(0)),
        }
    }

    /// How far its worker is.
    pub fn progress(&self) -> Progress {
        Progress::from_word(self.progress.load(Ordering::Acquire))
    }

    /// Items begun inside the task in progress.
    pub fn item(&self) -> u32 {
        self.item.load(Ordering::Acquire)
    }

    /// Where its worker is in its life.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            1 => Phase::Ready,
            2 => Phase::Leaving,
            _ => Phase::Starting,
        }
    }

    /// The worker says where it is in its life.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u32, Ordering::Release);
    }

    /// Makes the seat ready for the next worker, once the last one is buried.
    pub fn clear(&self) {
        self.progress.store(0, Ordering::Release);
        self.item.store(0, Ordering::Relaxed);
        self.enter(Phase::Starting);
    }

    /// Stores the whole state of the batch: the worker's only way to go on.
    #[inline]
    pub fn note(&self, progress: Progress) {
        self.progress.store(progress.to_word(), Ordering::Release);
    }

    /// The worker begins the `count`-th item of the task in progress.
    #[inline]
    pub fn begin_item(&self, count: u32) {
        self.item.store(count, Ordering::Release);
    }

    /// The worker says when it started the task in progress, in nanoseconds of the monotonic clock.
    #[inline]
    pub fn begin_task_at(&self, nanoseconds: u64) {
        self.started_at.store(nanoseconds, Ordering::Relaxed);
    }

    /// When the task in progress was started; 0 when none was.
    pub fn started_at(&self) -> u64 {
        self.started_at.load(Ordering::Relaxed)
    }

    /// Whether the ring's commit of a noted batch happened, when its worker died holding the head lock with
    /// `taken_total` frames taken. Run by the repairer, before anybody can take another frame.
    pub fn settle(&self, taken_total: u32) {
        let progress = self.progress();
        if progress.taken || progress.count == 0 {
            return;
        }
        let committed = taken_total == progress.first.wrapping_add(u32::from(progress.count));
        let settled = if committed { Progress { taken: true, ..progress } } else { Progress::default() };
        self.note(settled);
        kill_point!(SeatSettled);
    }

    /// Where the next task of a batch goes in the inbox, when `used` bytes are taken already: the offset for
    /// its payload, and the bytes used afterwards. `None` when it does not fit.
    pub fn place_task(&self, offset: u64, used: u32, tag: u32, payload_bytes: u32) -> Option<(u64, u32)> {
        let end = task_end(used, payload_bytes)?;
        let header = self.inbox.get(used as usize / 8)?;
        header.store(u64::from(tag) << 32 | u64::from(payload_bytes), Ordering::Relaxed);
        Some((inbox_offset(offset) + u64::from(used + TASK_HEADER_BYTES), end))
    }

    /// Reads the task that begins `used` bytes into the inbox: its tag, its payload appended to `out`, and
    /// where the next one begins. `None` when the inbox makes no sense.
    ///
    /// The seat lies at `offset`. Whoever reads while its worker copies another batch gets some of both.
    pub fn read_task<B: Backing>(
        &self,
        arena: &Arena<B>,
        offset: u64,
        used: u32,
        out: &mut Vec<u8>,
    ) -> Option<(u32, u32)> {
        let word = self.inbox.get(used as usize / 8)?.load(Ordering::Relaxed);
        let (payload_bytes, tag) = (word as u32, (word >> 32) as u32);
        let end = task_end(used, payload_bytes)?;
        let at = inbox_offset(offset) + u64::from(used + TASK_HEADER_BYTES);
        // SAFETY: inside the inbox of the seat that the caller found there, which is written by words alone.
        unsafe { arena.backing().copy_out_racing(at, payload_bytes as usize, out) }.then_some((tag, end))
    }
}

/// Where a task that begins at `used` ends; `None` when that is not inside the inbox.
fn task_end(used: u32, payload_bytes: u32) -> Option<u32> {
    let end = used.checked_add(TASK_HEADER_BYTES)?.checked_add(payload_bytes)?.checked_next_multiple_of(8)?;
    (end as usize <= INBOX_BYTES).then_some(end)
}

fn inbox_offset(seat: u64) -> u64 {
    seat + std::mem::offset_of!(Seat, inbox) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_whose_commit_happened_is_settled_as_taken_and_another_is_forgotten() {
        let seat = Seat::new();
        let noted = Progress { first: u32::MAX, count: 3, ..Progress::default() };
        seat.note(noted);
        seat.settle(2);
        assert_eq!(seat.progress(), Progress { taken: true, ..noted });

        seat.note(noted);
        seat.settle(u32::MAX);
        assert_eq!(seat.progress(), Progress::default());
    }
}
