//! The consumers' side of a ring.

use super::crowd::CONSUMERS;
use super::segment::{FRAME_HEADER_BYTES, Mark, Segment, frame_bytes};
use super::{Locking, MOST_INLINE_BYTES, Ring, TakeError, free_segment};
use crate::arena::{Arena, Backing};
use crate::kill_point;
use crate::mutex::Guard;
use crate::primitive::{Ordering, dying};
use crate::wait_word::EVERYONE;

/// A frame that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the producer said it is.
    pub tag: u32,
    /// How many bytes its payload has.
    pub payload_bytes: u32,
}

impl Frame {
    /// No frame is longer, whoever says so.
    fn check(self) -> Result<(), TakeError> {
        if self.payload_bytes as usize <= MOST_INLINE_BYTES { Ok(()) } else { Err(TakeError::Corrupted) }
    }
}

/// The head lock, held: frames may be read, then taken by [`Taking::commit`]. Dropping it unlocks; what was
/// read and not committed stays in the ring.
#[derive(Debug)]
pub struct Taking<'a, B: Backing> {
    ring: &'a Ring<B>,
    segment: Segment,
    head: Mark,
    guard: Option<Guard<'a>>,
    /// A drained segment that was left behind, to be freed once the lock is.
    left: Option<Segment>,
}

impl<B: Backing> Ring<B> {
    /// Locks the head, at a segment that has frames.
    ///
    /// # Errors
    /// `Busy` (when not waiting for ever), `Empty` or `Corrupted`.
    #[inline(always)]
    pub fn taking(&self, locking: Locking<'_>) -> Result<Taking<'_, B>, TakeError> {
        self.taking_with(locking, |_| {})
    }

    /// As [`Ring::taking`]; when the last consumer died holding the lock, `settle` runs with the exact total of
    /// frames taken, before anybody can take another: a consumer that keeps notes of what it takes puts the dead
    /// one's notes right there.
    ///
    /// # Errors
    /// As [`Ring::taking`].
    // What it returns is large: moved, it would be read again before it has been written.
    #[inline(always)]
    pub fn taking_with(
        &self,
        locking: Locking<'_>,
        settle: impl FnOnce(u32),
    ) -> Result<Taking<'_, B>, TakeError> {
        let repair = || self.repair_and_settle(settle);
        let guard = self.header.consumers.enter(locking, &CONSUMERS, repair)?;
        kill_point!(RingTakeLocked);
        let mut left = None;
        match self.segment_with_frames(&mut left) {
            Ok(segment) => Ok(Taking { ring: self, segment, head: segment.head(), guard: Some(guard), left }),
            Err(error) => Err(self.none_taken(guard, left, error)),
        }
    }

    #[cold]
    fn none_taken(&self, guard: Guard<'_>, left: Option<Segment>, error: TakeError) -> TakeError {
        drop(guard);
        if let Some(segment) = left {
            free_segment(&self.arena, &segment);
        }
        error
    }

    /// Takes one frame, appending its payload to `out`; its tag.
    ///
    /// # Errors
    /// See [`TakeError`].
    pub fn try_take(&self, out: &mut Vec<u8>, locking: Locking<'_>) -> Result<u32, TakeError> {
        let mut taking = self.taking(locking)?;
        let frame = taking.peek()?.ok_or(TakeError::Empty)?;
        taking.read(frame, out)?;
        taking.commit();
        Ok(frame.tag)
    }

    /// Puts right what a consumer that died holding the head lock has left, as [`Ring::taking_with`] would.
    ///
    /// # Errors
    /// `Busy` (when not waiting for ever) or `Corrupted`.
    pub fn settle(&self, locking: Locking<'_>, settle: impl FnOnce(u32)) -> Result<(), TakeError> {
        let repair = || self.repair_and_settle(settle);
        drop(self.header.consumers.enter(locking, &CONSUMERS, repair)?);
        Ok(())
    }

    /// Runs `look` under the head lock, with the exact total of frames taken.
    ///
    /// # Errors
    /// `Busy` (when not waiting for ever) or `Corrupted`.
    pub fn at_head(&self, locking: Locking<'_>, look: impl FnOnce(u32)) -> Result<(), TakeError> {
        let repair = || self.repair_and_settle(|_| {});
        let _guard = self.header.consumers.enter(locking, &CONSUMERS, repair)?;
        look(self.taken_total());
        Ok(())
    }

    pub(super) fn head_segment(&self) -> Option<Segment> {
        Segment::open(self.arena.backing(), self.header.consumers.segment.load(Ordering::Acquire))
    }

