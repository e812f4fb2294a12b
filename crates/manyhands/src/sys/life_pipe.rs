//! The pipe by which a child learns of its parent's death, or dies of it.
//!
//! The parent alone holds the write end. The child keeps the read end: it becomes readable when the parent is gone,
//! however it went. A child that must die with its parent asks the kernel to send it SIGKILL at that moment; no
//! thread, no polling, and no mask can keep it off.
#![allow(unsafe_code)] // fcntl commands that rustix lacks

use super::OsError;
use super::polling::{self, Watched};
use super::remembered::{CLOSED_BY_OTHERS, Remembered};
use rustix::pipe::PipeFlags;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// The write end, in the parent. Dropping it tells the child that the parent is gone.
#[derive(Debug)]
pub(crate) struct LifeEnd(Mutex<Option<Remembered>>);

/// Every write end of this process: a forked child must not keep any of them open.
static LIFE_ENDS: Mutex<Vec<Weak<LifeEnd>>> = Mutex::new(Vec::new());

/// `pipe2(O_CLOEXEC)`: the read end for the child, and the write end, noted for [`let_go_in_child`].
pub(crate) fn create() -> Result<(OwnedFd, Arc<LifeEnd>), OsError> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(OsError::new("pipe2"))?;
    let end = Arc::new(LifeEnd(Mutex::new(Some(Remembered::new(write)?))));
    let mut ends = LIFE_ENDS.lock().unwrap_or_else(PoisonError::into_inner);
    ends.retain(|end| end.strong_count() > 0);
    ends.push(Arc::downgrade(&end));
    Ok((read, end))
}

/// The list of write ends, locked over a fork: the child must not find it in the hands of a thread that it does not have.
pub(crate) fn lock_for_fork() -> MutexGuard<'static, Vec<Weak<LifeEnd>>> {
    LIFE_ENDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In a forked child, whoever forked it: closes its copies of the write ends, so that only the parent's count.
pub(crate) fn let_go_in_child() {
    let mut ends = LIFE_ENDS.lock().unwrap_or_else(PoisonError::into_inner);
    for end in ends.drain(..).filter_map(|end| end.upgrade()) {
        drop(end.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// `fcntl(F_SETOWN)`, `fcntl(F_SETSIG, SIGKILL)`, `O_ASYNC`: the kernel kills this process when the parent is gone.
/// `false` when the parent is gone already. A descriptor that is no pipe's was closed by other code and is another file's:
/// that one must not kill.
pub(crate) fn die_with_parent(read: BorrowedFd<'_>) -> Result<bool, OsError> {
    let stat = rustix::fs::fstat(read).map_err(OsError::new("fstat"))?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFIFO {
        return Err(CLOSED_BY_OTHERS);
    }
    let fd = read.as_raw_fd();
    let me = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: fcntl on a descriptor that is borrowed for the call; no memory is involved.
    let owned = unsafe { libc::fcntl(fd, libc::F_SETOWN, me) };
    // SAFETY: fcntl on a descriptor that is borrowed for the call; no memory is involved.
    let signal = unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGKILL) };
    // SAFETY: fcntl on a descriptor that is borrowed for the call; no memory is involved.
    let armed = unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK) };
    for (result, call) in [(owned, "fcntl(F_SETOWN)"), (signal, "fcntl(F_SETSIG)"), (armed, "fcntl(F_SETFL)")]
    {
        if result < 0 {
            return Err(last_error(call));
        }
    }
    // The parent may have gone before the signal was armed.
    parent_lives(read)
}

/// Whether the write end is still held.
fn parent_lives(read: BorrowedFd<'_>) -> Result<bool, OsError> {
    let mut watched = [Watched::readable(read)];
    polling::poll(&mut watched, Some(Duration::ZERO)).map_err(OsError::new("poll"))?;
    Ok(!watched[0].is_ready())
}

/// Not in the libc crate for every target.
const F_SETSIG: libc::c_int = 10;

fn last_error(call: &'static str) -> OsError {
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
    OsError { call, errno }
}
