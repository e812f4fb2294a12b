//! The robust pthread mutex of glibc.
#![allow(unsafe_code)] // calls into libpthread on a mutex that lives in shared memory

use super::slices::Slices;
use super::turnstile::Turnstile;
use super::words::{Links, OWNER_DIED, THREAD};
use super::{Holder, LockError};
use crate::memory::Shareable;
use crate::park::FIRST_SLEEP;
use crate::primitive::pause;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::time::Duration;

/// A lock in shared memory; see the module's protocol.
#[repr(C)]
pub struct RobustMutex(pub(super) UnsafeCell<libc::pthread_mutex_t>, Turnstile);

// SAFETY: a pthread mutex with PTHREAD_PROCESS_SHARED is made to be used by many threads and processes at once.
unsafe impl Sync for RobustMutex {}
// SAFETY: repr(C), pthread_mutex_t and a word of which any value is a state. Any bits may be found in it: no call into glibc is made before the word
// that chooses glibc's algorithm was looked at, nor an unlock before the two pointers that it follows were.
unsafe impl Shareable for RobustMutex {}

impl core::fmt::Debug for RobustMutex {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RobustMutex")
    }
}

impl Default for RobustMutex {
    fn default() -> Self {
        Self::new()
    }
}

const SPINS: u32 = 40;
/// After this a waiter has waited for long. Not shorter, for the reason that [`FIRST_SLEEP`] has.
const FIRST_SLICE: Duration = FIRST_SLEEP;
/// The others: behind a holder that is stopped, a waiter that looks around between them does so twenty times a second.
const SLICE: Duration = Duration::from_millis(50);
/// So many slices, twentieths of a second, a waiter sleeps for one and the same holder before it asks whether there is such a thread. The
/// kernel tells of a holder that died, so a word that names no thread was damaged; unless the holder may be one that cannot
/// be seen from here, in a pid namespace of its own, and was stopped: then nobody knows, and the wait goes on.
const LOST_SLICES: u32 = 100;

/// What came of one sleep for the lock.
enum Slept {
    Acquired { owner_died: bool },
    InVain { same_holder: bool },
}

unsafe extern "C" {
    // glibc 2.30; not in the libc crate.
    fn pthread_mutex_clocklock(
        mutex: *mut libc::pthread_mutex_t,
        clock: libc::clockid_t,
        end: *const libc::timespec,
    ) -> libc::c_int;
}

