//! Waiting, with a [`Mutex`] unlocked meanwhile, until somebody says that the value has changed.

use crate::condition::{Condition, WaitError};
use crate::family::{Family, FamilyError};
use crate::mutex::MutexGuard;
use crate::queue::OpenError;
use crate::shared::Plain;
use manyhands_sync::arena::Handle;
use manyhands_sync::deadline::Deadline;

/// A condition of a [`Mutex`](crate::Mutex)'s value, seen from one process. Always use it with the same mutex. It lives as
/// the mutex does; clones are the same one.
///
/// Who waits is woken by a notification only, never without one; whether what it waits for has come, it has to look
/// nonetheless, because others may have been faster.
///
/// ```
/// use manyhands::{Condvar, Mutex, family::Family};
///
/// let items = Mutex::create(Family::current()?, 0u32)?;
/// let some = Condvar::create(Family::current()?)?;
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         let mut guard = items.lock().expect("no holder is killed");
///         *guard += 1;
///         some.notify_one(&guard);
///     });
///     let mut guard = some.wait_while(items.lock()?, |items| *items == 0)?;
///     *guard -= 1;
///     Ok::<(), manyhands::WaitError>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A process that is killed while it waits harms nobody: a notification that it had and did not live to see may be lost
/// with it, so who must not miss one notifies everybody.
#[derive(Clone, Debug)]
pub struct Condvar {
    condition: Condition,
}

impl Condvar {
    /// A new one.
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub fn create(family: &Family) -> Result<Self, FamilyError> {
        Ok(Self { condition: Condition::create(family)? })
    }

    /// The one with that handle.
    ///
    /// # Errors
    /// When nobody holds it any more.
    pub fn open(family: &Family, handle: Handle) -> Result<Self, OpenError> {
        Ok(Self { condition: Condition::open(family, handle)? })
    }

    /// By what another member opens it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.condition.handle()
    }

    /// Waits until notified, the mutex unlocked meanwhile. Signals do not end the wait.
    ///
    /// # Errors
    /// As [`Condvar::wait_by`].
    pub fn wait<'a, T: Plain>(&self, guard: MutexGuard<'a, T>) -> Result<MutexGuard<'a, T>, WaitError> {
        Ok(self.wait_by(guard, Deadline::NEVER)?.0)
    }

    /// As [`Condvar::wait`], until the deadline at most; also whether it was notified.
    ///
    /// # Errors
    /// [`WaitError::Lock`] with [`LockError::OwnerDied`](crate::LockError::OwnerDied) when somebody was killed who had the
    /// mutex locked meanwhile; [`WaitError::TooManyWaiters`]. The mutex is not locked by the caller then.
    pub fn wait_by<'a, T: Plain>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Deadline,
    ) -> Result<(MutexGuard<'a, T>, bool), WaitError> {
        let mutex = guard.leave_locked();
        match self.condition.wait_by(mutex.raw(), deadline) {
            Ok(notified) => Ok((mutex.guard(), notified)),
            Err(WaitError::TooManyWaiters) => {
                drop(mutex.guard());
                Err(WaitError::TooManyWaiters)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits as long as `is_so` says that the value is still to be waited for.
    ///
    /// # Errors
    /// As [`Condvar::wait_by`].
    pub fn wait_while<'a, T: Plain>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut is_so: impl FnMut(&T) -> bool,
    ) -> Result<MutexGuard<'a, T>, WaitError> {
        while is_so(&guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Wakes the one who has waited longest. It goes on once the guard is dropped.
    pub fn notify_one<T: Plain>(&self, _guard: &MutexGuard<'_, T>) {
        self.condition.notify(1);
    }

    /// Wakes everybody who waits. They go on, one by one, once the guard is dropped.
    pub fn notify_all<T: Plain>(&self, _guard: &MutexGuard<'_, T>) {
        self.condition.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutex::Mutex;
    use std::time::Duration;

    #[test]
    fn what_is_changed_before_a_wait_is_seen_by_the_others_and_what_they_change_after_it() {
        let family = Family::current().expect("memory");
        let turn = Mutex::create(family, 0u32).expect("memory");
        let changed = Condvar::create(family).expect("memory");
        let play = |mine: u32| {
            for _ in 0..500 {
                let guard = turn.lock().expect("nobody is killed");
                let mut guard = changed.wait_while(guard, |turn| turn % 2 != mine).expect("nobody is killed");
                *guard += 1;
                changed.notify_all(&guard);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| play(0));
            scope.spawn(|| play(1));
        });
        assert_eq!(*turn.lock().expect("free"), 1_000);
    }

    #[test]
    fn a_wait_that_nobody_ends_is_over_with_its_deadline_and_has_the_mutex_again() {
        let family = Family::current().expect("memory");
        let mutex = Mutex::create(family, 3u8).expect("memory");
        let never = Condvar::create(family).expect("memory");
        let mut guard = mutex.lock().expect("free");
        *guard = 4;
        let soon = Deadline::after(Duration::from_millis(20));
        let (guard, notified) = never.wait_by(guard, soon).expect("nobody is killed");
        assert!(!notified);
        assert_eq!(*guard, 4);
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(mutex.try_lock().expect("held").is_none()));
        });
        drop(guard);
        assert!(mutex.try_lock().expect("free").is_some());
    }
}
