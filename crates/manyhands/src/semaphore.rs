//! A semaphore between any threads of any members of a family: a count that is raised and lowered, and waited for.
//!
//! Nobody owns what was taken: a process that is killed keeps it. The protocol is in `semaphore.rs` of manyhands-sync.

use crate::family::{Family, FamilyError, Hold};
use crate::queue::OpenError;
use crate::waiting::{block, undisturbed};
use manyhands_sync::arena::Handle;
use manyhands_sync::deadline::Deadline;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::park::Parked;
use manyhands_sync::semaphore::UserSemaphore;
pub use manyhands_sync::semaphore::{MOST, TooMany};
use std::sync::Arc;

/// A semaphore, seen from one process. It lives as a [`Lock`](crate::Lock) does.
///
/// ```
/// use manyhands::{Deadline, Semaphore, family::Family};
///
/// // Room for two, and never more.
/// let room = Semaphore::create(Family::current()?, 2, 2)?;
/// assert!(room.acquire_by(Deadline::NEVER));
/// assert!(room.try_acquire());
/// assert!(!room.try_acquire());
/// room.release().expect("one was taken");
/// assert_eq!(Semaphore::open(Family::current()?, room.handle())?.count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Semaphore {
    semaphore: &'static UserSemaphore,
    hold: Arc<Hold>,
}

impl Semaphore {
    /// A new semaphore with that count, which never exceeds `most`; both are at most [`MOST`].
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub fn create(family: &Family, count: u32, most: u32) -> Result<Self, FamilyError> {
        let (semaphore, hold) = family.place_shared(UserSemaphore::new(count, most))?;
        Ok(Self { semaphore, hold: Arc::new(hold) })
    }

    /// The semaphore with that handle.
    ///
    /// # Errors
    /// When there is no such semaphore (any more).
    pub fn open(family: &Family, handle: Handle) -> Result<Self, OpenError> {
        let (semaphore, hold) = family.open_shared(handle)?;
        Ok(Self { semaphore, hold: Arc::new(hold) })
    }

    /// Makes sure that this process holds it, as a forked child may not; see [`Hold::ensure`](crate::family::Hold::ensure).
    ///
    /// # Errors
    /// When it does not, and cannot.
    #[inline]
    pub fn ensure_held(&self) -> Result<(), FamilyError> {
        self.hold.ensure()
    }

    /// By what another member opens the semaphore.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.hold.handle()
    }

    /// Lowers the count by one if it is not 0; whether it did.
    #[inline]
    #[must_use]
    pub fn try_acquire(&self) -> bool {
        self.semaphore.try_take()
    }

    /// Lowers the count by one, waiting for it; `false` when the deadline passed first. `on_signal` is called whenever a signal
    /// may have come; what it returns as an error ends the wait, and nothing was taken then.
    ///
    /// # Errors
    /// What `on_signal` returned.
    pub fn acquire_interruptibly<E>(
        &self,
        deadline: Deadline,
        on_signal: impl FnMut() -> Result<(), E>,
    ) -> Result<bool, E> {
        let taken =
            block(WaitKind::Semaphore, self.handle().offset, deadline, on_signal, |waiting, record| {
                Parked::from(self.semaphore.take(waiting, deadline, |waiting| record.note(waiting)))
            })?;
        Ok(taken.is_some())
    }

    /// Lowers the count by one, waiting for it; `false` when the deadline passed first. Signals do not end the wait.
    #[must_use]
    pub fn acquire_by(&self, deadline: Deadline) -> bool {
        let Ok(taken) = self.acquire_interruptibly(deadline, undisturbed);
        taken
    }

    /// Raises the count by one, and wakes one who waits.
    ///
    /// # Errors
    /// When the count is as high as it may be.
    #[inline]
    pub fn release(&self) -> Result<(), TooMany> {
        self.semaphore.give()
    }

    /// Whether one who comes now would have to wait: the count is 0, or it is the turn of one who has waited for long.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.semaphore.is_locked()
    }

    /// The count.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.semaphore.count()
    }

    /// The highest count there may be.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.semaphore.most()
    }
}
