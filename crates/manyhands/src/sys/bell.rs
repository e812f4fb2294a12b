//! A bell: an eventfd on which one side sleeps, together with pidfds, and which the other side rings.

use super::OsError;
use super::polling::{self, Watched};
use super::remembered::{self, CLOSED_BY_OTHERS, Remembered};
use super::sentinel::Sentinel;
use crate::pool::Woken;
use manyhands_sync::deadline::Deadline;
use manyhands_sync::park::{Waited, Waiting};
use rustix::event::EventfdFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// `eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)`.
pub(crate) fn create() -> Result<Remembered, OsError> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    Remembered::new(rustix::event::eventfd(0, flags).map_err(OsError::new("eventfd"))?)
}

/// A bell that was passed to this process.
///
/// # Errors
/// When it is none: the number that was passed had become another file's.
pub(crate) fn adopt(passed: OwnedFd) -> Result<Remembered, OsError> {
    if remembered::is_marked(passed.as_fd()) { Remembered::new(passed) } else { Err(CLOSED_BY_OTHERS) }
}

/// Makes the bell readable; nothing when other code has closed it.
pub(crate) fn ring(bell: &Remembered) {
    if let Ok(bell) = bell.get() {
        // EAGAIN means that it has been rung four billion times: it rings.
        let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
    }
}

/// Makes the bell unreadable; nothing when other code has closed it.
pub(crate) fn silence(bell: &Remembered) {
    if let Ok(bell) = bell.get() {
        // EAGAIN means that it was silent.
        let _ = rustix::io::read(bell, &mut [0; 8]);
    }
}

/// `ppoll` on the bell and the processes, until one is readable, the deadline passes, a signal arrives or the sleep has come
/// to its end: a ring that died with its ringer costs at most that. Polling does
/// nothing to a file, so it comes first, and the look whether the file is ours after it: before anything is believed.
///
/// # Errors
/// `CLOSED_BY_OTHERS` when that is what became of the bell.
pub(crate) fn wait(
    bell: &Remembered,
    watched: &[&Sentinel],
    waiting: &mut Waiting,
    deadline: Deadline,
) -> Result<Woken, OsError> {
    let mut fds = Vec::with_capacity(1 + watched.len());
    fds.push(Watched::readable(bell.unlooked()));
    fds.extend(watched.iter().map(|process| Watched::readable(process.unlooked())));
    match polling::park(&mut fds, waiting, deadline).map_err(OsError::new("poll"))? {
        Waited::Ready => {}
        slept => {
            // One that was closed and is another file by now would never be readable.
            bell.get()?;
            return match first_that_ended(watched)? {
                Some(place) => Ok(Woken::Exited(place)),
                None if slept == Waited::TimedOut => Ok(Woken::TimedOut),
                None => Ok(Woken::Interrupted),
            };
        }
    }
    if fds[0].is_ready() {
        // Silence the bell; a ring that comes right after this makes it readable again.
        let _ = rustix::io::read(bell.get()?, &mut [0; 8]);
        return Ok(Woken::Answers);
    }
    let readable = fds[1..].iter().position(Watched::is_ready);
    match readable {
        Some(place) if watched[place].has_ended()? => Ok(Woken::Exited(place)),
        _ => Ok(Woken::Answers),
    }
}

fn first_that_ended(watched: &[&Sentinel]) -> Result<Option<usize>, OsError> {
    for (place, process) in watched.iter().enumerate() {
        if process.has_ended()? {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// The first of these processes that has ended, without waiting. One of which nobody can tell has not.
pub(crate) fn first_ended(watched: &[&Sentinel]) -> Option<usize> {
    let mut fds: Vec<_> = watched.iter().map(|process| Watched::readable(process.unlooked())).collect();
    polling::poll(&mut fds, Some(Duration::ZERO)).ok()?;
    let ended = |place: &usize| fds[*place].is_ready() && watched[*place].has_ended() == Ok(true);
    (0..watched.len()).find(ended)
}
