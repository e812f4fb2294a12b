//! When a fork server has a child in reserve, and how long one waits there.
//!
//! | state | how it gets there | how it goes on |
//! |---|---|---|
//! | none | at first; a request has taken the reserve; it was killed; it was sent away | after a request the server forks one, if they pay |
//! | waits | forked, and watched by its pidfd | a request comes: the reserve becomes that child. None comes in time: it is sent away. The server dies: its socket ends, and the reserve with it |
//! | sent away | its socket is shut down, so it reads an end, even if others have copies of the server's end | the server collects it, as a child that nobody asked for. The server dies first: it ends all the same |
//!
//! The server alone decides, between two requests: no request can be passed on to a reserve that was sent away.

use crate::sys::passing;
use manyhands_sync::deadline::Deadline;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// A child that waits for the request that it will carry out.
#[derive(Debug)]
pub(super) struct Reserve {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    pub(super) socket: OwnedFd,
    /// When it is sent away.
    pub(super) until: Deadline,
}

impl Reserve {
    /// Its socket ends; what is left is to be collected.
    pub(super) fn send_away(self) -> OwnedFd {
        passing::hang_up(self.socket.as_fd());
        self.pidfd
    }
}

/// How many reserves in a row may wait in vain before they have to show again that they pay.
const IN_VAIN: u32 = 2;

/// Whether the next reserve is likely to be used.
#[derive(Debug)]
pub(super) struct Demand {
    /// How long a reserve waits.
    kept_for: Duration,
    last_request: Option<Instant>,
    /// Whether the last request came so soon after the one before that a reserve was, or would have been, there.
    soon: bool,
    in_vain: u32,
}

impl Demand {
    pub(super) fn new(kept_for: Duration) -> Self {
        Self { kept_for, last_request: None, soon: false, in_vain: 0 }
    }

    pub(super) fn requested(&mut self) {
        let now = Instant::now();
        self.soon = self.last_request.is_some_and(|last| now.duration_since(last) < self.kept_for);
        self.last_request = Some(now);
    }

    pub(super) fn used(&mut self) {
        self.in_vain = 0;
    }

    pub(super) fn waited_in_vain(&mut self) {
        self.in_vain = self.in_vain.saturating_add(1);
    }

    /// A program that starts a process now and then does not have two forked each time.
    pub(super) fn pays(&self) -> bool {
        self.soon || self.in_vain < IN_VAIN
    }

    /// For a reserve that is made now.
    pub(super) fn until(&self) -> Deadline {
        Deadline::after(self.kept_for)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than any test.
    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn the_first_request_is_worth_one() {
        let mut demand = Demand::new(Duration::ZERO);
        demand.requested();
        assert!(demand.pays());
    }

    #[test]
    fn what_waits_in_vain_again_and_again_does_not_pay() {
        let mut demand = Demand::new(Duration::ZERO);
        for _ in 0..IN_VAIN {
            demand.requested();
            assert!(demand.pays());
            demand.waited_in_vain();
        }
        demand.requested();
        assert!(!demand.pays());
    }

    #[test]
    fn a_request_that_comes_soon_after_another_makes_it_pay_again() {
        let mut demand = Demand::new(LONG);
        demand.requested();
        (0..IN_VAIN).for_each(|_| demand.waited_in_vain());
        assert!(!demand.pays(), "the first after a pause");
        demand.requested();
        assert!(demand.pays());
        demand.used();
        assert_eq!(demand.in_vain, 0);
    }

    #[test]
    fn a_use_wipes_out_what_was_in_vain() {
        let mut demand = Demand::new(Duration::ZERO);
        (0..IN_VAIN).for_each(|_| demand.waited_in_vain());
        demand.used();
        demand.requested();
        assert!(demand.pays());
    }
}
