//! Waiting on a pool: whoever waits does the pool's work, one thread at a time.

use super::PyPool;
use super::leadership::Driver;
use crate::error;
use manyhands::pool::Woken;
use manyhands::{Deadline, Patience};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

impl PyPool {
    /// Does what there is to do, if nobody else leads, without waiting.
    pub(crate) fn glance(&self, py: Python<'_>) -> PyResult<()> {
        if !self.leadership.try_lead() {
            return Ok(());
        }
        let done = self.look_around(py);
        self.leadership.resign();
        done
    }

    pub(super) fn look_around(&self, py: Python<'_>) -> PyResult<()> {
        while self.advance(py)? {}
        while let Some(seat) = self.exited_worker() {
            self.worker_exited(py, seat)?;
        }
        Ok(())
    }

    /// Somebody who waits on a stream should look at it again: items or an end were pushed by another thread.
    pub(crate) fn look_again(&self) {
        self.leadership.tell_followers();
        self.engine.ring();
    }

    /// Waits until `done` or the deadline: leads if nobody does, else follows. Whether it is done.
    pub(crate) fn wait_until(
        &self,
        py: Python<'_>,
        done: &(dyn Fn() -> bool + Sync),
        deadline: Deadline,
    ) -> PyResult<bool> {
        self.check_owner()?;
        loop {
            if done() {
                return Ok(true);
            }
            if self.leadership.try_lead() {
                let led = self.lead(py, done, deadline);
                self.leadership.resign();
                return led;
            }
            if deadline.passed() {
                return Ok(false);
            }
            py.detach(|| self.leadership.follow(deadline, || self.engine.ring()));
            py.check_signals()?;
        }
    }

    pub(super) fn check_owner(&self) -> PyResult<()> {
        if self.owner == std::process::id() {
            return Ok(());
        }
        let text = "this pool belongs to the parent process: a forked child must make its own";
        Err(PyRuntimeError::new_err(text))
    }

    pub(super) fn lead(
        &self,
        py: Python<'_>,
        done: &(dyn Fn() -> bool + Sync),
        deadline: Deadline,
    ) -> PyResult<bool> {
        let mut patience = Patience::new();
        loop {
            if self.advance(py)? {
                if done() {
                    return Ok(true);
                }
                continue;
            }
            if done() {
                return Ok(true);
            }
            if deadline.passed() {
                return Ok(false);
            }
            self.sleep(py, &mut patience, deadline)?;
        }
    }

    /// Leads until nothing is outstanding, somebody else wants to, or the driver must end.
    pub(super) fn lead_as_driver(&self, py: Python<'_>) -> PyResult<()> {
        let mut patience = Patience::new();
        loop {
            while self.advance(py)? {}
            let idle = self.state().jobs.is_empty();
            if idle {
                self.leadership.tell_driver(Driver::Idle);
            }
            if idle || self.leadership.has_followers() || self.leadership.driver() == Driver::Stopping {
                return Ok(());
            }
            self.sleep(py, &mut patience, Deadline::NEVER)?;
        }
    }

    pub(super) fn sleep(&self, py: Python<'_>, patience: &mut Patience, deadline: Deadline) -> PyResult<()> {
        let watched = self.state().workers.watched();
        let woken = py.detach(|| {
            let pidfds: Vec<_> = watched.iter().map(|w| w.descriptor()).collect();
            self.engine.wait(&pidfds, patience, deadline)
        });
        match woken.map_err(error::os)? {
            Woken::Exited(place) => self.worker_exited(py, watched[place].seat()),
            Woken::Interrupted => py.check_signals(),
            Woken::Answers | Woken::TimedOut => Ok(()),
        }
    }
}
