//! Descriptors by number, as Python's `os.read` takes them: nobody here owns them, and a number may be closed or mean
//! another file at any time. A call then fails, or concerns that other file; no memory is at stake.
#![allow(unsafe_code)] // a number is borrowed for one call, or closed

use super::polling;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

fn named(number: i32) -> Result<BorrowedFd<'static>, Errno> {
    if number < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: not -1. Every caller in this file makes one call with it and drops it; a number that is no descriptor
    // makes that call fail.
    Ok(unsafe { BorrowedFd::borrow_raw(number) })
}

/// `read`: how many bytes of `to` were written to, from the beginning; 0 at the end.
pub(crate) fn read(number: i32, to: &mut [MaybeUninit<u8>]) -> Result<usize, Errno> {
    rustix::io::read(named(number)?, to).map(|(read, _)| read.len())
}

/// As [`read`], by `recv(MSG_DONTWAIT)`.
pub(crate) fn receive_now(number: i32, to: &mut [MaybeUninit<u8>]) -> Result<usize, Errno> {
    rustix::net::recv(named(number)?, to, RecvFlags::DONTWAIT).map(|((read, _), _)| read.len())
}

/// As [`read`], by `preadv2(RWF_NOWAIT)`: of what is no socket. Pipes know it since Linux 6.4; most other files, and older
/// kernels, refuse it with `EOPNOTSUPP`.
pub(crate) fn read_now(number: i32, to: &mut [MaybeUninit<u8>]) -> Result<usize, Errno> {
    named(number)?;
    let part = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: to.len() };
    // rustix's function takes memory only that was set before.
    // SAFETY: one part, whose bytes are the caller's to be written.
    let read = unsafe { libc::preadv2(number, &raw const part, 1, -1, libc::RWF_NOWAIT) };
    usize::try_from(read)
        .map_err(|_| Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// As [`read`], by `recv(MSG_WAITALL)`: less than asked for only at the end, or when a signal arrives.
pub(crate) fn receive_all(number: i32, to: &mut [MaybeUninit<u8>]) -> Result<usize, Errno> {
    rustix::net::recv(named(number)?, to, RecvFlags::WAITALL).map(|((read, _), _)| read.len())
}

/// `getsockopt(SO_TYPE)`: whether it is a socket.
pub(crate) fn is_socket(number: i32) -> bool {
    named(number).is_ok_and(|fd| rustix::net::sockopt::socket_type(fd).is_ok())
}

/// `fcntl(F_GETFL)`: whether calls that would have to wait are refused (`O_NONBLOCK`).
pub(crate) fn does_not_wait(number: i32) -> bool {
    let flags = named(number).and_then(rustix::fs::fcntl_getfl);
    flags.is_ok_and(|flags| flags.contains(rustix::fs::OFlags::NONBLOCK))
}

/// `writev`.
pub(crate) fn write(number: i32, parts: &[IoSlice<'_>]) -> Result<usize, Errno> {
    rustix::io::writev(named(number)?, parts)
}

/// `sendmsg(MSG_DONTWAIT)`.
pub(crate) fn send_now(number: i32, parts: &[IoSlice<'_>]) -> Result<usize, Errno> {
    rustix::net::sendmsg(named(number)?, parts, &mut SendAncillaryBuffer::default(), SendFlags::DONTWAIT)
}

/// `close`.
pub(crate) fn close(number: i32) -> Result<(), Errno> {
    named(number)?;
    // close(2) of a number that is no descriptor only says so; which rustix's function does not let one learn.
    // SAFETY: no memory is involved.
    match unsafe { libc::close(number) } {
        0 => Ok(()),
        // Linux has closed it when it says that a signal came.
        _ => match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::EINTR) | None => Ok(()),
            Some(errno) => Err(Errno::from_raw_os_error(errno)),
        },
    }
}

/// What `poll` is to look at.
pub(crate) type Watched = polling::Watched<'static>;

/// A descriptor that somebody wants to read from.
pub(crate) fn watched(number: i32) -> Result<Watched, Errno> {
    named(number).map(polling::Watched::readable)
}

/// `socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)`.
pub(crate) fn socket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

/// `pipe2(O_CLOEXEC)`: read end, write end.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
}
