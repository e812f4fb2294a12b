//! The worker's loop: take a task, call the function, answer. In Rust, so that a task costs the call and little else.

use crate::blocking::look_for_signals;
use crate::codec;
use crate::error;
use crate::pickling;
use crate::plane::Way;
use manyhands::family::{self, Family};
use manyhands::pool::{Answer, Function, Next, Phase, Status, Task, Worker};
use manyhands::{Block, Handle, Message};
use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PyMemoryError, PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCFunction, PyDict, PyFunction, PyList, PyModule, PyTuple, PyType};
use std::collections::HashMap;

/// How a task's arguments are to be understood.
pub(crate) mod kind {
    /// `(args, kwds)`: one call.
    pub(crate) const CALL: u32 = 0;
    /// One item.
    pub(crate) const ITEM: u32 = 1;
    /// A list of items, answered together.
    pub(crate) const LIST: u32 = 2;
    /// A list of items, answered one by one.
    pub(crate) const EACH: u32 = 3;
    /// `(function, args, kwds)`: one call of a function that is not sent once and for all.
    pub(crate) const WHOLE: u32 = 4;
    /// Added to the others: an item is a tuple of arguments.
    pub(crate) const STAR: u32 = 8;
    /// Added to the others: no item is begun once the function is withdrawn.
    pub(crate) const WATCHED: u32 = 16;
    /// Added to the others: arguments that cannot be read are told in the executor's words.
    pub(crate) const OF_EXECUTOR: u32 = 32;
    /// Added to [`ITEM`]: it is a list's only item, which is what is shown of a result that cannot be pickled.
    pub(crate) const OF_LIST: u32 = 64;
}

/// Functions a worker remembers; a forgotten one is read again.
const MOST_FUNCTIONS: usize = 256;
/// How often an exception is encoded: a signal may interrupt it.
const ENCODING_ATTEMPTS: u32 = 3;

/// A pool worker's loop.
#[pyclass(name = "Worker", module = "manyhands._manyhands")]
#[derive(Debug)]
pub(crate) struct PyWorker {
    worker: Worker,
    /// The process that sits on the seat: see [`PyWorker::end_copy`].
    process: u64,
    functions: HashMap<u32, (Function, Py<PyAny>)>,
    /// `manyhands._worker.encode_error(exception) -> bytes`.
    encode_error: Py<PyAny>,
    /// `manyhands._worker.encode_result_error(error, result) -> bytes`.
    encode_result_error: Py<PyAny>,
}

#[pymethods]
impl PyWorker {
    #[new]
    fn new(
        py: Python<'_>,
        pool: (u64, u32),
        seat: usize,
        bell: i32,
        encode_error: Py<PyAny>,
        encode_result_error: Py<PyAny>,
    ) -> PyResult<Self> {
        let _ = py;
        let family = Family::current().map_err(error::family)?;
        let bell = manyhands::adopt_descriptor(bell).map_err(error::os)?;
        let handle = Handle { offset: pool.0, generation: pool.1 };
        let worker = Worker::sit(family, handle, seat, bell).map_err(error::open)?;
        let process = family::process_identity();
        Ok(Self { worker, process, functions: HashMap::new(), encode_error, encode_result_error })
    }

    /// The initializer failed: says so, and why.
    fn unready(&mut self, reason: &[u8]) -> PyResult<()> {
        self.end_copy();
        let answer = Answer { job: 0, index: 0, items: 0, status: Status::Unready, nanoseconds: 0 };
        self.worker.enter(Phase::Leaving);
        self.worker.answer(answer, &[reason]).map_err(error::send)
    }

    /// Works until the pool wants it to leave, or for `most` tasks (0: no limit); whether it left after its share.
    fn run(&mut self, py: Python<'_>, most: u64) -> PyResult<bool> {
        self.end_copy();
        self.worker.enter(Phase::Ready);
        let mut arguments = Vec::new();
        let mut done = 0;
        while most == 0 || done < most {
            arguments.clear();
            self.end_copy();
            match self.worker.next(&mut arguments).map_err(|_| damaged())? {
                Next::Task(task, block) => {
                    self.work(py, task, &arguments, block)?;
                    done += 1;
                    // Tasks one after the other, of functions that are not Python's, look nowhere else.
                    between_tasks(py, look_for_signals(py))?;
                }
                Next::Nothing => {
                    let worker = &mut self.worker;
                    py.detach(|| worker.wait());
                    // Also when there are tasks at once, which another worker holds that was stopped.
                    between_tasks(py, look_for_signals(py))?;
                }
                Next::Leave => return Ok(false),
            }
        }
        self.worker.enter(Phase::Leaving);
        Ok(true)
    }
}

