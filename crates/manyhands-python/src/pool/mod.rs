//! The pool that Python sees: jobs of Python objects over the engine's tasks of bytes.
//!
//! Nothing here holds a lock while Python code runs: a callback, an unpickling or a `__del__` may use the pool.

mod acting;
mod callbacks;
mod calling;
mod calls;
mod collecting;
mod driver;
mod executor;
mod fed_by;
mod feeding;
mod functions;
mod future;
mod interrupts;
mod job;
mod leadership;
mod leading;
mod map;
mod settling;
mod starting;
mod stream;
mod workers;

pub(crate) use driver::{drivers_after_fork_in_child, drivers_after_fork_in_parent, drivers_before_fork};
pub(crate) use executor::PyCalls;
pub(crate) use job::PyJob;

use crate::error;
use crate::offers;
use crate::pickling;
use crate::worker::kind;
use executor::Executor;
use functions::{Functions, Used};
use interrupts::Interrupts;
use job::{Accepted, Form, Source, call_arguments};
use leadership::Leadership;
use manyhands::family::{self, Family};
use manyhands::pool::{AnswerBatch, Event, Pool, Scheduler, State, Task, TaskBatch};
use manyhands::{Deadline, Handle, Message};
use map::Map;
use pyo3::PyTraverseError;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use settling::Concluded;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use stream::Stream;
use workers::Workers;

/// The engine of `manyhands.pool.Pool`.
#[pyclass(name = "Pool", module = "manyhands._manyhands", frozen, weakref)]
#[derive(Debug)]
pub(crate) struct PyPool {
    engine: Arc<Pool>,
    /// The process that made the pool; in a forked child it is only a picture of a pool.
    owner: u64,
    leadership: Arc<Leadership>,
    interrupts: Interrupts,
    /// To be destroyed as soon as nobody leads.
    destroy_wanted: AtomicBool,
    state: Mutex<PoolState>,
    /// Answers that were collected and not taken in yet: whoever leads, first or again, takes the next one.
    collected: Mutex<AnswerBatch>,
    hooks: Hooks,
    /// Set when the pool is an executor's.
    executor: OnceLock<Executor>,
}

/// What Python does for the pool; see `manyhands.pool._Workers`.
#[derive(Debug)]
struct Hooks {
    /// `make(seat, bell) -> (Process, kept away)`: a process to be started, and which signals are kept from this thread
    /// meanwhile. Nothing once the pool has ended: what it leads to is not kept any longer.
    make: Mutex<Option<Py<PyAny>>>,
    /// `died(process, item) -> WorkerDied`
    died: Py<PyAny>,
    /// `decode_error(bytes) -> exception`
    decode_error: Py<PyAny>,
    /// `undecodable(error) -> exception`
    undecodable: Py<PyAny>,
}

impl Hooks {
    fn make(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let make = self.make.lock().unwrap_or_else(PoisonError::into_inner);
        let over = || PyRuntimeError::new_err("the pool has ended");
        make.as_ref().map(|make| make.clone_ref(py)).ok_or_else(over)
    }

