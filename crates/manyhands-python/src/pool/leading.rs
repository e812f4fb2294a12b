//! Waiting on a pool: whoever waits does the pool's work, one thread at a time.

use super::PyPool;
use super::leadership::{Driver, Errand, Lead};
use crate::error;
use manyhands::family;
use manyhands::pool::Woken;
use manyhands::{BlockedSignals, Deadline, Signals, WaitKind, Waiting};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the driver thread lets callers lead themselves.
const GRACE: Duration = Duration::from_millis(2);

impl PyPool {
    /// Does what there is to do, if nobody else leads, without waiting.
    pub(crate) fn glance(&self, py: Python<'_>) -> PyResult<()> {
        self.check_owner()?;
        if self.leadership.try_lead() == Lead::Others {
            return Ok(());
        }
        let done = self.look_around(py);
        self.resign();
        self.call_back_here(py);
        done.and_then(|()| self.raise_held())
    }

    pub(super) fn look_around(&self, py: Python<'_>) -> PyResult<()> {
        self.try_starts_again(py);
        for round in 1u32.. {
            if !self.advance(py)? || self.interrupts.any() || round.is_multiple_of(ROUNDS_BETWEEN_LOOKS) {
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

    /// Waits until `done` or the deadline: leads if nobody else does, else follows. Whether it is done. `job` is whose
    /// completion or results are waited for: `RuntimeError` when this thread is itself in the middle of that job, in a
    /// lead further out.
    pub(crate) fn wait_until(
        &self,
        py: Python<'_>,
        job: Option<u32>,
        done: &(dyn Fn() -> bool + Sync),
        deadline: Deadline,
    ) -> PyResult<bool> {
        self.check_owner()?;
        let mut waiting = Waiting::new(WaitKind::Answers);
        let mut following = Waiting::without_spin(WaitKind::Answers);
        // This thread has resigned, and told nobody.
        let mut untold = false;
        loop {
            if std::mem::take(&mut untold) && (done() || self.callbacks_wait_here()) {
                self.leadership.tell_resigned();
            }
            self.call_back_here(py);
            if done() {
                return Ok(true);
            }
            let led = match self.leadership.try_lead() {
                Lead::First => self.lead(py, &mut waiting, done, deadline),
                Lead::Again => self.lead_again(py, job, &mut waiting, done, deadline),
                Lead::Others => {
                    if deadline.passed() {
                        return Ok(false);
                    }
                    let Some(follower) = self.leadership.follow() else { continue };
                    if follower.is_behind_driver() {
                        // Which shall see it, and resign. Whatever was told before is seen here.
                        self.engine.ring();
                    }
                    if !done() && !self.callbacks_wait_here() {
                        let object = self.engine.handle().offset;
                        py.detach(|| follower.park(object, &mut following, deadline));
                    }
                    drop(follower);
                    py.check_signals()?;
                    continue;
                }
            };
            if matches!(led, Ok(Led::NothingYet)) {
                self.resign_for_a_look();
                untold = true;
                self.raise_held().and_then(|()| py.check_signals()).inspect_err(|_| {
                    self.leadership.tell_resigned();
                })?;
                continue;
            }
            self.resign();
            self.raise_held()?;
            match led? {
                Led::Done => return Ok(true),
                Led::TimedOut => return Ok(false),
                Led::CallBack | Led::NothingYet => {}
                // The handler runs with nobody leading: it may use the pool.
                Led::Interrupted => py.check_signals()?,
            }
        }
    }

    pub(super) fn check_owner(&self) -> PyResult<()> {
        if self.owner == family::process_identity() {
            return Ok(());
        }
        let text = "this pool belongs to the parent process: a forked child must make its own";
        Err(PyRuntimeError::new_err(text))
    }

    /// Leads no more; after the outermost lead, what had to wait for its end is done.
    pub(super) fn resign(&self) {
        self.has_resigned(self.leadership.resign());
    }

    fn resign_for_a_look(&self) {
        self.has_resigned(self.leadership.resign_for_a_look());
    }

    fn has_resigned(&self, outermost: bool) {
        if outermost && self.destroy_wanted.load(Ordering::Acquire) {
            self.destroy();
        }
    }

    /// What was raised in this thread while it led, and concerns more than the item at hand.
    pub(super) fn raise_held(&self) -> PyResult<()> {
        self.interrupts.take().map_or(Ok(()), Err)
    }

    /// As [`PyPool::raise_held`], where this thread ends: what is held for a thread that is no more would keep its place from
    /// what others have to be told.
    pub(super) fn write_held(&self, py: Python<'_>) {
        if let Err(held) = self.raise_held() {
            held.write_unraisable(py, None);
        }
    }

    fn lead_again(
        &self,
        py: Python<'_>,
        job: Option<u32>,
        waiting: &mut Waiting,
        done: &(dyn Fn() -> bool + Sync),
        deadline: Deadline,
    ) -> PyResult<Led> {
        if job.is_none_or(|job| self.leadership.is_held(job)) {
            let text = "this wait would be for itself: it was begun by code that the pool runs for what is waited \
                        for (a callback, a finalizer, __reduce__, __setstate__)";
            return Err(PyRuntimeError::new_err(text));
        }
        // The lead around this one may be about to give out more tasks.
        let jobs: Vec<_> = self.state().jobs.values().map(|job| job.clone_ref(py)).collect();
        for job in jobs {
            self.feed_job(py, job.bind(py));
        }
        self.lead(py, waiting, done, deadline)
    }

    fn lead(
        &self,
        py: Python<'_>,
        waiting: &mut Waiting,
        done: &(dyn Fn() -> bool + Sync),
        deadline: Deadline,
    ) -> PyResult<Led> {
        let looks = LooksAtSignals::begin();
        for round in 1u32.. {
            let any = self.advance(py)?;
            self.try_starts_again(py);
            self.tend_calls(py)?;
            if done() {
                return Ok(Led::Done);
            }
            if self.interrupts.any() {
                return Ok(Led::Interrupted);
            }
            if any {
                waiting.start_over();
                if self.callbacks_wait_here() {
                    return Ok(Led::CallBack);
                }
                // A steady stream of answers must hide neither a death nor a signal.
                if round.is_multiple_of(ROUNDS_BETWEEN_LOOKS) {
                    self.bury_exited(py)?;
                }
                if looks.are_due() {
                    self.bury_exited(py)?;
                    return Ok(Led::Interrupted);
                }
            } else if deadline.passed() {
                return Ok(Led::TimedOut);
            } else {
                let slept = waiting.slices();
                if self.sleep(py, waiting, deadline, None)? == Woken::Interrupted {
                    let in_vain = waiting.slices() != slept;
                    return Ok(if in_vain { Led::NothingYet } else { Led::Interrupted });
                }
            }
        }
        Ok(Led::Interrupted)
    }

    /// The body of the driver thread: runs callbacks, and leads whenever there is work and nobody else leads.
    pub(super) fn serve(&self, py: Python<'_>) {
        let mut quiet = Quiet(None);
        loop {
            quiet.begin();
            let errand = py.detach(|| self.leadership.await_errand(GRACE));
            quiet.end(match errand {
                Errand::End => true,
                // It is told to end since.
                Errand::Lead => self.leadership.driver() == Driver::Stopping,
                Errand::CallBack => false,
            });
            match errand {
                // The thread ends soon, without having heard of any signal.
                Errand::End => return std::mem::forget(quiet),
                Errand::CallBack => self.run_callbacks(py),
                Errand::Lead => {}
            }
            // Straight after callbacks too: they may have submitted what nobody waits for.
            while !quiet.lasts()
                && matches!(self.leadership.driver(), Driver::Wanted | Driver::Urgent)
                && !self.leadership.has_followers()
                && self.leadership.try_lead() == Lead::First
            {
                let led = self.lead_as_driver(py, &mut quiet);
                let over = self.is_over();
                quiet.end(!(over || led.is_err() || self.has_code_to_run()));
                if over {
                    self.destroy();
                }
                self.resign();
                let led = led.and_then(|()| self.raise_held());
                self.run_callbacks(py);
                if over {
                    return;
                }
                if let Err(error) = led {
                    error.write_unraisable(py, None);
                    // Not at once again: what went wrong may go wrong for ever.
                    break;
                }
            }
        }
    }

    /// Whether what follows a lead runs code of the user's: callbacks, or what is dropped when the pool is.
    fn has_code_to_run(&self) -> bool {
        self.leadership.are_callbacks_due()
            || self.interrupts.any()
            || self.destroy_wanted.load(Ordering::Acquire)
    }

    /// Leads until nothing is outstanding, somebody else wants to, callbacks wait, or the driver must end.
    fn lead_as_driver(&self, py: Python<'_>, quiet: &mut Quiet) -> PyResult<()> {
        let mut waiting = Waiting::new(WaitKind::Answers);
        loop {
            self.look_around(py)?;
            let waits_for_nothing = {
                let state = self.state();
                state.jobs.is_empty() && state.retry.is_none()
            };
            let idle = waits_for_nothing && !self.has_call_duties();
            if idle {
                self.leadership.tell_driver(Driver::Idle);
            }
            let wanted_elsewhere = self.leadership.has_followers() || self.leadership.are_callbacks_due();
            if idle || wanted_elsewhere || self.leadership.driver() == Driver::Stopping {
                return Ok(());
            }
            self.sleep(py, &mut waiting, Deadline::NEVER, Some(quiet))?;
            if quiet.lasts() {
                // It ends. What there is to do runs code of the user's, which takes its signals.
                return Ok(());
            }
        }
    }

    /// Sleeps until there may be something to do, and buries the worker whose end it was that woke us.
    fn sleep(
        &self,
        py: Python<'_>,
        waiting: &mut Waiting,
        deadline: Deadline,
        mut quiet: Option<&mut Quiet>,
    ) -> PyResult<Woken> {
        let (watched, retry) = {
            let state = self.state();
            (state.workers.watched(), state.retry)
        };
        if self.is_underfed() {
            return Ok(Woken::Answers);
        }
        let deadline = retry.map_or(deadline, |retry| deadline.or_sooner(retry));
        if let Some(quiet) = &mut quiet {
            quiet.begin();
        }
        let woken = py.detach(|| {
            let sentinels: Vec<_> = watched.iter().map(|w| w.sentinel()).collect();
            self.engine.wait(&sentinels, waiting, deadline)
        });
        if let Some(quiet) = quiet {
            // Another worker may be started at once, by this thread.
            let ends = matches!(woken, Ok(Woken::Answers)) && self.leadership.driver() == Driver::Stopping;
            quiet.end(ends);
        }
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

/// While the driver sleeps, and from when it is told to end until its thread does, it takes no signals that are sent to the
/// process. Another thread that forks has them kept away from itself meanwhile: one that is handled in the middle of a fork is
/// lost, since the interpreter swallows what its hooks raise. (Not for longer, and not while it runs code of the user's, as
/// callbacks are: threads and processes that those start inherit the mask.)
struct Quiet(Option<BlockedSignals>);

impl Quiet {
    fn begin(&mut self) {
        if self.0.is_none() {
            // It cannot fail; should it, signals come in as ever.
            self.0 = BlockedSignals::new(Signals::Asynchronous, false).ok();
        }
    }

    fn end(&mut self, thread_ends: bool) {
        if !thread_ends {
            self.0 = None;
        }
    }

    fn lasts(&self) -> bool {
        self.0.is_some()
    }
}

/// How a lead ended.
enum Led {
    Done,
    TimedOut,
    /// Callbacks wait that this thread has to run.
    CallBack,
    /// A signal arrived, or what its handler raised.
    Interrupted,
    /// A sleep has come to its end: a signal may have come outside of it.
    NothingYet,
}

/// How often a leader who is kept busy by answers looks at its workers.
const ROUNDS_BETWEEN_LOOKS: u32 = 16;

/// When a leader who is kept busy by answers lets the handlers of signals run: by the clock, not at each answer.
struct LooksAtSignals(Instant);

const BETWEEN_LOOKS_AT_SIGNALS: Duration = Duration::from_millis(5);

impl LooksAtSignals {
    fn begin() -> Self {
        Self(Instant::now())
    }

    fn are_due(&self) -> bool {
        self.0.elapsed() >= BETWEEN_LOOKS_AT_SIGNALS
    }
}
