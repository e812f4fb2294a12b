//! The queue that Python sees.

use crate::blocking::{self, Wait};
use crate::error;
use crate::pickling;
use manyhands::family::Family;
use manyhands::queue::{Queue, ReceiveError, Received, SendError};
use manyhands::{Deadline, Handle, Locking, Patience};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
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
    /// Whether another process may know the queue; then nobody can tell who is its last holder.
    shared: bool,
    /// The count of forks when the object was made.
    forks: u32,
    patience: Patience,
}

/// How often this process or one it descends from has forked. A queue from before a fork is known on both sides of it.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Before a fork, whoever asks for it.
#[pyfunction]
pub(crate) fn note_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
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
        let own = Own {
            closed: false,
            used: false,
            shared: false,
            forks: FORKS.load(Ordering::Relaxed),
            patience: Patience::new(),
        };
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
        self.own()?.shared = true;
        self.be(Queue::open(family, Handle { offset, generation }).map_err(error::open)?)
    }

    /// By what another process of the family opens the queue.
    fn _handle(&self) -> PyResult<(u64, u32)> {
        self.own()?.shared = true;
        let handle = self.queue()?.handle();
        Ok((handle.offset, handle.generation))
    }

    /// Says that another process may know the queue from now on.
    fn _share(&self) -> PyResult<()> {
        self.own()?.shared = true;
        Ok(())
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
        let bytes = pickling::dumps(obj)?;
        let this = slf.get();
        this.own()?.used = true;
        this.send(py, &bytes, block, timeout)
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
    fn queue(&self) -> PyResult<Queue> {
        let made = || PyRuntimeError::new_err("Queue.__init__() not called");
        self.queue.get().copied().ok_or_else(made)
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

    fn send(
        &self,
        py: Python<'_>,
        bytes: &Bound<'_, PyBytes>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        // WAYPOINT message 3/8: one try with the GIL held; only waiting releases it.
        let (queue, payload) = (self.queue()?, bytes.as_bytes());
        let deadline = blocking::deadline(block, timeout)?;
        let (mut locking, mut patience) = (Locking::Try, Patience::new());
        loop {
            let sent = match locking {
                Locking::Try if payload.len() < blocking::LONG_COPY_BYTES => {
                    queue.send(&[payload], Locking::Try)
                }
                _ => py.detach(|| queue.send(&[payload], Locking::Wait)),
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
            Wait::Ready => Ok(()),
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
                drop(block);
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
            Wait::Ready => Ok(()),
            Wait::TimedOut => Err(error::empty(py)),
        }
    }
}

impl Drop for PyQueue {
    fn drop(&mut self) {
        let forks = FORKS.load(Ordering::Relaxed);
        let shared = self.own.get_mut().map_or(true, |own| own.shared || own.forks != forks);
        if let (false, Some(queue)) = (shared, self.queue.get()) {
            queue.destroy();
        }
    }
}
