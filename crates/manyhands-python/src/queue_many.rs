//! `put_many` and `get_many`: one lock and one wake for many items.

use crate::arguments::{Limit, Timeout};
use crate::blocking::{look_for_signals, on_signal_holding};
use crate::error;
use crate::offers::Offers;
use crate::pickling;
use crate::queue::{End, PyQueue, not_received, not_sent, object_in};
use manyhands::queue::{Queue, ReceiveError, SendError};
use manyhands::queue_many::{Batch, Piece, Several};
use manyhands::{Deadline, Locking, Message, Slices};
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// An iterable that took longer than this for an item is slow: what it gave is put before it is asked for more.
const SLOW: Duration = Duration::from_micros(100);

thread_local! {
    /// What this thread last received, kept for its memory.
    static SEVERAL: Cell<Several> = Cell::default();
}

/// Items on their way into a queue.
struct Sending<'a, 'py> {
    py: Python<'py>,
    target: &'a Bound<'py, PyQueue>,
    /// When waiting for room ends; `None` when the caller does not want to wait.
    deadline: Option<Deadline>,
    batch: Batch,
    /// What messages in the batch offer, by their numbers among all items.
    offered: Vec<(usize, Offers)>,
    /// Items that were added to the batch or sent by themselves.
    begun: usize,
}

/// Puts every item; see `manyhands.queues.Queue.put_many`.
pub(crate) fn put_many<'py>(
    target: &Bound<'py, PyQueue>,
    items: &Bound<'py, PyAny>,
    block: bool,
    timeout: Timeout<'_, 'py>,
) -> PyResult<()> {
    let py = items.py();
    let mut sending =
        Sending { py, target, deadline: None, batch: Batch::new(), offered: Vec::new(), begun: 0 };
    // Whatever is raised says how many items were put, none included.
    sending.begin(block, timeout).and_then(|()| sending.all_of(items)).inspect_err(|error| {
        let count = sending.begun - sending.batch.len();
        // An exception takes any attribute; if one does not, its own message matters more.
        let _ = error.value(py).setattr("items_put", count);
    })
}

impl Sending<'_, '_> {
    fn begin(&mut self, block: bool, timeout: Timeout<'_, '_>) -> PyResult<()> {
        PyQueue::check_open(self.target, End::Writer)?;
        self.deadline = Limit::of_semaphore(block, timeout)?.deadline()?;
        self.target.get().note_use();
        Ok(())
    }

    fn all_of(&mut self, items: &Bound<'_, PyAny>) -> PyResult<()> {
        let at_hand = items.is_exact_instance_of::<PyList>() || items.is_exact_instance_of::<PyTuple>();
        let mut items = items.try_iter()?;
        loop {
            look_for_signals(self.py)?;
            let asked = (!at_hand).then(Instant::now);
            match items.next() {
                None => return self.flush(),
                Some(item) => self.add(item)?,
            }
            if self.batch.is_full() || asked.is_some_and(|asked| asked.elapsed() > SLOW) {
                self.flush()?;
            }
        }
    }

    /// Adds what the iterable gave. What came before an item that fails is put: as if each had been put by itself.
    fn add(&mut self, item: PyResult<Bound<'_, PyAny>>) -> PyResult<()> {
        let pickled = item.and_then(|item| pickling::dumps_carrying(&item));
        if pickled.is_err() {
            self.flush()?;
        }
        let (bytes, mut carried) = pickled?;
        let message = Message { parts: &[bytes.as_bytes()], carried: &carried };
        if self.batch.add(message) {
            let offers = carried.take_offers();
            if !offers.is_empty() {
                self.offered.push((self.begun, offers));
            }
        } else {
            self.flush()?;
            let target = self.target.get();
            target.send_until(self.py, message, || Ok(self.deadline))?;
            carried.note_sent(self.py, target.queue()?.handle());
        }
        self.begun += 1;
        Ok(())
    }

    /// What was sent of the batch has left this process.
    fn note_sent(&mut self) -> PyResult<()> {
        let sent = self.begun - self.batch.len();
        let home = self.target.get().queue()?.handle();
        let count = self.offered.iter().take_while(|(number, _)| *number < sent).count();
        for (_, offers) in self.offered.drain(..count) {
            offers.sent_into(self.py, home);
        }
        Ok(())
    }

    fn flush(&mut self) -> PyResult<()> {
        let flushed = self.send_batch();
        self.note_sent()?;
        flushed
    }

