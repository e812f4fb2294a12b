//! The pool that Python sees: jobs of Python objects over the engine's tasks of bytes.
//!
//! Nothing here holds a lock while Python code runs: a callback, an unpickling or a `__del__` may use the pool.

mod acting;
mod calling;
mod calls;
mod collecting;
mod executor;
mod future;
mod job;
mod leadership;
mod leading;
mod map;
mod stream;
mod workers;

pub(crate) use executor::PyCalls;
pub(crate) use job::PyJob;

use crate::error;
use crate::pickling;
use crate::worker::kind;
use executor::Executor;
use job::{Accepted, Form, call_arguments};
use leadership::{Driver, Leadership};
use manyhands::family::Family;
use manyhands::pool::{
    Answer, AnswerBatch, Event, Function, Pool, Scheduler, State, Status, Task, TaskBatch,
};
use manyhands::{Deadline, Handle};
use map::{Arguments, Map};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use stream::Stream;
use workers::Workers;

/// Tasks put into the ring at a time.
const SUBMIT_TOGETHER: usize = 64;
/// How long the driver thread lets callers lead themselves.
const GRACE: Duration = Duration::from_millis(2);

/// The engine of `manyhands.pool.Pool`.
#[pyclass(name = "Pool", module = "manyhands._manyhands", frozen, weakref)]
#[derive(Debug)]
pub(crate) struct PyPool {
    engine: Pool,
    /// The process that made the pool; in a forked child it is only a picture of a pool.
    owner: u32,
    leadership: Leadership,
    state: Mutex<PoolState>,
    hooks: Hooks,
    /// Set when the pool is an executor's.
    executor: OnceLock<Executor>,
}

/// What Python does for the pool; see `manyhands.pool._Workers`.
#[derive(Debug)]
struct Hooks {
    /// `start(seat) -> Process`
    start: Py<PyAny>,
    /// `died(process, item) -> WorkerDied`
    died: Py<PyAny>,
    /// `decode_error(bytes) -> exception`
    decode_error: Py<PyAny>,
    /// `undecodable(error) -> exception`
    undecodable: Py<PyAny>,
}

#[derive(Debug)]
struct PoolState {
    scheduler: Scheduler,
    jobs: HashMap<u32, Py<PyJob>>,
    workers: Workers,
    /// Functions that pickle by name, by their identity: sent once, for the pool's life.
    functions: HashMap<usize, (Py<PyAny>, Function)>,
    next_job: u32,
    next_function: u32,
    /// Why the pool cannot work.
    broken: Option<Py<PyAny>>,
    collected: AnswerBatch,
    destroyed: bool,
}

#[pymethods]
impl PyPool {
    #[new]
    fn new(
        seats: usize,
        start: Py<PyAny>,
        died: Py<PyAny>,
        decode_error: Py<PyAny>,
        undecodable: Py<PyAny>,
    ) -> PyResult<Self> {
        let most = manyhands::pool::MOST_SEATS;
        if seats == 0 || seats > most {
            return Err(PyValueError::new_err(format!("a pool has 1 to {most} workers, not {seats}")));
        }
        let family = Family::current().map_err(error::family)?;
        let engine = Pool::create(family, seats).map_err(error::pool)?;
        // The first workers are started by `start_workers`, once Python can reach the pool.
        let (scheduler, _) = Scheduler::new(seats);
        let state = PoolState {
            scheduler,
            jobs: HashMap::new(),
            workers: Workers::new(seats),
            functions: HashMap::new(),
            next_job: 0,
            next_function: 0,
            broken: None,
            collected: AnswerBatch::default(),
            destroyed: false,
        };
        Ok(Self {
            engine,
            owner: std::process::id(),
            leadership: Leadership::default(),
            state: Mutex::new(state),
            hooks: Hooks { start, died, decode_error, undecodable },
            executor: OnceLock::new(),
        })
    }

