//! A bell: an eventfd on which one side sleeps, together with pidfds, and which the other side rings.

use super::OsError;
use crate::pool::Woken;
use manyhands_sync::deadline::Deadline;
use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::io::Errno;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// `eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)`.
pub(crate) fn create() -> Result<OwnedFd, OsError> {
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(OsError::new("eventfd"))
}

/// Makes the bell readable.
pub(crate) fn ring(bell: &OwnedFd) {
    // EAGAIN means that it has been rung four billion times: it rings.
    let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
}

/// Makes the bell unreadable.
pub(crate) fn silence(bell: &OwnedFd) {
    // EAGAIN means that it was silent.
    let _ = rustix::io::read(bell, &mut [0; 8]);
}

/// No sleep is longer: a ring that died with its ringer costs at most this.
const LONGEST: Duration = Duration::from_secs(1);

/// `ppoll` on the bell and the pidfds, until one is readable, the deadline passes or a signal arrives.
pub(crate) fn wait(
    bell: BorrowedFd<'_>,
    pidfds: &[BorrowedFd<'_>],
    deadline: Deadline,
) -> Result<Woken, OsError> {
    let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(1 + pidfds.len());
    fds.push(PollFd::from_borrowed_fd(bell, PollFlags::IN));
    fds.extend(pidfds.iter().map(|&fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
    let Some(slice) = deadline.slice(LONGEST) else { return Ok(Woken::TimedOut) };
    let timeout = rustix::time::Timespec {
        tv_sec: i64::try_from(slice.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: slice.subsec_nanos().into(),
    };
    match rustix::event::poll(&mut fds, Some(&timeout)) {
        Err(Errno::INTR) => return Ok(Woken::Interrupted),
        Err(errno) => return Err(OsError::new("poll")(errno)),
        // The slice is over: the caller looks at the ring again, as after a ring of the bell.
        Ok(0) => return Ok(if deadline.passed() { Woken::TimedOut } else { Woken::Answers }),
        Ok(_) => {}
    }
    if !fds[0].revents().is_empty() {
        // Silence the bell; a ring that comes right after this makes it readable again.
        let _ = rustix::io::read(bell, &mut [0; 8]);
        return Ok(Woken::Answers);
    }
    let exited = fds[1..].iter().position(|fd| !fd.revents().is_empty());
    Ok(exited.map_or(Woken::Answers, Woken::Exited))
}

/// The first of these processes that has ended, without waiting.
pub(crate) fn first_ended(pidfds: &[BorrowedFd<'_>]) -> Option<usize> {
    let mut fds: Vec<_> = pidfds.iter().map(|&fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&now)).ok()?;
    fds.iter().position(|fd| !fd.revents().is_empty())
}
