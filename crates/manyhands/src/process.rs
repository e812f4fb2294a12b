//! A process that was started, by whichever method: wait for it, signal it, learn how it ended.

use crate::family::Slot;
use crate::sys::life_pipe::LifeEnd;
use crate::sys::passing::{self, Message};
use crate::sys::pidfd::{self, Ended};
use crate::sys::{OsError, Remembered, stat};

pub use crate::sys::sentinel::Sentinel;

use crate::waiting::{block, undisturbed};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::park::{Parked, Waited};
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
    /// The process's pidfd; of a process that was gone before it could be opened, something that is readable as well.
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
    /// The fork server that forked it, over this channel; and how long it may take to, once the child has ended.
    Zygote(Arc<Remembered>, Option<Deadline>),
}

/// What is known of a process.
#[derive(Debug)]
pub enum Look {
    /// It runs.
    Runs,
    /// It has ended: with this exit code, or by this signal, as a negative number.
    Ended(i32),
    /// It has ended, and its fork server will tell how: this becomes readable then, before the deadline.
    Awaited(Arc<Remembered>, Deadline),
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

    /// A child of this process; without a pidfd, one that somebody else has reaped: then it has ended. Another child of this
    /// process may even have its id: one that is fast is looked at more closely.
    pub(crate) fn child(
        pid: u32,
        pidfd: Option<OwnedFd>,
        slot: Slot,
        life: Arc<LifeEnd>,
    ) -> Result<Self, OsError> {
        let taken = slot.taken();
        match pidfd {
            Some(pidfd) if !taken.is_some_and(|(_, at)| began_after(pid, at)) => {
                Self::new(pid, pidfd, Source::Kernel, slot, life)
            }
            _ => Self::gone(pid, slot, life),
        }
    }

    /// The child of a fork server that is gone, which has taken its slot at that moment. Whoever reaps it.
    pub(crate) fn orphan(pid: u32, registered: u64, slot: Slot, life: Arc<LifeEnd>) -> Result<Self, OsError> {
        if pid == 0 {
            // It counts pids in another namespace: nobody here can watch it.
            return Err(OsError { call: "pidfd_open", errno: libc::ESRCH });
        }
        match pidfd::open(pid)? {
            Some(pidfd) if !began_after(pid, registered) => Self::new(pid, pidfd, Source::Kernel, slot, life),
            _ => Self::gone(pid, slot, life),
        }
    }