    /// Sends what is together, waiting for room.
    fn send_batch(&mut self) -> PyResult<()> {
        let target = self.target.get();
        let (queue, batch) = (target.queue()?, &mut self.batch);
        // Other threads have their turn meanwhile, however long the iterable.
        let slice = Slices::new(Deadline::NEVER);
        let locking = if self.deadline.is_some() { Locking::Try } else { Locking::Slice(&slice) };
        let sent = match self.py.detach(|| queue.send_batch(batch, locking)) {
            Err(error @ (SendError::Full | SendError::Busy)) => {
                let Some(deadline) = self.deadline else { return Err(not_sent(self.py, error)) };
                let on_signal = on_signal_holding(|| queue.ensure_held());
                self.py.detach(|| queue.send_batch_interruptibly(batch, deadline, on_signal))?
            }
            done => done,
        };
        sent.map_err(|error| not_sent(self.py, error))?;
        self.py.check_signals()
    }
}

/// Takes what is there, after waiting for a first item; see `manyhands.queues.Queue.get_many`.
pub(crate) fn get_many<'py>(
    py: Python<'py>,
    source: &PyQueue,
    max_items: i64,
    limit: Limit,
) -> PyResult<Bound<'py, PyList>> {
    let most = usize::try_from(max_items).ok().filter(|&most| most > 0);
    let most = most.ok_or_else(|| PyValueError::new_err("max_items must be at least 1"))?;
    let mut several = SEVERAL.take();
    several.clear();
    let mut getting = Getting { py, source, items: PyList::empty(py), errors: Vec::new() };
    let got = getting.all(&mut several, most, limit);
    SEVERAL.set(several);
    got.and_then(|()| getting.outcome())
}

/// Items on their way out of a queue.
struct Getting<'a, 'py> {
    py: Python<'py>,
    source: &'a PyQueue,
    items: Bound<'py, PyList>,
    /// What items raised that could not be unpickled, and a signal's handler.
    errors: Vec<PyErr>,
}

impl<'py> Getting<'_, 'py> {
    /// Takes and unpickles what is there, until something fails: what lies in the queue is not lost with it.
    fn all(&mut self, several: &mut Several, most: usize, limit: Limit) -> PyResult<()> {
        let queue = self.source.queue()?;
        self.first(several, most, limit)?;
        // No more than lies there now: producers that keep up would keep this going for ever.
        let mut wanted = (most - several.len().min(most)).min(queue.len() as usize);
        loop {
            // What is taken at once is unpickled at once, while it is in the processor's caches.
            self.unpickle(queue, several)?;
            several.clear();
            if wanted == 0 {
                return Ok(());
            }
            self.errors.extend(self.py.check_signals().err());
            if !self.errors.is_empty() {
                return Ok(());
            }
            let slice = Slices::new(Deadline::NEVER);
            match self.py.detach(|| queue.receive_many(several, wanted, Locking::Slice(&slice))) {
                Ok(count) => wanted -= count.min(wanted),
                // Whatever it is, what was taken is the caller's.
                Err(_) => return Ok(()),
            }
        }
    }

    /// The items; or an error, which has them and the other errors. One that is meant to end the program goes first.
    fn outcome(mut self) -> PyResult<Bound<'py, PyList>> {
        let py = self.py;
        if self.errors.is_empty() {
            return Ok(self.items);
        }
        let ends = |error: &PyErr| !error.is_instance_of::<PyException>(py);
        let first = self.errors.iter().position(ends).unwrap_or(0);
        let error = self.errors.remove(first);
        let others: Vec<_> = self.errors.into_iter().map(|other| other.into_value(py)).collect();
        // An exception takes any attribute; if one does not, its own message matters more.
        let value = error.value(py);
        let _ = value.setattr("items", self.items).and_then(|()| value.setattr("errors", others));
        Err(error)
    }

    /// Takes something, waiting for it.
    fn first(&self, several: &mut Several, most: usize, limit: Limit) -> PyResult<()> {
        let queue = self.source.queue()?;
        let py = self.py;
        let mut received = queue.receive_many(several, most, Locking::Try);
        if let Err(tried @ (ReceiveError::Empty | ReceiveError::Busy)) = received {
            received = match limit.deadline()? {
                Some(deadline) => {
                    let on_signal = on_signal_holding(|| queue.ensure_held());
                    py.detach(|| queue.receive_many_interruptibly(several, most, deadline, on_signal))?
                }
                None if tried == ReceiveError::Empty => received,
                None => {
                    let slice = Slices::new(Deadline::NEVER);
                    py.detach(|| queue.receive_many(several, most, Locking::Slice(&slice)))
                }
            };
        }
        received.map(drop).map_err(|error| not_received(py, error))
    }

    fn unpickle(&mut self, queue: &Queue, several: &mut Several) -> PyResult<()> {
        for index in 0..several.len() {
            let object = match queue.piece(several, index) {
                Ok(Piece::Inline(bytes)) => pickling::loads(self.py, bytes),
                Ok(Piece::Block(block)) => object_in(self.py, block),
                Err(error) => Err(error::receive(error)),
            };
            match object {
                Ok(object) => self.items.append(object)?,
                Err(error) => self.errors.push(error),
            }
        }
        Ok(())
    }
}
