//! The queue that Python sees.

use crate::arguments::{Limit, Truth};
use crate::blocking::{self, look_for_signals, on_signal_holding};
use crate::codec;
use crate::error;
use crate::offers;
use crate::pickling;
use crate::plane::Way;
use crate::queue_many;
use manyhands::family::Family;
use manyhands::queue::{Queue, ReceiveError, Received, SendError};
use manyhands::queue_watch::{self, Doorbell};
use manyhands::{Block, Deadline, Handle, Locking, Message, Remembered, Slices};
use pyo3::exceptions::{PyOSError, PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use std::cell::Cell;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock};

/// A queue in shared memory; `manyhands.queues` gives it the standard library's face.
#[pyclass(name = "Queue", module = "manyhands._manyhands", subclass, frozen)]
#[derive(Debug)]
pub(crate) struct PyQueue {
    queue: OnceLock<Queue>,
    /// What was done with this object: [`CLOSED`] and so on. The lock of `own` is held when something is closed, and by
    /// the calls that make what is closed with it; `put` and `get` only look.
    done: AtomicU8,
    own: Mutex<Own>,
}

/// The object was closed.
const CLOSED: u8 = 1;
/// Its reader was, by itself.
const READER_CLOSED: u8 = 2;
/// Its writer was, by itself.
const WRITER_CLOSED: u8 = 4;
/// Something was put by it.
const USED: u8 = 8;

/// What belongs to this process's object, not to the queue.
#[derive(Debug, Default)]
struct Own {
    doorbell: Option<Doorbell>,
    writable: Option<Remembered>,
}

/// One end of one object of a queue; `manyhands._queue_ends` gives them the standard library's face.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// Where items are taken.
    Reader,
    /// Where they are put.
    Writer,
}

