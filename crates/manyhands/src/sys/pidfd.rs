//! A process by descriptor: no pid that may have been given to somebody else meanwhile.
#![allow(unsafe_code)] // an ioctl that rustix lacks

use super::OsError;
use super::polling::{self, Watched};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::park::{Waited, Waiting};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// `pidfd_open(pid, 0)`; `None` when there is no process with that id, or it names a thread. It may be another process
/// than the one that was meant, if that one can have been reaped.
pub(crate) fn open(pid: u32) -> Result<Option<OwnedFd>, OsError> {
    let Some(pid) = named(pid) else { return Ok(None) };
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Some(pidfd)),
        // The second and third: of a thread's id, before and since Linux 6.9.
        Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(errno) => Err(OsError::new("pidfd_open")(errno)),
    }
}

fn named(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// As [`open`], of a child of this process; `None` when it has ended and somebody else (a handler of SIGCHLD, another
/// thread, the kernel where SIGCHLD is ignored) has reaped it. Whoever has its id now is not taken for it.
pub(crate) fn open_child(pid: u32) -> Result<Option<OwnedFd>, OsError> {
    let Some(pidfd) = open(pid)? else { return Ok(None) };
    // Children of every kind, so that "none" means that it was reaped.
    let every = WaitIdOptions::from_bits_retain(libc::__WALL.cast_unsigned());
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT | every;
    match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options) {
        Ok(_) => Ok(Some(pidfd)),
        Err(Errno::CHILD) => Ok(None),
        Err(errno) => Err(OsError::new("waitid")(errno)),
    }
}

/// `socket(AF_UNIX)`, `shutdown`: a descriptor that is readable for good, as the pidfd of a process that has ended.
pub(crate) fn of_the_ended() -> Result<OwnedFd, OsError> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(OsError::new("socket"))?;
    rustix::net::shutdown(&socket, Shutdown::Both).map_err(OsError::new("shutdown"))?;
    Ok(socket)
}

/// `kill(pid, SIGKILL)`, `waitpid(pid)`, of a child that nobody else reaps and that cannot be watched.
pub(crate) fn end_unwatched_child(pid: u32) {
    let Some(pid) = named(pid) else { return };
    let _ = rustix::process::kill_process(pid, Signal::KILL);
    while let Err(Errno::INTR) = rustix::process::waitpid(Some(pid), WaitOptions::empty()) {}
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

/// `struct pidfd_info` of `linux/pidfd.h` in its first version, for `PIDFD_GET_INFO`.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// `_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: libc::c_ulong = 0xC040_FF0B;
const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// How often to look for what a reaper, on its way through the kernel, is about to write.
const LOOKS: u32 = 50;

/// The same on a busy machine, where the reaper may have to wait for a processor; each look after a millisecond.
const LATE_LOOKS: u32 = 50;

/// `ioctl(PIDFD_GET_INFO)`: how the process behind the descriptor ended, whoever has reaped it. `None` before Linux 6.15,
/// and while nobody has reaped it.
pub(crate) fn exit_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    look_for_exit(pidfd, LOOKS, || std::thread::sleep(Duration::from_micros(20)))
}

/// As [`exit_status`], for longer: where nobody else can tell.
pub(crate) fn late_exit_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    look_for_exit(pidfd, LATE_LOOKS, || std::thread::sleep(Duration::from_millis(1)))
}

fn look_for_exit(pidfd: BorrowedFd<'_>, looks: u32, pause: fn()) -> Option<i32> {
    for _ in 0..looks {
        let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
        // SAFETY: the kernel writes at most the 64 bytes that the request's number says, which `info` has. A descriptor
        // that is no pidfd refuses the request.
        let refused = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO as _, &raw mut info) } < 0;
        // No such process: it may be on its way out, between the look for its status and the look for itself.
        if refused && std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH) {
            return None;
        }
        if !refused && info.mask & PIDFD_INFO_EXIT != 0 {
            let status = info.exit_code;
            return Some(if libc::WIFSIGNALED(status) {
                -libc::WTERMSIG(status)
            } else {
                libc::WEXITSTATUS(status)
            });
        }
        pause();
    }
    None
}