    fn forget_make(&self) -> Option<Py<PyAny>> {
        self.make.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[derive(Debug)]
struct PoolState {
    scheduler: Scheduler,
    jobs: HashMap<u32, Py<PyJob>>,
    /// Complete but for their callbacks.
    callbacks: VecDeque<Py<PyJob>>,
    /// Those whose callbacks are running.
    calling_back: Vec<Py<PyJob>>,
    workers: Workers,
    functions: Functions,
    next_job: u32,
    /// Jobs of which tasks are to be given out, but for want of time were not.
    hungry: Vec<u32>,
    /// Why the pool cannot work.
    broken: Option<Py<PyAny>>,
    /// Why the last worker could not be started, if it could not.
    refused: Option<Py<PyAny>>,
    /// When a worker that could not be started is tried again.
    retry: Option<Deadline>,
    destroyed: bool,
}

#[pymethods]
impl PyPool {
    #[new]
    fn new(
        seats: usize,
        make: Py<PyAny>,
        died: Py<PyAny>,
        decode_error: Py<PyAny>,
        undecodable: Py<PyAny>,
    ) -> PyResult<Self> {
        let most = manyhands::pool::MOST_SEATS;
        if seats == 0 || seats > most {
            return Err(PyValueError::new_err(format!("a pool has 1 to {most} workers, not {seats}")));
        }
        let family = Family::current().map_err(error::family)?;
        let engine = Arc::new(Pool::create(family, seats).map_err(error::pool)?);
        // The first workers are started by `start_workers`, once Python can reach the pool.
        let (scheduler, _) = Scheduler::new(seats);
        let state = PoolState {
            scheduler,
            jobs: HashMap::new(),
            callbacks: VecDeque::new(),
            calling_back: Vec::new(),
            workers: Workers::new(seats),
            functions: Functions::default(),
            next_job: 0,
            hungry: Vec::new(),
            broken: None,
            refused: None,
            retry: None,
            destroyed: false,
        };
        Ok(Self {
            engine,
            owner: family::process_identity(),
            leadership: Arc::default(),
            interrupts: Interrupts::default(),
            destroy_wanted: AtomicBool::new(false),
            state: Mutex::new(state),
            collected: Mutex::new(AnswerBatch::default()),
            hooks: Hooks { make: Mutex::new(Some(make)), died, decode_error, undecodable },
            executor: OnceLock::new(),
        })
    }

    /// A pool leads to whatever its jobs, functions, workers and errors lead to, and so perhaps back to itself.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Hooks { make, died, decode_error, undecodable } = &self.hooks;
        for hook in [died, decode_error, undecodable] {
            visit.call(hook)?;
        }
        // Held only while it is looked at.
        let Ok(make) = make.try_lock() else { return Ok(()) };
        make.iter().try_for_each(|make| visit.call(make))?;
        if let Some(executor) = self.executor.get() {
            visit.call(&executor.broken)?;
            // As below.
            let Ok(calls) = executor.calls.try_lock() else { return Ok(()) };
            calls.traverse(&visit)?;
        }
        // Held only while something is changed: then the pool is in use, and no garbage.
        let Ok(state) = self.state.try_lock() else { return Ok(()) };
        for job in state.jobs.values().chain(&state.callbacks).chain(&state.calling_back) {
            visit.call(job)?;
        }
        for object in state
            .functions
            .objects()
            .chain(&state.broken)
            .chain(&state.refused)
            .chain(state.workers.objects())
        {
            visit.call(object)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let Ok(mut state) = self.state.try_lock() else { return };
        let jobs = (std::mem::take(&mut state.jobs), std::mem::take(&mut state.callbacks));
        let dropped = (jobs, state.broken.take(), state.refused.take());
        drop(state);
        drop(dropped);
    }

    /// By what workers find the pool, and the descriptor they must inherit.
    fn _address(&self) -> ((u64, u32), i32) {
        let Handle { offset, generation } = self.engine.handle();
        ((offset, generation), self.bell())
    }

    /// Starts a worker for every seat, or none.
    fn start_workers(&self, py: Python<'_>) -> PyResult<()> {
        self.start_all(py)
    }

    /// Submits one call, as the whole of `job`. With `drive`, as [`PyPool::want_driver`].
    #[pyo3(signature = (job, func, args, kwds=None, drive=false))]
    fn submit_call(
        slf: &Bound<'_, Self>,
        job: &Bound<'_, PyJob>,
        func: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwds: Option<&Bound<'_, PyDict>>,
        drive: bool,
    ) -> PyResult<()> {
        slf.get().submit_one(job, func, args, kwds)?;
        if drive {
            Self::want_driver_of(slf, false);
        }
        Ok(())
    }

    /// Submits a list of items, as the whole of `job`; `False`, and nothing done, for a function that has to go with each.
    /// With `drive`, as [`PyPool::want_driver`].
    #[pyo3(signature = (job, func, items, star, chunksize=None, drive=false))]
    fn submit_map(
        slf: &Bound<'_, Self>,
        job: &Bound<'_, PyJob>,
        func: &Bound<'_, PyAny>,
        items: Bound<'_, PyList>,
        star: bool,
        chunksize: Option<usize>,
        drive: bool,
    ) -> PyResult<bool> {
        if !slf.get().submit_list(job, func, items, star, chunksize)? {
            return Ok(false);
        }
        let raised = slf.get().raise_held();
        // Of one that was interrupted, too, nobody waits for the rest.
        if drive || raised.is_err() {
            Self::want_driver_of(slf, false);
        }
        raised.map(|()| true)
    }

    /// Makes `job` a stream of results; `False` as `submit_map`. Its items are those of the list, behind which comes the
    /// error, if there is one; or the feeder, called in a thread of its own, pushes them. When this raises, the stream has
    /// ended.
    #[pyo3(signature = (job, func, ordered, chunksize, items=None, error=None, feeder=None))]
    #[expect(
        clippy::too_many_arguments,
        reason = "one step: nothing may come between the stream and its items"
    )]
    fn submit_stream(
        slf: &Bound<'_, Self>,
        job: &Bound<'_, PyJob>,
        func: &Bound<'_, PyAny>,
        ordered: bool,
        chunksize: usize,
        items: Option<Vec<Py<PyAny>>>,
        error: Option<Py<PyAny>>,
        feeder: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        if !slf.get().open_stream(job, func, ordered, chunksize)? {
            return Ok(false);
        }
        let source = Source { items: items.unwrap_or_default(), error, feeder: feeder.cloned() };
        PyJob::pour(job, source)?;
        Self::want_driver_of(slf, false);
        slf.get().raise_held().map(|()| true)
    }

