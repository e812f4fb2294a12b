//! Sending and receiving by a deadline: the loops around [`Queue::send`] and [`Queue::receive`] that a Rust program
//! would write. (The Python face has its own, because it must let go of the interpreter and look at signals.)

use crate::queue::{Queue, ReceiveError, Received, SendError};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::ring::Locking;
use manyhands_sync::wait_word::{Patience, Waited};

impl Queue {
    /// Sends a message, waiting for room in a queue that has a bound. Signals do not end the wait.
    ///
    /// ```
    /// use manyhands::family::Family;
    /// use manyhands::{Deadline, Queue};
    ///
    /// let queue = Queue::create(Family::current()?, 0)?;
    /// queue.send_by(b"hello", Deadline::NEVER)?;
    /// assert_eq!(queue.receive_by(Deadline::NEVER)?, b"hello");
    /// drop(queue);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SendError::Full`] when the deadline passed first; see [`SendError`] for the others. Nothing was sent then.
    pub fn send_by(&self, message: &[u8], deadline: Deadline) -> Result<(), SendError> {
        let mut patience = Patience::new();
        loop {
            match self.send(&[message], Locking::Wait) {
                Err(SendError::Full) if self.wait_for_room(&mut patience, deadline) == Waited::TimedOut => {
                    return Err(SendError::Full);
                }
                Err(SendError::Full | SendError::Busy) => {}
                done => return done,
            }
        }
    }

    /// Receives the oldest message, waiting for one. Signals do not end the wait.
    ///
    /// For messages of bytes, as [`Queue::send_by`] sends them. One that carries handles ([`Queue::send_message`]) keeps
    /// what they name for as long as its block is there, and here the block is freed before the bytes are returned: what
    /// nobody else holds is gone then. Whoever receives such messages takes [`Queue::receive`], and drops the
    /// [`Received::Block`] after having opened what it carries.
    ///
    /// # Errors
    /// [`ReceiveError::Empty`] when the deadline passed first, [`ReceiveError::Corrupted`] when the queue's memory makes
    /// no sense.
    pub fn receive_by(&self, deadline: Deadline) -> Result<Vec<u8>, ReceiveError> {
        let (mut patience, mut bytes) = (Patience::new(), Vec::new());
        loop {
            match self.receive(&mut bytes, Locking::Wait) {
                Ok(Received::Inline) => return Ok(bytes),
                Ok(Received::Block(block)) => {
                    bytes.resize(block.len(), 0);
                    block.copy_to(&mut bytes);
                    return Ok(bytes);
                }
                Err(ReceiveError::Empty)
                    if self.wait_for_message(&mut patience, deadline) == Waited::TimedOut =>
                {
                    return Err(ReceiveError::Empty);
                }
                Err(ReceiveError::Empty | ReceiveError::Busy) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
