//! A thread of the engine's own in somebody else's process: it takes none of the signals that are sent to the process.
#![allow(unsafe_code)] // pthread_sigmask, which rustix lacks

use super::OsError;
use std::mem::MaybeUninit;
use std::thread::JoinHandle;

/// Starts a thread in which every signal is blocked from its first instruction on.
pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OsError> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is written by the call.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: both sets live across the call; the first was filled above, the second is written.
    let result = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    if result != 0 {
        return Err(OsError { call: "pthread_sigmask", errno: result });
    }
    // A thread begins with the mask of who made it.
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    // SAFETY: the set was written by the call above, which succeeded.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    thread.map_err(|error| OsError {
        call: "pthread_create",
        errno: error.raw_os_error().unwrap_or(libc::EAGAIN),
    })
}
