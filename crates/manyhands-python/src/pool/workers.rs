//! The workers of a pool: their processes, and what follows when one ends.

use super::PyPool;
use super::calls::NO_JOB;
use super::collecting::Until;
use super::job::PyJob;
use crate::error;
use crate::launch::PyProcess;
use manyhands::pool::{Estate, Event, Phase, State, Task};
use manyhands::process::Sentinel;
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use std::sync::Arc;

/// A worker's process and its sentinel.
type Seated = (Py<PyAny>, Arc<Sentinel>);

/// The workers' processes, by seat.
#[derive(Debug)]
pub(super) struct Workers {
    seated: Vec<Option<Seated>>,
    /// What a leader polls; made anew when a worker comes or goes.
    watched: Arc<[Watched]>,
}

/// A process to watch.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    seat: usize,
    sentinel: Arc<Sentinel>,
}

impl Watched {
    pub(super) fn seat(&self) -> usize {
        self.seat
    }

    pub(super) fn sentinel(&self) -> &Sentinel {
        &self.sentinel
    }
}

impl Workers {
    pub(super) fn new(seats: usize) -> Self {
        Self { seated: (0..seats).map(|_| None).collect(), watched: Arc::new([]) }
    }

    pub(super) fn seats(&self) -> usize {
        self.seated.len()
    }

    /// Whether every seat is empty.
    pub(super) fn are_gone(&self) -> bool {
        self.seated.iter().all(Option::is_none)
    }

    pub(super) fn processes(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.seated.iter().flatten().map(|(process, _)| process.clone_ref(py)).collect()
    }

    /// The processes, for the garbage collector.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Py<PyAny>> {
        self.seated.iter().flatten().map(|(process, _)| process)
    }

    /// The seat is empty from now on; who sat there.
    pub(super) fn leave(&mut self, seat: usize) -> Option<Py<PyAny>> {
        self.seat(seat, None)
    }

    pub(super) fn watched(&self) -> Arc<[Watched]> {
        Arc::clone(&self.watched)
    }

    pub(super) fn seat(&mut self, seat: usize, worker: Option<Seated>) -> Option<Py<PyAny>> {
        let before = std::mem::replace(&mut self.seated[seat], worker);
        let watch = |(seat, worker): (usize, &Option<Seated>)| {
            worker.as_ref().map(|(_, sentinel)| Watched { seat, sentinel: Arc::clone(sentinel) })
        };
        self.watched = self.seated.iter().enumerate().filter_map(watch).collect();
        before.map(|(process, _)| process)
    }
}

/// The process's own sentinel; of a process of somebody else's a descriptor of the same, for which there must be room.
pub(super) fn sentinel_of(process: &Bound<'_, PyAny>) -> PyResult<Arc<Sentinel>> {
    let ours = process.getattr("_popen").and_then(|popen| popen.getattr("_process"));
    if let Some(ours) = ours.ok().and_then(|ours| ours.cast_into::<PyProcess>().ok()) {
        return Ok(ours.get().sentinel());
    }
    let (pid, sentinel): (u32, i32) =
        (process.getattr("pid")?.extract()?, process.getattr("sentinel")?.extract()?);
    let sentinel = manyhands::adopt_descriptor(sentinel).and_then(|own| Sentinel::new(pid, own));
    Ok(Arc::new(sentinel.map_err(error::os)?))
}

/// Whether somebody has ended the process from outside, as far as its status tells.
fn was_killed(py: Python<'_>, process: &Py<PyAny>) -> bool {
    let code = process.bind(py).getattr("exitcode").and_then(|code| code.extract::<i32>());
    // SIGHUP, SIGINT, SIGKILL, SIGTERM; the others are a program's own faults.
    matches!(code, Ok(-1 | -2 | -9 | -15))
}

impl PyPool {
    /// The number of the bell's descriptor, which a worker must inherit; -1 when there is none any more.
    pub(super) fn bell(&self) -> i32 {
        self.engine.bell().map_or(-1, |bell| bell.number())
    }

    /// The seat of a worker that has ended and is not buried.
    pub(super) fn exited_worker(&self) -> Option<usize> {
        let watched = self.state().workers.watched();
        let sentinels: Vec<_> = watched.iter().map(Watched::sentinel).collect();
        manyhands::pool::first_exited(&sentinels).map(|place| watched[place].seat())
    }

    /// A worker has ended: what it had answered counts, what it was doing is lost, what it had not begun goes back.
    pub(super) fn worker_exited(&self, py: Python<'_>, seat: usize) -> PyResult<()> {
        let Some(process) = self.state().workers.leave(seat) else { return Ok(()) };
        // Its end was seen, so this does not wait; whatever goes wrong with it, the worker is buried.
        let _ = self.interrupts.stubbornly(py, || process.bind(py).call_method0("join"));
        self.engine.settle_answers();
        for _ in 0..self.engine.rounds_of_answers() {
            if !self.take_answers(py, Until::AllAreIn)? {
                break;
            }
        }
        let was_ready = match self.engine.bury(seat) {
            Ok(estate) => {
                self.settle_estate(py, &process, &estate);
                estate.phase != Phase::Starting
            }
            // Its seat makes no sense, or the pool has ended meanwhile.
            Err(_) => false,
        };
        let event = match was_ready {
            false if was_killed(py, &process) => Event::WorkerKilledUnready { seat },
            was_ready => Event::WorkerExited { seat, was_ready },
        };
        let actions = self.state().scheduler.on(event);
        self.carry_out(py, actions);
        // Whoever waits for the last of them.
        self.leadership.tell_followers();
        Ok(())
    }

    fn settle_estate(&self, py: Python<'_>, process: &Py<PyAny>, estate: &Estate) {
        if self.state().scheduler.state() == State::Terminating {
            // Ended by the pool: its jobs have failed already, or nobody is to be told.
            return;
        }
        if let Some((task, begun)) = estate.in_progress {
            self.task_lost(py, process, task, begun);
        }
        for task in &estate.unreturned {
            let refused = PyMemoryError::new_err("no shared memory is left to give this out again");
            if task.job == NO_JOB {
                self.call_lost(task.index, || refused.into_value(py).into_any());
            } else if let Some(job) = self.listed(py, task.job) {
                self.task_failed(py, job.bind(py), *task, refused);
                self.feed_job(py, job.bind(py));
            }
        }
    }

    fn listed(&self, py: Python<'_>, job: u32) -> Option<Py<PyJob>> {
        self.state().jobs.get(&job).map(|job| job.clone_ref(py))
    }

    fn task_lost(&self, py: Python<'_>, process: &Py<PyAny>, task: Task, begun: u32) {
        let died = |item: Option<u32>| {
            let told = self.interrupts.firmly(py, || self.hooks.died.bind(py).call1((process, item)));
            told.map_or_else(|error| error.into_value(py).into_any(), Bound::unbind)
        };
        if task.job == NO_JOB {
            self.call_lost(task.index, || died(None));
            return;
        }
        let Some(job) = self.listed(py, task.job) else { return };
        let accepted = job.get().lose(py, task, begun, died);
        self.feed_job(py, job.bind(py));
        self.after(py, job.bind(py), task.job, accepted);
    }
}
