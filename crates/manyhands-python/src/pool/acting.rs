//! What the scheduler decides is carried out here.

use super::PyPool;
use manyhands::Deadline;
use manyhands::pool::{Action, Event};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::time::{Duration, Instant};

/// How long workers get to end after SIGTERM before they are killed.
const SECONDS_TO_END: f64 = 2.0;
/// How long a killed process may take to be gone: a bound against a kernel that is out of breath.
const SECONDS_TO_DIE: f64 = 5.0;

impl PyPool {
    pub(super) fn carry_out(&self, py: Python<'_>, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start { seat } => self.replace_worker(py, seat),
                Action::Pause(pause) => self.state().retry = Some(Deadline::after(pause)),
                Action::Dismiss => self.engine.dismiss(),
                Action::Kill => {
                    // A worker that does not heed the signal leaves when it is done with what it is at.
                    self.engine.dismiss();
                    self.terminate_workers(py);
                }
                Action::Break => self.break_down(py),
            }
        }
    }

    fn break_down(&self, py: Python<'_>) {
        let reason = {
            let state = self.state();
            state.broken.as_ref().or(state.refused.as_ref()).map(|reason| reason.clone_ref(py))
        };
        let reason = match reason {
            Some(reason) => {
                let before = self.state().broken.replace(reason.clone_ref(py));
                drop(before);
                reason
            }
            None => {
                let text =
                    "the pool's workers end before they are ready: see what they wrote to standard error";
                let reason = PyRuntimeError::new_err(text).into_value(py).into_any();
                self.state().broken = Some(reason.clone_ref(py));
                reason
            }
        };
        self.abandon_jobs(py, &reason, true);
        self.engine.dismiss();
        self.terminate_workers(py);
        // A broken pool may have no leader any more who would bury its workers.
        if let Err(error) = self.see_workers_off(py, SECONDS_TO_END) {
            error.write_unraisable(py, None);
        }
    }

    /// SIGTERM to every worker. One that cannot be signalled is gone.
    fn terminate_workers(&self, py: Python<'_>) {
        // Bound first: no lock is held while Python code runs.
        let processes = self.state().workers.processes(py);
        for process in &processes {
            let _ = self.interrupts.stubbornly(py, || process.bind(py).call_method0("terminate"));
        }
    }

    /// Ends the workers, and fails whatever was not done; without `tell`, nobody hears of it.
    pub(super) fn end_all(&self, py: Python<'_>, tell: bool, grace: f64) -> PyResult<()> {
        let actions = self.state().scheduler.on(Event::Terminate);
        self.carry_out(py, actions);
        let reason = PyRuntimeError::new_err("the pool was terminated before this was done");
        if tell {
            self.abandon_jobs(py, &reason.into_value(py).into_any(), false);
        }
        self.see_workers_off(py, grace)
    }

    /// Waits for the workers' end, kills those that take longer than `grace` seconds, and clears their seats. Needs no
    /// leader: another thread that leads may be busy with code of the user's for as long as it likes.
    pub(super) fn see_workers_off(&self, py: Python<'_>, grace: f64) -> PyResult<()> {
        let end = Instant::now() + Duration::from_secs_f64(grace.max(0.0));
        let processes = self.state().workers.processes(py);
        let mut waited = Ok(());
        for process in &processes {
            // Interrupted (Ctrl-C once more): the rest goes the short way.
            let left =
                if waited.is_ok() { end.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            let joined = process.bind(py).call_method1("join", (left.as_secs_f64(),));
            waited = waited.and(joined.map(drop));
        }
        for process in &processes {
            let process = process.bind(py);
            let _ = self.interrupts.stubbornly(py, || process.call_method0("kill"));
            let _ = self.interrupts.stubbornly(py, || process.call_method1("join", (SECONDS_TO_DIE,)));
        }
        self.clear_seats(py);
        waited
    }

    /// Seats of workers whose processes are gone, in a pool that has no more work for them.
    fn clear_seats(&self, py: Python<'_>) {
        while let Some(seat) = self.exited_worker() {
            let mut state = self.state();
            let Some(process) = state.workers.leave(seat) else { break };
            let actions = state.scheduler.on(Event::WorkerExited { seat, was_ready: true });
            drop(state);
            drop(process);
            self.carry_out(py, actions);
        }
        self.look_again();
    }

    /// Every job fails; `call_back` says whether error callbacks hear of it.
    pub(super) fn abandon_jobs(&self, py: Python<'_>, reason: &Py<PyAny>, call_back: bool) {
        self.engine.discard_tasks();
        let jobs: Vec<_> = {
            let state = self.state();
            state.jobs.iter().map(|(id, job)| (*id, job.clone_ref(py))).collect()
        };
        for (id, job) in jobs {
            job.get().abandon(py, reason);
            if !call_back {
                job.get().forget_callbacks();
            }
            self.retire(py, job.bind(py), id);
        }
        if let Err(error) = self.abandon_calls(py, reason) {
            error.write_unraisable(py, None);
        }
        self.engine.ring();
    }
}