/// Ctrl-C reaches every process of a terminal's foreground group. A worker without a task has nothing to interrupt: what
/// becomes of it is decided by the pool's process, which has got the signal too.
fn between_tasks(py: Python<'_>, handled: PyResult<()>) -> PyResult<()> {
    handled.or_else(|error| if error.is_instance_of::<PyKeyboardInterrupt>(py) { Ok(()) } else { Err(error) })
}

fn damaged() -> PyErr {
    match manyhands::refused_bytes() {
        Some(bytes) => {
            PyMemoryError::new_err(format!("this process could not map {bytes} bytes of shared memory"))
        }
        None => PyOSError::new_err((5, "the pool's shared memory is damaged")),
    }
}

impl PyWorker {
    /// WAYPOINT task 6/9: arguments become objects, the function is called, its result becomes bytes.
    fn work(&mut self, py: Python<'_>, task: Task, bytes: &[u8], block: Option<Block>) -> PyResult<()> {
        if self.is_wanted(task) {
            let prepared = self.prepare(py, task, bytes, block);
            self.end_copy();
            match prepared {
                Ok((function, arguments)) => self.call(py, task, &function, &arguments)?,
                Err(error) if task.kind & kind::OF_EXECUTOR != 0 => self.unreadable(py, task, error)?,
                // Nothing was begun: what can be read of several items is found out one by one.
                Err(error) if task.items > 1 => {
                    self.encoded(py, task, 0, task.items, Status::Unread, error)?;
                }
                Err(error) => self.raised(py, task, 0, task.items, error)?,
            }
        }
        self.end_copy();
        self.worker.finish();
        Ok(())
    }

    /// Called wherever code of the user's has run: it may have forked, and have come back in both processes. The seat, the
    /// tasks and the answers are the worker's alone: its copy ends, quietly, and sends and takes nothing.
    #[inline]
    fn end_copy(&self) {
        if self.process != family::process_identity() {
            exit_quietly();
        }
    }

    /// Whether the task's job has not been given up meanwhile, for jobs of which that can be told.
    fn is_wanted(&self, task: Task) -> bool {
        task.kind & kind::WATCHED == 0 || self.worker.is_published(task.function)
    }

