//! The client's end: asks for children, and for their end.

use super::message::{self, OWN_DESCRIPTORS, Reply};
use crate::launch::{LaunchError, Start};
use crate::process::{Process, Sentinel, Source};
use crate::sys::pidfd::{self, Watch};
use crate::sys::remembered::CLOSED_BY_OTHERS;
use crate::sys::{OsError, Remembered, passing};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::kill_point;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::park::{Waited, Waiting};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// After so long a wait comes back as interrupted, so that a signal that came just before it is heeded.
const LONGEST: Duration = Duration::from_secs(1);

/// The client's end.
#[derive(Debug)]
pub struct ZygoteClient {
    socket: Remembered,
    /// The server's sentinel, once it is known: a copy of its end of a socket may outlive it.
    server: OnceLock<Arc<Sentinel>>,
    requests: AtomicU64,
}

impl ZygoteClient {
    /// A client, and the socket that the zygote must inherit.
    ///
    /// # Errors
    /// When the kernel refuses a descriptor.
    pub fn new() -> Result<(Self, OwnedFd), OsError> {
        let (socket, servers) = passing::pair()?;
        let socket = Remembered::new(socket)?;
        Ok((Self { socket, server: OnceLock::new(), requests: AtomicU64::new(0) }, servers))
    }

    /// Says which process the zygote is: its end is noticed at once, whoever has a copy of its socket.
    pub fn watch(&self, zygote: &Process) {
        // A second one would be a mistake of the caller's; the first stays.
        let _ = self.server.set(Arc::clone(zygote.sentinel()));
    }

    /// Whether the zygote ends: its files are closed a moment before it has ended.
    fn is_leaving(&self) -> Result<bool, OsError> {
        let (mut waiting, deadline) = (Waiting::new(WaitKind::End), Deadline::after(LONGEST));
        loop {
            match self.wait_with(None, Watch::Closed, &mut waiting, deadline)? {
                Waited::Ready => return Ok(true),
                Waited::TimedOut => return Ok(false),
                Waited::Interrupted => {}
            }
        }
    }

    /// Waits for a channel to be readable, for the socket to be as it is watched for, or for the end of the zygote. Of those
    /// that other code has closed, the socket and the channel are as good as ended; the zygote is found anew.
    fn wait_with(
        &self,
        channel: Option<&Remembered>,
        watch: Watch,
        waiting: &mut Waiting,
        deadline: Deadline,
    ) -> Result<Waited, OsError> {
        let server = match self.server.get().map(|server| server.looked_at()).transpose()? {
            Some(None) => return Ok(Waited::Ready),
            server => server.flatten(),
        };
        let mut watched: Vec<(BorrowedFd<'_>, Watch)> = Vec::with_capacity(2);
        for (kept, watch) in [(channel, Watch::Readable), (Some(&self.socket), watch)] {
            match kept.map(Remembered::get) {
                Some(Ok(descriptor)) => watched.push((descriptor, watch)),
                Some(Err(_)) => return Ok(Waited::Ready),
                None => {}
            }
        }
        let waited = pidfd::wait_any(&watched, server, waiting, deadline)?;
        // Closed meanwhile, it may have been another file's readiness: the next look is at a new one.
        let sure = self.server.get().is_none_or(|server| server.is_ours());
        Ok(if waited == Waited::Ready && !sure { Waited::Interrupted } else { waited })
    }
}

/// A request that is under way. Dropping it before its child is known gives the child up: it does not run on.
#[derive(Debug)]
pub struct Asked<'a> {
    zygote: &'a ZygoteClient,
    number: u64,
    /// Nothing once it is known what became of the request.
    start: Option<Start>,
    channel: Arc<Remembered>,
    job: &'a Remembered,
    /// The zygote's end of the channel; nothing once the request was sent.
    outgoing: Option<Remembered>,
    /// Kept free for the child's pidfd.
    room: Option<Remembered>,
    waiting: Waiting,
}

