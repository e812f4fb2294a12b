//! Items that are worked on, and the end of a queue. The words are in `queue_header.rs` of manyhands-sync.

use crate::queue::{Queue, SendError, discard};
use crate::waiting::undisturbed;
use manyhands_sync::deadline::Deadline;
use manyhands_sync::queue_header::{NotDone, NotShut};
use manyhands_sync::ring::{Locking, Slices};

/// More items were said to be done with than were put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyDone;

impl Queue {
    /// From now on nothing can be sent; what lies in the queue can still be received, then [`ReceiveError::Shut`] comes. With
    /// `at_once` what lies there is thrown away, and counts as done. Whoever waits is told.
    ///
    /// [`ReceiveError::Shut`]: crate::queue::ReceiveError::Shut
    ///
    /// ```
    /// use manyhands::queue::{ReceiveError, SendError};
    /// use manyhands::{Deadline, Queue, family::Family};
    ///
    /// let queue = Queue::create(Family::current()?, 0)?;
    /// queue.send_by(b"last", Deadline::NEVER)?;
    /// queue.shut(false)?;
    /// assert_eq!(queue.send_by(b"too late", Deadline::NEVER), Err(SendError::Shut));
    /// assert_eq!(queue.receive_by(Deadline::NEVER)?, b"last");
    /// assert_eq!(queue.receive_by(Deadline::NEVER), Err(ReceiveError::Shut));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SendError::Corrupted`] when the queue's memory makes no sense.
    pub fn shut(&self, at_once: bool) -> Result<(), SendError> {
        let Ok(shut) = self.shut_interruptibly(at_once, undisturbed);
        shut
    }

    /// As [`Queue::shut`]. `on_signal` is called whenever a signal may have come while others hold the queue; what it returns
    /// as an error ends the wait: then the queue may be shut, though not at once, and another call goes on where this one was.
    ///
    /// # Errors
    /// What `on_signal` returned; inside, as [`Queue::shut`].
    pub fn shut_interruptibly<E>(
        &self,
        at_once: bool,
        mut on_signal: impl FnMut() -> Result<(), E>,
    ) -> Result<Result<(), SendError>, E> {
        let slices = Slices::new(Deadline::NEVER);
        loop {
            match self.header.shut(&self.ring, at_once, Locking::Slice(&slices)) {
                Ok(()) => break,
                Err(NotShut::Busy) => on_signal()?,
                Err(NotShut::Damaged) => return Ok(Err(SendError::Corrupted)),
            }
        }
        slices.start_over();
        while at_once && !discard(self.arena, &self.ring, Locking::Slice(&slices)) {
            on_signal()?;
        }
        Ok(Ok(()))
    }

    /// Whether nothing can be sent any more.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.header.is_shut()
    }

    /// One of the messages that were received is done with: see [`Queue::join_by`].
    ///
    /// # Errors
    /// When as many are done with as were ever sent.
    pub fn task_done(&self) -> Result<(), TooManyDone> {
        let Ok(done) = self.task_done_interruptibly(undisturbed);
        done
    }

    /// As [`Queue::task_done`]. `on_signal` is called whenever a signal may have come while a sender holds the queue that may
    /// have sent what is done with; what it returns as an error ends the wait, and nothing is done with then.
    ///
    /// # Errors
    /// What `on_signal` returned; inside, as [`Queue::task_done`].
    pub fn task_done_interruptibly<E>(
        &self,
        mut on_signal: impl FnMut() -> Result<(), E>,
    ) -> Result<Result<(), TooManyDone>, E> {
        let slices = Slices::new(Deadline::NEVER);
        loop {
            match self.header.task_done(&self.ring, Locking::Slice(&slices)) {
                Ok(()) => return Ok(Ok(())),
                Err(NotDone::TooMany) => return Ok(Err(TooManyDone)),
                Err(NotDone::Busy) => on_signal()?,
            }
        }
    }

    /// How many messages are in the queue or with a receiver that has not said that it is done with them. One whose receiver
    /// was killed counts for ever.
    #[must_use]
    pub fn unfinished(&self) -> u32 {
        self.header.unfinished(&self.ring)
    }

    /// Whether every message that was sent is done with; no while a sender holds the queue.
    #[must_use]
    pub fn all_done(&self) -> bool {
        self.header.all_done(&self.ring, Locking::Try).unwrap_or(false)
    }

    /// Waits until every message that was sent is done with; `false` when the deadline passed first. Signals do not end the
    /// wait.
    #[must_use]
    pub fn join_by(&self, deadline: Deadline) -> bool {
        let Ok(done) = self.join_interruptibly(deadline, undisturbed);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::Family;
    use crate::queue::ReceiveError;
    use std::time::Duration;

    fn queue() -> Queue {
        Queue::create(Family::current().expect("memory"), 0).expect("memory")
    }

    #[test]
    fn as_many_are_done_with_as_were_sent() {
        let queue = queue();
        assert_eq!(queue.task_done(), Err(TooManyDone));
        assert!(queue.join_by(Deadline::NEVER));
        for _ in 0..3 {
            queue.send_by(b"task", Deadline::NEVER).expect("room");
        }
        assert_eq!(queue.unfinished(), 3);
        assert!(!queue.join_by(Deadline::after(Duration::from_millis(1))));
        for _ in 0..3 {
            assert!(!queue.all_done());
            queue.receive_by(Deadline::NEVER).expect("there");
            queue.task_done().expect("unfinished");
        }
        assert!(queue.join_by(Deadline::NEVER));
        assert_eq!(queue.task_done(), Err(TooManyDone));
    }

    #[test]
    fn what_is_thrown_away_is_done_with_and_what_was_taken_is_not() {
        let queue = queue();
        for _ in 0..5 {
            queue.send_by(&[1; 20_000], Deadline::NEVER).expect("room");
        }
        queue.receive_by(Deadline::NEVER).expect("there");
        queue.shut(true).expect("sound");
        queue.shut(true).expect("sound");
        queue.shut(false).expect("sound");
        assert_eq!((queue.len(), queue.unfinished()), (0, 1));
        assert_eq!(queue.receive_by(Deadline::NEVER), Err(ReceiveError::Shut));
        assert_eq!(queue.send_by(b"", Deadline::NEVER), Err(SendError::Shut));
        queue.task_done().expect("one was taken");
        assert_eq!(queue.task_done(), Err(TooManyDone));
        assert!(queue.all_done());
    }
}
