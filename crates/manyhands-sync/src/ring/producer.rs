//! The producers' side of a ring.

use super::crowd::PRODUCERS;
use super::segment::{FRAME_HEADER_BYTES, LARGEST_CAPACITY, Mark, SMALLEST_CAPACITY, Segment, frame_bytes};
use super::{Locking, MOST_INLINE_BYTES, PutError, Ring, free_segment, new_segment};
use crate::arena::{AllocateError, Backing};
use crate::kill_point;
use crate::mutex::Guard;
use crate::primitive::{Ordering, dying, fence};

/// The tail lock, held: frames may be put. Dropping it unlocks and wakes; see [`Putting::finish`].
#[derive(Debug)]
pub struct Putting<'a, B: Backing> {
    ring: &'a Ring<B>,
    segment: Segment,
    tail: Mark,
    put: u32,
    guard: Option<Guard<'a>>,
}

impl<B: Backing> Ring<B> {
    /// Locks the tail.
    ///
    /// # Errors
    /// `Busy` (when not waiting for ever) or `Corrupted`.
    // What it returns is large: moved, it would be read again before it has been written.
    #[inline(always)]
    pub fn putting(&self, locking: Locking<'_>) -> Result<Putting<'_, B>, PutError> {
        let repair = || self.repair_tail_and_say();
        let guard = self.header.producers.enter(locking, &PRODUCERS, repair)?;
        kill_point!(RingPutLocked);
        let segment = self.tail_segment().ok_or(PutError::Corrupted)?;
        let tail = segment.tail();
        // Under the lock, after any repair, the mirror is exact and the tail segment is the last: if not, the
        // marks cannot be trusted.
        let sound = segment.total_at(tail) == self.header.producers.total.0.load(Ordering::Relaxed)
            && segment.header.next.load(Ordering::Relaxed) == 0;
        if !sound {
            return Err(PutError::Corrupted);
        }
        Ok(Putting { ring: self, segment, tail, put: 0, guard: Some(guard) })
    }

    /// Counts what a producer that died holding the tail lock has committed.
    ///
    /// # Errors
    /// `Busy` (when not waiting for ever): another one holds the lock, who has counted that or is about to. `Corrupted`.
    pub fn settle_tail(&self, locking: Locking<'_>) -> Result<(), PutError> {
        self.putting(locking).map(drop)
    }

    /// Puts one frame and wakes one consumer; whether the consumer's bell must be rung.
    ///
    /// # Errors
    /// See [`PutError`].
    pub fn try_put(&self, tag: u32, parts: &[&[u8]], locking: Locking<'_>) -> Result<bool, PutError> {
        let mut putting = self.putting(locking)?;
        putting.put(tag, parts)?;
        Ok(putting.finish())
    }

    /// Puts one frame, growing the ring if need be, waiting for the lock; whether the bell must be rung.
    ///
    /// # Errors
    /// See [`PutError`]; `NoRoom` when the arena has no memory for a larger segment.
    pub fn put(&self, tag: u32, parts: &[&[u8]]) -> Result<bool, PutError> {
        loop {
            match self.try_put(tag, parts, Locking::Wait) {
                Err(PutError::NoRoom) => self.grow(parts, Locking::Wait).map_err(|_| PutError::NoRoom)?,
                Err(PutError::Busy) => {}
                done => return done,
            }
        }
    }

    /// Links a larger segment, if there is still no room for that frame. The memory is allocated before the
    /// lock is taken, and given back when another producer was faster, or holds the lock for longer than `locking` waits: the
    /// caller tries to put again, and is told `Busy` there.
    ///
    /// # Errors
    /// When the arena has no memory.
    pub fn grow(&self, parts: &[&[u8]], locking: Locking<'_>) -> Result<(), AllocateError> {
        let wanted = frame_bytes(payload_bytes(parts).map_err(|_| AllocateError::Corrupted)?);
        let capacity = self.tail_segment().map_or(SMALLEST_CAPACITY, |s| s.next_capacity());
        let capacity = capacity.clamp(SMALLEST_CAPACITY, LARGEST_CAPACITY);
        let least = wanted.next_power_of_two().clamp(SMALLEST_CAPACITY, LARGEST_CAPACITY);
        // Where there is no room for a large one, a small one will do.
        let spare = new_segment(&self.arena, capacity, 0).or_else(|refused| match refused {
            AllocateError::OutOfMemory { .. } if least < capacity => new_segment(&self.arena, least, 0),
            refused => Err(refused),
        });
        let spare = spare.map_err(|refused| match refused {
            AllocateError::OutOfMemory { limit_bytes, .. } => {
                AllocateError::OutOfMemory { wanted_bytes: wanted.into(), limit_bytes }
            }
            refused => refused,
        })?;
        kill_point!(RingSpareMade);
        self.own(&spare);
        let linked = self.putting(locking).is_ok_and(|mut putting| putting.link(spare, wanted));
        if !linked {
            free_segment(&self.arena, &spare);
        }
        Ok(())
    }

    pub(super) fn repair_tail_and_say(&self) {
        self.repair_tail();
        kill_point!(RingTailRepaired);
    }

    fn tail_segment(&self) -> Option<Segment> {
        Segment::open(self.arena.backing(), self.header.producers.segment.load(Ordering::Acquire))
    }

    /// The last producer died holding the lock: follow a link it committed, and copy the count from the mark.
    ///
    /// A segment with a successor may be left by a consumer, freed and used for something else while we read it;
    /// the consumer moves the tail first, so what was read counts only if the tail still names the segment. The
    /// dead producer linked at most once, and the consumer helps at most once: three looks are enough, and a
    /// damaged chain that leads in a circle is not followed.
    fn repair_tail(&self) {
        let side = &self.header.producers;
        side.recoveries.fetch_add(1, Ordering::Relaxed);
        for _ in 0..3 {
            let Some(segment) = self.tail_segment() else { return };
            let next = segment.header.next.load(Ordering::Acquire);
            let total = segment.total_at(segment.tail());
            // Pairs with the helping consumer's exchange, which comes before the free.
            fence(Ordering::Acquire);
            if side.segment.load(Ordering::Acquire) != segment.offset {
                continue;
            }
            if next == 0 {
                side.total.0.store(total, Ordering::Release);
                return;
            }
            self.move_tail(segment.offset, next);
            kill_point!(RingRepairFollowed);
        }
    }

    /// Moves `tail_segment` past `from`, unless somebody has done it already.
    pub(super) fn move_tail(&self, from: u64, to: u64) {
        let tail = &self.header.producers.segment;
        let _ = tail.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
    }
}

impl<B: Backing> Putting<'_, B> {
    /// Puts and commits one frame.
    ///
    /// # Errors
    /// `Full`, `NoRoom`, `TooLong` or `Corrupted`; the frames put before stay.
    #[inline(always)]
    pub fn put(&mut self, tag: u32, parts: &[&[u8]]) -> Result<(), PutError> {
        let payload = payload_bytes(parts)?;
        if self.ring.is_full() {
            return Err(PutError::Full);
        }
        let bytes = frame_bytes(payload);
        if self.segment.room(self.tail, bytes) < bytes {
            return Err(PutError::NoRoom);
        }
        self.copy(tag, payload, parts)?;
        kill_point!(RingPutCopied);
        self.tail = self.tail.advanced(bytes);
        // WAYPOINT message 5/8: the commit, one store. Pairs with the consumers' acquire of the tail mark.
        self.segment.header.tail.mark.store(self.tail.to_word(), Ordering::Release);
        kill_point!(RingPutCommitted);
        self.mirror_total();
        kill_point!(RingPutCounted);
        self.put += 1;
        Ok(())
    }

