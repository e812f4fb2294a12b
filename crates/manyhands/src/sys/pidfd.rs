//! A process by descriptor: no pid that may have been given to somebody else meanwhile.

use super::remembered::{CLOSED_BY_OTHERS, Remembered};
use super::{OsError, clock, stat};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::wait_word::Waited;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::time::Duration;

/// `pidfd_open(pid, 0)`. The process must be one that cannot have been reaped yet.
pub(crate) fn open(pid: u32) -> Result<OwnedFd, OsError> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(OsError { call: "pidfd_open", errno: libc::EINVAL })?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(OsError::new("pidfd_open"))
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With this status: the exit code, or minus the signal.
    With(i32),
    /// It has, but somebody else has taken the status.
    Unknown,
}

/// `waitid(P_PIDFD, fd, WEXITED | WNOHANG)`: reaps the child; `None` while it runs.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> Result<Option<Ended>, OsError> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    match rustix::process::waitid(WaitId::PidFd(pidfd), options) {
        Ok(None) => Ok(None),
        Ok(Some(status)) => {
            let signal = status.terminating_signal().map(|signal| -signal);
            Ok(Some(status.exit_status().or(signal).map_or(Ended::Unknown, Ended::With)))
        }
        Err(Errno::CHILD) => Ok(has_ended(pidfd)?.then_some(Ended::Unknown)),
        Err(errno) => Err(OsError::new("waitid")(errno)),
    }
}

/// Whether the process has ended, without waiting.
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>) -> Result<bool, OsError> {
    Ok(wait(pidfd, Deadline::after(Duration::ZERO))? == Waited::Ready)
}

/// `ppoll` on the descriptor until it is readable (of a pidfd: until the process has ended).
pub(crate) fn wait(fd: BorrowedFd<'_>, deadline: Deadline) -> Result<Waited, OsError> {
    // A number that was closed just after somebody looked at it may never be readable.
    const LONGEST: Duration = Duration::from_secs(60);
    let slice = deadline.slice(LONGEST).unwrap_or(Duration::ZERO);
    let timeout = rustix::time::Timespec {
        tv_sec: i64::try_from(slice.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: slice.subsec_nanos().into(),
    };
    match rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
        Ok(0) if deadline.passed() => Ok(Waited::TimedOut),
        Ok(0) | Err(Errno::INTR) => Ok(Waited::Interrupted),
        Ok(_) => Ok(Waited::Ready),
        Err(errno) => Err(OsError::new("poll")(errno)),
    }
}

/// `pidfd_send_signal(fd, signal)`; a process that is gone takes no harm.
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), OsError> {
    let refused = OsError { call: "pidfd_send_signal", errno: libc::EINVAL };
    let signal = Signal::from_named_raw(signal).ok_or(refused)?;
    match rustix::process::pidfd_send_signal(pidfd, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(OsError::new("pidfd_send_signal")(errno)),
    }
}

/// A process that is watched for long: by its descriptor, or by another one when other code has closed that.
#[derive(Debug)]
pub struct Sentinel {
    pid: u32,
    /// The time when its descriptor was opened, in clock ticks since the machine was started: a process with its id that
    /// began later is another one.
    opened: u64,
    descriptor: Remembered,
    /// The one that was opened when this one was found closed.
    again: OnceLock<Box<Self>>,
}

impl Sentinel {
    /// Watches a process by a descriptor that becomes readable when it ends.
    ///
    /// # Errors
    /// When it is no descriptor any more.
    pub fn new(pid: u32, descriptor: OwnedFd) -> Result<Self, OsError> {
        Self::opened_at(clock::ticks_since_boot(), pid, descriptor)
    }

    fn opened_at(opened: u64, pid: u32, descriptor: OwnedFd) -> Result<Self, OsError> {
        Ok(Self { pid, opened, descriptor: Remembered::new(descriptor)?, again: OnceLock::new() })
    }

    fn latest(&self) -> &Self {
        let mut latest = self;
        while let Some(again) = latest.again.get() {
            latest = again;
        }
        latest
    }

    /// The process's id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The number of the descriptor, for users, who may have closed it.
    #[must_use]
    pub fn number(&self) -> RawFd {
        self.latest().descriptor.number()
    }

