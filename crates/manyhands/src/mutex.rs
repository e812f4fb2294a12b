//! A value that processes change one after the other: a [`Lock`] and, beside it, what it guards.
//!
//! A guard holds a *copy*, which is written back when the guard is dropped. So no reference into memory that another
//! process could write is ever handed out, and a holder that is killed, or panics, in the middle of its work leaves the
//! value as it was before.

use crate::family::{Family, FamilyError};
use crate::lock::{Lock, LockError, Look, Nature, OnOwnerDeath, Taken};
use crate::shared::{Plain, Shared, SharedError};
use manyhands_sync::arena::{AllocateError, HANDLE_BYTES, Handle};
use manyhands_sync::deadline::Deadline;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// A value in shared memory that one thread at a time may change, of any member of the family. Clones are the same one.
///
/// It lives as long as somebody holds it: this value and its clones, those of other processes, and messages on their way
/// that carry its handles.
///
/// ```
/// use manyhands::{Mutex, family::Family};
///
/// let total = Mutex::create(Family::current()?, [0u64; 2])?;
/// let same = Mutex::<[u64; 2]>::open(Family::current()?, total.handle())?;
/// {
///     let mut guard = same.lock()?;
///     guard[0] += 1;
///     guard[1] += 10;
/// } // written back and unlocked
/// assert_eq!(*total.lock()?, [1, 10]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # When a holder is killed
/// Exactly one of those who want the mutex next gets [`LockError::OwnerDied`]; it does *not* hold the mutex, which is free.
/// That is to the mutex what poisoning is to one of the standard library, told to one instead of all. What the holder had
/// changed is gone with it; only when it was killed while its guard was being dropped may a value of more than eight
/// bytes be half old and half new.
///
/// ```
/// use manyhands::{LockError, Mutex, family::Family};
///
/// fn add(total: &Mutex<u64>) -> Result<u64, LockError> {
///     let mut guard = match total.lock() {
///         // One number is never half written, so there is nothing to put right: once more.
///         Err(LockError::OwnerDied(_)) => total.lock()?,
///         locked => locked?,
///     };
///     *guard += 1;
///     Ok(*guard)
/// }
///
/// let total = Mutex::create(Family::current()?, 41)?;
/// assert_eq!(add(&total)?, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Mutex<T> {
    lock: Lock,
    value: Shared<T>,
}

/// By what another member opens a mutex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MutexHandle {
    lock: Handle,
    value: Handle,
}

impl MutexHandle {
    /// How many bytes it takes.
    pub const BYTES: usize = 2 * HANDLE_BYTES;

    /// The handle as bytes, for an argument or a message.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..HANDLE_BYTES].copy_from_slice(&self.lock.to_bytes());
        bytes[HANDLE_BYTES..].copy_from_slice(&self.value.to_bytes());
        bytes
    }

    /// Reads what [`MutexHandle::to_bytes`] wrote; `None` when there are fewer or more bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (lock, value) = bytes.split_at_checked(HANDLE_BYTES)?;
        Some(Self { lock: Handle::from_bytes(lock)?, value: Handle::from_bytes(value)? })
    }

    /// What a [`Message`](crate::Message) that names the mutex must carry, so that it does not disappear on the way.
    #[must_use]
    pub fn carried(self) -> [Handle; 2] {
        [self.lock, self.value]
    }
}

impl<T: Plain> Mutex<T> {
    /// A new mutex, unlocked.
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub fn create(family: &'static Family, value: T) -> Result<Self, FamilyError> {
        Self::create_with(family, value, OnOwnerDeath::Raise)
    }

    /// As [`Mutex::create`], choosing what becomes of the mutex when its holder is killed.
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub fn create_with(
        family: &'static Family,
        value: T,
        on_owner_death: OnOwnerDeath,
    ) -> Result<Self, FamilyError> {
        let lock = Lock::create(family, Nature { recursive: false, on_owner_death })?;
        let value = Shared::new(family, value).map_err(|error| {
            FamilyError::Memory(match error {
                SharedError::OutOfMemory { wanted_bytes, limit_bytes } => {
                    AllocateError::OutOfMemory { wanted_bytes, limit_bytes }
                }
                SharedError::Stale | SharedError::Corrupted => AllocateError::Corrupted,
            })
        })?;
        Ok(Self { lock, value })
    }

    /// The mutex with that handle. Of which type its value is, the handle does not say: that is for the program to know.
    ///
    /// # Errors
    /// When nobody holds it any more, or its value is shorter than a `T`.
    pub fn open(family: &Family, handle: MutexHandle) -> Result<Self, SharedError> {
        let lock = Lock::open(family, handle.lock).map_err(|_| SharedError::Stale)?;
        Ok(Self { lock, value: Shared::open(family, handle.value)? })
    }

    /// By what another member opens the mutex.
    #[must_use]
    pub fn handle(&self) -> MutexHandle {
        MutexHandle { lock: self.lock.handle(), value: self.value.handle() }
    }

    /// Locks the mutex, waiting for it. Signals do not end the wait. A thread that has it locked already waits for itself,
    /// for ever.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] when the last holder was killed: the caller does not hold the mutex, and may lock it again
    /// at once.
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, LockError> {
        loop {
            if let Some(guard) = self.lock_by(Deadline::NEVER)? {
                return Ok(guard);
            }
        }
    }