impl End {
    /// What of an object says that it has this end no more.
    fn closed(self) -> u8 {
        match self {
            Self::Reader => CLOSED | READER_CLOSED,
            Self::Writer => CLOSED | WRITER_CLOSED,
        }
    }
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
        Self { queue: OnceLock::new(), done: AtomicU8::new(0), own: Mutex::default() }
    }

    /// Makes a new queue.
    fn _create(&self, maxsize: i64) -> PyResult<()> {
        let too_large = |_| PyOverflowError::new_err("maxsize must be at most 4294967295");
        let bound = u32::try_from(maxsize.max(0)).map_err(too_large)?;
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
    fn _closed(&self) -> bool {
        self.is_any(CLOSED)
    }

    /// Whether this object takes nothing any more.
    #[getter]
    fn _reader_closed(&self) -> bool {
        self.is_any(End::Reader.closed())
    }

    /// Whether this object puts nothing any more.
    #[getter]
    fn _writer_closed(&self) -> bool {
        self.is_any(End::Writer.closed())
    }

    /// The bound; 0 when there is none.
    #[getter]
    fn _maxsize(&self) -> PyResult<u32> {
        Ok(self.queue()?.bound())
    }

    /// Put an item.
    ///
    /// It is pickled here, so an error is raised here. Waits while the queue holds `maxsize` items, `timeout` seconds at
    /// most; not at all without `block`, but for a moment for another who is putting. With `move` the queue may take the object's memory instead of copying it: the
    /// caller promises not to use the object again.
    ///
    /// Raises `Full` when it could not be put in that time, `ShutDown` when the queue was shut, `ValueError` when this object
    /// of it was closed, `MemoryError` when there is no shared memory.
    #[pyo3(
        signature = (obj, block=Truth(true), timeout=None, *, r#move=Truth(false)),
        text_signature = "($self, obj, block=True, timeout=None, *, move=False)"
    )]
    fn put(
        slf: &Bound<'_, Self>,
        obj: &Bound<'_, PyAny>,
        block: Truth,
        timeout: Option<&Bound<'_, PyAny>>,
        r#move: Truth,
    ) -> PyResult<()> {
        let py = slf.py();
        look_for_signals(py)?;
        Self::check_open(slf, End::Writer)?;
        let limit = Limit::of_semaphore(block.0, timeout)?;
        let this = slf.get();
        this.check_room(py, limit)?;
        // WAYPOINT message 1/8: `Queue.put`; the subclass in queues.py adds nothing on this way.
        let Some(bytes) = codec::encode(obj) else { return this.put_pickled(obj, r#move.0, limit) };
        this.note_use();
        this.send(py, Message { parts: &[&bytes], carried: &[] }, limit)
    }

    /// Take the next item.
    ///
    /// Waits while there is none, `timeout` seconds at most; not at all without `block`, but for a moment for another who is
    /// getting. Raises `Empty` when nothing could be had in that time, `ShutDown` when nothing is left and the queue was shut, `ValueError` when this object of it was closed.
    #[pyo3(signature = (block=Truth(true), timeout=None), text_signature = "($self, block=True, timeout=None)")]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        block: Truth,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        look_for_signals(slf.py())?;
        Self::check_open(slf, End::Reader)?;
        slf.get().receive(slf.py(), Limit::of_get(block.0, timeout)?)
    }

    /// Put each item of an iterable, as a loop over `put` would, at a fraction of its cost.
    ///
    /// Items are put some hundred at a time: one lock and one wake for all of them. An iterable that is no list or tuple, and
    /// takes more than 0.1 ms for an item, has what it gave put before it is asked again; one that stalls after it was fast
    /// holds up to 255 items back. `timeout` is for all items together.
    ///
    /// Raises what `put` and the iterable raise. What came before is then in the queue, and the exception's attribute
    /// `items_put` says how many items that are.
    #[pyo3(
        signature = (items, block=Truth(true), timeout=None),
        text_signature = "($self, items, block=True, timeout=None)"
    )]
    fn put_many(
        slf: &Bound<'_, Self>,
        items: &Bound<'_, PyAny>,
        block: Truth,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        queue_many::put_many(slf, items, block.0, timeout)
    }

    /// Take what is there, at least one item and at most `max_items`, as a list.
    ///
    /// Waits for the first item as `get` does, and for no other. Raises what `get` raises. When an item cannot be unpickled,
    /// or a signal's handler raises, nothing more is taken, and that is raised; of several errors the first that is no
    /// `Exception` (`KeyboardInterrupt` is none), else the first. Its attribute `items` is the list of the items that were
    /// taken, its attribute `errors` that of the other errors.
    #[pyo3(
        signature = (max_items=256, block=Truth(true), timeout=None),
        text_signature = "($self, max_items=256, block=True, timeout=None)"
    )]
    fn get_many<'py>(
        slf: &Bound<'py, Self>,
        max_items: i64,
        block: Truth,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        look_for_signals(slf.py())?;
        Self::check_open(slf, End::Reader)?;
        let limit = Limit::of_get(block.0, timeout)?;
        let this = slf.get();
        let got = queue_many::get_many(slf.py(), this, max_items, limit);
        queue_watch::look_at(this.queue()?);
        got
    }

    /// Nothing is put any more, in no process: `put` raises `ShutDown`.
    ///
    /// `get` raises it when what was put before has been taken; with `immediate` at once, and what lies in the queue is thrown
    /// away and counts as done. Everybody who waits is told. As in `queue.Queue` of Python 3.13, on every version.
    #[pyo3(signature = (immediate=Truth(false)), text_signature = "($self, immediate=False)")]
    fn shutdown(&self, py: Python<'_>, immediate: Truth) -> PyResult<()> {
        let queue = self.queue()?;
        let on_signal = on_signal_holding(|| queue.ensure_held());
        py.detach(|| queue.shut_interruptibly(immediate.0, on_signal))?.map_err(error::send)?;
        queue_watch::look_at(queue);
        Ok(())
    }

    /// An item is done with. See `manyhands.queues.JoinableQueue.task_done`.
    fn _task_done(&self) -> PyResult<()> {
        let too_many = |_| PyValueError::new_err("task_done() called too many times");
        let queue = self.queue()?;
        let on_signal = on_signal_holding(|| queue.ensure_held());
        queue.task_done_interruptibly(on_signal)?.map_err(too_many)
    }

    /// Waits until all items are done with. See `manyhands.queues.JoinableQueue.join`.
    fn _join(&self, py: Python<'_>) -> PyResult<()> {
        let queue = self.queue()?;
        let on_signal = on_signal_holding(|| queue.ensure_held());
        py.detach(|| queue.join_interruptibly(Deadline::NEVER, on_signal)).map(drop)
    }

    /// How many items are not done with.
    fn _unfinished(&self) -> PyResult<u32> {
        Ok(self.queue()?.unfinished())
    }

    /// Waits until `get` need not wait; `False` when the time was over first. `None` is for ever.
    #[pyo3(signature = (timeout))]
    fn _poll(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        drop(self.own_open(End::Reader)?);
        let queue = self.queue()?;
        let deadline = Limit::of_poll(timeout)?.deadline()?.unwrap_or_else(|| blocking::after(0.0));
        let on_signal = on_signal_holding(|| queue.ensure_held());
        py.detach(|| queue.poll_interruptibly(deadline, on_signal))
    }

    /// The number of a descriptor that is readable while there is something to get, as it is at this moment.
    fn _doorbell(&self) -> PyResult<i32> {
        let queue = self.queue()?;
        let mut own = self.own_open(End::Reader)?;
        own.doorbell.get_or_insert_with(|| Doorbell::new(queue)).descriptor().map_err(error::os)
    }

    /// The number of a descriptor that is always writable.
    fn _always_writable(&self) -> PyResult<i32> {
        let mut own = self.own_open(End::Writer)?;
        if let Some(descriptor) = own.writable.as_ref().filter(|descriptor| descriptor.is_ours()) {
            return Ok(descriptor.number());
        }
        let descriptor = queue_watch::always_writable().map_err(error::os)?;
        Ok(own.writable.insert(descriptor).number())
    }

    /// How many items lie in the queue.
    fn qsize(&self) -> PyResult<u32> {
        Ok(self.queue()?.len())
    }

    /// Whether no item lies in the queue.
    fn empty(&self) -> PyResult<bool> {
        // As the standard library's: a queue that was put to and closed has no reading end any more.
        if self.is_any(READER_CLOSED) || (self.is_any(CLOSED) && self.is_any(USED)) {
            Err(handle_is_closed())
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
        let mut own = self.own()?;
        self.note(CLOSED);
        (own.doorbell, own.writable) = (None, None);
        Ok(())
    }

    /// This object takes nothing any more.
    fn _close_reader(&self) -> PyResult<()> {
        let mut own = self.own()?;
        self.note(READER_CLOSED);
        own.doorbell = None;
        Ok(())
    }

    /// This object puts nothing any more.
    fn _close_writer(&self) -> PyResult<()> {
        let mut own = self.own()?;
        self.note(WRITER_CLOSED);
        own.writable = None;
        Ok(())
    }
}