    fn prepare<'py>(
        &mut self,
        py: Python<'py>,
        task: Task,
        bytes: &[u8],
        block: Option<Block>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let arguments = decode(py, bytes, block)?;
        if task.kind & !kind::OF_EXECUTOR == kind::WHOLE {
            let whole = arguments.cast_into::<PyTuple>()?;
            return Ok((whole.get_item(0)?, whole.get_slice(1, 3).into_any()));
        }
        Ok((self.function(py, task.function)?, arguments))
    }

    fn call(
        &mut self,
        py: Python<'_>,
        task: Task,
        function: &Bound<'_, PyAny>,
        arguments: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let star = task.kind & kind::STAR != 0;
        match task.kind & !(kind::STAR | kind::WATCHED | kind::OF_EXECUTOR | kind::OF_LIST) {
            kind::CALL | kind::WHOLE => {
                self.worker.begin_item(1);
                let result = call_with(function, arguments);
                self.settle(py, task, 0, 1, result)
            }
            kind::ITEM => {
                self.worker.begin_item(1);
                let result = call_item(function, arguments, star);
                self.settle(py, task, 0, 1, result)
            }
            kind::LIST => match self.call_each(py, task, function, arguments) {
                Ok(None) => Ok(()),
                Ok(Some(results)) => self.settle(py, task, 0, task.items, Ok(results.into_any())),
                Err(error) => self.raised(py, task, 0, task.items, error),
            },
            kind::EACH => {
                for (number, item) in (0u32..).zip(arguments.cast::<PyList>()?) {
                    self.worker.begin_item(number + 1);
                    let result = look_for_signals(py).and_then(|()| call_item(function, &item, star));
                    self.settle(py, task, number, 1, result)?;
                }
                Ok(())
            }
            _ => Err(damaged()),
        }
    }

    /// The results of a list of items; nothing when the job was given up meanwhile.
    fn call_each<'py>(
        &self,
        py: Python<'py>,
        task: Task,
        function: &Bound<'py, PyAny>,
        items: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyList>>> {
        let star = task.kind & kind::STAR != 0;
        let results = PyList::empty(py);
        for (number, item) in (1u32..).zip(items.cast::<PyList>()?) {
            if !self.is_wanted(task) {
                return Ok(None);
            }
            self.worker.begin_item(number);
            look_for_signals(py)?;
            results.append(call_item(function, &item, star)?)?;
            self.end_copy();
        }
        Ok(Some(results))
    }

    fn settle(
        &mut self,
        py: Python<'_>,
        task: Task,
        offset: u32,
        items: u32,
        result: PyResult<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.end_copy();
        let object = match result {
            Ok(object) => object,
            Err(error) => return self.raised(py, task, offset, items, error),
        };
        if let Some(bytes) = codec::encode(&object) {
            return match self.answer(task, offset, items, Status::Returned, &bytes, &[]) {
                // The answer that says so is short.
                Err(full) if full.is_instance_of::<PyMemoryError>(py) => {
                    self.raised(py, task, offset, items, full)
                }
                answered => answered,
            };
        }
        self.settle_pickled(py, task, offset, items, object)
    }

    /// A result that the codec does not know.
    #[inline(never)]
    fn settle_pickled(
        &mut self,
        py: Python<'_>,
        task: Task,
        offset: u32,
        items: u32,
        object: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        match pickling::pickle_into(&object, Way::Copying) {
            Ok((bytes, mut carried)) => {
                match self.answer(task, offset, items, Status::Returned, bytes.as_bytes(), &carried) {
                    // The answer that says so is short.
                    Err(full) if full.is_instance_of::<PyMemoryError>(py) => {
                        self.raised(py, task, offset, items, full)
                    }
                    answered => {
                        carried.take_offers().sent();
                        answered
                    }
                }
            }
            // Long parts of a result are in shared memory before the answer is.
            Err(full) if full.is_instance_of::<PyMemoryError>(py) => {
                self.raised(py, task, offset, items, full)
            }
            Err(error) if error.is_instance_of::<PyException>(py) || task.kind & kind::OF_EXECUTOR != 0 => {
                let refused = if task.kind & kind::OF_LIST == 0 {
                    object
                } else {
                    PyList::new(py, [object])?.into_any()
                };
                let bytes = self.encode_result_error.bind(py).call1((error.value(py), refused))?;
                self.answer(task, offset, items, Status::Raised, bytes.cast::<PyBytes>()?.as_bytes(), &[])
            }
            Err(error) => self.raised(py, task, offset, items, error),
        }
    }

    /// A call of an executor whose arguments cannot be unpickled here: its future says so.
    fn unreadable(&mut self, py: Python<'_>, task: Task, error: PyErr) -> PyResult<()> {
        let told = py.import("manyhands._worker")?.getattr("unreadable_call")?;
        let told = PyErr::from_value(told.call1((error.into_value(py),))?);
        self.raised(py, task, 0, task.items, told)
    }

    /// An exception is the task's outcome, `SystemExit` and `KeyboardInterrupt` too: the item fails, the worker goes on.
    fn raised(&mut self, py: Python<'_>, task: Task, offset: u32, items: u32, error: PyErr) -> PyResult<()> {
        self.encoded(py, task, offset, items, Status::Raised, error)
    }

    fn encoded(
        &mut self,
        py: Python<'_>,
        task: Task,
        offset: u32,
        items: u32,
        status: Status,
        error: PyErr,
    ) -> PyResult<()> {
        self.end_copy();
        // `into_value` and not `value`: before 3.12 only that gives the exception its traceback.
        let exception = error.into_value(py);
        let mut attempt = 1;
        let bytes = loop {
            match self.encode_error.bind(py).call1((&exception,)) {
                Err(_) if attempt < ENCODING_ATTEMPTS => attempt += 1,
                encoded => break encoded?,
            }
        };
        self.answer(task, offset, items, status, bytes.cast::<PyBytes>()?.as_bytes(), &[])
    }

    fn answer(
        &mut self,
        task: Task,
        offset: u32,
        items: u32,
        status: Status,
        bytes: &[u8],
        carried: &[Handle],
    ) -> PyResult<()> {
        self.end_copy();
        let nanoseconds = u64::try_from(self.worker.running_for().as_nanos()).unwrap_or(u64::MAX);
        let answer = Answer { job: task.job, index: task.index + offset, items, status, nanoseconds };
        let result = Message { parts: &[bytes], carried };
        self.worker.answer_message(answer, result).map_err(error::send)
    }

    fn function<'py>(&mut self, py: Python<'py>, function: Function) -> PyResult<Bound<'py, PyAny>> {
        if let Some((_, known)) = self.functions.get(&function.id) {
            return Ok(known.bind(py).clone());
        }
        let missing = || PyRuntimeError::new_err("the pool has dropped the function of this task");
        let bytes = self.worker.function(function).ok_or_else(missing)?;
        let object = pickling::loads(py, &bytes)?;
        if !stays_the_same(&object)? {
            return Ok(object);
        }
        // What the pool has withdrawn is not needed any more: it may hold much memory.
        let worker = &self.worker;
        self.functions.retain(|_, (function, _)| worker.is_published(*function));
        if self.functions.len() >= MOST_FUNCTIONS {
            self.functions.clear();
        }
        self.functions.insert(function.id, (function, object.clone().unbind()));
        Ok(object)
    }
}