    fn copy(&self, tag: u32, payload: u32, parts: &[&[u8]]) -> Result<(), PutError> {
        let memory = self.ring.arena.backing();
        let mut at = self.tail.bytes;
        let mut sound = self.segment.write_frame_header(memory, at, payload, tag);
        at = at.wrapping_add(FRAME_HEADER_BYTES);
        for part in parts {
            sound &= self.segment.write(memory, at, part);
            at = at.wrapping_add(part.len() as u32);
        }
        if sound { Ok(()) } else { Err(PutError::Corrupted) }
    }

    fn mirror_total(&self) {
        self.ring.header.producers.total.0.store(self.segment.total_at(self.tail), Ordering::Release);
    }

    /// Puts an empty segment behind this one; `false` when there is room by now, or the segment is no larger
    /// than what does not fit.
    fn link(&mut self, spare: Segment, wanted: u32) -> bool {
        if self.segment.room(self.tail, wanted) >= wanted || spare.capacity() < wanted {
            return false;
        }
        spare.header.base.store(self.segment.total_at(self.tail), Ordering::Relaxed);
        kill_point!(RingLinkWritten);
        // The commit. Pairs with the consumers' acquire; from here on nobody writes to the old segment.
        self.segment.header.next.store(spare.offset, Ordering::Release);
        kill_point!(RingLinkCommitted);
        self.ring.move_tail(self.segment.offset, spare.offset);
        kill_point!(RingTailMoved);
        self.segment = spare;
        self.tail = spare.tail();
        true
    }

    /// Unlocks and wakes consumers; whether the consumer's bell must be rung.
    #[inline(always)]
    pub fn finish(mut self) -> bool {
        let bell_wanted = &self.ring.header.bell_wanted;
        let rings = self.unlock_and_wake()
            && bell_wanted.load(Ordering::Relaxed) == 1
            && bell_wanted.swap(0, Ordering::AcqRel) == 1;
        // Nothing is left to be done when it is dropped.
        core::mem::forget(self);
        rings
    }

    /// Whether there was anything to wake for.
    #[inline(always)]
    fn unlock_and_wake(&mut self) -> bool {
        if self.guard.take().is_none() || self.put == 0 || dying() {
            return false;
        }
        kill_point!(RingPutUnlocked);
        // One fence for both: either we see the sleeper's bit and the wish for the bell, or they see our frame.
        fence(Ordering::SeqCst);
        self.ring.header.not_empty.wake_fenced(self.put);
        true
    }
}

impl<B: Backing> Drop for Putting<'_, B> {
    fn drop(&mut self) {
        // Reached with frames put only on an error path. Nobody here could ring the bell, so the wish for it is
        // left standing for the next put.
        self.unlock_and_wake();
    }
}

fn payload_bytes(parts: &[&[u8]]) -> Result<u32, PutError> {
    let len: usize = parts.iter().map(|p| p.len()).sum();
    if len > MOST_INLINE_BYTES { Err(PutError::TooLong) } else { Ok(len as u32) }
}