    /// The descriptor as it was when somebody last looked: whoever polls this must ask [`Sentinel::has_ended`] before
    /// believing what it finds.
    pub(crate) fn unlooked(&self) -> BorrowedFd<'_> {
        self.latest().descriptor.unlooked()
    }

    /// Makes a call with the descriptor; `None` when the process is gone, and somebody else has collected it.
    fn with<T>(&self, call: impl Fn(BorrowedFd<'_>) -> Result<T, OsError>) -> Result<Option<T>, OsError> {
        let latest = self.latest();
        if let Ok(descriptor) = latest.descriptor.get() {
            return call(descriptor).map(Some);
        }
        let Some(again) = open_again(self.pid, self.opened)? else { return Ok(None) };
        let again = Self::opened_at(self.opened, self.pid, again)?;
        // Another thread may have come first: then that one's is as good.
        let _ = latest.again.set(Box::new(again));
        call(self.latest().descriptor.get()?).map(Some)
    }

    /// Collects the process, if it is this one's child and has ended; `None` while it runs.
    pub(crate) fn reap(&self) -> Result<Option<Ended>, OsError> {
        Ok(self.with(reap)?.unwrap_or(Some(Ended::Unknown)))
    }

    /// Whether the process has ended, without waiting.
    ///
    /// # Errors
    /// When nobody can tell.
    pub fn has_ended(&self) -> Result<bool, OsError> {
        Ok(self.wait(Deadline::after(Duration::ZERO))? == Waited::Ready)
    }

    /// Waits until the process has ended, the deadline passes or a signal arrives.
    pub(crate) fn wait(&self, deadline: Deadline) -> Result<Waited, OsError> {
        let waited = self.with(|descriptor| wait(descriptor, deadline))?.unwrap_or(Waited::Ready);
        // Closed while it was waited for, it was another file's readiness; and then the next look is at a new one.
        let sure = waited != Waited::Ready || self.latest().descriptor.is_ours() || self.is_gone();
        Ok(if sure { waited } else { Waited::Interrupted })
    }

    fn is_gone(&self) -> bool {
        matches!(open_again(self.pid, self.opened), Ok(None))
    }

    /// Sends a signal; a process that is gone takes no harm.
    pub(crate) fn signal(&self, number: i32) -> Result<(), OsError> {
        self.with(|descriptor| signal(descriptor, number)).map(drop)
    }
}

/// Opens a process that this one has watched since `opened`; `None` when it is gone.
///
/// # Errors
/// When the kernel refuses a descriptor, or nobody can tell whether the process with that id is still the same.
fn open_again(pid: u32, opened: u64) -> Result<Option<OwnedFd>, OsError> {
    let fd = match open(pid) {
        Err(OsError { errno: libc::ESRCH, .. }) => return Ok(None),
        other => other?,
    };
    // After it was opened: what /proc shows is this one, or one that has taken its id since, which began later.
    match stat::of(pid) {
        Some(stat) => Ok((stat.started <= opened).then_some(fd)),
        // A child that nobody has collected keeps its id.
        None if is_uncollected_child(fd.as_fd()) => Ok(Some(fd)),
        None if wait(fd.as_fd(), Deadline::after(Duration::ZERO))? == Waited::Ready => Ok(None),
        None => Err(CLOSED_BY_OTHERS),
    }
}

fn is_uncollected_child(pidfd: BorrowedFd<'_>) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::PidFd(pidfd), options).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::remembered;
    use super::*;
    use std::process::{Child, Command};

    fn child() -> Child {
        Command::new("sleep").arg("60").spawn().expect("a process")
    }

    /// Somebody's end of a pipe takes the number; it is never readable.
    fn lose(sentinel: &Sentinel) -> (OwnedFd, OwnedFd) {
        let (read, write) = rustix::pipe::pipe().expect("descriptors");
        remembered::lose(sentinel.number(), read.as_fd());
        (read, write)
    }

    #[test]
    fn a_process_is_watched_though_its_descriptor_was_closed() {
        let Ok(_) = open(std::process::id()) else { return }; // Valgrind knows no pidfds.
        let mut child = child();
        let sentinel = Sentinel::new(child.id(), open(child.id()).expect("it runs")).expect("open");
        let (number, _users) = (sentinel.number(), lose(&sentinel));
        assert_eq!(sentinel.has_ended(), Ok(false));
        assert_ne!(sentinel.number(), number);
        let _users_again = lose(&sentinel);
        assert_eq!(sentinel.reap(), Ok(None));
        sentinel.signal(libc::SIGKILL).expect("it runs");
        assert_eq!(sentinel.wait(Deadline::after(Duration::from_secs(20))), Ok(Waited::Ready));
        let _users_once_more = lose(&sentinel);
        assert_eq!(sentinel.reap(), Ok(Some(Ended::With(-libc::SIGKILL))));
        let _users_at_last = lose(&sentinel);
        assert_eq!(sentinel.has_ended(), Ok(true), "collected: there is no such process");
        assert_eq!(sentinel.reap(), Ok(Some(Ended::Unknown)));
        assert_eq!(sentinel.signal(libc::SIGKILL), Ok(()));
        assert!(child.wait().is_err(), "collected above");
    }

    #[test]
    fn another_process_with_the_same_id_is_left_alone() {
        let Ok(_) = open(std::process::id()) else { return }; // Valgrind knows no pidfds.
        let mut other = child();
        let long_ago = Sentinel::opened_at(1, other.id(), open(other.id()).expect("it runs")).expect("open");
        let _users = lose(&long_ago);
        assert_eq!(long_ago.has_ended(), Ok(true));
        assert_eq!(long_ago.signal(libc::SIGKILL), Ok(()));
        assert_eq!(long_ago.reap(), Ok(Some(Ended::Unknown)));
        assert!(other.try_wait().expect("a child").is_none(), "it runs");
        other.kill().expect("it runs");
        other.wait().expect("a child");
    }
}
