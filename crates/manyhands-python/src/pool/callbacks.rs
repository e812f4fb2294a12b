//! Callbacks of jobs that are complete: run by the pool's driver thread, as the standard library runs them in a thread
//! of its own, so that a callback never runs inside a caller's wait and under the caller's locks.

use super::PyPool;
use super::job::PyJob;
use pyo3::prelude::*;

impl PyPool {
    /// The job is complete but for its callback.
    pub(super) fn owe_callback(&self, job: Py<PyJob>) {
        self.state().callbacks.push_back(job);
        self.leadership.set_callbacks_due(true);
    }

    /// Runs the callbacks that wait, if they are this thread's to run.
    pub(super) fn call_back_here(&self, py: Python<'_>) {
        if self.callbacks_wait_here() {
            self.run_callbacks(py);
        }
    }

    /// Whether callbacks wait that are this thread's to run.
    pub(super) fn callbacks_wait_here(&self) -> bool {
        self.leadership.are_callbacks_due() && self.leadership.calls_back_here()
    }

    /// Runs the callbacks that wait; their jobs are done then.
    pub(super) fn run_callbacks(&self, py: Python<'_>) {
        while let Some(job) = self.next_callback() {
            self.leadership.begin_callback(job.get().id());
            self.state().calling_back.push(job.clone_ref(py));
            job.get().call_back(py);
            self.called_back(&job);
            self.leadership.end_callback();
            self.wake_leader();
        }
    }

    /// The job's callback has run: it is no longer among the unfinished.
    fn called_back(&self, job: &Py<PyJob>) {
        let mut state = self.state();
        let place = state.calling_back.iter().rposition(|called| called.is(job));
        let over = place.map(|place| state.calling_back.swap_remove(place));
        drop(state);
        drop(over);
    }

    /// Jobs whose callbacks were not run are done without: the pool has ended.
    pub(super) fn drop_callbacks(&self, py: Python<'_>) {
        while let Some(job) = self.next_callback() {
            job.get().finish(py);
            self.wake_leader();
        }
    }

    fn next_callback(&self) -> Option<Py<PyJob>> {
        let mut state = self.state();
        let next = state.callbacks.pop_front();
        if state.callbacks.is_empty() {
            self.leadership.set_callbacks_due(false);
        }
        next
    }

    /// A job is done that the leader, asleep, may be waiting for.
    fn wake_leader(&self) {
        self.leadership.tell_followers();
        if self.leadership.is_led() && !self.leadership.leads_here() {
            self.engine.ring();
        }
    }
}
