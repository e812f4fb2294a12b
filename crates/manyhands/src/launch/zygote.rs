//! The zygote: a single-threaded fork server, connected to its one client by an unnamed socket pair.
//!
//! | message | from | bytes | descriptors |
//! |---|---|---|---|
//! | request | client | the slot | job, life pipe, status pipe, whatever the child is passed |
//! | reply | zygote | the child's pid | the child's pidfd, opened before anybody could reap it |
//!
//! After its first request the zygote keeps one child in reserve: forked, and waiting for a request to become. The zygote
//! passes the next request on to it, over a socket pair of their own, and forks another one while that child works. A
//! child in reserve is in no table; it ends when the zygote does, because its socket closes. One that was killed is
//! noticed when its request cannot be sent, or before: then the zygote forks as if there had been none.
//!
//! When a child ends, the zygote reaps it and writes its status (4 bytes) into the child's status pipe. A client that
//! finds the pipe closed without a status knows that the zygote is gone. The zygote ends with its client: the socket
//! closes, and its own life pipe kills it even if it is stuck.

use super::LaunchError;
use crate::family::Family;
use crate::process::UNKNOWN_EXIT;
use crate::sys::pidfd::{self, Ended};
use crate::sys::{OsError, Remembered, memory, passing};
use crate::waiting;
use manyhands_sync::deadline::Deadline;
use manyhands_sync::notes::{Role, WaitKind};
use manyhands_sync::wait_word::Patience;
use rustix::event::{PollFd, PollFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a child in reserve is called while it waits.
const RESERVE_NAME: &std::ffi::CStr = c"mh-reserve";

/// Descriptors in front of those a child is passed.
const OWN_DESCRIPTORS: usize = 3;

/// The client's end.
#[derive(Debug)]
pub struct ZygoteClient {
    socket: Remembered,
}

impl ZygoteClient {
    /// A client, and the socket that the zygote must inherit.
    ///
    /// # Errors
    /// When the kernel refuses a descriptor.
    pub fn new() -> Result<(Self, OwnedFd), OsError> {
        let (socket, servers) = passing::pair()?;
        Ok((Self { socket: Remembered::new(socket)? }, servers))
    }

    /// One request at a time: the caller keeps others off.
    pub(super) fn request(
        &self,
        place: u64,
        life: BorrowedFd<'_>,
        job: BorrowedFd<'_>,
        passed: &[BorrowedFd<'_>],
    ) -> Result<(u32, OwnedFd, OwnedFd), LaunchError> {
        if passed.len() > passing::MOST_DESCRIPTORS - OWN_DESCRIPTORS {
            return Err(LaunchError::TooManyDescriptors);
        }
        let (status_read, status_write) = memory::pipe()?;
        let mut fds = vec![job, life, status_write.as_fd()];
        fds.extend_from_slice(passed);
        // A socket that other code has closed: the server has seen its end, and is gone.
        let socket = self.socket.get().map_err(|_| LaunchError::ZygoteGone)?;
        passing::send(socket, &place.to_le_bytes(), &fds).map_err(|_| LaunchError::ZygoteGone)?;
        let mut reply = [0; 4];
        let socket = self.socket.get().map_err(|_| LaunchError::ZygoteGone)?;
        let (len, mut fds) = passing::receive(socket, &mut reply)?;
        match (len, fds.pop()) {
            (4, Some(pidfd)) => Ok((u32::from_le_bytes(reply), pidfd, status_read)),
            _ => Err(LaunchError::ZygoteGone),
        }
    }
}

/// The server's end: asks for requests, reports children.
#[derive(Debug)]
pub struct Zygote {
    socket: OwnedFd,
    children: Vec<Forked>,
    reserve: Option<Reserve>,
}

/// A child that waits for the request that it will carry out.
#[derive(Debug)]
struct Reserve {
    pid: u32,
    pidfd: OwnedFd,
    socket: OwnedFd,
}

#[derive(Debug)]
struct Forked {
    pidfd: OwnedFd,
    status: OwnedFd,
}

/// What a client wants started.
#[derive(Debug)]
pub struct Request {
    /// The child's slot, as a number.
    pub place: u64,
    /// What the child reads its job from.
    pub job: OwnedFd,
    /// The child's end of its life pipe.
    pub life: OwnedFd,
    /// Descriptors the child is passed.
    pub passed: Vec<OwnedFd>,
    status: OwnedFd,
}

impl Zygote {
    /// A server over the inherited socket.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        if let Some(family) = Family::existing() {
            family.note_role(Role::Zygote);
        }
        Self { socket, children: Vec::new(), reserve: None }
    }

    /// Waits for the next request, reaping children in passing; `None` when the client is gone.
    ///
    /// # Errors
    /// When the kernel refuses to poll.
    pub fn next_request(&mut self) -> Result<Option<Request>, OsError> {
        loop {
            let (asked, ended) = self.poll()?;
            for place in ended.into_iter().rev() {
                self.report(place);
            }
            if asked {
                match Received::from(self.socket.as_fd())? {
                    Received::Request(request) => return Ok(Some(request)),
                    Received::Nonsense => {}
                    Received::End => return Ok(None),
                }
            }
        }
    }

    /// Whether the socket has something, and which children have ended.
    fn poll(&self) -> Result<(bool, Vec<usize>), OsError> {
        let mut fds = Vec::with_capacity(1 + self.children.len());
        fds.push(PollFd::new(&self.socket, PollFlags::IN));
        fds.extend(self.children.iter().map(|child| PollFd::new(&child.pidfd, PollFlags::IN)));
        fds.extend(self.reserve.iter().map(|reserve| PollFd::new(&reserve.pidfd, PollFlags::IN)));
        let _noted = waiting::note(WaitKind::Requests, 0, &mut Patience::new(), Deadline::NEVER);
        loop {
            match rustix::event::poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(OsError::new("poll")(errno)),
                Ok(_) => break,
            }
        }
        let ended = (1..fds.len()).filter(|&i| !fds[i].revents().is_empty()).map(|i| i - 1).collect();
        Ok((!fds[0].revents().is_empty(), ended))
    }

    fn report(&mut self, place: usize) {
        if place == self.children.len() {
            // The child in reserve was killed.
            self.reserve.take_if(|reserve| !matches!(pidfd::reap(reserve.pidfd.as_fd()), Ok(None)));
            return;
        }
        let status = match pidfd::reap(self.children[place].pidfd.as_fd()) {
            Ok(None) => return,
            Ok(Some(Ended::With(status))) => status,
            Ok(Some(Ended::Unknown)) | Err(_) => UNKNOWN_EXIT,
        };
        let child = self.children.swap_remove(place);
        // A client that has dropped the process does not read it.
        let _ = memory::write_all(child.status.as_fd(), &status.to_le_bytes());
    }

    /// Has the child in reserve carry out the request; gives it back if there is none, or it was killed.
    ///
    /// # Errors
    /// When the kernel refuses a descriptor for it.
    pub fn hand_over(&mut self, request: Request) -> Result<Option<Request>, OsError> {
        let Some(Reserve { pid, pidfd, socket }) = self.reserve.take() else { return Ok(Some(request)) };
        let mut fds = vec![request.job.as_fd(), request.life.as_fd(), request.status.as_fd()];
        fds.extend(request.passed.iter().map(AsFd::as_fd));
        if passing::send(socket.as_fd(), &request.place.to_le_bytes(), &fds).is_err() {
            let _ = pidfd::reap(pidfd.as_fd());
            return Ok(Some(request));
        }
        drop(socket);
        self.tell(pid, pidfd, request.status)?;
        Ok(None)
    }

    /// Before the fork of a child in reserve: the zygote's end and the child's.
    ///
    /// # Errors
    /// When the kernel refuses a descriptor.
    pub fn channel() -> Result<(OwnedFd, OwnedFd), OsError> {
        passing::pair()
    }

    /// A child was forked that waits at the other end of `socket`.
    ///
    /// # Errors
    /// When the kernel refuses a descriptor for it; it ends then.
    pub fn reserved(&mut self, pid: u32, socket: OwnedFd) -> Result<(), OsError> {
        self.reserve = Some(Reserve { pid, pidfd: pidfd::open(pid)?, socket });
        Ok(())
    }

    /// In the child in reserve: waits for its request; `None` when the zygote is gone. Meanwhile `ps` and others show it
    /// under a name of its own.
    ///
    /// # Errors
    /// When the kernel refuses a descriptor.
    pub fn await_request(socket: &OwnedFd) -> Result<Option<Request>, OsError> {
        let name = rustix::thread::name().ok();
        let _ = rustix::thread::set_name(RESERVE_NAME);
        let received = Received::from(socket.as_fd())?;
        if let Some(name) = name {
            let _ = rustix::thread::set_name(&name);
        }
        Ok(match received {
            Received::Request(request) => Some(request),
            Received::Nonsense | Received::End => None,
        })
    }

    /// The request was carried out: the child is this process's, and its client is told.
    ///
    /// # Errors
    /// When the kernel refuses a descriptor for it.
    pub fn forked(&mut self, request: Request, pid: u32) -> Result<(), OsError> {
        self.tell(pid, pidfd::open(pid)?, request.status)
    }

    fn tell(&mut self, pid: u32, pidfd: OwnedFd, status: OwnedFd) -> Result<(), OsError> {
        // A client that is gone meanwhile is noticed at the next request.
        let _ = passing::send(self.socket.as_fd(), &pid.to_le_bytes(), &[pidfd.as_fd()]);
        self.children.push(Forked { pidfd, status });
        Ok(())
    }
}

enum Received {
    Request(Request),
    Nonsense,
    End,
}

impl Received {
    fn from(socket: BorrowedFd<'_>) -> Result<Self, OsError> {
        let mut place = [0; 8];
        let (len, mut fds) = passing::receive(socket, &mut place)?;
        if len == 0 {
            return Ok(Self::End);
        }
        if fds.len() < OWN_DESCRIPTORS {
            return Ok(Self::Nonsense);
        }
        let passed = fds.split_off(OWN_DESCRIPTORS);
        let mut own = fds.into_iter();
        let (Some(job), Some(life), Some(status)) = (own.next(), own.next(), own.next()) else {
            return Ok(Self::Nonsense);
        };
        Ok(Self::Request(Request { place: u64::from_le_bytes(place), job, life, passed, status }))
    }
}
