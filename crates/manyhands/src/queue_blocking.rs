//! Sending and receiving that wait: for room, for a message, for all to be done with. Each loops by [`block`]; the two forms
//! of each are one that no signal ends, and one in which the caller has a look at signals.

use crate::payload::Message;
use crate::queue::{Queue, ReceiveError, Received, SendError};
use crate::queue_many::{Batch, Several};
use crate::waiting::{Record, block, undisturbed};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::park::{Parked, Waited, Waiting};
use manyhands_sync::ring::{Locking, Slices};

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
    /// [`SendError::Full`] when the deadline passed first, be it for want of room or because another sender held the queue; see [`SendError`] for the others. Nothing was sent then.
    pub fn send_by(&self, message: &[u8], deadline: Deadline) -> Result<(), SendError> {
        match self.send(&[message], Locking::Try) {
            Err(SendError::Full | SendError::Busy) => {
                let Ok(sent) = self.send_interruptibly((&[message][..]).into(), deadline, undisturbed);
                sent
            }
            done => done,
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
    /// [`ReceiveError::Empty`] when the deadline passed first, also because another receiver held the queue,
    /// [`ReceiveError::Corrupted`] when the queue's memory makes
    /// no sense.
    pub fn receive_by(&self, deadline: Deadline) -> Result<Vec<u8>, ReceiveError> {
        let mut bytes = Vec::new();
        let received = match self.receive(&mut bytes, Locking::Try) {
            Err(ReceiveError::Empty | ReceiveError::Busy) => {
                let Ok(received) = self.receive_interruptibly(&mut bytes, deadline, undisturbed);
                received
            }
            done => done,
        };
        if let Received::Block(block) = received? {
            bytes.resize(block.len(), 0);
            block.copy_to(&mut bytes);
        }
        Ok(bytes)
    }

    /// After a try that found no room, or another sender: waits, and sends the message. `on_signal` is called whenever a
    /// signal may have come; what it returns as an error ends the wait, and nothing was sent then.
    ///
    /// # Errors
    /// What `on_signal` returned; inside, as [`Queue::send_by`].
    pub fn send_interruptibly<E>(
        &self,
        message: Message<'_>,
        deadline: Deadline,
        on_signal: impl FnMut() -> Result<(), E>,
    ) -> Result<Result<(), SendError>, E> {
        self.until_sent(deadline, on_signal, |locking| self.send_message(message, locking))
    }

    /// As [`Queue::send_interruptibly`], of a batch: what of it was sent is not in it any more, whatever is returned.
    ///
    /// # Errors
    /// As [`Queue::send_interruptibly`].
    pub fn send_batch_interruptibly<E>(
        &self,
        batch: &mut Batch,
        deadline: Deadline,
        on_signal: impl FnMut() -> Result<(), E>,
    ) -> Result<Result<(), SendError>, E> {
        self.until_sent(deadline, on_signal, |locking| self.send_batch(batch, locking))
    }

    /// After a try that found nothing, or another receiver: waits for a message, and receives it. `on_signal` is called whenever
    /// a signal may have come; what it returns as an error ends the wait, and nothing was taken then.
    ///
    /// # Errors
    /// What `on_signal` returned; inside, [`ReceiveError::Empty`] when the deadline passed first, else as
    /// [`Queue::receive`].
    pub fn receive_interruptibly<E>(
        &self,
        out: &mut Vec<u8>,
        deadline: Deadline,
        on_signal: impl FnMut() -> Result<(), E>,
    ) -> Result<Result<Received, ReceiveError>, E> {
        self.until_received(deadline, on_signal, |locking| self.receive(out, locking))
    }

    /// As [`Queue::receive_interruptibly`], of at most so many.
    ///
    /// # Errors
    /// As [`Queue::receive_interruptibly`].
    pub fn receive_many_interruptibly<E>(
        &self,
        several: &mut Several,
        most: usize,
        deadline: Deadline,
        on_signal: impl FnMut() -> Result<(), E>,
    ) -> Result<Result<usize, ReceiveError>, E> {
        self.until_received(deadline, on_signal, |locking| self.receive_many(several, most, locking))
    }

    /// Waits until there is a message, or the queue is shut; `false` when the deadline passed first. `on_signal` as in
    /// [`Queue::receive_interruptibly`].
    ///
    /// # Errors
    /// What `on_signal` returned.
    pub fn poll_interruptibly<E>(
        &self,
        deadline: Deadline,
        on_signal: impl FnMut() -> Result<(), E>,
    ) -> Result<bool, E> {
        if self.is_ready_at_a_closer_look() {
            return Ok(true);
        }
        let look =
            |_: Locking<'_>| if self.is_ready_at_a_closer_look() { Ok(()) } else { Err(ReceiveError::Empty) };
        Ok(self.until_received(deadline, on_signal, look)?.is_ok() || self.is_ready())
    }

    /// Waits until every message that was sent is done with; `false` when the deadline passed first. `on_signal` as in
    /// [`Queue::receive_interruptibly`].
    ///
    /// # Errors
    /// What `on_signal` returned.
    pub fn join_interruptibly<E>(
        &self,
        deadline: Deadline,
        on_signal: impl FnMut() -> Result<(), E>,
    ) -> Result<bool, E> {
        if self.all_done() {
            return Ok(true);
        }
        let slices = Slices::new(deadline);
        let done = block(WaitKind::AllDone, self.handle().offset, deadline, on_signal, |waiting, record| {
            let wait = |waiting: &mut Waiting| self.wait_for_all_done(waiting, deadline, record);
            turns(waiting, deadline, wait, || {
                match self.header.all_done(&self.ring, Locking::Slice(&slices)) {
                    Some(true) => Tried::Done(()),
                    Some(false) => Tried::Nothing,
                    None => Tried::Held,
                }
            })
        })?;
        Ok(done.is_some() || self.all_done())
    }

    fn until_sent<E>(
        &self,
        deadline: Deadline,
        on_signal: impl FnMut() -> Result<(), E>,
        mut send: impl FnMut(Locking<'_>) -> Result<(), SendError>,
    ) -> Result<Result<(), SendError>, E> {
        let slices = Slices::new(deadline);
        let sent = block(WaitKind::Room, self.handle().offset, deadline, on_signal, |waiting, record| {
            let wait = |waiting: &mut Waiting| self.wait_for_room_noting(waiting, deadline, record);
            turns(waiting, deadline, wait, || match send(Locking::Slice(&slices)) {
                Err(SendError::Full) => Tried::Nothing,
                Err(SendError::Busy) => Tried::Held,
                sent => Tried::Done(sent),
            })
        })?;
        Ok(sent.unwrap_or(Err(SendError::Full)))
    }

    fn until_received<R, E>(
        &self,
        deadline: Deadline,
        on_signal: impl FnMut() -> Result<(), E>,
        mut receive: impl FnMut(Locking<'_>) -> Result<R, ReceiveError>,
    ) -> Result<Result<R, ReceiveError>, E> {
        let slices = Slices::new(deadline);
        let received =
            block(WaitKind::Message, self.handle().offset, deadline, on_signal, |waiting, record| {
                let wait = |waiting: &mut Waiting| self.wait_for_message_noting(waiting, deadline, record);
                turns(waiting, deadline, wait, || match receive(Locking::Slice(&slices)) {
                    Err(ReceiveError::Empty) => Tried::Nothing,
                    Err(ReceiveError::Busy) => Tried::Held,
                    received => Tried::Done(received),
                })
            })?;
        Ok(received.unwrap_or(Err(ReceiveError::Empty)))
    }

    fn wait_for_message_noting(&self, waiting: &mut Waiting, deadline: Deadline, record: Record) -> Waited {
        let shut = || self.header.is_shut();
        self.ring.wait_for_frame_or(shut, waiting, deadline, |waiting| record.note(waiting))
    }

    fn wait_for_room_noting(&self, waiting: &mut Waiting, deadline: Deadline, record: Record) -> Waited {
        let shut = || self.header.is_shut();
        self.ring.wait_for_room_or(shut, waiting, deadline, |waiting| record.note(waiting))
    }

    fn wait_for_all_done(&self, waiting: &mut Waiting, deadline: Deadline, record: Record) -> Waited {
        self.header.wait_for_all_done(&self.ring, waiting, deadline, |waiting| record.note(waiting))
    }

    /// Parks once, until there may be a message, the deadline passes, a signal arrives or the sleep has come to its end. The
    /// caller tries after each of them but the deadline: another may have been faster, and a sender that was killed leaves
    /// what only a try finds.
    pub fn wait_for_message(&self, waiting: &mut Waiting, deadline: Deadline) -> Waited {
        self.wait_for_message_noting(waiting, deadline, Record::new(self.handle().offset, deadline))
    }

    /// As [`Queue::wait_for_message`], until there may be room.
    pub fn wait_for_room(&self, waiting: &mut Waiting, deadline: Deadline) -> Waited {
        self.wait_for_room_noting(waiting, deadline, Record::new(self.handle().offset, deadline))
    }
}

/// What came of a try.
enum Tried<R> {
    Done(R),
    /// Another was faster.
    Nothing,
    /// Another holds the queue's side, for longer than a slice.
    Held,
}

/// After so many waits that are over at once, each with a try in vain, the caller looks around, though it has not slept.
const MOST_IN_VAIN: u32 = 64;

/// Waits and tries, until a try succeeds, finds the side held, or a wait brought nothing; after the end of a sleep, a last try.
fn turns<R>(
    waiting: &mut Waiting,
    deadline: Deadline,
    wait: impl Fn(&mut Waiting) -> Waited,
    mut attempt: impl FnMut() -> Tried<R>,
) -> Parked<R> {
    for _ in 0..MOST_IN_VAIN {
        let waited = wait(waiting);
        if waited == Waited::TimedOut {
            return Parked::TimedOut;
        }
        match attempt() {
            Tried::Done(got) => return Parked::Done(got),
            Tried::Nothing if waited == Waited::Ready => {}
            Tried::Nothing | Tried::Held => break,
        }
    }
    // What is there and cannot be had would keep the next wait from asking.
    if deadline.passed() { Parked::TimedOut } else { Parked::Interrupted }
}