    /// A child that has ended and was reaped before anybody here had a descriptor of it.
    pub(crate) fn gone(pid: u32, mut slot: Slot, life: Arc<LifeEnd>) -> Result<Self, OsError> {
        let sentinel = pidfd::of_the_ended()?;
        let status = slot.noted_exit().unwrap_or(UNKNOWN_EXIT);
        slot.note_end();
        let mut gone = Self::new(pid, sentinel, Source::Kernel, slot, life)?;
        gone.status = Some(status);
        Ok(gone)
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

    /// How the process ended: its exit code, or minus the signal; `None` while it runs. Waits for a fork server that has to
    /// tell it, two seconds at most.
    ///
    /// A status that somebody else has collected is what the kernel still knows of it (since Linux 6.15), or else what the
    /// process itself noted before it ended; failing that it is [`UNKNOWN_EXIT`].
    ///
    /// # Errors
    /// When the kernel refuses to tell.
    pub fn poll(&mut self) -> Result<Option<i32>, OsError> {
        loop {
            match self.look()? {
                Look::Runs => return Ok(None),
                Look::Ended(status) => return Ok(Some(status)),
                Look::Awaited(channel, deadline) => {
                    let Ok(told) = wait_for_zygote_interruptibly(&channel, deadline, undisturbed);
                    told?;
                }
            }
        }
    }

    /// As [`poll`](Self::poll), for a caller who wants to wait for the fork server in a way of its own.
    ///
    /// # Errors
    /// When the kernel refuses to tell.
    pub fn look(&mut self) -> Result<Look, OsError> {
        if let Some(status) = self.status {
            return Ok(Look::Ended(status));
        }
        let ended = match &mut self.source {
            Source::Kernel => self.sentinel.reap()?,
            Source::Zygote(channel, deadline) if self.sentinel.has_ended()? => {
                let deadline = *deadline.get_or_insert_with(|| Deadline::after(PATIENCE_WITH_ZYGOTE));
                let told = told_by_zygote(channel)?;
                if told.is_none() && !deadline.passed() {
                    return Ok(Look::Awaited(Arc::clone(channel), deadline));
                }
                Some(told.unwrap_or(Ended::Unknown))
            }
            Source::Zygote(..) => None,
        };
        let Some(ended) = ended else { return Ok(Look::Runs) };
        let status = self.status_of(ended);
        self.status = Some(status);
        self.slot.note_end();
        Ok(Look::Ended(status))
    }

    fn status_of(&self, ended: Ended) -> i32 {
        match ended {
            Ended::With(status) => status,
            Ended::Unknown => {
                let known = self.sentinel.exit_status().or_else(|| self.slot.noted_exit());
                known.or_else(|| self.sentinel.late_exit_status()).unwrap_or(UNKNOWN_EXIT)
            }
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

/// Whether the process with that id was started after a child took its slot: then it is another one. Clock ticks apart.
fn began_after(pid: u32, taken: u64) -> bool {
    stat::of(pid).is_some_and(|stat| stat.started > taken)
}

/// Waits until the process behind that sentinel has ended; [`Waited::TimedOut`] when the deadline passed first. Signals do
/// not end the wait.
///
/// # Errors
/// When the kernel refuses to poll.
pub fn wait_for(sentinel: &Sentinel, deadline: Deadline) -> Result<Waited, OsError> {
    let Ok(waited) = wait_for_interruptibly(sentinel, deadline, undisturbed);
    Ok(if waited? { Waited::Ready } else { Waited::TimedOut })
}

/// As [`wait_for`], `false` when the deadline passed first. `on_signal` is called whenever a signal may have come; what it
/// returns as an error ends the wait.
///
/// # Errors
/// What `on_signal` returned; inside, as [`wait_for`].
pub fn wait_for_interruptibly<E>(
    sentinel: &Sentinel,
    deadline: Deadline,
    on_signal: impl FnMut() -> Result<(), E>,
) -> Result<Result<bool, OsError>, E> {
    // Who asks without wanting to wait, or late, gets the answer and leaves no note.
    match sentinel.has_ended() {
        Ok(false) if !deadline.passed() => {}
        answer => return Ok(answer),
    }
    let ended = block(WaitKind::End, u64::from(sentinel.pid()), deadline, on_signal, |waiting, record| {
        let _noted = record.note(waiting);
        parked(sentinel.wait(waiting, deadline))
    })?;
    Ok(ended.map_or(Ok(false), |ended| ended.map(|()| true)))
}

/// A refusal ends a wait.
fn parked(waited: Result<Waited, OsError>) -> Parked<Result<(), OsError>> {
    match waited {
        Ok(Waited::Ready) => Parked::Done(Ok(())),
        Ok(Waited::TimedOut) => Parked::TimedOut,
        Ok(Waited::Interrupted) => Parked::Interrupted,
        Err(refused) => Parked::Done(Err(refused)),
    }
}

/// Kills the process behind that sentinel, which nobody else has a handle on, and waits until it is gone: a child of ours
/// is reaped.
///
/// # Errors
/// When the kernel refuses to signal it or to tell.
pub fn end(sentinel: &Sentinel) -> Result<(), OsError> {
    sentinel.signal(libc::SIGKILL)?;
    while sentinel.reap()?.is_none() {
        wait_for(sentinel, Deadline::NEVER)?;
    }
    Ok(())
}

/// Waits until a channel on which a fork server will tell how its child ended is readable, or the deadline passes.
/// `on_signal` as in [`wait_for_interruptibly`].
///
/// # Errors
/// What `on_signal` returned; inside, when the kernel refuses to poll.
pub fn wait_for_zygote_interruptibly<E>(
    channel: &Remembered,
    deadline: Deadline,
    on_signal: impl FnMut() -> Result<(), E>,
) -> Result<Result<(), OsError>, E> {
    let told = block(WaitKind::End, 0, deadline, on_signal, |waiting, _| {
        // One that other code has closed tells nothing: a look at the process says so.
        let Ok(descriptor) = channel.get() else { return Parked::Done(Ok(())) };
        parked(pidfd::wait(descriptor, waiting, deadline))
    })?;
    Ok(told.unwrap_or(Ok(())))
}

/// The status comes right after the end; `None` before. A channel that ends without it belonged to a fork server that is
/// gone, or from which somebody else has taken the status; one that other code has closed tells nothing.
fn told_by_zygote(channel: &Remembered) -> Result<Option<Ended>, OsError> {
    let Ok(descriptor) = channel.get() else { return Ok(Some(Ended::Unknown)) };
    let mut bytes = [0; 4];
    match passing::receive_now(descriptor, &mut bytes) {
        Ok(Message { len: 4, .. }) => Ok(Some(Ended::With(i32::from_le_bytes(bytes)))),
        Ok(_) => Ok(Some(Ended::Unknown)),
        Err(OsError { errno: libc::EAGAIN, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
