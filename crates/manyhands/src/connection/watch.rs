//! Waiting for any of several descriptors.

use crate::sys::{OsError, descriptor, polling};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::wait_word::{Patience, Waited};
use rustix::io::Errno;
use std::time::Duration;

/// No single sleep is longer; the wait goes on behind it.
const LONGEST: Duration = Duration::from_secs(3600);

/// Descriptors, by number, that somebody waits for: until there is something to read, the end included, or something is
/// wrong with one.
#[derive(Debug)]
pub struct Watch(Vec<descriptor::Watched>);

impl Watch {
    /// Watches these.
    ///
    /// # Errors
    /// When a number is negative. One that is no descriptor is always ready.
    pub fn new(numbers: &[i32]) -> Result<Self, OsError> {
        let watched = numbers.iter().map(|&number| descriptor::watched(number)).collect::<Result<_, _>>();
        watched.map(Self).map_err(OsError::new("poll"))
    }

    /// Whether one is ready now.
    ///
    /// # Errors
    /// When the kernel refuses: it has no memory, say.
    pub fn look(&mut self) -> Result<bool, OsError> {
        match polling::poll(&mut self.0, Some(Duration::ZERO)) {
            Err(Errno::INTR) => Ok(false),
            looked => looked.map(|ready| ready > 0).map_err(OsError::new("poll")),
        }
    }

    /// For who has looked just now: for a little while, gives the processor to others until one is ready; whether one is.
    /// A signal ends it, and nothing tells the next call of it: look whether one has come before you sleep.
    pub fn await_briefly(&mut self, patience: &mut Patience) -> bool {
        let mut looked = Ok(0);
        patience.only_yield(&mut || {
            looked = polling::poll(&mut self.0, Some(Duration::ZERO));
            looked != Ok(0)
        });
        // An error comes again in the call that sleeps.
        looked.is_ok_and(|ready| ready > 0)
    }

    /// Sleeps until one is ready, the deadline passes or a signal arrives.
    ///
    /// # Errors
    /// As [`Watch::look`].
    pub fn sleep(&mut self, deadline: Deadline) -> Result<Waited, OsError> {
        loop {
            let left = deadline.slice(LONGEST).unwrap_or(Duration::ZERO);
            match polling::poll(&mut self.0, Some(left)) {
                Ok(0) if deadline.passed() => return Ok(Waited::TimedOut),
                Ok(0) => {}
                Ok(_) => return Ok(Waited::Ready),
                Err(Errno::INTR) => return Ok(Waited::Interrupted),
                Err(errno) => return Err(OsError::new("poll")(errno)),
            }
        }
    }

    /// Which were ready when they were last looked at, by their places.
    pub fn ready(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().filter(|(_, watched)| watched.is_ready()).map(|(at, _)| at)
    }
}