/// Whether the process has ended, without waiting.
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>) -> Result<bool, OsError> {
    let looked = polling::poll(&mut [Watched::readable(pidfd)], Some(Duration::ZERO));
    match looked {
        Ok(ready) => Ok(ready != 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(OsError::new("poll")(errno)),
    }
}

/// `ppoll` on the descriptor until it is readable (of a pidfd: until the process has ended), for one sleep at most: a number
/// that was closed just after somebody looked at it may never be readable.
pub(crate) fn wait(fd: BorrowedFd<'_>, waiting: &mut Waiting, deadline: Deadline) -> Result<Waited, OsError> {
    polling::park(&mut [Watched::readable(fd)], waiting, deadline).map_err(OsError::new("poll"))
}

/// What to look for at a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Something to read, or the other side's end.
    Readable,
    /// Room to write, or the other side's end.
    Writable,
    /// The other side's end alone.
    Closed,
}

/// `ppoll` until one of these is as it is watched for or the process behind the pidfd has ended; for one sleep at most.
pub(crate) fn wait_any(
    watched: &[(BorrowedFd<'_>, Watch)],
    pidfd: Option<BorrowedFd<'_>>,
    waiting: &mut Waiting,
    deadline: Deadline,
) -> Result<Waited, OsError> {
    let events = |watch| match watch {
        Watch::Readable => PollFlags::IN,
        Watch::Writable => PollFlags::OUT,
        Watch::Closed => PollFlags::empty(),
    };
    let mut fds: Vec<_> = watched.iter().map(|&(fd, watch)| Watched::new(fd, events(watch))).collect();
    fds.extend(pidfd.map(Watched::readable));
    polling::park(&mut fds, waiting, deadline).map_err(OsError::new("poll"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use manyhands_sync::notes::WaitKind;
    use std::process::Command;

    /// A process of this test's that has ended with that status and was not waited for: each test does it in its way.
    #[allow(clippy::zombie_processes)]
    fn ended(script: &str) -> (u32, OwnedFd) {
        let child = Command::new("sh").args(["-c", script]).spawn().expect("a process");
        let pidfd = open_child(child.id()).expect("no refusal").expect("a child that nobody has reaped");
        let (mut waiting, end) = (Waiting::new(WaitKind::End), Deadline::after(Duration::from_secs(60)));
        while wait(pidfd.as_fd(), &mut waiting, end) == Ok(Waited::Interrupted) {}
        assert_eq!(has_ended(pidfd.as_fd()), Ok(true));
        (child.id(), pidfd)
    }

    #[test]
    fn a_child_that_somebody_else_has_reaped_is_none() {
        let (pid, pidfd) = ended("exit 3");
        assert!(open_child(pid).expect("no refusal").is_some(), "it is there until it is reaped");
        let pid_of = named(pid).expect("a pid");
        rustix::process::waitpid(Some(pid_of), WaitOptions::empty()).expect("its status");
        assert!(open_child(pid).expect("no refusal").is_none());
        assert_eq!(reap(pidfd.as_fd()), Ok(Some(Ended::Unknown)));
        // Kernels before 6.15 cannot tell.
        assert!(matches!(exit_status(pidfd.as_fd()), Some(3) | None));
    }

    #[test]
    fn a_process_that_is_no_child_is_none() {
        let mut parent = Command::new("sh")
            .args(["-c", "sleep 60 & echo $!; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("a process");
        let mut line = String::new();
        let mut output = std::io::BufReader::new(parent.stdout.take().expect("a pipe"));
        std::io::BufRead::read_line(&mut output, &mut line).expect("a pid");
        let stranger = line.trim().parse().expect("a pid");
        assert!(open(stranger).expect("no refusal").is_some());
        assert!(open_child(stranger).expect("no refusal").is_none());
        assert_eq!(exit_status(open(stranger).expect("no refusal").expect("it runs").as_fd()), None);
        rustix::process::kill_process(named(stranger).expect("a pid"), Signal::KILL).expect("our own");
        parent.wait().expect("its end");
    }

    #[test]
    fn what_stands_for_the_ended_stays_readable() {
        let ended = of_the_ended().expect("a descriptor");
        for _ in 0..2 {
            assert_eq!(has_ended(ended.as_fd()), Ok(true));
            assert!(rustix::io::read(&ended, &mut [0; 8]).is_err());
        }
        assert_eq!(exit_status(ended.as_fd()), None);
    }

    #[test]
    fn a_killed_child_that_was_reaped_is_known_where_the_kernel_can_tell() {
        let (pid, pidfd) = ended("kill -9 $$");
        end_unwatched_child(pid);
        assert!(matches!(exit_status(pidfd.as_fd()), Some(-9) | None));
    }
}
