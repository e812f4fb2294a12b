//! What client and zygote write to each other.

use crate::sys::OsError;
use crate::sys::passing::{self, Message};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Descriptors in front of those a child is passed.
pub(super) const OWN_DESCRIPTORS: usize = 3;

/// The calls that a zygote may be refused, as a reply names them.
const CALLS: [&str; 6] = ["call", "fork", "recvmsg", "sendmsg", "pidfd_open", "fcntl(F_DUPFD_CLOEXEC)"];

/// A client's "start", as it arrived.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) number: u64,
    pub(super) place: u64,
    pub(super) channel: OwnedFd,
    pub(super) job: OwnedFd,
    pub(super) life: OwnedFd,
    pub(super) passed: Vec<OwnedFd>,
}

/// What arrived.
#[derive(Debug)]
pub(super) enum Order {
    Start(Start),
    /// There was no room for all of its descriptors.
    Cut {
        channel: OwnedFd,
    },
    End {
        number: u64,
    },
    Nonsense,
    /// The other side is gone.
    Gone,
}

pub(super) fn send_start(
    socket: BorrowedFd<'_>,
    number: u64,
    place: u64,
    fds: &[BorrowedFd<'_>],
) -> Result<(), OsError> {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&place.to_le_bytes());
    passing::send(socket, &bytes, fds)
}

pub(super) fn send_end(socket: BorrowedFd<'_>, number: u64) -> Result<(), OsError> {
    passing::send(socket, &number.to_le_bytes(), &[])
}

/// Waits for an order.
pub(super) fn receive_order(socket: BorrowedFd<'_>) -> Result<Order, OsError> {
    let mut bytes = [0; 16];
    let message = passing::receive(socket, &mut bytes)?;
    Ok(order_in(message, &bytes))
}

/// `EAGAIN` when there is none.
pub(super) fn receive_order_now(socket: BorrowedFd<'_>) -> Result<Order, OsError> {
    let mut bytes = [0; 16];
    let message = passing::receive_now(socket, &mut bytes)?;
    Ok(order_in(message, &bytes))
}

fn order_in(message: Message, bytes: &[u8; 16]) -> Order {
    let Message { len, fds, is_whole } = message;
    let (number, place) = (word(&bytes[..8]), word(&bytes[8..]));
    let mut fds = fds.into_iter();
    match (len, fds.next()) {
        (0, _) => Order::Gone,
        (8, None) => Order::End { number },
        (16, Some(channel)) if !is_whole => Order::Cut { channel },
        (16, Some(channel)) => match (fds.next(), fds.next()) {
            (Some(job), Some(life)) => {
                Order::Start(Start { number, place, channel, job, life, passed: fds.collect() })
            }
            _ => Order::Nonsense,
        },
        _ => Order::Nonsense,
    }
}

/// A zygote's reply.
#[derive(Debug)]
pub(super) enum Reply {
    /// With its pidfd; without, when it was gone and reaped before there could be one.
    Started { pid: u32, pidfd: Option<OwnedFd> },
    /// No child was started.
    Refused(OsError),
    /// A child was started, and this process had no room for its pidfd.
    Cut,
    /// Not yet.
    None,
    /// The zygote is gone, or what it wrote makes no sense.
    Gone,
}

const STARTED: u32 = 0;
const GONE_ALREADY: u32 = 1;
const REFUSED: u32 = 2;

pub(super) fn send_started(
    channel: BorrowedFd<'_>,
    pid: u32,
    pidfd: Option<&OwnedFd>,
) -> Result<(), OsError> {
    let bytes = reply(if pidfd.is_some() { STARTED } else { GONE_ALREADY }, pid, 0);
    passing::send(channel, &bytes, pidfd.map(AsFd::as_fd).as_slice())
}

pub(super) fn send_refused(channel: BorrowedFd<'_>, error: OsError) -> Result<(), OsError> {
    let call = CALLS.iter().position(|call| *call == error.call).unwrap_or(0);
    passing::send(channel, &reply(REFUSED, call as u32, error.errno), &[])
}

fn reply(kind: u32, what: u32, errno: i32) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&kind.to_le_bytes());
    bytes[4..8].copy_from_slice(&what.to_le_bytes());
    bytes[8..].copy_from_slice(&errno.to_le_bytes());
    bytes
}

pub(super) fn receive_reply(channel: BorrowedFd<'_>) -> Result<Reply, OsError> {
    let mut bytes = [0; 12];
    let message = match passing::receive_now(channel, &mut bytes) {
        Err(OsError { errno: libc::EAGAIN, .. }) => return Ok(Reply::None),
        other => other?,
    };
    if message.len != bytes.len() {
        return Ok(Reply::Gone);
    }
    let [kind, what, errno] = [&bytes[..4], &bytes[4..8], &bytes[8..]].map(|part| word(part) as u32);
    let pidfd = message.fds.into_iter().next();
    Ok(match (kind, pidfd) {
        (STARTED, Some(pidfd)) => Reply::Started { pid: what, pidfd: Some(pidfd) },
        (STARTED, None) => Reply::Cut,
        (GONE_ALREADY, _) => Reply::Started { pid: what, pidfd: None },
        (REFUSED, _) => {
            let call = CALLS.get(what as usize).copied().unwrap_or(CALLS[0]);
            Reply::Refused(OsError { call, errno: errno.cast_signed() })
        }
        _ => Reply::Gone,
    })
}

/// A number of up to 8 bytes.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_arrives() {
        let (ours, theirs) = passing::pair().expect("descriptors");
        send_start(ours.as_fd(), 7, u64::MAX, &[ours.as_fd(), ours.as_fd(), ours.as_fd(), ours.as_fd()])
            .expect("room");
        send_end(ours.as_fd(), 8).expect("room");
        send_start(ours.as_fd(), 7, 1, &[ours.as_fd()]).expect("room");
        let Order::Start(start) = receive_order(theirs.as_fd()).expect("an order") else { panic!("a start") };
        assert_eq!((start.number, start.place, start.passed.len()), (7, u64::MAX, 1));
        assert!(matches!(receive_order(theirs.as_fd()), Ok(Order::End { number: 8 })));
        assert!(matches!(receive_order(theirs.as_fd()), Ok(Order::Nonsense)));
        drop((start, ours));
        assert!(matches!(receive_order(theirs.as_fd()), Ok(Order::Gone)));
    }

    #[test]
    fn what_is_replied_arrives() {
        let (ours, theirs) = passing::pair().expect("descriptors");
        let refused = OsError { call: "fork", errno: libc::EAGAIN };
        send_started(ours.as_fd(), 12, Some(&ours)).expect("room");
        send_started(ours.as_fd(), 13, None).expect("room");
        send_refused(ours.as_fd(), refused).expect("room");
        let reply = || receive_reply(theirs.as_fd()).expect("a reply");
        assert!(matches!(reply(), Reply::Started { pid: 12, pidfd: Some(_) }));
        assert!(matches!(reply(), Reply::Started { pid: 13, pidfd: None }));
        assert!(matches!(reply(), Reply::Refused(error) if error == refused));
        assert!(matches!(reply(), Reply::None));
        drop(ours);
        assert!(matches!(reply(), Reply::Gone));
    }
}
