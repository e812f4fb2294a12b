//! Descriptors that a parent passed to this process by their numbers.
#![allow(unsafe_code)] // a number becomes an owned descriptor

use super::OsError;
use rustix::io::FdFlags;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// The lowest number that is no standard stream.
const FIRST: i32 = 3;

/// `fcntl(F_SETFD, FD_CLOEXEC)`, and the descriptor is the caller's: programs started from here do not inherit it.
///
/// Called before this process has opened anything itself, with the numbers that its parent wrote on its command line,
/// each once.
pub(crate) fn take(number: i32) -> Result<OwnedFd, OsError> {
    if number < FIRST {
        return Err(OsError { call: "fcntl(F_SETFD)", errno: libc::EBADF });
    }
    // SAFETY: only borrowed for the next call, which fails cleanly when the number is no descriptor.
    let passed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(passed.as_fd(), FdFlags::CLOEXEC).map_err(OsError::new("fcntl(F_SETFD)"))?;
    // SAFETY: open, as the call above has shown, and passed for this one purpose: nobody else in this process, which
    // has only begun, knows the number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