    /// `close`: no more jobs.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.check_owner()?;
        let actions = this.state().scheduler.on(Event::Close);
        this.carry_out(slf.py(), actions);
        Self::want_driver_of(slf, false);
        this.raise_held()
    }

    /// Ends everything: workers are told to end, and killed when they have not within `grace` seconds; whatever was not
    /// done fails, unless nobody is to be `tell`ed; the driver ends, and callbacks that wait are not run. Waits for workers
    /// alone, for no leader. Once more, it does what was left; what a signal's handler raises is raised in the end.
    fn shut_down(&self, py: Python<'_>, tell: bool, grace: f64) -> PyResult<()> {
        self.check_owner()?;
        let ended = self.end_all(py, tell, grace);
        let stopped = self.retire_driver(py);
        self.drop_callbacks(py);
        self.destroy();
        ended.and(stopped).and_then(|()| self.raise_held())
    }

    /// Waits until every worker is gone and every callback has run, at most `timeout` seconds; whether they are. Then the
    /// driver ends, and the shared memory is freed as soon as nobody leads.
    #[pyo3(signature = (timeout=None))]
    fn join(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        self.check_owner()?;
        let deadline = job::deadline(timeout)?;
        let deserted = || self.state().scheduler.is_deserted();
        if self.leadership.is_in_callback(None) || self.leadership.leads_here() {
            let text = "join() inside a callback of the same pool, or inside other code that the pool runs while it \
                        waits, would wait for itself";
            if !deserted() {
                return Err(PyRuntimeError::new_err(text));
            }
        } else if !self.wait_until(py, None, &|| deserted() && self.leadership.is_quiet(), deadline)? {
            return Ok(false);
        }
        self.retire_driver(py)?;
        self.destroy();
        Ok(true)
    }

    /// The workers' processes, as they are now.
    #[getter]
    fn processes(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.state().workers.processes(py)
    }

    /// Where the pool is in its life: `RUN`, `CLOSE`, `TERMINATE` or `BROKEN`.
    #[getter]
    fn state_name(&self) -> &'static str {
        match self.state().scheduler.state() {
            State::Running => "RUN",
            State::Closing => "CLOSE",
            State::Terminating => "TERMINATE",
            State::Broken => "BROKEN",
        }
    }

    /// Items submitted and not settled.
    #[getter]
    fn outstanding(&self) -> usize {
        self.state().scheduler.outstanding()
    }

    /// Jobs that are not complete, or whose callbacks have not run, by number.
    #[getter]
    fn unfinished(&self, py: Python<'_>) -> Vec<(u32, Py<PyJob>)> {
        let state = self.state();
        let callbacks = state.callbacks.iter().chain(&state.calling_back).map(|job| (job.get().id(), job));
        let jobs = state.jobs.iter().map(|(id, job)| (*id, job)).chain(callbacks);
        let mut found: Vec<_> = jobs.map(|(id, job)| (id, job.clone_ref(py))).collect();
        found.sort_by_key(|(id, _)| *id);
        found.dedup_by_key(|(id, _)| *id);
        found
    }

    /// Buries and replaces workers that have died, without waiting.
    fn look_after_workers(&self, py: Python<'_>) -> PyResult<()> {
        self.glance(py)
    }

    /// The body of the driver thread: leads whenever there is work and nobody else leads.
    fn _drive(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::drive_here(slf)
    }

    /// Whether the owner of the pool is this process, and not one it was forked from.
    #[getter]
    fn is_ours(&self) -> bool {
        self.check_owner().is_ok()
    }

    /// `RuntimeError` in a process that was forked from the pool's.
    #[pyo3(name = "check_owner")]
    fn refuse_others(&self) -> PyResult<()> {
        self.check_owner()
    }

    /// There is work that nobody may wait for: a driver thread does it, from now on if there was none.
    fn want_driver(slf: &Bound<'_, Self>) {
        Self::want_driver_of(slf, false);
    }

    /// Tells the driver thread to end, and waits for it, if it is not in a callback for long.
    fn stop_driver(&self, py: Python<'_>) -> PyResult<()> {
        self.end_driver(py)
    }

    /// Frees the pool's shared memory, as soon as nobody leads. Every worker must be gone.
    fn destroy(&self) {
        if self.check_owner().is_err() {
            return;
        }
        self.destroy_wanted.store(true, Ordering::Release);
        let mut state = self.state();
        if self.leadership.is_led() || !state.scheduler.is_deserted() {
            return;
        }
        if !std::mem::replace(&mut state.destroyed, true) {
            // Its traceback leads to whatever the start was made by.
            let refused = state.refused.take();
            drop(state);
            drop((refused, self.hooks.forget_make()));
            self.withdraw_all();
            self.engine.destroy();
            // Tasks that nobody took offer nothing any more.
            Python::attach(offers::home_may_be_gone);
        }
    }
}

