//! A pool of processes that run a Rust program's task functions: the leader's side.
//!
//! Whoever calls [`ProcessPool::map`] does the pool's work: sends tasks, collects answers, buries and replaces workers.
//! There is no thread behind it. What is decided, the engine's [`Scheduler`] decides; what lies in shared memory is the
//! engine's [`Pool`]. This file only carries out.

mod error;
mod outcomes;
mod worker;

pub use error::{ProcessPoolError, TaskError};
pub(crate) use worker::work;

use crate::family::Family;
use crate::pool::{
    Action, AnswerBatch, Event, Function, Phase, Pool, Scheduler, State, Task, TaskBatch, Woken,
};
use crate::process::{Process, UNKNOWN_EXIT};
use crate::program::{self, SpawnError};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::park::Waiting;
use outcomes::Outcomes;
use std::collections::HashMap;

/// What became of one item.
pub type Outcome = Result<Vec<u8>, TaskError>;

/// A pool of worker processes, each of them this program started again.
///
/// When a worker dies, exactly the item it was at fails, with [`TaskError::WorkerDied`]; the worker is replaced and the
/// pool stays usable. Workers die with the process that made the pool, busy or idle; dropping the pool kills them,
/// [`ProcessPool::close`] lets them leave.
///
/// ```standalone_crate,rust
/// use manyhands::{Entry, ProcessPool};
///
/// fn double(item: &[u8]) -> Result<Vec<u8>, String> {
///     item.iter().map(|byte| byte.checked_mul(2).ok_or("too large".to_owned())).collect()
/// }
///
/// fn main() {
///     manyhands::init(const { &[Entry::task("double", double)] });
///     let mut pool = ProcessPool::start(2).expect("two processes");
///     let outcomes = pool.map("double", &[[1], [2], [200]]).expect("a pool that works");
///     assert_eq!(outcomes[1], Ok(vec![4]));
///     assert_eq!(outcomes[2].as_ref().unwrap_err().to_string(), "item 2 failed: too large");
///     pool.close().expect("workers that leave");
/// }
/// ```
#[derive(Debug)]
pub struct ProcessPool {
    pool: Pool,
    scheduler: Scheduler,
    workers: Vec<Option<Process>>,
    functions: HashMap<String, Function>,
    jobs: u32,
    waiting: Waiting,
    /// When a worker that could not be started is tried again.
    retry: Option<Deadline>,
    /// Why the last one could not be started.
    refused: Option<ProcessPoolError>,
}

/// Tasks that are in the ring or with a worker at a time: enough to keep every worker busy, and no more memory.
const TASKS_AHEAD_PER_WORKER: usize = 256;
/// How often a leader who is kept busy by answers looks at its workers.
const ROUNDS_BETWEEN_LOOKS: u32 = 16;

impl ProcessPool {
    /// Starts so many workers, at least one and at most [`MOST_SEATS`](crate::pool::MOST_SEATS).
    ///
    /// # Errors
    /// When [`init`](crate::init) was not called, or the kernel or the family has no room for them.
    pub fn start(workers: usize) -> Result<Self, ProcessPoolError> {
        if !program::is_initialised() {
            return Err(SpawnError::NotInitialised.into());
        }
        let workers = workers.clamp(1, crate::pool::MOST_SEATS);
        let pool = Pool::create(Family::current()?, workers)?;
        let (scheduler, _) = Scheduler::new(workers);
        let mut this = Self {
            pool,
            scheduler,
            workers: (0..workers).map(|_| None).collect(),
            functions: HashMap::new(),
            jobs: 0,
            waiting: Waiting::new(WaitKind::Answers),
            retry: None,
            refused: None,
        };
        // All or none: those that were started end with the value.
        for seat in 0..workers {
            this.start_worker(seat)?;
        }
        Ok(this)
    }