impl RobustMutex {
    /// An unlocked lock, to be moved to its place in shared memory before anyone locks it.
    #[must_use]
    pub fn new() -> Self {
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        let mut mutex = MaybeUninit::<libc::pthread_mutex_t>::zeroed();
        // SAFETY: the pointer is to an attribute object of this function.
        unsafe { libc::pthread_mutexattr_init(attributes.as_mut_ptr()) };
        // SAFETY: initialised by the line above.
        unsafe { libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED) };
        // SAFETY: initialised by the first of these lines.
        unsafe { libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST) };
        // SAFETY: both objects belong to this function. glibc's mutexes hold no address of themselves while
        // unlocked, so moving one before its first use is sound.
        unsafe { libc::pthread_mutex_init(mutex.as_mut_ptr(), attributes.as_ptr()) };
        // SAFETY: initialised above, not used afterwards.
        unsafe { libc::pthread_mutexattr_destroy(attributes.as_mut_ptr()) };
        // SAFETY: zeroed, then initialised by pthread_mutex_init.
        Self(UnsafeCell::new(unsafe { mutex.assume_init() }), Turnstile::new())
    }

    /// Makes an unlocked lock of the zeroed bytes at this place.
    pub(crate) fn lay_out(&'static self) {
        // SAFETY: the caller is the only one who knows this place yet; the cell may be overwritten.
        unsafe { self.0.get().write(Self::new().0.into_inner()) };
    }

    /// Whether a try finds it busy, because somebody has waited for long.
    #[inline]
    pub fn keeps_off(&self) -> bool {
        !self.1.is_open() && self.1.is_closed()
    }

    /// Keeps off for a moment where somebody has waited for long.
    #[inline]
    pub(super) fn pass(&self) {
        if !self.1.is_open() {
            self.1.pass();
        }
    }

    /// As `pass`, for one who waits in slices: no longer than its deadline, and not between its slices, for it may be the one
    /// that has waited for long.
    #[inline(always)]
    pub(super) fn pass_once(&self, slices: &Slices) {
        if !self.1.is_open() && slices.ended() == 0 {
            self.pass_within(slices);
        }
    }

    #[cold]
    fn pass_within(&self, slices: &Slices) {
        if let Some(longest) = slices.next(FIRST_SLICE) {
            self.1.pass_within(longest);
        }
    }

    /// Whether the last owner died, once the lock is held.
    #[inline]
    pub(super) fn try_acquire(&self) -> Result<bool, LockError> {
        if !self.has_its_kind() {
            return Err(LockError::Corrupted);
        }
        for _ in 0..SPINS {
            // SAFETY: a robust mutex by its kind; of its other words glibc believes none that leads anywhere.
            match unsafe { libc::pthread_mutex_trylock(self.0.get()) } {
                0 => return Ok(false),
                libc::EOWNERDEAD => return Ok(true),
                libc::EBUSY => pause(),
                _ => return Err(LockError::Corrupted),
            }
        }
        Err(LockError::Busy)
    }

    /// As `try_acquire`, but waits; in slices, because a lost futex wake must not be for ever.
    #[cold]
    pub(super) fn acquire(&self) -> Result<bool, LockError> {
        let (mut closed, mut lost, mut slice) = (false, 0, FIRST_SLICE);
        let acquired = loop {
            match self.acquire_within(slice, lost) {
                Ok(Slept::InVain { same_holder }) => {
                    (slice, lost) = (SLICE, if same_holder { lost + 1 } else { 0 });
                    closed |= self.1.close();
                }
                Ok(Slept::Acquired { owner_died }) => break Ok(owner_died),
                Err(error) => break Err(error),
            }
        };
        if closed {
            self.1.open();
        }
        acquired
    }

    /// As `acquire`, for one slice: `Busy` at its end, or when its deadline has passed.
    #[cold]
    pub(super) fn acquire_slice(&'static self, slices: &Slices) -> Result<bool, LockError> {
        let longest = if slices.ended() == 0 { FIRST_SLICE } else { SLICE };
        let slice = slices.next(longest).ok_or(LockError::Busy)?;
        match self.acquire_within(slice, slices.lost())? {
            Slept::Acquired { owner_died } => Ok(owner_died),
            Slept::InVain { same_holder } => {
                slices.end(same_holder);
                if slice >= FIRST_SLICE && self.1.close() {
                    slices.has_closed(self);
                }
                Err(LockError::Busy)
            }
        }
    }

    /// Sleeps for the lock once; `lost` slices before have found the holder of now.
    fn acquire_within(&self, slice: Duration, lost: u32) -> Result<Slept, LockError> {
        let word = self.lock_word();
        if !self.has_its_kind() || Self::names_nobody(word, false) {
            return Err(LockError::Corrupted);
        }
        if lost >= LOST_SLICES && Self::names_nobody(word, true) && !Self::may_name_an_unseen(word) {
            return Err(LockError::Corrupted);
        }
        let end = from_now(slice);
        // SAFETY: a robust mutex by its kind, looked at just now; `end` lives across the call.
        match unsafe { pthread_mutex_clocklock(self.0.get(), libc::CLOCK_MONOTONIC, &raw const end) } {
            0 => Ok(Slept::Acquired { owner_died: false }),
            libc::EOWNERDEAD => Ok(Slept::Acquired { owner_died: true }),
            libc::ETIMEDOUT => Ok(Slept::InVain { same_holder: word & THREAD == self.lock_word() & THREAD }),
            _ => Err(LockError::Corrupted),
        }
    }

    /// A waiter that has closed the turnstile has the lock, or has given up.
    pub(super) fn open_turnstile(&self) {
        self.1.open();
    }

    /// Who holds the lock, as the word says at this moment; `None` when it is free.
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        match self.lock_word() {
            word if word & THREAD != 0 => Some(Holder::Thread(word & THREAD)),
            word if word & OWNER_DIED != 0 => Some(Holder::Dead),
            _ => None,
        }
    }

    pub(super) fn make_consistent(&self) -> Result<(), LockError> {
        if !self.has_its_kind() {
            return Err(LockError::Corrupted);
        }
        // SAFETY: called by the holder only, after EOWNERDEAD.
        match unsafe { libc::pthread_mutex_consistent(self.0.get()) } {
            0 => Ok(()),
            _ => Err(LockError::Corrupted),
        }
    }

    #[inline]
    pub(super) fn unlock(&self, links: Links) {
        // Only Guard's drop calls this, in the thread that locked (Guard is not Send).
        if !self.let_go(links) {
            self.unlock_otherwise(links);
        }
    }

    #[cold]
    fn unlock_otherwise(&self, links: Links) {
        // Only where the system tells no thread where its list of held mutexes begins are the pointers in this one believed.
        if links.is_unknown() && self.has_its_kind() {
            // SAFETY: a robust mutex by its kind, locked by this thread.
            let unlocked = unsafe { libc::pthread_mutex_unlock(self.0.get()) };
            if unlocked == 0 {
                return;
            }
        }
        self.give_up();
    }
}

fn from_now(slice: Duration) -> libc::timespec {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // By the C library: rustix looks for the kernel's vDSO by itself, and dies where a tool (valgrind) hides it.
    // SAFETY: writes to the place it is given; this clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let nanoseconds = now.tv_nsec + libc::c_long::from(slice.subsec_nanos());
    libc::timespec { tv_sec: now.tv_sec + nanoseconds / 1_000_000_000, tv_nsec: nanoseconds % 1_000_000_000 }
}
