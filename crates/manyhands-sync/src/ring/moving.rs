//! An empty ring moves to another segment: a small one, where less is in its way. Called by a member that finds no memory, in
//! any process of the family.
//!
//! # Protocol
//! The mover holds both locks, the head's first, and never waits for one: nobody else holds two, and a member with a lock is
//! at work with the ring. It does what a producer does that grows the ring, then what a consumer does that leaves a drained
//! segment, in the same order; so whatever it is killed at, the next holder of a lock finds what it knows from them.
//!
//! | it dies | the ring | the new segment | the old segment |
//! |---|---|---|---|
//! | before the link | as it was | belongs to the mover, or to the ring's block: a sweep frees it, then or with the ring | in use |
//! | linked (187) | `tail_segment` names a segment with a successor: the next producer follows | next | drained: the next consumer leaves and frees it |
//! | the tail moved (188) | as after any growth | in use by producers | as above |
//! | the head moved (189) | as any ring | in use | belongs to the ring's block, and goes with it |
//!
//! There is one segment before, and no producer can link behind the new one before the locks are free: so no two drained
//! segments lie behind each other.

use super::segment::{SMALLEST_CAPACITY, Segment};
use super::{Ring, free_segment};
use crate::arena::{Arena, Backing, Handle, UNIT_BYTES};
use crate::kill_point;
use crate::primitive::Ordering;

/// An empty segment that no ring leads to.
#[derive(Debug)]
pub(crate) struct Spare<B: Backing> {
    arena: Arena<B>,
    segment: Segment,
}

impl<B: Backing> Spare<B> {
    /// A small one that lies before that offset; `None` when nothing is free there.
    pub(crate) fn before(arena: Arena<B>, before: u64) -> Option<Self> {
        let handle = arena.allocate_before(Segment::block_bytes(SMALLEST_CAPACITY), before)?;
        let generation = handle.generation;
        match Segment::create(arena.backing(), handle.offset, SMALLEST_CAPACITY, generation, 0) {
            Some(segment) => Some(Self { arena, segment }),
            None => {
                let _ = arena.free(handle);
                None
            }
        }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.segment.offset
    }

    /// Nobody needs it.
    pub(crate) fn free(self) {
        free_segment(&self.arena, &self.segment);
    }
}

impl<B: Backing> Ring<B> {
    /// Before which offset a small segment must lie to be better than what this ring has, at about this moment. `None`
    /// while something lies in the ring.
    pub(crate) fn better_before(&self) -> Option<u64> {
        let segment = self.head_segment().filter(|_| self.is_empty())?;
        // A small one anywhere is better than a large one.
        let unit = segment.offset / UNIT_BYTES * UNIT_BYTES;
        Some(if segment.capacity() > SMALLEST_CAPACITY { u64::MAX } else { unit })
    }

    /// The spare becomes the ring's only segment, and the old one is what comes back, to be freed; if something lies in the
    /// ring, or somebody is at work with it, the spare comes back. `settle` as in [`Ring::taking_with`]. The caller makes
    /// sure that the ring stays.
    pub(crate) fn move_to(&self, spare: Spare<B>, settle: impl FnOnce(u32)) -> Result<Spare<B>, Spare<B>> {
        self.own(&spare.segment);
        match self.exchange(spare.segment, settle) {
            Some(segment) => Ok(Spare { arena: self.arena, segment }),
            None => {
                let generation = spare.segment.header.generation.load(Ordering::Relaxed);
                self.arena.give(Handle { offset: spare.segment.offset, generation }, self.arena.me());
                Err(spare)
            }
        }
    }

    /// The segment that was left.
    fn exchange(&self, spare: Segment, settle: impl FnOnce(u32)) -> Option<Segment> {
        let (heads, tails) = (&self.header.consumers, &self.header.producers);
        let _head = heads.lock.try_lock(|| self.repair_and_settle(settle)).ok()?;
        let _tail = tails.lock.try_lock(|| self.repair_tail_and_say()).ok()?;
        let old = self.head_segment()?;
        let (head, tail) = (old.head(), old.tail());
        // Under both locks marks and counts stand still and agree.
        let total = old.total_at(tail);
        let is_all = tails.segment.load(Ordering::Acquire) == old.offset
            && old.header.next.load(Ordering::Acquire) == 0
            && tails.total.0.load(Ordering::Relaxed) == total
            && heads.total.0.load(Ordering::Relaxed) == total;
        if head != tail || !is_all {
            return None;
        }
        spare.header.base.store(total, Ordering::Relaxed);
        // Pairs with the consumers' acquire, as every link.
        old.header.next.store(spare.offset, Ordering::Release);
        kill_point!(RingMoveLinked);
        self.move_tail(old.offset, spare.offset);
        kill_point!(RingMoveTailed);
        heads.segment.store(spare.offset, Ordering::Release);
        kill_point!(RingMoved);
        Some(old)
    }
}
