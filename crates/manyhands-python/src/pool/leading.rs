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
        for round in 1u32.. {
            if !self.advance(py)? || round.is_multiple_of(ROUNDS_BETWEEN_LOOKS) {
                break;
            }
        }
        self.bury_exited(py)?;
        self.tend_calls(py)
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
                match led? {
                    Led::Done => return Ok(true),
                    Led::TimedOut => return Ok(false),
                    // The handler runs with nobody leading: it may use the pool.
                    Led::Interrupted => py.check_signals()?,
                }
                continue;
            }
            if deadline.passed() {
                return Ok(false);
            }
            py.detach(|| self.leadership.follow(deadline, || self.engine.ring()));
            py.check_signals()?;
        }
    }

    /// Leads in a thread that leads already, and runs a callback: until `done` or the deadline; whether it is done.
    pub(super) fn lead_again(
        &self,
        py: Python<'_>,
        done: &(dyn Fn() -> bool + Sync),
        deadline: Deadline,
    ) -> PyResult<bool> {
        self.tend_calls(py)?;
        while !done() {
            match self.lead(py, done, deadline)? {
                Led::Done => break,
                Led::TimedOut => return Ok(false),
                Led::Interrupted => py.check_signals()?,
            }
        }
        Ok(true)
    }

    pub(super) fn check_owner(&self) -> PyResult<()> {
        if self.owner == std::process::id() {
            return Ok(());
        }
        let text = "this pool belongs to the parent process: a forked child must make its own";
        Err(PyRuntimeError::new_err(text))
    }

    fn lead(&self, py: Python<'_>, done: &(dyn Fn() -> bool + Sync), deadline: Deadline) -> PyResult<Led> {
        let mut patience = Patience::new();
        for round in 1u32.. {
            let any = self.advance(py)?;
            self.tend_calls(py)?;
            if done() {
                return Ok(Led::Done);
            }
            if any {
                patience.start_over();
                // A steady stream of answers must not hide a death.
                if round.is_multiple_of(ROUNDS_BETWEEN_LOOKS) {
                    self.bury_exited(py)?;
                }
            } else if deadline.passed() {
                return Ok(Led::TimedOut);
            } else if self.sleep(py, &mut patience, deadline)? == Woken::Interrupted {
                return Ok(Led::Interrupted);
            }
        }
        Ok(Led::Interrupted)
    }

    /// Leads until nothing is outstanding, somebody else wants to, or the driver must end.
    pub(super) fn lead_as_driver(&self, py: Python<'_>) -> PyResult<()> {
        let mut patience = Patience::new();
        loop {
            self.look_around(py)?;
            let idle = self.state().jobs.is_empty() && !self.has_call_duties();
            if idle {
                self.leadership.tell_driver(Driver::Idle);
            }
            if idle || self.leadership.has_followers() || self.leadership.driver() == Driver::Stopping {
                return Ok(());
            }
            self.sleep(py, &mut patience, Deadline::NEVER)?;
        }
    }

    /// Sleeps until there may be something to do, and buries the worker whose end it was that woke us.
    fn sleep(&self, py: Python<'_>, patience: &mut Patience, deadline: Deadline) -> PyResult<Woken> {
        let watched = self.state().workers.watched();
        let woken = py.detach(|| {
            let pidfds: Vec<_> = watched.iter().map(|w| w.descriptor()).collect();
            self.engine.wait(&pidfds, patience, deadline)
        });
        let woken = woken.map_err(error::os)?;
        if let Woken::Exited(place) = woken {
            self.worker_exited(py, watched[place].seat())?;
        }
        Ok(woken)
    }

    fn bury_exited(&self, py: Python<'_>) -> PyResult<()> {
        while let Some(seat) = self.exited_worker() {
            self.worker_exited(py, seat)?;
        }
        Ok(())
    }
}

/// How a lead ended.
enum Led {
    Done,
    TimedOut,
    /// A signal arrived.
    Interrupted,
}

/// How often a leader who is kept busy by answers looks at its workers.
const ROUNDS_BETWEEN_LOOKS: u32 = 16;