impl PyPool {
    fn submit_one(
        &self,
        job: &Bound<'_, PyJob>,
        func: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwds: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let py = job.py();
        self.check_running(py)?;
        let pair = call_arguments(py, args, kwds)?;
        let (function, used) = self.function_for_call(func)?;
        let pickled = if matches!(used, Used::Nothing) {
            let whole = (func, pair.get_item(0)?, pair.get_item(1)?).into_pyobject(py)?;
            pickling::dumps_carrying(whole.as_any())
        } else {
            pickling::dumps_carrying(&pair)
        };
        let kind = if matches!(used, Used::Nothing) { kind::WHOLE } else { kind::CALL };
        let (bytes, mut carried) = match pickled {
            Ok(arguments) => arguments,
            Err(refused) => {
                self.release(used);
                return Err(refused);
            }
        };
        // Pickling has run Python code, which may have ended the pool.
        let id = self.enlist(py, job, Form::Single, used, 1)?;
        let task = Task { job: id, index: 0, items: 1, kind, function };
        let mut batch = TaskBatch::default();
        let arguments = Message { parts: &[bytes.as_bytes()], carried: &carried };
        let submitted = self.engine.batch_message(&mut batch, task, arguments);
        if let Err(refused) = submitted.and_then(|()| self.engine.submit(&mut batch)) {
            self.engine.take_back(&mut batch);
            self.strike_off(py, job, id, 1);
            return Err(error::send(refused));
        }
        carried.take_offers().sent_into(py, self.engine.handle());
        Ok(())
    }

    fn submit_list(
        &self,
        job: &Bound<'_, PyJob>,
        func: &Bound<'_, PyAny>,
        items: Bound<'_, PyList>,
        star: bool,
        chunksize: Option<usize>,
    ) -> PyResult<bool> {
        let py = job.py();
        self.check_running(py)?;
        let manner = job.get().state().manner;
        let Some((function, used)) = self.function_for_job(func, manner.fail_fast)? else { return Ok(false) };
        let (total, workers) = (items.len(), self.state().workers.seats());
        let map = Map::new(py, items, star, manner, function, workers, chunksize)?;
        let id = self.enlist(py, job, Form::Map(map), used, total)?;
        if total == 0 {
            let accepted = Accepted { complete: job.get().settle_empty(py), ..Accepted::default() };
            self.after(py, job, id, accepted);
        }
        self.feed_new(py, job);
        Ok(true)
    }