impl PyQueue {
    /// The queue, held by this process.
    #[inline(always)]
    pub(crate) fn queue(&self) -> PyResult<&Queue> {
        match self.queue.get() {
            Some(queue) if queue.is_held() => Ok(queue),
            unsure => Self::hold(unsure),
        }
    }

    #[cold]
    fn hold(queue: Option<&Queue>) -> PyResult<&Queue> {
        let queue = queue.ok_or_else(|| PyRuntimeError::new_err("Queue.__init__() not called"))?;
        queue.ensure_held().map_err(error::family)?;
        Ok(queue)
    }

    #[inline]
    fn is_any(&self, done: u8) -> bool {
        self.done.load(Ordering::Relaxed) & done != 0
    }

    fn note(&self, done: u8) {
        self.done.fetch_or(done, Ordering::Relaxed);
    }

    fn be(&self, queue: Queue) -> PyResult<()> {
        self.queue.set(queue).map_err(|_| PyRuntimeError::new_err("Queue.__init__() called twice"))
    }

    fn own(&self) -> PyResult<std::sync::MutexGuard<'_, Own>> {
        self.own.lock().map_err(|_| PyValueError::new_err("the queue's state was left by a panic"))
    }

    /// As the standard library's connections, which are closed with their queue.
    fn own_open(&self, end: End) -> PyResult<std::sync::MutexGuard<'_, Own>> {
        let own = self.own()?;
        if self.is_any(end.closed()) { Err(handle_is_closed()) } else { Ok(own) }
    }

    /// An error when this object was closed, or that end of it.
    #[inline]
    pub(crate) fn check_open(slf: &Bound<'_, Self>, end: End) -> PyResult<()> {
        if slf.get().is_any(end.closed()) { Err(Self::closed(slf)) } else { Ok(()) }
    }

    #[cold]
    fn closed(slf: &Bound<'_, Self>) -> PyErr {
        if !slf.get().is_any(CLOSED) {
            return handle_is_closed();
        }
        match slf.repr() {
            Ok(name) => PyValueError::new_err(format!("Queue {name} is closed")),
            Err(error) => error,
        }
    }

    /// Something is put by this object: see `empty`.
    #[inline]
    pub(crate) fn note_use(&self) {
        if !self.is_any(USED) {
            self.note(USED);
        }
    }

    /// An error when it is known that nothing will be sent, before anything is pickled for it.
    #[inline]
    fn check_room(&self, py: Python<'_>, limit: Limit) -> PyResult<()> {
        let queue = self.queue()?;
        if queue.is_shut() {
            return Err(error::send(SendError::Shut));
        }
        // A call that waits for as long as it takes need not look at the consumers' words.
        if limit != Limit::Never && queue.is_full() && limit.deadline()?.is_none() {
            return Err(error::full(py));
        }
        Ok(())
    }

    /// Puts what the codec does not know. `moving` says that its sender gives up the memory it lies in.
    #[inline(never)]
    fn put_pickled(&self, object: &Bound<'_, PyAny>, moving: bool, limit: Limit) -> PyResult<()> {
        let py = object.py();
        let way = if moving { Way::Moving } else { Way::Copying };
        let (bytes, mut carried) = pickling::pickle_into(object, way)?;
        let message = Message { parts: &[bytes.as_bytes()], carried: &carried };
        self.note_use();
        self.send(py, message, limit)?;
        carried.note_sent(py, self.queue()?.handle());
        Ok(())
    }

    /// Sends one message, waiting for room as long as that.
    #[inline]
    fn send(&self, py: Python<'_>, message: Message<'_>, limit: Limit) -> PyResult<()> {
        self.send_until(py, message, || limit.deadline())
    }

    /// As `send`; the deadline is asked for when it comes to waiting.
    pub(crate) fn send_until(
        &self,
        py: Python<'_>,
        message: Message<'_>,
        until: impl Fn() -> PyResult<Option<Deadline>>,
    ) -> PyResult<()> {
        // WAYPOINT message 3/8: one try with the GIL held; only waiting releases it.
        let queue = self.queue()?;
        let short = message.parts.iter().all(|part| part.len() < blocking::LONG_COPY_BYTES);
        let try_it = || queue.send_message(message, Locking::Try);
        let tried = if short { try_it() } else { py.detach(try_it) };
        let sent = match tried {
            Err(error @ (SendError::Full | SendError::Busy)) => {
                Self::send_otherwise(py, queue, message, until()?, error)?
            }
            done => done,
        };
        sent.map_err(|error| not_sent(py, error))
    }

    /// After a try in vain.
    #[inline(never)]
    fn send_otherwise(
        py: Python<'_>,
        queue: &Queue,
        message: Message<'_>,
        deadline: Option<Deadline>,
        tried: SendError,
    ) -> PyResult<Result<(), SendError>> {
        let Some(deadline) = deadline else {
            if tried == SendError::Full {
                return Ok(Err(tried));
            }
            // Another who puts is waited for, for a moment: it has not been stopped in the midst of it, as a rule.
            let slice = Slices::new(Deadline::NEVER);
            return Ok(py.detach(|| queue.send_message(message, Locking::Slice(&slice))));
        };
        let on_signal = on_signal_holding(|| queue.ensure_held());
        py.detach(|| queue.send_interruptibly(message, deadline, on_signal))
    }

    fn receive<'py>(&self, py: Python<'py>, limit: Limit) -> PyResult<Bound<'py, PyAny>> {
        BUFFER.with(|kept| {
            // Others may take it meanwhile: unpickling runs the user's code.
            let mut buffer = kept.take();
            buffer.clear();
            let object = self.receive_by(py, &mut buffer, limit);
            kept.set(buffer);
            object
        })
    }

    #[inline]
    fn receive_by<'py>(
        &self,
        py: Python<'py>,
        buffer: &mut Vec<u8>,
        limit: Limit,
    ) -> PyResult<Bound<'py, PyAny>> {
        let queue = self.queue()?;
        match queue.receive(buffer, Locking::Try) {
            Ok(Received::Inline) => {
                // What is polled in this process is as the queue is when `get` returns.
                queue_watch::look_at(queue);
                pickling::loads(py, buffer)
            }
            other => {
                let received = self.receive_otherwise(py, queue, other, buffer, limit);
                queue_watch::look_at(queue);
                match received? {
                    Received::Inline => pickling::loads(py, buffer),
                    Received::Block(block) => object_in(py, block),
                }
            }
        }
    }

    /// `received` is what became of the first try.
    #[inline(never)]
    fn receive_otherwise(
        &self,
        py: Python<'_>,
        queue: &Queue,
        mut received: Result<Received, ReceiveError>,
        buffer: &mut Vec<u8>,
        limit: Limit,
    ) -> PyResult<Received> {
        if let Err(tried @ (ReceiveError::Empty | ReceiveError::Busy)) = received {
            received = match limit.deadline()? {
                Some(deadline) => {
                    let on_signal = on_signal_holding(|| queue.ensure_held());
                    py.detach(|| queue.receive_interruptibly(buffer, deadline, on_signal))?
                }
                None if tried == ReceiveError::Empty => received,
                None => {
                    // Another who takes is waited for, for a moment: it has not been stopped in the midst of it, as a rule.
                    let slice = Slices::new(Deadline::NEVER);
                    py.detach(|| queue.receive(buffer, Locking::Slice(&slice)))
                }
            };
        }
        received.map_err(|error| not_received(py, error))
    }
}

