//! Messages with descriptors between two members of a family, over an unnamed socket pair.

use super::OsError;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

/// The most descriptors in one message: the kernel's own bound is 253.
pub(crate) const MOST_DESCRIPTORS: usize = 253;

const SPACE: usize = rustix::cmsg_space!(ScmRights(253));

/// `socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)`: no name, in no file system.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), OsError> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(OsError::new("socketpair"))
}

/// `shutdown`: the other side reads the end, though another process has a copy of this one.
pub(crate) fn hang_up(socket: BorrowedFd<'_>) {
    // The other side may be gone.
    let _ = rustix::net::shutdown(socket, Shutdown::Both);
}

/// `sendmsg(MSG_DONTWAIT)` of a short message and its descriptors; EAGAIN when the other side has not read those before.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), OsError> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(OsError { call: "sendmsg", errno: libc::EINVAL });
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags)
        .map(drop)
        .map_err(OsError::new("sendmsg"))
}

/// A message that was received.
#[derive(Debug)]
pub(crate) struct Message {
    /// How many bytes; 0 when the other side is gone.
    pub(crate) len: usize,
    /// Its descriptors, closed on exec: the first ones only, if this is not whole.
    pub(crate) fds: Vec<OwnedFd>,
    /// `false` when the kernel has thrown away descriptors for which this process had no room, or bytes.
    pub(crate) is_whole: bool,
}

/// `recvmsg` of such a message into `bytes`, when there is one.
pub(crate) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<Message, OsError> {
    receive_with(socket, bytes, RecvFlags::empty())
}

/// `recvmsg(MSG_DONTWAIT)`: EAGAIN when there is none.
pub(crate) fn receive_now(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<Message, OsError> {
    receive_with(socket, bytes, RecvFlags::DONTWAIT)
}

fn receive_with(socket: BorrowedFd<'_>, bytes: &mut [u8], flags: RecvFlags) -> Result<Message, OsError> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(bytes)];
    let message = loop {
        match rustix::net::recvmsg(socket, &mut parts, &mut ancillary, flags | RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(Message { len: 0, fds: Vec::new(), is_whole: true }),
            other => break other.map_err(OsError::new("recvmsg"))?,
        }
    };
    let mut fds = Vec::new();
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    let is_whole = !message.flags.intersects(ReturnFlags::CTRUNC | ReturnFlags::TRUNC);
    Ok(Message { len: message.bytes, fds, is_whole })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_message_that_is_not_whole_says_so() {
        let (ours, theirs) = pair().expect("two descriptors");
        send(ours.as_fd(), b"longer", &[ours.as_fd()]).expect("room in a socket");
        send(ours.as_fd(), b"whole", &[ours.as_fd(), theirs.as_fd()]).expect("room in a socket");
        let mut bytes = [0; 5];
        let mut of_the_next = || {
            let Message { len, fds, is_whole } = receive_now(theirs.as_fd(), &mut bytes)?;
            Ok((len, fds.len(), is_whole))
        };
        assert_eq!(of_the_next(), Ok((5, 1, false)));
        assert_eq!(of_the_next(), Ok((5, 2, true)));
        assert_eq!(of_the_next(), Err(OsError { call: "recvmsg", errno: libc::EAGAIN }));
        drop(ours);
        assert_eq!(receive(theirs.as_fd(), &mut bytes).expect("the end").len, 0);
    }
}