    /// Has the workers run the task of that name for each item: the outcomes, in the order of the items.
    ///
    /// An item that fails, panics or takes its worker with it has its [`TaskError`] in its place, and the others their
    /// results.
    ///
    /// # Errors
    /// When the program lists no such task, or the pool cannot work (any more): then no outcome is known. A worker that
    /// died and cannot be replaced at once does not count: its start is tried again, for as long as another one works,
    /// and for some seconds when none is left.
    pub fn map(&mut self, task: &str, items: &[impl AsRef<[u8]>]) -> Result<Vec<Outcome>, ProcessPoolError> {
        self.check_running()?;
        let function = self.function(task)?;
        self.jobs = self.jobs.wrapping_add(1);
        let mut outcomes = Outcomes::new(self.jobs, items.len());
        self.waiting.start_over();
        let (mut sent, mut round) = (0, 0u32);
        while !outcomes.are_complete() {
            sent = self.feed(function, items, sent)?;
            round = round.wrapping_add(1);
            let any = self.collect(&mut outcomes)?;
            let woken = if any {
                self.waiting.start_over();
                Woken::Answers
            } else {
                self.wait(&outcomes)?
            };
            if matches!(woken, Woken::Exited(_)) || round.is_multiple_of(ROUNDS_BETWEEN_LOOKS) {
                self.bury_the_dead(&mut outcomes)?;
            }
            self.try_again()?;
            self.check_running()?;
        }
        Ok(outcomes.into_vec())
    }

