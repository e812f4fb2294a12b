//! A process by descriptor: no pid that may have been given to somebody else meanwhile.

use super::OsError;
use manyhands_sync::deadline::Deadline;
use manyhands_sync::wait_word::Waited;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// `pidfd_open(pid, 0)`. The process that has the pid is the one that was meant only if that cannot have been reaped yet.
pub(crate) fn open(pid: u32) -> Result<OwnedFd, OsError> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(OsError { call: "pidfd_open", errno: libc::EINVAL })?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(OsError::new("pidfd_open"))
}

/// `kill(pid, SIGKILL)`, `waitpid(pid, 0)`: ends a child of this process that nobody has waited for, without a descriptor.
pub(crate) fn end_child(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        while matches!(rustix::process::waitpid(Some(pid), WaitOptions::empty()), Err(Errno::INTR)) {}
    }
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
    const LONGEST: Duration = Duration::from_secs(3600);
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
