//! A flag between any threads of any members of a family, which can be waited for.
//!
//! Nobody owns it: what a process that is killed has set stays set. The protocol is in `event.rs` of manyhands-sync.

use crate::family::{Family, FamilyError, Hold};
use crate::queue::OpenError;
use crate::waiting::{block, undisturbed};
use manyhands_sync::arena::Handle;
use manyhands_sync::deadline::Deadline;
use manyhands_sync::event::UserEvent;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::park::Parked;
use std::sync::Arc;

/// An event, seen from one process. It lives as a [`Lock`](crate::Lock) does.
///
/// ```
/// use manyhands::{Deadline, Event, family::Family};
///
/// let go = Event::create(Family::current()?)?;
/// std::thread::scope(|scope| {
///     scope.spawn(|| go.set());
///     assert!(go.wait_by(Deadline::NEVER));
/// });
/// assert!(go.is_set());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Event {
    event: &'static UserEvent,
    hold: Arc<Hold>,
}

impl Event {
    /// A new event, whose flag is down.
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub fn create(family: &Family) -> Result<Self, FamilyError> {
        let (event, hold) = family.place_shared(UserEvent::new())?;
        Ok(Self { event, hold: Arc::new(hold) })
    }

    /// The event with that handle.
    ///
    /// # Errors
    /// When there is no such event (any more).
    pub fn open(family: &Family, handle: Handle) -> Result<Self, OpenError> {
        let (event, hold) = family.open_shared(handle)?;
        Ok(Self { event, hold: Arc::new(hold) })
    }

    /// Makes sure that this process holds it, as a forked child may not; see [`Hold::ensure`](crate::family::Hold::ensure).
    ///
    /// # Errors
    /// When it does not, and cannot.
    #[inline]
    pub fn ensure_held(&self) -> Result<(), FamilyError> {
        self.hold.ensure()
    }

    /// By what another member opens the event.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.hold.handle()
    }

    /// Whether the flag is up.
    #[inline]
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.event.is_set()
    }

    /// Raises the flag; everybody who waits goes on. Whether somebody was asleep and has been woken.
    #[inline]
    pub fn set(&self) -> bool {
        self.event.set()
    }

    /// Lowers the flag.
    #[inline]
    pub fn clear(&self) {
        self.event.clear();
    }

    /// Waits until the flag is up, or was up since this call began; `false` when the deadline passed first. `on_signal` is
    /// called whenever a signal may have come; what it returns as an error ends the wait.
    ///
    /// # Errors
    /// What `on_signal` returned.
    pub fn wait_interruptibly<E>(
        &self,
        deadline: Deadline,
        on_signal: impl FnMut() -> Result<(), E>,
    ) -> Result<bool, E> {
        let Some(since) = self.event.begin_wait() else { return Ok(true) };
        let came = block(WaitKind::Event, self.handle().offset, deadline, on_signal, |waiting, record| {
            Parked::from(self.event.wait(since, waiting, deadline, |waiting| record.note(waiting)))
        })?;
        Ok(came.is_some())
    }

    /// Waits until the flag is up, or was up since this call began; `false` when the deadline passed first. Signals do not
    /// end the wait.
    #[must_use]
    pub fn wait_by(&self, deadline: Deadline) -> bool {
        let Ok(came) = self.wait_interruptibly(deadline, undisturbed);
        came
    }
}
