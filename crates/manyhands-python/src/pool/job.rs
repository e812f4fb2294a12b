//! One call of the user's and what has become of it so far.

use super::PyPool;
use super::map::{self, Map};
use super::stream::Stream;
use crate::blocking;
use crate::worker::kind;
use manyhands::Deadline;
use manyhands::pool::{Answer, Function, Status, Task};
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
    pool: Py<PyPool>,
    done: AtomicBool,
    state: Mutex<JobState>,
}

#[derive(Debug)]
pub(super) struct JobState {
    pub(super) id: u32,
    pub(super) form: Form,
    /// A function published for this job alone.
    pub(super) own_function: Option<Function>,
    callback: Option<Py<PyAny>>,
    error_callback: Option<Py<PyAny>>,
    outcome: Option<Outcome>,
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
}

/// What a job wants to have done after it has taken something in.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    /// Items that are settled by it.
    pub(super) items: usize,
    /// The job is complete.
    pub(super) complete: bool,
}

#[pymethods]
impl PyJob {
    /// A result that is an exception leads, through its traceback and the frames in it, back to the job.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.pool)?;
        // Held only while something is changed: then the job is in use, and no garbage.
        let Ok(state) = self.state.try_lock() else { return Ok(()) };
        for callback in [&state.callback, &state.error_callback].into_iter().flatten() {
            visit.call(callback)?;
        }
        match &state.outcome {
            Some(Ok(outcome) | Err(outcome)) => visit.call(outcome),
            None => Ok(()),
        }
    }

    fn __clear__(&self) {
        let Ok(mut state) = self.state.try_lock() else { return };
        let dropped = (state.outcome.take(), state.callback.take(), state.error_callback.take());
        drop(state);
        drop(dropped);
    }

    #[new]
    #[pyo3(signature = (pool, callback=None, error_callback=None))]
    fn new(pool: Py<PyPool>, callback: Option<Py<PyAny>>, error_callback: Option<Py<PyAny>>) -> Self {
        let state = JobState {
            id: 0,
            form: Form::Fresh,
            own_function: None,
            callback,
            error_callback,
            outcome: None,
        };
        Self { pool, done: AtomicBool::new(false), state: Mutex::new(state) }
    }

    /// Whether the call has completed.
    fn ready(&self, py: Python<'_>) -> PyResult<bool> {
        if !self.is_done() {
            self.pool.get().glance(py)?;
        }
        Ok(self.is_done())
    }

    /// Whether the call completed without raising; `ValueError` when it has not completed.
    fn successful(&self, py: Python<'_>) -> PyResult<bool> {
        if !self.ready(py)? {
            return Err(PyValueError::new_err("the result is not ready yet"));
        }
        Ok(matches!(self.state().outcome, Some(Ok(_))))
    }

    /// Waits until the call has completed, or for `timeout` seconds.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.wait_until(py, deadline(timeout)?).map(|_| ())
    }

    /// The result, or its exception raised; `multiprocessing.TimeoutError` when `timeout` seconds pass first.
    #[pyo3(signature = (timeout=None))]
    pub(super) fn get(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        if !self.wait_until(py, deadline(timeout)?)? {
            return Err(timeout_error(py));
        }
        match &self.state().outcome {
            Some(Ok(result)) => Ok(result.clone_ref(py)),
            Some(Err(exception)) => Err(PyErr::from_value(exception.bind(py).clone())),
            None => Err(PyValueError::new_err("this job has no single result")),
        }
    }

    /// The next result of a stream, or its exception raised.
    #[pyo3(signature = (timeout=None))]
    fn next(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let deadline = deadline(timeout)?;
        loop {
            match self.take_next()? {
                Taken::Outcome(Ok(result)) => return Ok(result),
                Taken::Outcome(Err(exception)) => return Err(PyErr::from_value(exception.into_bound(py))),
                Taken::End => return Err(PyStopIteration::new_err(())),
                Taken::NotYet if deadline.passed() => return Err(timeout_error(py)),
                Taken::NotYet => {
                    let ready = || self.has_next();
                    self.pool.get().wait_until(py, &ready, deadline)?;
                }
            }
        }
    }

    /// Adds items to a stream; `last` says that no more come.
    fn push(slf: &Bound<'_, Self>, items: Vec<Py<PyAny>>, last: bool) -> PyResult<()> {
        let count = items.len();
        Self::pushed(slf, count, |stream| stream.push(items, last))
    }

    /// The iterable of a stream raised: that is what comes after the items before.
    fn push_error(slf: &Bound<'_, Self>, exception: Py<PyAny>) -> PyResult<()> {
        Self::pushed(slf, 0, |stream| stream.push_error(exception))
    }
}

