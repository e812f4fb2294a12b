//! The client's end: asks for children, and for their end.

use super::message::{self, OWN_DESCRIPTORS, Reply};
use crate::launch::{LaunchError, Start};
use crate::process::{Process, Source};
use crate::sys::pidfd::{self, Watch};
use crate::sys::{OsError, memory, passing};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::kill_point;
use manyhands_sync::wait_word::Waited;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// After so long a wait comes back as interrupted, so that a signal that came just before it is heeded.
const LONGEST: Duration = Duration::from_secs(1);

/// The client's end.
#[derive(Debug)]
pub struct ZygoteClient {
    socket: OwnedFd,
    /// The server's sentinel, once it is known: a copy of its end of a socket may outlive it.
    server: OnceLock<Arc<OwnedFd>>,
    requests: AtomicU64,
}

impl ZygoteClient {
    /// A client, and the socket that the zygote must inherit.
    ///
    /// # Errors
    /// When the kernel refuses a descriptor.
    pub fn new() -> Result<(Self, OwnedFd), OsError> {
        let (socket, servers) = passing::pair()?;
        Ok((Self { socket, server: OnceLock::new(), requests: AtomicU64::new(0) }, servers))
    }

    /// Says which process the zygote is: its end is noticed at once, whoever has a copy of its socket.
    pub fn watch(&self, zygote: &Process) {
        // A second one would be a mistake of the caller's; the first stays.
        let _ = self.server.set(zygote.shared_sentinel());
    }

    /// Whether the zygote ends: its files are closed a moment before it has ended.
    fn is_leaving(&self) -> Result<bool, OsError> {
        let deadline = Deadline::after(LONGEST);
        loop {
            match pidfd::wait_any(&[(self.socket.as_fd(), Watch::Closed)], self.server(), deadline, LONGEST)?
            {
                Waited::Ready => return Ok(true),
                Waited::TimedOut => return Ok(false),
                Waited::Interrupted => {}
            }
        }
    }

    fn server(&self) -> Option<BorrowedFd<'_>> {
        self.server.get().map(|server| server.as_fd())
    }
}

/// A request that is under way. Dropping it before its child is known gives the child up: it does not run on.
#[derive(Debug)]
pub struct Asked<'a> {
    zygote: &'a ZygoteClient,
    number: u64,
    /// Nothing once it is known what became of the request.
    start: Option<Start>,
    channel: Arc<OwnedFd>,
    /// What is to be sent; nothing once it was.
    outgoing: Option<Outgoing<'a>>,
    /// Kept free for the child's pidfd.
    room: Option<OwnedFd>,
}

#[derive(Debug)]
struct Outgoing<'a> {
    channel: OwnedFd,
    job: BorrowedFd<'a>,
    passed: &'a [BorrowedFd<'a>],
}

impl<'a> Asked<'a> {
    pub(in crate::launch) fn new(
        zygote: &'a ZygoteClient,
        start: Start,
        job: BorrowedFd<'a>,
        passed: &'a [BorrowedFd<'a>],
    ) -> Result<Self, LaunchError> {
        if passed.len() > passing::MOST_DESCRIPTORS - OWN_DESCRIPTORS {
            return Err(LaunchError::TooManyDescriptors);
        }
        let (channel, servers) = passing::pair()?;
        let room = Some(memory::duplicate(channel.as_fd())?);
        let number = zygote.requests.fetch_add(1, Ordering::Relaxed);
        let outgoing = Some(Outgoing { channel: servers, job, passed });
        Ok(Self { zygote, number, start: Some(start), channel: Arc::new(channel), outgoing, room })
    }

    /// Sends the request, without waiting; `false` when the zygote has so many before it that there is no room.
    ///
    /// # Errors
    /// When the zygote is gone, or the kernel refuses to send it. Nothing was sent then.
    pub fn send(&mut self) -> Result<bool, LaunchError> {
        let (Some(Outgoing { channel, job, passed }), Some(start)) = (&self.outgoing, &self.start) else {
            return Ok(true);
        };
        let mut fds = vec![channel.as_fd(), *job, start.life()];
        fds.extend_from_slice(passed);
        match message::send_start(self.zygote.socket.as_fd(), self.number, start.place(), &fds) {
            Ok(()) => {}
            Err(OsError { errno: libc::EAGAIN, .. }) => return Ok(false),
            Err(OsError { errno: libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN, .. }) => {
                return Err(LaunchError::ZygoteGone);
            }
            Err(error) => return Err(error.into()),
        }
        kill_point!(ZygoteAsked);
        // The zygote's copy is the only one from now on: the channel ends with it.
        self.outgoing = None;
        Ok(true)
    }

    /// Waits until the request was answered or the zygote is gone; for room first, if it is not sent. Interrupted by
    /// signals, and now and then: then call it again.
    ///
    /// # Errors
    /// As [`send`](Self::send); when the kernel refuses to poll.
    pub fn wait(&mut self, deadline: Deadline) -> Result<Waited, LaunchError> {
        let socket = self.zygote.socket.as_fd();
        let server = self.zygote.server();
        if !self.send()? {
            let waited = pidfd::wait_any(&[(socket, Watch::Writable)], server, deadline, LONGEST)?;
            return Ok(if waited == Waited::Ready { Waited::Interrupted } else { waited });
        }
        let watched = [(self.channel.as_fd(), Watch::Readable), (socket, Watch::Closed)];
        Ok(pidfd::wait_any(&watched, server, deadline, LONGEST)?)
    }

    /// What became of the request, when [`wait`](Self::wait) says that it is ready.
    ///
    /// # Errors
    /// When the zygote is gone or was refused what it needs, or there is no room here for the child's descriptor. No child
    /// runs then.
    pub fn finish(mut self) -> Result<Process, LaunchError> {
        self.room = None;
        let reply =
            if self.outgoing.is_some() { Reply::Gone } else { message::receive_reply(self.channel.as_fd())? };
        if matches!(reply, Reply::Cut) {
            // Dropping this ends the child.
            return Err(OsError { call: "recvmsg", errno: libc::EMFILE }.into());
        }
        let Some(start) = self.start.take() else { return Err(LaunchError::ZygoteGone) };
        match reply {
            Reply::Started { pid, pidfd: Some(pidfd) } => {
                Ok(start.by_zygote(pid, pidfd, Source::Zygote(Arc::clone(&self.channel), None)))
            }
            Reply::Started { pid, pidfd: None } => Ok(start.gone(pid)?),
            Reply::Refused(error) => Err(LaunchError::ZygoteRefused(error)),
            Reply::Cut | Reply::None | Reply::Gone => match start.orphan() {
                Err(LaunchError::ZygoteGone) if !self.zygote.is_leaving()? => {
                    // It had no room even for the channel, or a message of its own makes no sense.
                    Err(LaunchError::ZygoteRefused(OsError { call: "recvmsg", errno: libc::EMFILE }))
                }
                other => other,
            },
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let Some(start) = self.start.take() else { return };
        if self.outgoing.is_some() {
            return;
        }
        // A child that comes for its slot from now on ends. One that has it is ended by the zygote, or by us if that is gone.
        let Some(begun) = start.cancel() else { return };
        if message::send_end(self.zygote.socket.as_fd(), self.number).is_err()
            && let Ok(orphan) = start.adopt(begun)
        {
            let _ = orphan.signal(libc::SIGKILL);
        }
    }
}