    /// Finds the segment with the next frame. At most one drained segment is left on the way: a producer links
    /// only behind a segment that has frames, so the one behind it cannot be drained *and* have a successor.
    #[inline]
    fn segment_with_frames(&self, left: &mut Option<Segment>) -> Result<Segment, TakeError> {
        let first = self.head_segment().ok_or(TakeError::Corrupted)?;
        let found = match look(&first)? {
            Look::Frames => first,
            Look::Nothing => return Err(self.nothing_in(&first)),
            Look::Drained(next) => return self.step_over(first, next, left),
        };
        self.exactly(found)
    }

    #[cold]
    fn step_over(&self, first: Segment, next: u64, left: &mut Option<Segment>) -> Result<Segment, TakeError> {
        let next = first.successor(self.arena.backing(), next).ok_or(TakeError::Corrupted)?;
        self.leave(&first, &next);
        *left = Some(first);
        match look(&next)? {
            Look::Frames => self.exactly(next),
            Look::Nothing => Err(self.nothing_in(&next)),
            Look::Drained(_) => Err(TakeError::Corrupted),
        }
    }

    #[inline]
    fn exactly(&self, found: Segment) -> Result<Segment, TakeError> {
        // Under the lock, after any repair, the mirror is exact: if not, the marks cannot be trusted.
        let exact = found.total_at(found.head()) == self.header.consumers.total.0.load(Ordering::Relaxed);
        if exact { Ok(found) } else { Err(TakeError::Corrupted) }
    }

    /// Nothing was found in the last segment. A producer moves its mark first and counts then, so when the counts say that
    /// there is a frame, another look must find one: else they make no sense, and whoever waits by them would be told for
    /// ever that there is something to take.
    fn nothing_in(&self, segment: &Segment) -> TakeError {
        let taken = self.header.consumers.total.0.load(Ordering::Relaxed);
        // Pairs with the release of the count.
        let put = self.header.producers.total.0.load(Ordering::Acquire);
        let counted = (1..=u32::MAX / 2).contains(&put.wrapping_sub(taken));
        if counted && matches!(look(segment), Ok(Look::Nothing)) {
            TakeError::Corrupted
        } else {
            TakeError::Empty
        }
    }

    /// Steps to the next segment. The old one belongs to the caller afterwards: a producer may not have moved
    /// the tail yet, or have died before it could, so the tail is helped forward until nobody can find it.
    fn leave(&self, segment: &Segment, next: &Segment) {
        self.header.consumers.segment.store(next.offset, Ordering::Release);
        kill_point!(RingUnlinkCommitted);
        self.move_tail(segment.offset, next.offset);
        kill_point!(RingTailHelped);
    }

    pub(super) fn repair_and_settle(&self, settle: impl FnOnce(u32)) {
        self.repair_head();
        settle(self.taken_total());
        kill_point!(RingHeadRepaired);
    }

    /// The last consumer died holding the lock: copy the count from the mark.
    fn repair_head(&self) {
        self.header.consumers.recoveries.fetch_add(1, Ordering::Relaxed);
        if let Some(segment) = self.head_segment() {
            self.header.consumers.total.0.store(segment.total_at(segment.head()), Ordering::Release);
        }
    }
}

/// What a segment has for its consumers.
enum Look {
    Frames,
    Nothing,
    /// Nothing, now and for ever: the next segment is there.
    Drained(u64),
}

fn look(segment: &Segment) -> Result<Look, TakeError> {
    let head = segment.head();
    let has_frames = || segment.waiting(head).map(|bytes| bytes != 0).ok_or(TakeError::Corrupted);
    if has_frames()? {
        return Ok(Look::Frames);
    }
    // Pairs with the commit of a link.
    let next = segment.header.next.load(Ordering::Acquire);
    if next == 0 {
        return Ok(Look::Nothing);
    }
    // Frames may have come between the first look at the tail and the link; none can come after it.
    if has_frames()? { Ok(Look::Frames) } else { Ok(Look::Drained(next)) }
}