/// Why nothing was sent, after waiting for as long as the caller wanted: for room, or for another who was putting.
pub(crate) fn not_sent(py: Python<'_>, error: SendError) -> PyErr {
    if matches!(error, SendError::Full | SendError::Busy) { error::full(py) } else { error::send(error) }
}

/// Why nothing was received, after waiting for as long as the caller wanted: for a message, or for another who was taking.
pub(crate) fn not_received(py: Python<'_>, error: ReceiveError) -> PyErr {
    if matches!(error, ReceiveError::Empty | ReceiveError::Busy) {
        error::empty(py)
    } else {
        error::receive(error)
    }
}

impl Drop for PyQueue {
    fn drop(&mut self) {
        drop(self.queue.take());
        // Messages that lay in it offer nothing any more.
        Python::try_attach(offers::home_may_be_gone);
    }
}

fn handle_is_closed() -> PyErr {
    PyOSError::new_err("handle is closed")
}

/// The object of a long message.
pub(crate) fn object_in(py: Python<'_>, block: Block) -> PyResult<Bound<'_, PyAny>> {
    let bytes = PyBytes::new_with(py, block.len(), |to| {
        block.copy_to(to);
        Ok(())
    })?;
    // What the message carries is there for as long as the block is.
    let carrier = block.carries().then_some(block);
    let _opening = carrier.as_ref().map(Block::opening);
    pickling::loads_bytes(&bytes)
}
