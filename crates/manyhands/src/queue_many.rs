//! Many messages at a time: one lock and one wake for all of them.

use crate::payload::{BLOCK, Block, INLINE, Message};
use crate::queue::read_reachable;
use crate::queue::{Queue, ReceiveError, SendError, not_put, not_taken};
use manyhands_sync::ring::{Locking, PutError};
use std::ops::Range;

/// No more messages are put or taken under one lock: others wait for it.
const MOST_AT_ONCE: usize = 256;
/// Nor more bytes, unless one message has more.
const MOST_BYTES_AT_ONCE: usize = 64 << 10;

/// Short messages that wait to be sent together.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where each message ends.
    ends: Vec<usize>,
    /// How many of them were sent, and how many bytes those have.
    sent: usize,
    sent_bytes: usize,
}

impl Batch {
    /// A batch with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a message; `false`, and nothing happens, when it is too long or carries handles and must be sent by itself, after
    /// this batch.
    pub fn add(&mut self, message: Message<'_>) -> bool {
        if !message.fits_inline(0) {
            return false;
        }
        message.parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.ends.push(self.bytes.len());
        true
    }

    /// How many messages are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len() - self.sent
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether adding more gains nothing.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() >= MOST_AT_ONCE || self.bytes.len() - self.sent_bytes >= MOST_BYTES_AT_ONCE
    }

    fn first(&self) -> Option<&[u8]> {
        let end = *self.ends.get(self.sent)?;
        Some(&self.bytes[self.sent_bytes..end])
    }

    fn first_was_sent(&mut self) {
        self.sent_bytes = self.ends[self.sent];
        self.sent += 1;
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        (self.sent, self.sent_bytes) = (0, 0);
    }
}

/// Messages that were received together.
#[derive(Debug, Default)]
pub struct Several {
    bytes: Vec<u8>,
    frames: Vec<(u32, Range<usize>)>,
}

/// One of [`Several`].
#[derive(Debug)]
pub enum Piece<'a> {
    /// A short message.
    Inline(&'a [u8]),
    /// A long one.
    Block(Block),
}

impl Several {
    /// How many messages there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Forgets them, keeping the memory for others.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
    }
}

impl Queue {
    /// Sends what is in the batch, in its order, and takes out of it what was sent. Waits neither for room nor, unless told
    /// so, for other senders.
    ///
    /// # Errors
    /// See [`SendError`]; what is still in the batch was not sent then.
    pub fn send_batch(&self, batch: &mut Batch, locking: Locking<'_>) -> Result<(), SendError> {
        while !batch.is_empty() {
            match self.send_some(batch, locking) {
                Ok(()) => {}
                Err(PutError::NoRoom) => self.ring.grow(&[batch.first().unwrap_or_default()], locking)?,
                Err(PutError::Full) if self.header.is_shut() => return Err(SendError::Shut),
                Err(error) => return Err(not_put(error)),
            }
        }
        batch.clear();
        Ok(())
    }

    /// One hold of the lock. A queue that was shut is as good as full.
    fn send_some(&self, batch: &mut Batch, locking: Locking<'_>) -> Result<(), PutError> {
        let mut putting = self.ring.putting(locking)?;
        if self.header.is_shut() {
            return Err(PutError::Full);
        }
        let (mut count, from, mut done) = (0, batch.sent_bytes, Ok(()));
        while let Some(message) = batch.first()
            && count < MOST_AT_ONCE
            && batch.sent_bytes - from < MOST_BYTES_AT_ONCE
        {
            done = putting.put(INLINE, &[message]);
            if done.is_err() {
                break;
            }
            batch.first_was_sent();
            count += 1;
        }
        putting.finish();
        if count > 0 {
            self.header.wake_for_arrival();
        }
        done
    }

    /// Receives what is there, at most `most` messages, and adds it to `out`; how many they were. Fewer than that may have
    /// been taken even if more are there: ask again.
    ///
    /// # Errors
    /// See [`ReceiveError`]; nothing was received then.
    pub fn receive_many(
        &self,
        out: &mut Several,
        most: usize,
        locking: Locking<'_>,
    ) -> Result<usize, ReceiveError> {
        match self.take_many(out, most, locking) {
            // What was there may have come just before the queue was shut.
            Err(ReceiveError::Empty) if self.header.is_shut() => match self.take_many(out, most, locking) {
                Err(ReceiveError::Empty) => Err(ReceiveError::Shut),
                taken => taken,
            },
            taken => taken,
        }
    }

