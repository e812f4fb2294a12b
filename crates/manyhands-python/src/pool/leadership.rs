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
        !std::mem::replace(&mut state.led, true)
    }

    /// Stops leading; somebody who follows takes over.
    pub(super) fn resign(&self) {
        let mut state = self.state();
        state.led = false;
        if state.followers > 0 || state.driver != Driver::Absent {
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
        if state.driver != what {
            state.driver = what;
            self.changed.notify_all();
        }
        true
    }

    /// Whether a driver thread is there that was not told to stop.
    pub(super) fn has_driver(&self) -> bool {
        !matches!(self.state().driver, Driver::Absent | Driver::Stopping)
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

    /// The driver sleeps until it is wanted and nobody leads, or must stop; then gives callers `grace` to lead
    /// themselves.
    pub(super) fn await_driving(&self, grace: Duration) -> Driver {
        let mut state = self.state();
        loop {
            match state.driver {
                Driver::Stopping | Driver::Absent => return Driver::Stopping,
                Driver::Wanted if !state.led => {
                    let (next, waited) =
                        self.changed.wait_timeout(state, grace).unwrap_or_else(PoisonError::into_inner);
                    state = next;
                    if waited.timed_out() && state.driver == Driver::Wanted && !state.led {
                        return Driver::Wanted;
                    }
                }
                Driver::Wanted | Driver::Idle => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}