pub(super) enum Taken {
    Outcome(Outcome),
    NotYet,
    End,
}

fn deadline(timeout: Option<f64>) -> PyResult<Deadline> {
    timeout.map_or(Ok(Deadline::NEVER), blocking::after)
}

fn timeout_error(py: Python<'_>) -> PyErr {
    let class = py.import("multiprocessing.context").and_then(|m| m.getattr("TimeoutError"));
    match class.and_then(|class| class.call0()) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

impl PyJob {
    fn pushed(slf: &Bound<'_, Self>, count: usize, change: impl FnOnce(&mut Stream)) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let pool = this.pool.get();
        let (id, accepted) = {
            let mut state = this.state();
            let id = state.id;
            let Form::Stream(stream) = &mut state.form else { return Ok(()) };
            if stream.has_ended() {
                // Abandoned meanwhile.
                return Ok(());
            }
            change(stream);
            // An open stream counts as one item, so that a closing pool waits for what may still be pushed.
            let items = usize::from(stream.has_ended());
            (id, Accepted { items, complete: stream.is_settled() })
        };
        pool.note_submitted(py, count)?;
        pool.feed_job(py, slf)?;
        pool.after(py, slf, id, accepted)?;
        pool.look_again();
        Ok(())
    }

    pub(super) fn state(&self) -> MutexGuard<'_, JobState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    pub(super) fn wait_until(&self, py: Python<'_>, deadline: Deadline) -> PyResult<bool> {
        if self.is_done() {
            return Ok(true);
        }
        self.pool.get().wait_until(py, &|| self.is_done(), deadline)
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

    /// An answer came in.
    pub(super) fn accept(
        &self,
        py: Python<'_>,
        answer: Answer,
        value: PyResult<Bound<'_, PyAny>>,
    ) -> Accepted {
        let outcome = match (answer.status, value) {
            (Status::Returned, Ok(object)) => Ok(object.unbind()),
            (_, Ok(exception)) => Err(exception.unbind()),
            (_, Err(error)) => Err(error.into_value(py).into_any()),
        };
        let mut state = self.state();
        match &mut state.form {
            Form::Fresh => Accepted::default(),
            Form::Single => {
                let late = state.outcome.replace(outcome);
                drop(state);
                Accepted { items: usize::from(late.is_none()), complete: true }
            }
            Form::Map(map) => {
                let Some((items, list)) = map.answered(py, answer) else { return Accepted::default() };
                drop(state);
                let stored = outcome.and_then(|results| map::store(py, &list, answer.index, items, results));
                self.settle_map(py, items, stored.err())
            }
            Form::Stream(stream) => {
                let (items, dropped) = stream.accept(py, answer, outcome);
                let complete = stream.is_settled();
                drop(state);
                drop(dropped);
                Accepted { items, complete }
            }
        }
    }

    /// A worker died over a task of this job; `begun` items of it were begun.
    pub(super) fn lose(
        &self,
        py: Python<'_>,
        task: Task,
        begun: u32,
        died: impl FnOnce(Option<u32>) -> Py<PyAny>,
    ) -> Accepted {
        let mut state = self.state();
        match &mut state.form {
            Form::Fresh => Accepted::default(),
            Form::Single => {
                drop(state);
                self.settle_single(died(None))
            }
            Form::Map(map) => {
                let Some((lost, items)) = map.lose(task, begun) else { return Accepted::default() };
                drop(state);
                self.settle_map(py, items, Some(died(Some(lost))))
            }
            Form::Stream(stream) => {
                let (lost, dropped) = stream.lose(task, begun);
                drop(state);
                drop(dropped);
                self.settle_stream(lost, died)
            }
        }
    }

    fn settle_single(&self, exception: Py<PyAny>) -> Accepted {
        let mut state = self.state();
        if state.outcome.is_some() {
            drop(state);
            return Accepted::default();
        }
        state.outcome = Some(Err(exception));
        Accepted { items: 1, complete: true }
    }

    fn settle_map(&self, py: Python<'_>, items: u32, exception: Option<Py<PyAny>>) -> Accepted {
        let mut state = self.state();
        let Form::Map(map) = &mut state.form else { return Accepted::default() };
        let dropped = map.settle(items, exception);
        let complete = map.is_settled();
        if complete {
            state.outcome = Some(map.outcome(py));
        }
        drop(state);
        drop(dropped);
        Accepted { items: items as usize, complete }
    }

    fn settle_stream(&self, lost: Option<u32>, died: impl FnOnce(Option<u32>) -> Py<PyAny>) -> Accepted {
        let exception = lost.map(|item| (item, died(Some(item))));
        let mut state = self.state();
        let Form::Stream(stream) = &mut state.form else { return Accepted::default() };
        let items = usize::from(exception.is_some());
        if let Some((item, exception)) = exception {
            stream.settle(item, Err(exception));
        }
        Accepted { items, complete: stream.is_settled() }
    }

    /// Nothing of this job will be done any more.
    pub(super) fn abandon(&self, py: Python<'_>, reason: &Py<PyAny>) {
        let mut state = self.state();
        let dropped = match &mut state.form {
            Form::Stream(stream) => stream.abandon(|| reason.clone_ref(py)),
            _ => {
                state.outcome.get_or_insert_with(|| Err(reason.clone_ref(py)));
                Vec::new()
            }
        };
        drop(state);
        drop(dropped);
    }

    /// The job is complete: callbacks run, then waiters see it. Called once, with no lock held.
    pub(super) fn complete(&self, py: Python<'_>) {
        let mut finished = None;
        let (callback, argument) = {
            let mut state = self.state();
            let callbacks = (state.callback.take(), state.error_callback.take());
            // Items are not kept alive by a result that somebody keeps; they are dropped with no lock held.
            if !matches!(state.form, Form::Stream(_)) {
                finished = Some(std::mem::replace(&mut state.form, Form::Single));
            }
            match &state.outcome {
                Some(Ok(result)) => (callbacks.0, Some(result.clone_ref(py))),
                Some(Err(exception)) => (callbacks.1, Some(exception.clone_ref(py))),
                None => (None, None),
            }
        };
        drop(finished);
        if let (Some(callback), Some(argument)) = (callback, argument)
            && let Err(error) = callback.bind(py).call1((argument,))
        {
            // Somebody else's mistake stops nothing.
            error.write_unraisable(py, Some(callback.bind(py)));
        }
        self.done.store(true, Ordering::Release);
    }

    pub(super) fn id(&self) -> u32 {
        self.state().id
    }

    /// A map over nothing is complete at once; whether this is one.
    pub(super) fn settle_empty(&self, py: Python<'_>) -> bool {
        self.settle_map(py, 0, None).complete
    }

    pub(super) fn begin(&self, id: u32, form: Form, own_function: Option<Function>) {
        let mut state = self.state();
        state.id = id;
        state.form = form;
        state.own_function = own_function;
    }
}

/// The kind of task for so many items.
pub(super) fn task_kind(items: usize, star: bool, one_by_one: bool) -> u32 {
    let kind = match (items, one_by_one) {
        (1, _) => kind::ITEM,
        (_, true) => kind::EACH,
        (_, false) => kind::LIST,
    };
    if star { kind | kind::STAR } else { kind }
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
