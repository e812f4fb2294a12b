//! A process that was started, by whichever method: wait for it, signal it, learn how it ended.

use crate::family::Slot;
use crate::sys::life_pipe::LifeEnd;
use crate::sys::pidfd::{self, Ended};
use crate::sys::{OsError, Remembered, memory};

pub use crate::sys::pidfd::Sentinel;

use crate::waiting;
use manyhands_sync::deadline::Deadline;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::wait_word::{Patience, Waited};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// The exit status of a process of which nobody can tell how it ended.
pub const UNKNOWN_EXIT: i32 = 255;

/// How long a fork server may take to pass on a status, once its child has ended.
const PATIENCE_WITH_ZYGOTE: Duration = Duration::from_secs(2);

/// A handle on a child.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    sentinel: Arc<Sentinel>,
    source: Source,
    slot: Slot,
    /// Dropping it tells the child that its parent is gone.
    _life: Arc<LifeEnd>,
    status: Option<i32>,
}

/// Who tells how the process ended.
#[derive(Debug)]
pub(crate) enum Source {
    /// The kernel: it is our own child.
    Kernel,
    /// The fork server that forked it, through this pipe.
    Zygote(Remembered),
}

impl Process {
    pub(crate) fn new(
        pid: u32,
        pidfd: OwnedFd,
        source: Source,
        slot: Slot,
        life: Arc<LifeEnd>,
    ) -> Result<Self, OsError> {
        let sentinel = Arc::new(Sentinel::new(pid, pidfd)?);
        Ok(Self { pid, sentinel, source, slot, _life: life, status: None })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// By what others watch the process.
    #[must_use]
    pub fn sentinel(&self) -> &Arc<Sentinel> {
        &self.sentinel
    }

    /// How the process ended: its exit code, or minus the signal; `None` while it runs.
    ///
    /// A status that somebody else has collected from the kernel is taken from what the process itself noted before it
    /// ended; failing that it is [`UNKNOWN_EXIT`].
    ///
    /// # Errors
    /// When the kernel refuses to tell.
    pub fn poll(&mut self) -> Result<Option<i32>, OsError> {
        if self.status.is_none() {
            self.status = match &self.source {
                Source::Kernel => self.sentinel.reap()?.map(|ended| self.status_of(ended)),
                Source::Zygote(pipe) if self.sentinel.has_ended()? => {
                    Some(self.status_of(told_by_zygote(pipe)?))
                }
                Source::Zygote(_) => None,
            };
            if self.status.is_some() {
                self.slot.note_end();
            }
        }
        Ok(self.status)
    }

    fn status_of(&self, ended: Ended) -> i32 {
        match ended {
            Ended::With(status) => status,
            Ended::Unknown => self.slot.noted_exit().unwrap_or(UNKNOWN_EXIT),
        }
    }

    /// Waits until the process has ended, the deadline passes or a signal arrives in this thread.
    ///
    /// # Errors
    /// When the kernel refuses to poll.
    pub fn wait(&self, deadline: Deadline) -> Result<Waited, OsError> {
        if self.status.is_some() {
            return Ok(Waited::Ready);
        }
        wait_for(&self.sentinel, deadline)
    }

    /// Sends a signal; nothing happens when the process has ended.
    ///
    /// # Errors
    /// When there is no such signal, or it may not be sent.
    pub fn signal(&self, signal: i32) -> Result<(), OsError> {
        if self.status.is_some() {
            return Ok(());
        }
        self.sentinel.signal(signal)
    }
}

/// Waits until the process behind that sentinel has ended, the deadline passes or a signal arrives in this thread.
///
/// # Errors
/// When the kernel refuses to poll.
pub fn wait_for(sentinel: &Sentinel, deadline: Deadline) -> Result<Waited, OsError> {
    // Who asks without wanting to wait, or late, gets the answer and leaves no note.
    if deadline.passed() || sentinel.has_ended()? {
        return sentinel.wait(deadline);
    }
    let _noted = waiting::note(WaitKind::End, u64::from(sentinel.pid()), &mut Patience::new(), deadline);
    sentinel.wait(deadline)
}

/// The status comes right after the end. A pipe that ends without it belonged to a fork server that is gone; one that other
/// code has closed tells nothing.
fn told_by_zygote(pipe: &Remembered) -> Result<Ended, OsError> {
    let deadline = Deadline::after(PATIENCE_WITH_ZYGOTE);
    loop {
        let Ok(descriptor) = pipe.get() else { return Ok(Ended::Unknown) };
        match pidfd::wait(descriptor, deadline)? {
            Waited::Ready => break,
            Waited::TimedOut => return Ok(Ended::Unknown),
            Waited::Interrupted => {}
        }
    }
    let mut bytes = [0; 4];
    let Ok(descriptor) = pipe.get() else { return Ok(Ended::Unknown) };
    let read = memory::read(descriptor, &mut bytes)?;
    Ok(if read == bytes.len() { Ended::With(i32::from_le_bytes(bytes)) } else { Ended::Unknown })
}