    /// As [`Mutex::lock`]; `None` when the deadline passed first.
    ///
    /// # Errors
    /// As [`Mutex::lock`].
    pub fn lock_by(&self, deadline: Deadline) -> Result<Option<MutexGuard<'_, T>>, LockError> {
        Ok(self.lock.acquire_by(deadline)?.then(|| self.guard()))
    }

    /// Locks the mutex if nobody else has it locked; `None` when somebody has. Does not wait.
    ///
    /// # Errors
    /// As [`Mutex::lock`].
    pub fn try_lock(&self) -> Result<Option<MutexGuard<'_, T>>, LockError> {
        match self.lock.try_acquire_looking(Look::Close)? {
            Taken::Yes | Taken::Recovered => Ok(Some(self.guard())),
            Taken::OwnerDied(dead) => Err(LockError::OwnerDied(dead)),
            Taken::No | Taken::Interrupted => Ok(None),
        }
    }

    /// How often a holder was killed, and somebody found out.
    #[must_use]
    pub fn deaths(&self) -> u32 {
        self.lock.deaths()
    }

    /// The guard of a thread that has just locked the mutex.
    pub(crate) fn guard(&self) -> MutexGuard<'_, T> {
        let value = self.value.load();
        MutexGuard { mutex: self, value, is_changed: false, stays_in_its_thread: PhantomData }
    }

    pub(crate) fn raw(&self) -> &Lock {
        &self.lock
    }
}

/// A locked mutex; dropping it writes the value back, if it was borrowed mutably, and unlocks the mutex. One that is dropped
/// by a panic unlocks it and leaves the value as it was.
#[must_use = "the mutex is unlocked when its guard is dropped"]
#[derive(Debug)]
pub struct MutexGuard<'a, T: Plain> {
    mutex: &'a Mutex<T>,
    value: T,
    is_changed: bool,
    stays_in_its_thread: PhantomData<*const ()>,
}

impl<'a, T: Plain> MutexGuard<'a, T> {
    /// Writes the value back and leaves the mutex locked, with nobody to unlock it but the caller.
    pub(crate) fn leave_locked(mut self) -> &'a Mutex<T> {
        self.write_back();
        let mutex = self.mutex;
        // Nothing but a number or two is forgotten: a guard owns no memory.
        std::mem::forget(self);
        mutex
    }

    fn write_back(&mut self) {
        if std::mem::take(&mut self.is_changed) {
            self.mutex.value.store(self.value);
        }
    }
}

impl<T: Plain> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Plain> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.is_changed = true;
        &mut self.value
    }
}

impl<T: Plain> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.write_back();
        }
        // It is free already only if somebody else opened the lock by its handle and released it.
        let _ = self.mutex.lock.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn family() -> &'static Family {
        Family::current().expect("memory")
    }

    #[test]
    fn eight_threads_add_and_none_is_lost() {
        let total = Mutex::create(family(), [0u32, 1_000_000]).expect("memory");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let mut guard = total.lock().expect("nobody is killed");
                        guard[0] += 1;
                        guard[1] -= 1;
                    }
                });
            }
        });
        assert_eq!(*total.lock().expect("free"), [16_000, 984_000]);
    }

    #[test]
    fn one_at_a_time() {
        let mutex = Mutex::create(family(), 7u8).expect("memory");
        let guard = mutex.lock().expect("free");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(mutex.try_lock().expect("held").is_none());
                let soon = Deadline::after(Duration::from_millis(10));
                assert!(mutex.lock_by(soon).expect("held").is_none());
            });
        });
        drop(guard);
        assert_eq!(mutex.try_lock().expect("free").as_deref(), Some(&7));
        assert_eq!(mutex.deaths(), 0);
    }

    #[test]
    fn a_panic_unlocks_and_changes_nothing() {
        let mutex = Mutex::create(family(), 1.5f64).expect("memory");
        let copy = mutex.clone();
        let ended = std::thread::spawn(move || {
            let mut guard = copy.lock().expect("free");
            *guard = 99.0;
            panic!("in the middle of it");
        })
        .join();
        assert!(ended.is_err());
        assert_eq!(*mutex.lock().expect("free"), 1.5);
    }

    #[test]
    fn handles_come_back_as_they_went_and_name_nothing_afterwards() {
        let mutex = Mutex::create(family(), 5u16).expect("memory");
        let handle = mutex.handle();
        assert_eq!(MutexHandle::from_bytes(&handle.to_bytes()), Some(handle));
        assert_eq!(MutexHandle::from_bytes(&handle.to_bytes()[1..]), None);
        assert_eq!(MutexHandle::from_bytes(&[]), None);
        assert_eq!(*Mutex::<u16>::open(family(), handle).expect("open").lock().expect("free"), 5);
        // Larger than the block that holds it.
        assert!(Mutex::<[u64; 1000]>::open(family(), handle).is_err());
        let crossed = MutexHandle { lock: handle.value, value: handle.lock };
        assert!(Mutex::<u16>::open(family(), crossed).is_err());
        drop(mutex);
        assert!(Mutex::<u16>::open(family(), handle).is_err());
    }
}
