//! One call of the user's and what has become of it so far.

use super::PyPool;
use super::driver;
use super::fed_by::FedBy;
use super::functions::Used;
use super::map::Map;
use super::stream::Stream;
use crate::arguments::{Limit, Timeout, Truth};
use crate::blocking;
use crate::worker::kind;
use manyhands::Deadline;
use pyo3::PyTraverseError;
use pyo3::exceptions::{PyStopIteration, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An item's outcome: a result, or the exception to raise.
pub(super) type Outcome = Result<Py<PyAny>, Py<PyAny>>;

/// A job: what `apply_async`, `map_async` and `imap` return is one of these.
#[pyclass(name = "Job", module = "manyhands._manyhands", subclass, frozen)]
#[derive(Debug)]
pub(crate) struct PyJob {
    pub(super) pool: Py<PyPool>,
    pub(super) done: AtomicBool,
    state: Mutex<JobState>,
}

#[derive(Debug)]
pub(super) struct JobState {
    pub(super) id: u32,
    pub(super) form: Form,
    /// Of a list: how many items go into a chunk that counts as one of `_number_left`.
    counted_by: usize,
    pub(super) manner: Manner,
    /// What it calls.
    pub(super) function: Used,
    pub(super) callback: Option<Py<PyAny>>,
    pub(super) error_callback: Option<Py<PyAny>>,
    pub(super) outcome: Option<Outcome>,
    /// What must live until the job is complete: Python's pool.
    pub(super) keeper: Option<Py<PyAny>>,
}

/// What is to happen when an item fails.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    /// The exception takes the item's place among the results.
    pub(super) keep: bool,
    /// The whole job fails with it at once, and items that were not begun are dropped.
    pub(super) fail_fast: bool,
}

/// What kind of call it is.
#[derive(Debug)]
pub(super) enum Form {
    /// Nothing was submitted yet.
    Fresh,
    /// One call. What to submit again is not needed: a call that was started is lost with its worker.
    Single,
    /// A list in, a list out.
    Map(Map),
    /// Results one by one.
    Stream(Stream),
    /// Its outcome is known: late answers are nobody's.
    Over,
}

/// What a job wants to have done after it has taken something in.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    /// Items that are settled by it.
    pub(super) items: usize,
    /// The job is complete.
    pub(super) complete: bool,
    /// It is a stream: somebody may wait for this very result.
    pub(super) flows: bool,
}