    /// By what workers find the pool, and the descriptor they must inherit.
    fn _address(&self) -> ((u64, u32), i32) {
        let Handle { offset, generation } = self.engine.handle();
        let bell = self.engine.bell().map_or(-1, |bell| bell.as_raw_fd());
        ((offset, generation), bell)
    }

    /// Starts a worker for every seat.
    fn start_workers(&self, py: Python<'_>) -> PyResult<()> {
        let seats = self.state().workers.seats();
        let mut started = Vec::with_capacity(seats);
        for seat in 0..seats {
            match self.hooks.start.bind(py).call1((seat,)) {
                Ok(process) => started.push(process),
                Err(refused) => {
                    for process in &started {
                        process.call_method0("terminate")?;
                    }
                    for process in &started {
                        process.call_method0("join")?;
                    }
                    return Err(refused);
                }
            }
        }
        started.into_iter().enumerate().try_for_each(|(seat, process)| self.seat_worker(seat, &process))
    }

    /// Submits one call, as the whole of `job`.
    #[pyo3(signature = (job, func, args, kwds=None))]
    fn submit_call(
        &self,
        job: &Bound<'_, PyJob>,
        func: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwds: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let py = job.py();
        self.check_running(py)?;
        let pair = call_arguments(py, args, kwds)?;
        let (function, kind, arguments) = match self.known_function(func)? {
            Some(function) => (function, kind::CALL, pickling::dumps(&pair)?),
            None => {
                let whole = (func, pair.get_item(0)?, pair.get_item(1)?).into_pyobject(py)?;
                (NO_FUNCTION, kind::WHOLE, pickling::dumps(&whole)?)
            }
        };
        let id = self.enlist(job, |id| (id, Form::Single, None));
        let task = Task { job: id, index: 0, items: 1, kind, function };
        let mut batch = TaskBatch::default();
        let submitted = self.engine.batch(&mut batch, task, arguments.as_bytes());
        if let Err(refused) = submitted.and_then(|()| self.engine.submit(&mut batch)) {
            self.state().jobs.remove(&id);
            return Err(error::send(refused));
        }
        self.note_submitted(py, 1)
    }

    /// Submits a list of items, as the whole of `job`.
    #[pyo3(signature = (job, func, items, star, chunksize=None))]
    fn submit_map(
        &self,
        job: &Bound<'_, PyJob>,
        func: &Bound<'_, PyAny>,
        items: Bound<'_, PyList>,
        star: bool,
        chunksize: Option<usize>,
    ) -> PyResult<()> {
        let py = job.py();
        self.check_running(py)?;
        let (function, own) = self.function_for_job(func)?;
        let (total, workers) = (items.len(), self.state().workers.seats());
        let map = Map::new(py, items, star, function, workers, chunksize)?;
        self.enlist(job, |id| (id, Form::Map(map), own));
        self.note_submitted(py, total)?;
        if total == 0 {
            return self.after(
                py,
                job,
                job.get().id(),
                Accepted { items: 0, complete: job.get().settle_empty(py) },
            );
        }
        self.feed_job(py, job)
    }

    /// Makes `job` a stream of results, whose items are pushed to it.
    fn submit_stream(
        &self,
        job: &Bound<'_, PyJob>,
        func: &Bound<'_, PyAny>,
        ordered: bool,
        star: bool,
        chunksize: usize,
    ) -> PyResult<()> {
        self.check_running(job.py())?;
        let (function, own) = self.function_for_job(func)?;
        let stream = Stream::new(function, ordered, star, chunksize);
        self.enlist(job, |id| (id, Form::Stream(stream), own));
        // The open stream itself counts; see `Job.push`.
        self.note_submitted(job.py(), 1)
    }

