//! Who acts for a pool at the moment: collects answers, buries and replaces workers.
//!
//! One thread at a time is the *leader*: a caller that waits for its own result, or the pool's driver thread when
//! nobody waits. Everybody else who waits *follows*: sleeps until its job is done or the leader resigns. A driver that
//! leads resigns as soon as somebody follows.

use manyhands::Deadline;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Followers look at signals this often.
const SLICE: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
pub(super) struct Leadership {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    led: bool,
    followers: u32,
    driver: Driver,
    /// How often somebody became the leader.
    terms: u32,
    /// The driver waits for the leader to resign.
    driver_waits: bool,
}

/// What the driver thread is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Driver {
    /// There is none.
    #[default]
    Absent,
    /// Sleeps: there is nothing to do.
    Idle,
    /// There is work that nobody may be waiting for.
    Wanted,
    /// There is work that somebody waits for who cannot lead.
    Urgent,
    /// It must end.
    Stopping,
}

impl Leadership {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while this is held leaves plain flags, which are right after each statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Becomes the leader, if there is none.
    pub(super) fn try_lead(&self) -> bool {
        let mut state = self.state();
        let free = !std::mem::replace(&mut state.led, true);
        state.terms = state.terms.wrapping_add(u32::from(free));
        free
    }

    /// Stops leading; somebody who follows takes over.
    pub(super) fn resign(&self) {
        let mut state = self.state();
        state.led = false;
        if state.followers > 0 || std::mem::take(&mut state.driver_waits) {
            self.changed.notify_all();
        }
    }

    /// Jobs are done: followers look at theirs.
    pub(super) fn tell_followers(&self) {
        if self.state().followers > 0 {
            self.changed.notify_all();
        }
    }

    /// Whether somebody waits behind the leader.
    pub(super) fn has_followers(&self) -> bool {
        self.state().followers > 0
    }

    /// Sleeps for a moment, until the leader resigns, jobs are done, or the deadline; `nudge` runs once the leader can
    /// see the follower.
    pub(super) fn follow(&self, deadline: Deadline, nudge: impl FnOnce()) {
        let mut state = self.state();
        if !state.led {
            return;
        }
        state.followers += 1;
        drop(state);
        nudge();
        let mut state = self.state();
        if state.led
            && let Some(slice) = deadline.slice(SLICE)
        {
            state = self.changed.wait_timeout(state, slice).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.followers -= 1;
    }

    /// Tells the driver what to do, if there is one; whether there is.
    pub(super) fn tell_driver(&self, what: Driver) -> bool {
        let mut state = self.state();
        if matches!(state.driver, Driver::Absent | Driver::Stopping) {
            return false;
        }
        if state.driver != what && (state.driver, what) != (Driver::Urgent, Driver::Wanted) {
            state.driver = what;
            self.changed.notify_all();
        }
        true
    }

    /// The driver thread has come; `false` when it was told to end before it had begun.
    pub(super) fn begin_driving(&self) -> bool {
        let mut state = self.state();
        let begins = state.driver != Driver::Stopping;
        state.driver = if begins { Driver::Wanted } else { Driver::Absent };
        begins
    }

    /// The driver thread comes and goes.
    pub(super) fn set_driver(&self, what: Driver) {
        self.state().driver = what;
        self.changed.notify_all();
    }

    /// What the driver is told now.
    pub(super) fn driver(&self) -> Driver {
        self.state().driver
    }

    /// The driver sleeps until it is wanted and nobody leads, or must stop.
    ///
    /// Unless it is urgent it gives callers `grace` to lead themselves, and again as long as they do so: a caller who
    /// submits and waits, over and over, does not wake the driver each time.
    pub(super) fn await_driving(&self, grace: Duration) -> Driver {
        let mut state = self.state();
        loop {
            state = match state.driver {
                Driver::Stopping | Driver::Absent => return Driver::Stopping,
                Driver::Urgent if !state.led => return Driver::Urgent,
                Driver::Wanted if !state.led => {
                    let terms = state.terms;
                    let waited = self.changed.wait_timeout(state, grace);
                    let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
                    let left_alone = !state.led && state.terms == terms;
                    if waited.timed_out() && left_alone && state.driver == Driver::Wanted {
                        return Driver::Wanted;
                    }
                    state
                }
                Driver::Wanted | Driver::Urgent => {
                    state.driver_waits = true;
                    self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
                }
                Driver::Idle => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}
