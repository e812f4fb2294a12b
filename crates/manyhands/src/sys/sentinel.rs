//! A process that is watched for long, whoever closes the descriptor by which it is.

use super::pidfd::{self, Ended};
use super::remembered::{CLOSED_BY_OTHERS, Remembered};
use super::{OsError, clock, stat};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::park::{Waited, Waiting};
use rustix::process::{WaitId, WaitIdOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::time::Duration;

/// A process that is watched for long: by its descriptor, or by another one when other code has closed that. What stands
/// for a process that was gone before it could be opened is a socket ([`pidfd::of_the_ended`]): whatever becomes of its
/// number, that process has ended.
#[derive(Debug)]
pub struct Sentinel {
    pid: u32,
    /// The time when its descriptor was opened, in clock ticks since the machine was started: a process with its id that
    /// began later is another one.
    opened: u64,
    descriptor: Remembered,
    /// Whether the process was gone before it could be opened.
    ended: bool,
    /// The one that was opened when this one was found closed.
    again: OnceLock<Box<Self>>,
}

impl Sentinel {
    /// Watches a process by a descriptor that becomes readable when it ends. By a socket: it has ended.
    ///
    /// # Errors
    /// When it is no descriptor any more.
    pub fn new(pid: u32, descriptor: OwnedFd) -> Result<Self, OsError> {
        Self::opened_at(clock::ticks_since_boot(), pid, descriptor)
    }

    fn opened_at(opened: u64, pid: u32, descriptor: OwnedFd) -> Result<Self, OsError> {
        let descriptor = Remembered::new(descriptor)?;
        let ended = descriptor.is_socket();
        Ok(Self { pid, opened, descriptor, ended, again: OnceLock::new() })
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

    /// Whether the number still means the process: what a `poll` of [`Sentinel::unlooked`] has said is true.
    pub(crate) fn is_ours(&self) -> bool {
        self.latest().descriptor.is_ours()
    }

    /// The descriptor, for one call; `None` when the process is gone, and somebody else has collected it.
    ///
    /// # Errors
    /// When nobody can tell.
    pub(crate) fn looked_at(&self) -> Result<Option<BorrowedFd<'_>>, OsError> {
        let latest = self.latest();
        if let Ok(descriptor) = latest.descriptor.get() {
            return Ok(Some(descriptor));
        }
        let again =
            if self.ended { Some(pidfd::of_the_ended()?) } else { open_again(self.pid, self.opened)? };
        let Some(again) = again else { return Ok(None) };
        let again = Self::opened_at(self.opened, self.pid, again)?;
        // Another thread may have come first: then that one's is as good.
        let _ = latest.again.set(Box::new(again));
        self.latest().descriptor.get().map(Some)
    }

    /// Makes a call with the descriptor; `None` when the process is gone, and somebody else has collected it.
    fn with<T>(&self, call: impl FnMut(BorrowedFd<'_>) -> Result<T, OsError>) -> Result<Option<T>, OsError> {
        if self.ended {
            // Others poll the number: it is made anew if it was lost.
            let _ = self.looked_at();
            return Ok(None);
        }
        self.looked_at()?.map(call).transpose()
    }

    /// Collects the process, if it is this one's child and has ended; `None` while it runs.
    pub(crate) fn reap(&self) -> Result<Option<Ended>, OsError> {
        Ok(self.with(pidfd::reap)?.unwrap_or(Some(Ended::Unknown)))
    }

    /// What the kernel still knows of how it ended, whoever has collected it.
    pub(crate) fn exit_status(&self) -> Option<i32> {
        self.with(|descriptor| Ok(pidfd::exit_status(descriptor))).ok().flatten().flatten()
    }

    /// As [`Sentinel::exit_status`], for longer: where nobody else can tell.
    pub(crate) fn late_exit_status(&self) -> Option<i32> {
        self.with(|descriptor| Ok(pidfd::late_exit_status(descriptor))).ok().flatten().flatten()
    }

    /// Whether the process has ended, without waiting.
    ///
    /// # Errors
    /// When nobody can tell.
    pub fn has_ended(&self) -> Result<bool, OsError> {
        let now = Deadline::after(Duration::ZERO);
        Ok(self.wait(&mut Waiting::new(WaitKind::End), now)? == Waited::Ready)
    }

    /// Parks once: until the process has ended, the deadline passes, a signal arrives or the sleep has come to its end.
    pub(crate) fn wait(&self, waiting: &mut Waiting, deadline: Deadline) -> Result<Waited, OsError> {
        let waited = self.with(|descriptor| pidfd::wait(descriptor, waiting, deadline))?;
        let waited = waited.unwrap_or(Waited::Ready);
        // Closed while it was waited for, it was another file's readiness; and then the next look is at a new one.
        let sure = waited != Waited::Ready || self.ended || self.is_ours() || self.is_gone();
        Ok(if sure { waited } else { Waited::Interrupted })
    }

    fn is_gone(&self) -> bool {
        matches!(open_again(self.pid, self.opened), Ok(None))
    }

    /// Sends a signal; a process that is gone takes no harm.
    pub(crate) fn signal(&self, number: i32) -> Result<(), OsError> {
        self.with(|descriptor| pidfd::signal(descriptor, number)).map(drop)
    }
}

/// Opens a process that this one has watched since `opened`; `None` when it is gone.
///
/// # Errors
/// When the kernel refuses a descriptor, or nobody can tell whether the process with that id is still the same.
fn open_again(pid: u32, opened: u64) -> Result<Option<OwnedFd>, OsError> {
    let Some(fd) = pidfd::open(pid)? else { return Ok(None) };
    // After it was opened: what /proc shows is this one, or one that has taken its id since, which began later.
    match stat::of(pid) {
        Some(stat) => Ok((stat.started <= opened).then_some(fd)),
        // A child that nobody has collected keeps its id.
        None if is_uncollected_child(fd.as_fd()) => Ok(Some(fd)),
        None if pidfd::has_ended(fd.as_fd())? => Ok(None),
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
    use pidfd::open;
    use std::process::{Child, Command};

    fn child() -> Child {
        Command::new("sleep").arg("60").spawn().expect("a process")
    }

    fn opened(pid: u32) -> OwnedFd {
        open(pid).expect("no refusal").expect("it runs")
    }

    fn watching(pid: u32) -> Sentinel {
        Sentinel::new(pid, opened(pid)).expect("open")
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
        let sentinel = watching(child.id());
        let (number, _users) = (sentinel.number(), lose(&sentinel));
        assert_eq!(sentinel.has_ended(), Ok(false));
        assert_ne!(sentinel.number(), number);
        let _users_again = lose(&sentinel);
        assert_eq!(sentinel.reap(), Ok(None));
        sentinel.signal(libc::SIGKILL).expect("it runs");
        let (mut waiting, end) = (Waiting::new(WaitKind::End), Deadline::after(Duration::from_secs(20)));
        while sentinel.wait(&mut waiting, end) == Ok(Waited::Interrupted) {}
        assert_eq!(sentinel.has_ended(), Ok(true));
        let _users_once_more = lose(&sentinel);
        assert_eq!(sentinel.reap(), Ok(Some(Ended::With(-libc::SIGKILL))));
        let _users_at_last = lose(&sentinel);
        assert_eq!(sentinel.has_ended(), Ok(true), "collected: there is no such process");
        assert_eq!(sentinel.reap(), Ok(Some(Ended::Unknown)));
        assert_eq!(sentinel.signal(libc::SIGKILL), Ok(()));
        assert!(child.wait().is_err(), "collected above");
    }

    #[test]
    fn one_that_had_ended_stays_so_whatever_becomes_of_the_number() {
        // Its id is another process's by now.
        let mut other = child();
        let sentinel = Sentinel::new(other.id(), pidfd::of_the_ended().expect("one")).expect("open");
        for _ in 0..3 {
            let (number, _users) = (sentinel.number(), lose(&sentinel));
            assert!(!sentinel.is_ours());
            assert_eq!(sentinel.has_ended(), Ok(true));
            assert_eq!((sentinel.reap(), sentinel.exit_status()), (Ok(Some(Ended::Unknown)), None));
            assert_eq!(sentinel.signal(libc::SIGKILL), Ok(()));
            assert_ne!(sentinel.number(), number);
            assert_eq!(pidfd::has_ended(sentinel.unlooked()), Ok(true), "for those that poll");
        }
        assert!(other.try_wait().expect("a child").is_none(), "it runs");
        other.kill().expect("it runs");
        other.wait().expect("a child");
    }

    #[test]
    fn another_process_with_the_same_id_is_left_alone() {
        let Ok(_) = open(std::process::id()) else { return }; // Valgrind knows no pidfds.
        let mut other = child();
        let long_ago = Sentinel::opened_at(1, other.id(), opened(other.id())).expect("open");
        let _users = lose(&long_ago);
        assert_eq!(long_ago.has_ended(), Ok(true));
        assert_eq!(long_ago.signal(libc::SIGKILL), Ok(()));
        assert_eq!(long_ago.reap(), Ok(Some(Ended::Unknown)));
        assert!(other.try_wait().expect("a child").is_none(), "it runs");
        other.kill().expect("it runs");
        other.wait().expect("a child");
    }
}