    /// `close`: no more jobs.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let actions = self.state().scheduler.on(Event::Close);
        self.carry_out(py, actions)
    }

    /// `terminate`: workers are told to end, and whatever was not done fails.
    fn terminate(&self, py: Python<'_>) -> PyResult<()> {
        let actions = self.state().scheduler.on(Event::Terminate);
        self.carry_out(py, actions)?;
        let reason = PyRuntimeError::new_err("the pool was terminated before this was done");
        self.abandon_jobs(py, &reason.into_value(py).into_any())
    }

    /// Waits until every worker is gone, at most `timeout` seconds; whether they are.
    #[pyo3(signature = (timeout=None))]
    fn join(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let deadline = timeout.map_or(Ok(Deadline::NEVER), crate::blocking::after)?;
        self.wait_until(py, &|| self.state().scheduler.is_deserted(), deadline)
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

    /// Buries and replaces workers that have died, without waiting.
    fn look_after_workers(&self, py: Python<'_>) -> PyResult<()> {
        self.glance(py)
    }

    /// The body of the driver thread: leads whenever there is work and nobody else leads.
    fn drive(&self, py: Python<'_>) {
        if !self.leadership.begin_driving() {
            return;
        }
        while py.detach(|| self.leadership.await_driving(GRACE)) != Driver::Stopping {
            if self.leadership.try_lead() {
                let led = self.lead_as_driver(py);
                let over = self.is_over();
                if over {
                    self.destroy();
                }
                self.leadership.resign();
                if let Err(error) = led {
                    error.write_unraisable(py, None);
                }
                if over {
                    break;
                }
            }
        }
        self.leadership.set_driver(Driver::Absent);
    }

    /// There is work that nobody may wait for; `False` when there is no driver thread to do it.
    fn want_driver(&self) -> bool {
        self.leadership.tell_driver(Driver::Wanted)
    }

    /// Tells the driver thread to end.
    fn stop_driver(&self) {
        self.leadership.set_driver(Driver::Stopping);
        self.engine.ring();
    }

    /// Frees the pool's shared memory. Every worker must be gone.
    fn destroy(&self) {
        let mut state = self.state();
        let gone = self.owner == std::process::id() && state.scheduler.is_deserted();
        if gone && !std::mem::replace(&mut state.destroyed, true) {
            self.engine.destroy();
        }
    }
}

/// In a task that carries its function with its arguments.
const NO_FUNCTION: Function = Function { id: u32::MAX, handle: Handle { offset: 0, generation: 0 }, len: 0 };

impl PyPool {
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

    fn enlist(&self, job: &Bound<'_, PyJob>, form: impl FnOnce(u32) -> (u32, Form, Option<Function>)) -> u32 {
        let id = {
            let mut state = self.state();
            // From 1: see `calls::NO_JOB`.
            state.next_job = state.next_job.wrapping_add(1).max(1);
            state.next_job
        };
        let (id, form, own) = form(id);
        job.get().begin(id, form, own);
        self.state().jobs.insert(id, job.clone().unbind());
        id
    }

    /// A function that pickles by name never changes: it is sent once for the pool's life. `None` for any other.
    fn known_function(&self, func: &Bound<'_, PyAny>) -> PyResult<Option<Function>> {
        let key = func.as_ptr() as usize;
        if let Some((_, function)) = self.state().functions.get(&key) {
            return Ok(Some(*function));
        }
        if !pickles_by_name(func)? {
            return Ok(None);
        }
        let function = self.publish(func)?;
        self.state().functions.insert(key, (func.clone().unbind(), function));
        Ok(Some(function))
    }

    /// WAYPOINT task 1/9: the function is sent once for the pool, or once for this job; the job's own is withdrawn with it.
    fn function_for_job(&self, func: &Bound<'_, PyAny>) -> PyResult<(Function, Option<Function>)> {
        if let Some(function) = self.known_function(func)? {
            return Ok((function, None));
        }
        let function = self.publish(func)?;
        Ok((function, Some(function)))
    }