    fn take_many(&self, out: &mut Several, most: usize, locking: Locking<'_>) -> Result<usize, ReceiveError> {
        let mut taking = self.ring.taking(locking).map_err(not_taken)?;
        if self.header.is_shut_at_once() {
            return Err(ReceiveError::Shut);
        }
        let (start, start_bytes) = (out.frames.len(), out.bytes.len());
        let most = most.min(MOST_AT_ONCE);
        while out.frames.len() - start < most && out.bytes.len() - start_bytes < MOST_BYTES_AT_ONCE {
            let at = out.bytes.len();
            let taken = match taking.peek() {
                Ok(None) => break,
                Ok(Some(frame)) if frame.tag == BLOCK => {
                    read_reachable(&mut taking, frame, &mut out.bytes).map(|()| frame.tag)
                }
                Ok(Some(frame)) => taking.read(frame, &mut out.bytes).map(|()| frame.tag).map_err(not_taken),
                Err(error) => Err(not_taken(error)),
            };
            match taken {
                Ok(tag) => out.frames.push((tag, at..out.bytes.len())),
                // Those before it are sound; the next one who comes is told.
                Err(_) if out.frames.len() > start => break,
                Err(error) => return Err(error),
            }
        }
        taking.commit();
        self.header.wake_if_emptied(&self.ring);
        Ok(out.frames.len() - start)
    }

    /// The message with that number among those that were received; a long one is handed out once.
    ///
    /// # Errors
    /// [`ReceiveError::Corrupted`] when it was none; the others are not affected.
    pub fn piece<'a>(&self, several: &'a mut Several, index: usize) -> Result<Piece<'a>, ReceiveError> {
        let (tag, range) = several.frames.get_mut(index).ok_or(ReceiveError::Corrupted)?;
        let bytes = &several.bytes[range.clone()];
        match std::mem::replace(tag, TAKEN) {
            INLINE => {
                *tag = INLINE;
                Ok(Piece::Inline(bytes))
            }
            BLOCK => self.block_named_by(bytes).map(Piece::Block).ok_or(ReceiveError::Corrupted),
            _ => Err(ReceiveError::Corrupted),
        }
    }
}

/// In place of a block's tag, once the block is out.
const TAKEN: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::Family;

    fn queue(bound: u32) -> Queue {
        Queue::create(Family::current().expect("memory"), bound).expect("memory")
    }

    fn batch(messages: std::ops::Range<u32>) -> Batch {
        let mut batch = Batch::new();
        for number in messages {
            assert!(batch.add((&[&number.to_le_bytes()[..]][..]).into()));
        }
        batch
    }

    fn numbers(queue: &Queue, several: &mut Several) -> Vec<u32> {
        let count = several.len();
        let number = |index| match queue.piece(several, index).expect("sound") {
            Piece::Inline(bytes) => u32::from_le_bytes(bytes.try_into().expect("four")),
            Piece::Block(block) => panic!("{block:?}"),
        };
        (0..count).map(number).collect()
    }

    #[test]
    fn a_batch_arrives_in_order_whatever_its_size() {
        let queue = queue(0);
        queue.send_batch(&mut batch(0..100_000), Locking::Wait).expect("room");
        assert_eq!(queue.len(), 100_000);
        let (mut several, mut got) = (Several::default(), Vec::new());
        while let Ok(count) = queue.receive_many(&mut several, 1_000, Locking::Wait) {
            assert!((1..=1_000).contains(&count));
            got.extend(numbers(&queue, &mut several));
            several.clear();
        }
        assert!(got.iter().copied().eq(0..100_000));
    }

    #[test]
    fn what_does_not_fit_stays_in_the_batch() {
        let queue = queue(3);
        let mut waiting = batch(0..5);
        assert_eq!(queue.send_batch(&mut waiting, Locking::Wait), Err(SendError::Full));
        assert_eq!((waiting.len(), queue.len()), (2, 3));
        let mut several = Several::default();
        assert_eq!(queue.receive_many(&mut several, 2, Locking::Wait), Ok(2));
        assert_eq!(queue.send_batch(&mut waiting, Locking::Wait), Ok(()));
        assert!(waiting.is_empty());
        assert_eq!(queue.receive_many(&mut several, 9, Locking::Wait), Ok(3));
        assert_eq!(numbers(&queue, &mut several), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn long_messages_lie_between_short_ones() {
        let queue = queue(0);
        let long = vec![7; 100_000];
        assert!(!Batch::new().add((&[&long[..]][..]).into()));
        queue.send(&[b"before"], Locking::Wait).expect("room");
        queue.send(&[&long], Locking::Wait).expect("room");
        let mut several = Several::default();
        assert_eq!(queue.receive_many(&mut several, 10, Locking::Wait), Ok(2));
        assert!(matches!(queue.piece(&mut several, 0), Ok(Piece::Inline(b"before"))));
        assert!(matches!(queue.piece(&mut several, 1), Ok(Piece::Block(block)) if block.len() == 100_000));
        assert!(matches!(queue.piece(&mut several, 1), Err(ReceiveError::Corrupted)));
    }
}