#[pymethods]
impl PyJob {
    /// A result that is an exception leads, through its traceback and the frames in it, back to the job.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.pool)?;
        // Held only while something is changed: then the job is in use, and no garbage.
        let Ok(state) = self.state.try_lock() else { return Ok(()) };
        for held in [&state.callback, &state.error_callback, &state.keeper].into_iter().flatten() {
            visit.call(held)?;
        }
        match &state.form {
            Form::Map(map) => map.traverse(&visit)?,
            Form::Stream(stream) => stream.traverse(&visit)?,
            Form::Fresh | Form::Single | Form::Over => {}
        }
        match &state.outcome {
            Some(Ok(outcome) | Err(outcome)) => visit.call(outcome),
            None => Ok(()),
        }
    }

    fn __clear__(&self) {
        let Ok(mut state) = self.state.try_lock() else { return };
        let callbacks = (state.callback.take(), state.error_callback.take());
        let form = std::mem::replace(&mut state.form, Form::Over);
        let dropped = (callbacks, form, state.outcome.take(), state.keeper.take());
        drop(state);
        drop(dropped);
    }

    #[new]
    #[pyo3(
        signature = (
            pool, callback=None, error_callback=None, keeper=None, return_exceptions=Truth(false), fail_fast=Truth(false)
        ),
        text_signature = "(pool, callback=None, error_callback=None, keeper=None, return_exceptions=False, fail_fast=False)"
    )]
    fn new(
        pool: Bound<'_, PyAny>,
        callback: Option<Bound<'_, PyAny>>,
        error_callback: Option<Bound<'_, PyAny>>,
        keeper: Option<Py<PyAny>>,
        return_exceptions: Truth,
        fail_fast: Truth,
    ) -> PyResult<Self> {
        let (pool, keeper) = match pool.cast_into::<PyPool>() {
            Ok(pool) => (pool.unbind(), keeper),
            // Python's pool: what recipes make a result of, as the standard library does.
            Err(other) => {
                let python = other.into_inner();
                let pool = python.getattr("_core")?.cast_into::<PyPool>()?.unbind();
                (pool, keeper.or(Some(python.unbind())))
            }
        };
        // One that is false is none, as in the standard library.
        let wanted = |callback: Option<Bound<'_, PyAny>>| {
            callback.filter(|callback| callback.is_truthy().unwrap_or(true)).map(Bound::unbind)
        };
        let state = JobState {
            id: 0,
            form: Form::Fresh,
            counted_by: 0,
            manner: Manner { keep: return_exceptions.0, fail_fast: fail_fast.0 },
            function: Used::Nothing,
            callback: wanted(callback),
            error_callback: wanted(error_callback),
            outcome: None,
            keeper,
        };
        Ok(Self { pool, done: AtomicBool::new(false), state: Mutex::new(state) })
    }

    /// Its number in its pool; 0 before it has something to do.
    #[getter]
    fn _id(&self) -> u32 {
        self.id()
    }

    /// Of a list: how many items have no outcome, and the size of chunks that was asked for, or is the standard library's.
    #[getter]
    fn _progress(&self) -> (usize, usize) {
        let state = self.state();
        let left = if let Form::Map(map) = &state.form { map.unsettled() } else { 0 };
        (left, state.counted_by)
    }

    /// Whether it went well, and what came of it: the results so far of a list; `None` while a call has no outcome.
    #[getter]
    fn _outcome(&self, py: Python<'_>) -> Option<(bool, Py<PyAny>)> {
        let state = self.state();
        match (&state.outcome, &state.form) {
            (Some(Ok(result)), _) => Some((true, result.clone_ref(py))),
            (Some(Err(exception)), _) => Some((false, exception.clone_ref(py))),
            (None, Form::Map(map)) => Some(map.so_far(py)),
            (None, _) => None,
        }
    }

    /// Whether the call has completed.
    fn ready(&self, py: Python<'_>) -> PyResult<bool> {
        if !self.is_done() {
            self.pool.get().glance(py)?;
        }
        Ok(self.is_done())
    }

    /// Whether the call completed without raising; `ValueError` when it has not completed.
    fn successful(slf: &Bound<'_, Self>) -> PyResult<bool> {
        if !slf.get().ready(slf.py())? {
            return Err(PyValueError::new_err(format!("{} not ready", slf.repr()?)));
        }
        Ok(matches!(slf.get().state().outcome, Some(Ok(_))))
    }

    /// Waits until the call has completed, or for `timeout` seconds.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        self.wait_at_most(py, timeout).map(drop)
    }

    /// The result, or its exception raised; `multiprocessing.TimeoutError` when `timeout` seconds pass first.
    #[pyo3(signature = (timeout=None))]
    pub(super) fn get(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        if !self.wait_at_most(py, timeout)? {
            return Err(timeout_error(py));
        }
        // What a signal handler raises comes before what a worker has made of the same signal.
        py.check_signals()?;
        match &self.state().outcome {
            Some(Ok(result)) => Ok(result.clone_ref(py)),
            Some(Err(exception)) => Err(PyErr::from_value(exception.bind(py).clone())),
            None => Err(PyValueError::new_err("this job has no single result")),
        }
    }

    /// The next result of a stream, or its exception raised.
    #[pyo3(signature = (timeout=None))]
    fn next(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        blocking::look_for_signals(py)?;
        let mut until = None;
        loop {
            let taken = self.take_next()?;
            let deadline = match until {
                None if matches!(taken, Taken::NotYet) => *until.insert(deadline(timeout)?),
                until => until.unwrap_or(Deadline::NEVER),
            };
            match taken {
                Taken::Outcome(Ok(result)) => return Ok(result),
                Taken::Outcome(Err(exception)) => return Err(PyErr::from_value(exception.into_bound(py))),
                Taken::End => return Err(PyStopIteration::new_err(())),
                Taken::NotYet if deadline.passed() => return Err(timeout_error(py)),
                Taken::NotYet => {
                    let ready = || self.has_next();
                    self.pool.get().wait_until(py, Some(self.id()), &ready, deadline)?;
                }
            }
        }
    }

    /// Adds items to a stream; `last` says that no more come. `False` when the stream takes no more.
    fn push(slf: &Bound<'_, Self>, items: Vec<Py<PyAny>>, last: bool) -> PyResult<bool> {
        let count = items.len();
        let pushed = Self::pushed(slf, count, |stream| stream.push(items, last))?;
        slf.get().pool.get().raise_held()?;
        Ok(pushed)
    }

    /// The iterable of a stream raised: that is what comes after the items before.
    fn push_error(slf: &Bound<'_, Self>, exception: Py<PyAny>) -> PyResult<()> {
        Self::pushed(slf, 0, |stream| stream.push_error(exception)).map(drop)
    }
}

/// Where a stream's items come from.
#[derive(Debug)]
pub(super) struct Source<'py> {
    pub(super) items: Vec<Py<PyAny>>,
    /// What the iterable raised behind them.
    pub(super) error: Option<Py<PyAny>>,
    /// What pushes them, in a thread of its own.
    pub(super) feeder: Option<Bound<'py, PyAny>>,
}

pub(super) enum Taken {
    Outcome(Outcome),
    NotYet,
    End,
}