/// Whether a call cannot change what the next call of it does, but for what any function may change: true of functions
/// and classes. A callable object, a partial or a bound method is made anew for each task, as in the standard library.
fn stays_the_same(function: &Bound<'_, PyAny>) -> PyResult<bool> {
    if function.is_exact_instance_of::<PyCFunction>() {
        let of = function.getattr("__self__")?;
        return Ok(of.is_none() || of.is_instance_of::<PyModule>());
    }
    Ok(function.is_exact_instance_of::<PyFunction>() || function.is_instance_of::<PyType>())
}

fn decode<'py>(py: Python<'py>, bytes: &[u8], block: Option<Block>) -> PyResult<Bound<'py, PyAny>> {
    let Some(block) = block else { return pickling::loads(py, bytes) };
    let bytes = PyBytes::new_with(py, block.len(), |to| {
        block.copy_to(to);
        Ok(())
    })?;
    // What the arguments carry is there for as long as the block is.
    let carrier = block.carries().then_some(block);
    let _opening = carrier.as_ref().map(Block::opening);
    pickling::loads_bytes(&bytes)
}

/// `os._exit(0)`.
#[cold]
fn exit_quietly() -> ! {
    let _ = Python::attach(|py| py.import("os")?.call_method1("_exit", (0,)).map(drop));
    // It does not return.
    std::process::abort()
}

fn call_with<'py>(
    function: &Bound<'py, PyAny>,
    arguments: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let pair = arguments.cast::<PyTuple>()?;
    let args = pair.get_item(0)?.cast_into::<PyTuple>()?;
    let keywords = pair.get_item(1)?;
    if keywords.is_none() {
        return function.call1(args);
    }
    function.call(args, Some(keywords.cast::<PyDict>()?))
}

fn call_item<'py>(
    function: &Bound<'py, PyAny>,
    item: &Bound<'py, PyAny>,
    star: bool,
) -> PyResult<Bound<'py, PyAny>> {
    if star { function.call1(item.try_iter()?.collect_tuple()?) } else { function.call1((item,)) }
}

/// Unpacking as `f(*item)` does it.
trait CollectTuple<'py> {
    fn collect_tuple(self) -> PyResult<Bound<'py, PyTuple>>;
}

impl<'py> CollectTuple<'py> for Bound<'py, pyo3::types::PyIterator> {
    fn collect_tuple(self) -> PyResult<Bound<'py, PyTuple>> {
        let py = self.py();
        let items = self.collect::<PyResult<Vec<_>>>()?;
        PyTuple::new(py, items)
    }
}