    fn publish(&self, func: &Bound<'_, PyAny>) -> PyResult<Function> {
        let bytes = pickling::dumps(func)?;
        let id = {
            let mut state = self.state();
            state.next_function += 1;
            state.next_function
        };
        self.engine.publish(id, bytes.as_bytes()).map_err(error::send)
    }

    /// WAYPOINT task 3/9: tasks of one job are encoded and submitted, as many as may be ahead.
    pub(crate) fn feed_job(&self, py: Python<'_>, job: &Bound<'_, PyJob>) -> PyResult<()> {
        let this = job.get();
        let mut batch = TaskBatch::default();
        loop {
            let next = {
                let mut state = this.state();
                let id = state.id;
                match &mut state.form {
                    Form::Map(map) => map.next_task(py, id),
                    Form::Stream(stream) => stream.next_task(py, id),
                    Form::Fresh | Form::Single => None,
                }
            };
            let Some((task, arguments)) = next else { break };
            self.encode_task(py, job, &mut batch, task, &arguments)?;
            if batch.len() >= SUBMIT_TOGETHER {
                self.submit(py, &mut batch)?;
            }
        }
        self.submit(py, &mut batch)
    }

    /// Arguments that cannot be pickled fail their task, as if a worker had raised.
    fn encode_task(
        &self,
        py: Python<'_>,
        job: &Bound<'_, PyJob>,
        batch: &mut TaskBatch,
        task: Task,
        arguments: &Arguments,
    ) -> PyResult<()> {
        let refused = match arguments.encode(py) {
            Ok(bytes) => match self.engine.batch(batch, task, bytes.as_bytes()) {
                Ok(()) => return Ok(()),
                Err(refused) => error::send(refused),
            },
            Err(refused) => refused,
        };
        let answer = Answer {
            job: task.job,
            index: task.index,
            items: task.items,
            status: Status::Raised,
            nanoseconds: 0,
        };
        let accepted = job.get().accept(py, answer, Err(refused));
        self.after(py, job, task.job, accepted)
    }

    fn submit(&self, py: Python<'_>, batch: &mut TaskBatch) -> PyResult<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let _ = py;
        self.engine.submit(batch).map_err(error::send)
    }

    pub(crate) fn note_submitted(&self, py: Python<'_>, items: usize) -> PyResult<()> {
        let actions = self.state().scheduler.on(Event::Submitted { tasks: items });
        self.carry_out(py, actions)
    }

    /// What follows from something a job has accepted.
    pub(crate) fn after(
        &self,
        py: Python<'_>,
        job: &Bound<'_, PyJob>,
        id: u32,
        accepted: Accepted,
    ) -> PyResult<()> {
        if accepted.complete {
            self.retire(py, job, id);
        }
        if accepted.items > 0 {
            let actions = self.state().scheduler.on(Event::Answered { tasks: accepted.items });
            self.carry_out(py, actions)?;
        }
        Ok(())
    }

    fn retire(&self, py: Python<'_>, job: &Bound<'_, PyJob>, id: u32) {
        let listed = self.state().jobs.remove(&id);
        if listed.is_none() {
            return;
        }
        if let Some(function) = job.get().state().own_function.take() {
            self.engine.withdraw(function);
        }
        job.get().complete(py);
        self.leadership.tell_followers();
    }
}

/// Whether pickling the function says nothing but its name: true of plain functions and classes found in modules, not of
/// bound methods, partials and instances, whose state may differ from one call to the next.
fn pickles_by_name(func: &Bound<'_, PyAny>) -> PyResult<bool> {
    let kind = func.get_type().qualname()?;
    let by_name = match kind.to_str()? {
        "function" | "type" => true,
        "builtin_function_or_method" => {
            let of = func.getattr("__self__")?;
            of.is_none() || of.is_instance_of::<pyo3::types::PyModule>()
        }
        _ => false,
    };
    Ok(by_name)
}

impl Drop for PyPool {
    fn drop(&mut self) {
        self.destroy();
    }
}