pub(super) fn deadline(timeout: Timeout<'_, '_>) -> PyResult<Deadline> {
    Ok(Limit::of_thread(timeout)?.deadline()?.unwrap_or_else(|| blocking::after(0.0)))
}

fn timeout_error(py: Python<'_>) -> PyErr {
    let class = py.import("multiprocessing.context").and_then(|m| m.getattr("TimeoutError"));
    match class.and_then(|class| class.call0()) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

impl PyJob {
    /// A stream that was just opened gets its items, or a thread that pushes them. In any case it ends: an open stream
    /// that nobody feeds would have `close` wait for it.
    pub(super) fn pour(slf: &Bound<'_, Self>, source: Source<'_>) -> PyResult<()> {
        let Source { items, error, feeder } = source;
        let Some(feeder) = feeder else {
            let count = items.len();
            Self::pushed(slf, count, |stream| stream.push(items, error.is_none()))?;
            return error
                .map_or(Ok(()), |error| Self::pushed(slf, 0, |stream| stream.push_error(error)).map(drop));
        };
        let fed = FedBy::thread(slf, &feeder)?;
        driver::start_thread(&fed, &[]).inspect_err(|refused| {
            // Before what it is held by is dropped, which would give another reason.
            Self::end_with(slf, refused.clone_ref(slf.py()));
        })
    }

    /// The stream ends with this error; unless it has ended, or the pool has, and the stream with it.
    pub(super) fn end_with(slf: &Bound<'_, Self>, reason: PyErr) {
        let reason = reason.into_value(slf.py()).into_any();
        let _ = Self::pushed(slf, 0, |stream| stream.push_error(reason));
    }

    fn pushed(slf: &Bound<'_, Self>, count: usize, change: impl FnOnce(&mut Stream)) -> PyResult<bool> {
        let (py, this) = (slf.py(), slf.get());
        let pool = this.pool.get();
        pool.check_owner()?;
        let (id, accepted) = {
            let mut state = this.state();
            let id = state.id;
            let Form::Stream(stream) = &mut state.form else { return Ok(false) };
            if stream.has_ended() {
                // Abandoned meanwhile.
                return Ok(false);
            }
            change(stream);
            // An open stream counts as one item, so that a closing pool waits for what may still be pushed.
            let items = usize::from(stream.has_ended());
            (id, Accepted { items, complete: stream.is_settled(), flows: true })
        };
        pool.note_submitted(py, count);
        pool.feed_new(py, slf);
        pool.after(py, slf, id, accepted);
        pool.look_again();
        Ok(true)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, JobState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// As in the standard library, nobody looks at a timeout once the job is done.
    fn wait_at_most(&self, py: Python<'_>, timeout: Timeout<'_, '_>) -> PyResult<bool> {
        let deadline = if self.is_done() { Deadline::NEVER } else { deadline(timeout)? };
        self.wait_until(py, deadline)
    }

    pub(super) fn wait_until(&self, py: Python<'_>, deadline: Deadline) -> PyResult<bool> {
        if self.is_done() {
            return Ok(true);
        }
        let (pool, id) = (self.pool.get(), self.id());
        // Its own callback may ask for the outcome, which is known.
        if pool.is_in_callback(id) {
            return Ok(true);
        }
        pool.wait_until(py, Some(id), &|| self.is_done(), deadline)
    }

    fn has_next(&self) -> bool {
        match &self.state().form {
            Form::Stream(stream) => stream.has_next(),
            _ => true,
        }
    }

    fn take_next(&self) -> PyResult<Taken> {
        match &mut self.state().form {
            Form::Stream(stream) => Ok(stream.take()),
            _ => Err(PyValueError::new_err("this job is not a stream")),
        }
    }

    pub(super) fn id(&self) -> u32 {
        self.state().id
    }

    pub(super) fn begin(&self, id: u32, form: Form, function: Used) {
        let mut state = self.state();
        state.id = id;
        state.counted_by = if let Form::Map(map) = &form { map.counted_by() } else { 0 };
        state.form = form;
        state.function = function;
    }
}

/// The kind of task for so many items.
pub(super) fn task_kind(items: usize, star: bool, one_by_one: bool, watched: bool) -> u32 {
    let kind = match (items, one_by_one) {
        (1, _) => kind::ITEM,
        (_, true) => kind::EACH,
        (_, false) => kind::LIST,
    };
    kind | if star { kind::STAR } else { 0 } | if watched { kind::WATCHED } else { 0 }
}

/// `(args, kwds)` as a worker expects them.
pub(super) fn call_arguments<'py>(
    py: Python<'py>,
    args: &Bound<'py, PyTuple>,
    kwds: Option<&Bound<'py, pyo3::types::PyDict>>,
) -> PyResult<Bound<'py, PyTuple>> {
    let kwds = kwds.filter(|k| !k.is_empty());
    (args, kwds).into_pyobject(py)
}
