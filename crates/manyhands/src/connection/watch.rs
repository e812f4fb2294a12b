//! Waiting for any of several descriptors.

use crate::sys::{OsError, descriptor, polling};
use crate::waiting::block;
use manyhands_sync::deadline::Deadline;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::park::{Parked, Waited, Waiting};
use manyhands_sync::spin::Learnt;
use rustix::io::Errno;
use std::time::Duration;

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

    /// Watches one that is to be written to: until there is room, or something is wrong with it.
    pub(super) fn for_room(number: i32) -> Result<Self, OsError> {
        let watched = descriptor::watched_for_room(number).map_err(OsError::new("poll"))?;
        Ok(Self(vec![watched]))
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

    /// For who has looked just now: looks again for a little while; whether one is ready.
    pub(super) fn spin(&mut self, learnt: &Learnt) -> bool {
        let ready = learnt.spin_on_calls(|| match polling::poll(&mut self.0, Some(Duration::ZERO)) {
            Ok(0) => None,
            looked => Some(looked.is_ok()),
        });
        // An error comes again in the call that sleeps.
        ready == Some(true)
    }

    /// Parks once: until one is ready, the deadline passes, a signal arrives or the sleep has come to its end.
    ///
    /// # Errors
    /// As [`Watch::look`].
    pub(super) fn park(&mut self, waiting: &mut Waiting, deadline: Deadline) -> Result<Waited, OsError> {
        polling::park(&mut self.0, waiting, deadline).map_err(OsError::new("poll"))
    }

    /// For who has looked just now: waits until one is ready; `false` when the deadline passed first. `on_signal` is called
    /// whenever a signal may have come; what it returns as an error ends the wait.
    ///
    /// # Errors
    /// What `on_signal` returned; inside, as [`Watch::look`].
    pub fn wait_interruptibly<E>(
        &mut self,
        learnt: &Learnt,
        deadline: Deadline,
        on_signal: impl FnMut() -> Result<(), E>,
    ) -> Result<Result<bool, OsError>, E> {
        if self.spin(learnt) {
            return Ok(Ok(true));
        }
        let ready = block(WaitKind::Connection, 0, deadline, on_signal, |waiting, _| {
            match self.park(waiting, deadline) {
                Ok(waited) => match Parked::from(waited) {
                    Parked::Done(()) => Parked::Done(Ok(true)),
                    Parked::TimedOut => Parked::TimedOut,
                    Parked::Interrupted => Parked::Interrupted,
                },
                Err(refused) => Parked::Done(Err(refused)),
            }
        })?;
        Ok(ready.unwrap_or(Ok(false)))
    }

    /// Which were ready when they were last looked at, by their places.
    pub fn ready(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().filter(|(_, watched)| watched.is_ready()).map(|(at, _)| at)
    }
}