    fn open_stream(
        &self,
        job: &Bound<'_, PyJob>,
        func: &Bound<'_, PyAny>,
        ordered: bool,
        chunksize: usize,
    ) -> PyResult<bool> {
        self.check_running(job.py())?;
        let Some((function, used)) = self.function_for_job(func, false)? else { return Ok(false) };
        let stream = Stream::new(function, ordered, job.get().state().manner, chunksize);
        // The open stream itself counts; see `Job.push`.
        self.enlist(job.py(), job, Form::Stream(stream), used, 1).map(|_| true)
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_running(&self, py: Python<'_>) -> PyResult<()> {
        self.check_owner()?;
        let state = self.state();
        if let Some(reason) = &state.broken {
            return Err(PyErr::from_value(reason.bind(py).clone()));
        }
        if state.scheduler.state() == State::Running && !state.destroyed {
            return Ok(());
        }
        Err(PyValueError::new_err("Pool not running"))
    }

    /// Enters a job with so many items into the pool's list, unless the pool takes no more.
    fn enlist(
        &self,
        py: Python<'_>,
        job: &Bound<'_, PyJob>,
        form: Form,
        used: Used,
        items: usize,
    ) -> PyResult<u32> {
        let mut state = self.state();
        if state.scheduler.state() != State::Running || state.destroyed {
            drop(state);
            self.release(used);
            return self.check_running(py).map(|()| 0);
        }
        state.next_job = state.next_job.checked_add(1).unwrap_or(1);
        let id = state.next_job;
        state.jobs.insert(id, job.clone().unbind());
        let actions = state.scheduler.on(Event::Submitted { tasks: items });
        drop(state);
        job.get().begin(id, form, used);
        self.carry_out(py, actions);
        Ok(id)
    }

    /// Takes a job that could not be submitted off the list again.
    fn strike_off(&self, py: Python<'_>, job: &Bound<'_, PyJob>, id: u32, items: usize) {
        let listed = self.state().jobs.remove(&id);
        drop(listed);
        let used = std::mem::take(&mut job.get().state().function);
        self.release(used);
        let actions = self.state().scheduler.on(Event::Answered { tasks: items });
        self.carry_out(py, actions);
    }

    pub(crate) fn note_submitted(&self, py: Python<'_>, items: usize) {
        let actions = self.state().scheduler.on(Event::Submitted { tasks: items });
        self.carry_out(py, actions);
    }

    /// What follows from something a job has accepted.
    pub(crate) fn after(&self, py: Python<'_>, job: &Bound<'_, PyJob>, id: u32, accepted: Accepted) {
        if accepted.complete {
            self.retire(py, job, id);
        }
        if accepted.items > 0 {
            let actions = self.state().scheduler.on(Event::Answered { tasks: accepted.items });
            self.carry_out(py, actions);
        }
        if accepted.flows {
            self.leadership.tell_followers();
        }
    }

    /// A job has its outcome: it is off the list, and done when its callback, if it has one, has run.
    fn retire(&self, py: Python<'_>, job: &Bound<'_, PyJob>, id: u32) {
        let _ = py;
        let listed = self.state().jobs.remove(&id);
        if listed.is_none() {
            return;
        }
        let Concluded { used, owes_callback } = job.get().conclude();
        self.release(used);
        if owes_callback {
            self.owe_callback(job.clone().unbind());
        }
        self.leadership.tell_followers();
    }

    pub(crate) fn is_in_callback(&self, of: u32) -> bool {
        self.leadership.is_in_callback(Some(of))
    }
}

impl Drop for PyPool {
    fn drop(&mut self) {
        if self.owner == family::process_identity() && !self.state().workers.are_gone() {
            // Nobody has ended it: whoever made it was interrupted.
            Python::attach(|py| {
                let pending = PyErr::take(py);
                let _ = self.end_all(py, false, 0.0);
                if let Some(pending) = pending {
                    pending.restore(py);
                }
            });
        }
        self.destroy();
    }
}
