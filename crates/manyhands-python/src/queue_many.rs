//! `put_many` and `get_many`: one lock and one wake for many items.

use crate::error;
use crate::pickling;
use crate::queue::{PyQueue, object_in};
use manyhands::queue::{Queue, ReceiveError, SendError};
use manyhands::queue_many::{Batch, Piece, Several};
use manyhands::{Deadline, Locking, Message, Patience};
use pyo3::exceptions::PyValueError;
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
    target: &'a PyQueue,
    queue: &'a Queue,
    /// When waiting for room ends; `None` when the caller does not want to wait.
    deadline: Option<Deadline>,
    batch: Batch,
    /// Items that were added to the batch or sent by themselves.
    begun: usize,
}

/// Puts every item; see `manyhands.queues.Queue.put_many`.
pub(crate) fn put_many(
    target: &PyQueue,
    items: &Bound<'_, PyAny>,
    deadline: Option<Deadline>,
) -> PyResult<()> {
    let py = items.py();
    let queue = target.queue()?;
    let mut sending = Sending { py, target, queue, deadline, batch: Batch::new(), begun: 0 };
    sending.all_of(items).inspect_err(|error| {
        let count = sending.begun - sending.batch.len();
        // An exception takes any attribute; if one does not, its own message matters more.
        let _ = error.value(py).setattr("items_put", count);
    })
}

impl Sending<'_, '_> {
    fn all_of(&mut self, items: &Bound<'_, PyAny>) -> PyResult<()> {
        let at_hand = items.is_exact_instance_of::<PyList>() || items.is_exact_instance_of::<PyTuple>();
        let mut items = items.try_iter()?;
        loop {
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
        let (bytes, carried) = pickled?;
        let message = Message { parts: &[bytes.as_bytes()], carried: &carried };
        if !self.batch.add(message) {
            self.flush()?;
            self.target.send(self.py, message, self.deadline)?;
        }
        self.begun += 1;
        Ok(())
    }

    /// Sends what is together, waiting for room.
    fn flush(&mut self) -> PyResult<()> {
        let (queue, batch) = (self.queue, &mut self.batch);
        let mut patience = Patience::new();
        loop {
            // Other threads have their turn meanwhile, however long the iterable.
            match self.py.detach(|| queue.send_batch(batch, Locking::Wait)) {
                Ok(()) => return self.py.check_signals(),
                Err(SendError::Busy) => {}
                Err(SendError::Full) => self.target.wait_for_room(self.py, &mut patience, self.deadline)?,
                Err(error) => return Err(error::send(error)),
            }
        }
    }
}

/// Takes what is there, after waiting for a first item; see `manyhands.queues.Queue.get_many`.
pub(crate) fn get_many<'py>(
    py: Python<'py>,
    source: &PyQueue,
    max_items: i64,
    block: bool,
    timeout: Option<f64>,
) -> PyResult<Bound<'py, PyList>> {
    let most = usize::try_from(max_items).ok().filter(|&most| most > 0);
    let most = most.ok_or_else(|| PyValueError::new_err("max_items must be at least 1"))?;
    let mut several = SEVERAL.take();
    several.clear();
    let got = Getting { py, source, items: PyList::empty(py), failed: None }.all(
        &mut several,
        most,
        block,
        timeout,
    );
    SEVERAL.set(several);
    got
}

/// Items on their way out of a queue.
struct Getting<'a, 'py> {
    py: Python<'py>,
    source: &'a PyQueue,
    items: Bound<'py, PyList>,
    /// What the first item raised that could not be unpickled.
    failed: Option<PyErr>,
}

impl<'py> Getting<'_, 'py> {
    /// The items; what can be read of them, as the attribute `items` of the first error, when one cannot.
    fn all(
        mut self,
        several: &mut Several,
        most: usize,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyList>> {
        let queue = self.source.queue()?;
        let mut wanted = most;
        self.first(several, most, block, timeout)?;
        loop {
            // What is taken at once is unpickled at once, while it is in the processor's caches.
            wanted -= several.len().min(wanted);
            self.unpickle(queue, several)?;
            several.clear();
            if wanted == 0 {
                break;
            }
            match self.py.detach(|| queue.receive_many(several, wanted, Locking::Wait)) {
                Ok(_) => {}
                // Whatever it is, what was taken is the caller's.
                Err(_) => break,
            }
        }
        match self.failed {
            None => Ok(self.items),
            Some(error) => {
                let _ = error.value(self.py).setattr("items", &self.items);
                Err(error)
            }
        }
    }

    /// Takes something, waiting for it.
    fn first(&self, several: &mut Several, most: usize, block: bool, timeout: Option<f64>) -> PyResult<()> {
        let queue = self.source.queue()?;
        let (mut deadline, mut locking) = (None, Locking::Try);
        loop {
            let received = match locking {
                Locking::Try => queue.receive_many(several, most, Locking::Try),
                Locking::Wait => self.py.detach(|| queue.receive_many(several, most, Locking::Wait)),
            };
            match received {
                Ok(_) => return Ok(()),
                Err(ReceiveError::Busy) => locking = Locking::Wait,
                Err(ReceiveError::Empty) => {
                    let deadline = match deadline {
                        Some(deadline) => deadline,
                        None => *deadline.insert(self.source.begin_wait(block, timeout)?),
                    };
                    self.source.wait_for_message(self.py, deadline)?;
                }
                Err(error) => return Err(error::receive(error)),
            }
        }
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
                Err(error) => self.failed = self.failed.take().or(Some(error)),
            }
        }
        Ok(())
    }
}