impl<B: Backing> Taking<'_, B> {
    /// The next frame that was not read yet; `None` at the end of what lies in this segment.
    ///
    /// # Errors
    /// `Corrupted` when the frame leads out of what was committed.
    #[inline]
    pub fn peek(&self) -> Result<Option<Frame>, TakeError> {
        let waiting = self.segment.waiting(self.head).ok_or(TakeError::Corrupted)?;
        if waiting == 0 {
            return Ok(None);
        }
        let memory = self.ring.arena.backing();
        let (payload_bytes, tag) =
            self.segment.frame_header(memory, self.head.bytes).ok_or(TakeError::Corrupted)?;
        let frame = Frame { tag, payload_bytes };
        frame.check()?;
        if frame_bytes(payload_bytes) <= waiting { Ok(Some(frame)) } else { Err(TakeError::Corrupted) }
    }

    /// The arena that the ring lies in.
    #[must_use]
    pub fn arena(&self) -> Arena<B> {
        self.ring.arena
    }

    /// Frames taken before the next one, modulo 2^32: the number of the frame that [`Taking::peek`] shows.
    #[must_use]
    pub fn next_number(&self) -> u32 {
        self.segment.total_at(self.head)
    }

    /// Appends the payload of the frame that `peek` showed to `out`, and goes past it.
    ///
    /// # Errors
    /// `Corrupted` when the arena does not hold it.
    #[inline]
    pub fn read(&mut self, frame: Frame, out: &mut Vec<u8>) -> Result<(), TakeError> {
        frame.check()?;
        let at = self.head.bytes.wrapping_add(FRAME_HEADER_BYTES);
        if !self.segment.read(self.ring.arena.backing(), at, frame.payload_bytes, out) {
            return Err(TakeError::Corrupted);
        }
        self.head = self.head.advanced(frame_bytes(frame.payload_bytes));
        Ok(())
    }

    /// As [`Taking::read`], if the payload is `wanted`; if not, it is not in `out`, and the frame is the next one still. Whether
    /// it is.
    ///
    /// # Errors
    /// `Corrupted` when the arena does not hold it.
    pub fn read_if(
        &mut self,
        frame: Frame,
        out: &mut Vec<u8>,
        wanted: impl FnOnce(&[u8]) -> bool,
    ) -> Result<bool, TakeError> {
        let (before, start) = (self.head, out.len());
        self.read(frame, out)?;
        let wanted = wanted(&out[start..]);
        if !wanted {
            out.truncate(start);
            self.head = before;
        }
        Ok(wanted)
    }

    /// Copies the payload to another place of the arena, and goes past the frame.
    ///
    /// # Errors
    /// `Corrupted` when the arena does not hold it.
    pub fn read_within(&mut self, frame: Frame, to: u64) -> Result<(), TakeError> {
        frame.check()?;
        let at = self.head.bytes.wrapping_add(FRAME_HEADER_BYTES);
        if !self.segment.read_within(self.ring.arena.backing(), at, frame.payload_bytes, to) {
            return Err(TakeError::Corrupted);
        }
        self.head = self.head.advanced(frame_bytes(frame.payload_bytes));
        Ok(())
    }

    /// Takes every frame that was read, unlocks, and wakes as many producers of a bounded ring.
    #[inline(always)]
    pub fn commit(self) {
        self.commit_with(|| {});
    }

    /// As [`Taking::commit`]; `noted` runs after the commit and before the lock is free.
    #[inline(always)]
    pub fn commit_with(mut self, noted: impl FnOnce()) {
        kill_point!(RingTakeCopied);
        // WAYPOINT message 6/8: the other side's commit, one store. Pairs with the producers' acquire of the head mark.
        self.segment.header.head.mark.store(self.head.to_word(), Ordering::Release);
        kill_point!(RingTakeCommitted);
        let total = self.next_number();
        let before = self.ring.header.consumers.total.0.load(Ordering::Relaxed);
        self.ring.header.consumers.total.0.store(total, Ordering::Release);
        kill_point!(RingTakeCounted);
        noted();
        kill_point!(RingTakeNoted);
        self.release();
        if self.ring.bound() != 0 {
            // In the order in which they have come: woken all together, the fastest would have the room each time.
            self.ring.header.not_full.wake(total.wrapping_sub(before).min(EVERYONE));
        }
        // Nothing is left to be done when it is dropped.
        core::mem::forget(self);
    }

    #[inline(always)]
    fn release(&mut self) {
        if self.guard.take().is_none() {
            return;
        }
        kill_point!(RingTakeUnlocked);
        if let Some(segment) = self.left.take()
            && !dying()
        {
            free_left(&self.ring.arena, &segment);
        }
    }
}

#[cold]
fn free_left<B: Backing>(arena: &Arena<B>, segment: &Segment) {
    free_segment(arena, segment);
}

impl<B: Backing> Drop for Taking<'_, B> {
    fn drop(&mut self) {
        self.release();
    }
}
