//! What the scheduler decides is carried out here.

use super::PyPool;
use manyhands::pool::Action;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// How long workers get to end after SIGTERM before they are killed.
const SECONDS_TO_END: f64 = 2.0;

impl PyPool {
    pub(super) fn carry_out(&self, py: Python<'_>, actions: Vec<Action>) -> PyResult<()> {
        for action in actions {
            match action {
                Action::Start { seat } => self.replace_worker(py, seat)?,
                Action::Dismiss => self.engine.dismiss(),
                Action::Kill => self.terminate_workers(py)?,
                Action::Break => self.break_down(py)?,
            }
        }
        Ok(())
    }

    pub(super) fn break_down(&self, py: Python<'_>) -> PyResult<()> {
        let reason = self.state().broken.as_ref().map(|reason| reason.clone_ref(py));
        let reason = match reason {
            Some(reason) => reason,
            None => {
                let text =
                    "the pool's workers end before they are ready: see what they wrote to standard error";
                let reason = PyRuntimeError::new_err(text).into_value(py).into_any();
                self.state().broken = Some(reason.clone_ref(py));
                reason
            }
        };
        self.abandon_jobs(py, &reason)?;
        self.end_workers(py)
    }

    fn terminate_workers(&self, py: Python<'_>) -> PyResult<()> {
        // Bound first: no lock is held while Python code runs.
        let processes = self.state().workers.processes(py);
        processes.iter().try_for_each(|process| process.bind(py).call_method0("terminate").map(drop))
    }

    /// A broken pool has no leader who would bury its workers: they are told to end, and those that do not are killed.
    fn end_workers(&self, py: Python<'_>) -> PyResult<()> {
        self.terminate_workers(py)?;
        let processes = self.state().workers.processes(py);
        for process in &processes {
            let process = process.bind(py);
            process.call_method1("join", (SECONDS_TO_END,))?;
            if process.call_method0("is_alive")?.is_truthy()? {
                process.call_method0("kill")?;
                process.call_method0("join")?;
            }
        }
        Ok(())
    }

    pub(super) fn abandon_jobs(&self, py: Python<'_>, reason: &Py<PyAny>) -> PyResult<()> {
        self.engine.discard_tasks();
        let jobs: Vec<_> = {
            let state = self.state();
            state.jobs.iter().map(|(id, job)| (*id, job.clone_ref(py))).collect()
        };
        for (id, job) in jobs {
            job.get().abandon(py, reason);
            self.retire(py, job.bind(py), id);
        }
        self.abandon_calls(py, reason)?;
        self.engine.ring();
        Ok(())
    }
}
