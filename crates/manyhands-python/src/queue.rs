//! The queue that Python sees.

use crate::blocking::{self, Wait};
use crate::error;
use crate::pickling;
use manyhands::family::Family;
use manyhands::queue::{Queue, ReceiveError, Received, SendError};
use manyhands::{Deadline, Handle, Locking, Message, Patience};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use std::cell::Cell;
use std::sync::{Mutex, OnceLock};

/// A queue in shared memory; `manyhands.queues` gives it the standard library's face.
#[pyclass(name = "Queue", module = "manyhands._manyhands", subclass, frozen)]
#[derive(Debug)]
pub(crate) struct PyQueue {
    queue: OnceLock<Queue>,
    own: Mutex<Own>,
}

/// What belongs to this process's object, not to the queue.
#[derive(Debug)]
struct Own {
    closed: bool,
    used: bool,
    patience: Patience,
}

thread_local! {
    /// The buffer of this thread's last message, kept for the next one.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

#[pymethods]
impl PyQueue {
    /// Whatever a subclass is made with: `_create` or `_attach` gives the object its queue.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        let own = Own { closed: false, used: false, patience: Patience::new() };
        Self { queue: OnceLock::new(), own: Mutex::new(own) }
    }

    /// Makes a new queue.
    fn _create(&self, maxsize: i64) -> PyResult<()> {
        let bound = u32::try_from(maxsize.max(0)).unwrap_or(u32::MAX);
        let family = Family::current().map_err(error::family)?;
        self.be(Queue::create(family, bound).map_err(error::send)?)
    }

    /// Becomes another object of a queue that a process of the family made.
    fn _attach(&self, offset: u64, generation: u32) -> PyResult<()> {
        let family = Family::current().map_err(error::family)?;
        self.be(Queue::open(family, Handle { offset, generation }).map_err(error::open)?)
    }

    /// By what another process of the family opens the queue.
    fn _handle(&self) -> PyResult<(u64, u32)> {
        let handle = self.queue()?.handle();
        pickling::note_carried(handle);
        Ok((handle.offset, handle.generation))
    }

    /// Whether `close` was called on this object.
    #[getter]
    fn _closed(&self) -> PyResult<bool> {
        Ok(self.own()?.closed)
    }

    /// The bound; 0 when there is none.
    #[getter]
    fn _maxsize(&self) -> PyResult<u32> {
        Ok(self.queue()?.bound())
    }

    /// Put an item into the queue. See `manyhands.queues.Queue.put`.
    #[pyo3(signature = (obj, block=true, timeout=None))]
    fn put(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>, block: bool, timeout: Option<f64>) -> PyResult<()> {
        let py = slf.py();
        Self::check_open(slf)?;
        // WAYPOINT message 1/8: `Queue.put`; the subclass in queues.py adds nothing on this way.
        let (bytes, carried) = pickling::dumps_carrying(obj)?;
        let this = slf.get();
        this.own()?.used = true;
        this.send(py, Message { parts: &[bytes.as_bytes()], carried: &carried }, block, timeout)
    }

    /// Take an item out of the queue. See `manyhands.queues.Queue.get`.
    #[pyo3(signature = (block=true, timeout=None))]
    fn get<'py>(slf: &Bound<'py, Self>, block: bool, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        Self::check_open(slf)?;
        slf.get().receive(slf.py(), block, timeout)
    }

    /// How many items lie in the queue.
    fn qsize(&self) -> PyResult<u32> {
        Ok(self.queue()?.len())
    }

    /// Whether no item lies in the queue.
    fn empty(&self) -> PyResult<bool> {
        let own = self.own()?;
        // As the standard library's: a queue that was put to and closed has no reading end any more.
        if own.closed && own.used {
            Err(PyOSError::new_err("handle is closed"))
        } else {
            Ok(self.queue()?.is_empty())
        }
    }

    /// Whether the queue holds as many items as it may.
    fn full(&self) -> PyResult<bool> {
        Ok(self.queue()?.is_full())
    }

    /// This process will neither put nor get any more.
    fn close(&self) -> PyResult<()> {
        self.own()?.closed = true;
        Ok(())
    }
}

impl PyQueue {
    fn queue(&self) -> PyResult<&Queue> {
        self.queue.get().ok_or_else(|| PyRuntimeError::new_err("Queue.__init__() not called"))
    }