    /// The workers' process ids, as they are now.
    pub fn pids(&self) -> impl Iterator<Item = u32> + '_ {
        self.workers.iter().flatten().map(Process::pid)
    }

    /// Lets the workers leave, and waits until they are gone.
    ///
    /// # Errors
    /// When the kernel refuses to tell of their ends.
    pub fn close(mut self) -> Result<(), ProcessPoolError> {
        let actions = self.scheduler.on(Event::Close);
        self.carry_out(actions)?;
        let mut nothing_awaited = Outcomes::new(self.jobs, 0);
        while !self.scheduler.is_deserted() {
            self.bury_the_dead(&mut nothing_awaited)?;
            self.try_again()?;
            if !self.scheduler.is_deserted() {
                self.wait(&nothing_awaited)?;
            }
        }
        Ok(())
    }

    /// Where workers find the function: its name, put into shared memory once.
    fn function(&mut self, task: &str) -> Result<Function, ProcessPoolError> {
        if let Some(function) = self.functions.get(task) {
            return Ok(*function);
        }
        program::task_function(task).ok_or_else(|| ProcessPoolError::UnknownTask(task.to_owned()))?;
        let function = self.pool.publish(self.functions.len() as u32, task.as_bytes())?;
        self.functions.insert(task.to_owned(), function);
        Ok(function)
    }

    /// Sends items until enough are under way; how many were sent in all.
    fn feed(
        &mut self,
        function: Function,
        items: &[impl AsRef<[u8]>],
        sent: usize,
    ) -> Result<usize, ProcessPoolError> {
        let ahead = TASKS_AHEAD_PER_WORKER * self.workers.len();
        let room = ahead.saturating_sub(self.scheduler.outstanding());
        let end = items.len().min(sent + room);
        let mut batch = TaskBatch::default();
        for (index, item) in (sent..end).zip(&items[sent..end]) {
            let task = Task { job: self.jobs, index: index as u32, items: 1, kind: 0, function };
            self.pool.batch(&mut batch, task, item.as_ref())?;
        }
        self.pool.submit(&mut batch)?;
        let actions = self.scheduler.on(Event::Submitted { tasks: end - sent });
        self.carry_out(actions)?;
        Ok(end)
    }

    /// Takes in the answers that are there; whether there were any.
    fn collect(&mut self, outcomes: &mut Outcomes) -> Result<bool, ProcessPoolError> {
        let mut batch = AnswerBatch::default();
        let any = self.pool.collect(&mut batch).map_err(|_| ProcessPoolError::Corrupted)?;
        let mut answered = 0;
        while let Some((answer, bytes)) = batch.pop(outcomes::bytes_of) {
            answered += usize::from(outcomes.answered(answer, bytes));
        }
        let actions = self.scheduler.on(Event::Answered { tasks: answered });
        self.carry_out(actions)?;
        Ok(any)
    }

    /// Sleeps until there is an answer or a worker has ended.
    fn wait(&mut self, outcomes: &Outcomes) -> Result<Woken, ProcessPoolError> {
        if outcomes.are_complete() {
            // Nothing but ends is awaited, and answers of an abandoned job must not keep this awake.
            if let Some(worker) = self.workers.iter().flatten().next() {
                worker.wait(Deadline::NEVER)?;
                return Ok(Woken::Exited(0));
            }
        }
        let watched: Vec<_> = self.workers.iter().flatten().map(|worker| &**worker.sentinel()).collect();
        let deadline = self.retry.unwrap_or(Deadline::NEVER);
        Ok(self.pool.wait(&watched, &mut self.waiting, deadline)?)
    }

    /// When the pause after a refused start is over.
    fn try_again(&mut self) -> Result<(), ProcessPoolError> {
        if !self.retry.is_some_and(|retry| retry.passed()) {
            return Ok(());
        }
        self.retry = None;
        let actions = self.scheduler.on(Event::PauseOver);
        self.carry_out(actions)
    }

    fn check_running(&self) -> Result<(), ProcessPoolError> {
        match (self.scheduler.state(), &self.refused) {
            (State::Running, _) => Ok(()),
            (_, Some(refused)) => Err(refused.clone()),
            (_, None) => Err(ProcessPoolError::Broken),
        }
    }

    fn start_worker(&mut self, seat: usize) -> Result<(), ProcessPoolError> {
        let bell = self.pool.bell().ok_or(ProcessPoolError::Broken)?;
        let number = u32::try_from(seat).unwrap_or(u32::MAX);
        let worker = program::spawn_worker(self.pool.handle(), number, bell.number())?;
        self.workers[seat] = Some(worker);
        Ok(())
    }

    /// What follows from the attempt to replace a worker.
    fn replace(&mut self, seat: usize) -> Event {
        match self.start_worker(seat) {
            Ok(()) => {
                self.refused = None;
                Event::Started { seat }
            }
            Err(refused) => {
                self.refused = Some(refused);
                Event::StartRefused { seat }
            }
        }
    }

    fn bury_the_dead(&mut self, outcomes: &mut Outcomes) -> Result<(), ProcessPoolError> {
        for seat in 0..self.workers.len() {
            let Some(worker) = &mut self.workers[seat] else { continue };
            if let Some(status) = worker.poll()? {
                let pid = worker.pid();
                self.workers[seat] = None;
                self.bury(seat, pid, status, outcomes)?;
            }
        }
        Ok(())
    }

    /// What the worker had answered counts, what it was doing is lost, what it had not begun goes back.
    fn bury(
        &mut self,
        seat: usize,
        pid: u32,
        status: i32,
        outcomes: &mut Outcomes,
    ) -> Result<(), ProcessPoolError> {
        self.pool.settle_answers();
        while self.collect(outcomes)? {}
        let estate = self.pool.bury(seat).map_err(|_| ProcessPoolError::Corrupted)?;
        let mut actions = Vec::new();
        if let Some((task, _)) = estate.in_progress
            && outcomes.lost(task, pid, status)
        {
            actions = self.scheduler.on(Event::Answered { tasks: 1 });
        }
        let was_ready = estate.phase != Phase::Starting;
        actions.extend(self.scheduler.on(Event::WorkerExited { seat, was_ready }));
        self.carry_out(actions)
    }

    fn carry_out(&mut self, actions: Vec<Action>) -> Result<(), ProcessPoolError> {
        for action in actions {
            match action {
                Action::Start { seat } => {
                    let outcome = self.replace(seat);
                    let actions = self.scheduler.on(outcome);
                    self.carry_out(actions)?;
                }
                Action::Pause(pause) => self.retry = Some(Deadline::after(pause)),
                Action::Dismiss => self.pool.dismiss(),
                Action::Kill => self.kill(),
                // The caller looks at the scheduler's state.
                Action::Break => {}
            }
        }
        Ok(())
    }

    fn kill(&self) {
        for worker in self.workers.iter().flatten() {
            // A process that cannot be signalled has ended.
            let _ = worker.signal(libc::SIGKILL);
        }
    }
}

impl Drop for ProcessPool {
    fn drop(&mut self) {
        self.scheduler.on(Event::Terminate);
        self.kill();
        for worker in self.workers.iter_mut().flatten() {
            // Killed a moment ago, or ended before: it is collected, so that no process is left behind.
            while worker.poll().unwrap_or(Some(UNKNOWN_EXIT)).is_none() {
                if worker.wait(Deadline::NEVER).is_err() {
                    break;
                }
            }
        }
        for function in self.functions.values() {
            self.pool.withdraw(*function);
        }
        self.pool.destroy();
    }
}