impl<'a> Asked<'a> {
    pub(in crate::launch) fn new(
        zygote: &'a ZygoteClient,
        start: Start,
        job: &'a Remembered,
    ) -> Result<Self, LaunchError> {
        let (channel, servers) = passing::pair()?;
        let (channel, outgoing) = (Remembered::new(channel)?, Some(Remembered::new(servers)?));
        let room = Some(Remembered::duplicate(channel.get()?)?);
        let number = zygote.requests.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            zygote,
            number,
            start: Some(start),
            channel: Arc::new(channel),
            job,
            outgoing,
            room,
            waiting: Waiting::new(WaitKind::Requests),
        })
    }

    /// Whether the request was sent.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.outgoing.is_none()
    }

    /// Sends the request, without waiting, unless it was sent; `passed` reaches the child. When the zygote has so many
    /// requests before it that there is no room, it is not sent: [`wait`](Self::wait) for room.
    ///
    /// # Errors
    /// When the zygote is gone, there are too many descriptors, or the kernel refuses to send it. Nothing was sent then.
    pub fn send(&mut self, passed: &[BorrowedFd<'_>]) -> Result<(), LaunchError> {
        let (Some(channel), Some(start)) = (&self.outgoing, &self.start) else { return Ok(()) };
        if passed.len() > passing::MOST_DESCRIPTORS - OWN_DESCRIPTORS {
            return Err(LaunchError::TooManyDescriptors);
        }
        // A socket that other code has closed: the server has seen its end, and is gone.
        let socket = self.zygote.socket.get().map_err(|_| LaunchError::ZygoteGone)?;
        let mut fds = vec![channel.get()?, self.job.get()?, start.life()?];
        fds.extend_from_slice(passed);
        match message::send_start(socket, self.number, start.place(), &fds) {
            Ok(()) => {}
            Err(OsError { errno: libc::EAGAIN, .. }) => return Ok(()),
            Err(OsError { errno: libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN, .. }) => {
                return Err(LaunchError::ZygoteGone);
            }
            Err(error) => return Err(error.into()),
        }
        kill_point!(ZygoteAsked);
        // The zygote's copy is the only one from now on: the channel ends with it.
        self.outgoing = None;
        Ok(())
    }

    /// Waits until the request was answered or the zygote is gone. Interrupted by signals, and now and then: then call it
    /// again. If the request is not sent, waits for room and is interrupted when there is some: then send it first.
    ///
    /// # Errors
    /// When the kernel refuses to poll, or nobody can tell whether the zygote runs.
    pub fn wait(&mut self, deadline: Deadline) -> Result<Waited, LaunchError> {
        let waiting = &mut self.waiting;
        if self.outgoing.is_none() {
            return Ok(self.zygote.wait_with(Some(&self.channel), Watch::Closed, waiting, deadline)?);
        }
        let waited = self.zygote.wait_with(None, Watch::Writable, waiting, deadline)?;
        Ok(if waited == Waited::Ready { Waited::Interrupted } else { waited })
    }

    /// What became of the request, when [`wait`](Self::wait) says that it is ready.
    ///
    /// # Errors
    /// When the zygote is gone or was refused what it needs, or there is no room here for the child's descriptor. No child
    /// runs then.
    pub fn finish(mut self) -> Result<Process, LaunchError> {
        self.room = None;
        let channel = self.channel.get();
        let reply = match channel {
            Ok(channel) if self.is_sent() => message::receive_reply(channel)?,
            _ => Reply::Gone,
        };
        if matches!(reply, Reply::Cut) {
            // Dropping this ends the child.
            return Err(OsError { call: "recvmsg", errno: libc::EMFILE }.into());
        }
        let Some(start) = self.start.take() else { return Err(LaunchError::ZygoteGone) };
        match reply {
            Reply::Started { pid, pidfd: Some(pidfd) } => {
                Ok(start.by_zygote(pid, pidfd, Source::Zygote(Arc::clone(&self.channel), None))?)
            }
            Reply::Started { pid, pidfd: None } => Ok(start.gone(pid)?),
            Reply::Refused(error) => Err(LaunchError::ZygoteRefused(error)),
            Reply::Cut | Reply::None | Reply::Gone => match start.orphan() {
                Err(LaunchError::ZygoteGone) if !self.zygote.is_leaving()? => {
                    if !self.channel.is_ours() {
                        return Err(CLOSED_BY_OTHERS.into());
                    }
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
        let end = self.zygote.socket.get().and_then(|socket| message::send_end(socket, self.number));
        if end.is_err()
            && let Ok(orphan) = start.adopt(begun)
        {
            let _ = orphan.signal(libc::SIGKILL);
        }
    }
}