    fn be(&self, queue: Queue) -> PyResult<()> {
        self.queue.set(queue).map_err(|_| PyRuntimeError::new_err("Queue.__init__() called twice"))
    }

    fn own(&self) -> PyResult<std::sync::MutexGuard<'_, Own>> {
        self.own.lock().map_err(|_| PyValueError::new_err("the queue's state was left by a panic"))
    }

    fn check_open(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().own()?.closed {
            return Err(PyValueError::new_err(format!("Queue {} is closed", slf.repr()?)));
        }
        Ok(())
    }

    fn send(&self, py: Python<'_>, message: Message<'_>, block: bool, timeout: Option<f64>) -> PyResult<()> {
        // WAYPOINT message 3/8: one try with the GIL held; only waiting releases it.
        let queue = self.queue()?;
        let short = message.parts.iter().all(|part| part.len() < blocking::LONG_COPY_BYTES);
        let deadline = blocking::deadline(block, timeout)?;
        let (mut locking, mut patience) = (Locking::Try, Patience::new());
        loop {
            let sent = match locking {
                Locking::Try if short => queue.send_message(message, Locking::Try),
                _ => py.detach(|| queue.send_message(message, Locking::Wait)),
            };
            match sent {
                Ok(()) => return Ok(()),
                Err(SendError::Busy) => locking = Locking::Wait,
                Err(SendError::Full) => self.wait_for_room(py, &mut patience, deadline)?,
                Err(error) => return Err(error::send(error)),
            }
        }
    }

    fn wait_for_room(
        &self,
        py: Python<'_>,
        patience: &mut Patience,
        deadline: Option<Deadline>,
    ) -> PyResult<()> {
        let Some(deadline) = deadline else { return Err(error::full(py)) };
        let queue = self.queue()?;
        let wait = |patience: &mut Patience| queue.wait_for_room(patience, deadline);
        match blocking::wait(py, patience, wait)? {
            // Ready is also the end of a slice: a signal that came before the sleep has not ended it.
            Wait::Ready => py.check_signals(),
            Wait::TimedOut => Err(error::full(py)),
        }
    }

    fn receive<'py>(
        &self,
        py: Python<'py>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut buffer = BUFFER.take();
        buffer.clear();
        let received = self.receive_into(py, &mut buffer, block, timeout);
        let object = match received {
            Ok(Received::Inline) => pickling::loads(py, &buffer),
            Ok(Received::Block(block)) => PyBytes::new_with(py, block.len(), |to| {
                block.copy_to(to);
                Ok(())
            })
            .and_then(|bytes| {
                // What the message carries is there for as long as the block is.
                let _carrier = block.carries().then_some(block);
                pickling::loads_bytes(&bytes)
            }),
            Err(error) => Err(error),
        };
        BUFFER.set(buffer);
        object
    }

    fn receive_into(
        &self,
        py: Python<'_>,
        buffer: &mut Vec<u8>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Received> {
        let queue = self.queue()?;
        let mut deadline = None;
        let mut locking = Locking::Try;
        loop {
            let received = match locking {
                Locking::Try => queue.receive(buffer, Locking::Try),
                Locking::Wait => py.detach(|| queue.receive(buffer, Locking::Wait)),
            };
            match received {
                Ok(received) => return Ok(received),
                Err(ReceiveError::Busy) => locking = Locking::Wait,
                Err(ReceiveError::Empty) => {
                    let deadline = match deadline {
                        Some(deadline) => deadline,
                        None => {
                            self.own()?.patience.start_over();
                            *deadline.insert(blocking::deadline(block, timeout)?)
                        }
                    };
                    self.wait_for_message(py, deadline)?;
                }
                Err(ReceiveError::Corrupted) => return Err(error::receive(ReceiveError::Corrupted)),
            }
        }
    }

    fn wait_for_message(&self, py: Python<'_>, deadline: Option<Deadline>) -> PyResult<()> {
        let Some(deadline) = deadline else { return Err(error::empty(py)) };
        let mut patience = std::mem::take(&mut self.own()?.patience);
        let queue = self.queue()?;
        let wait = |patience: &mut Patience| queue.wait_for_message(patience, deadline);
        let waited = blocking::wait(py, &mut patience, wait);
        self.own()?.patience = patience;
        match waited? {
            // As in `wait_for_room`.
            Wait::Ready => py.check_signals(),
            Wait::TimedOut => Err(error::empty(py)),
        }
    }
}
