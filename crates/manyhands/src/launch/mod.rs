//! Starting processes: `fork` (by the interpreter, or by a Rust program that knows what it does), `spawn` (a fresh
//! program), and the zygote (a fork server).
//!
//! Every start goes through a [`Start`]: it reserves the child's slot in the process table and makes its life pipe
//! *before* the child exists, so that nothing about the child depends on what its parent does afterwards.

mod zygote;

pub use zygote::{Asked, Request, Zygote, ZygoteClient};

use crate::family::{Family, FamilyError, Slot};
use crate::process::{Process, Source};
use crate::sys::life_pipe::{self, LifeEnd};
use crate::sys::{OsError, Remembered, memory, pidfd, posix_spawn};
use manyhands_sync::arena::Handle;
use manyhands_sync::deadline::Deadline;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Why no process was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchError {
    /// The kernel refused.
    Os(OsError),
    /// There is no family to start it in.
    Family(FamilyError),
    /// The fork server is gone, or did not answer as it should.
    ZygoteGone,
    /// The kernel refused the fork server what it needs.
    ZygoteRefused(OsError),
    /// More descriptors than one message can carry.
    TooManyDescriptors,
}

impl std::fmt::Display for LaunchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Os(error) => error.fmt(f),
            Self::Family(error) => error.fmt(f),
            Self::ZygoteGone => f.write_str("the fork server is gone"),
            Self::ZygoteRefused(error) => write!(f, "the fork server could not start it: {error}"),
            Self::TooManyDescriptors => f.write_str("too many descriptors for one child"),
        }
    }
}

impl std::error::Error for LaunchError {}

impl From<OsError> for LaunchError {
    fn from(error: OsError) -> Self {
        Self::Os(error)
    }
}

impl From<FamilyError> for LaunchError {
    fn from(error: FamilyError) -> Self {
        Self::Family(error)
    }
}

/// A child about to be started.
#[derive(Debug)]
pub struct Start {
    slot: Slot,
    life_read: Remembered,
    life: Arc<LifeEnd>,
}

impl Start {
    /// Reserves what the child needs.
    ///
    /// # Errors
    /// When the kernel or the family has no room.
    pub fn prepare() -> Result<Self, LaunchError> {
        let slot = Family::current()?.reserve_slot()?;
        let (life_read, life) = life_pipe::create()?;
        Ok(Self { slot, life_read: Remembered::new(life_read)?, life })
    }

    /// The child's slot, as a number ([`Place::to_number`]); the child takes it with [`Family::take_slot`].
    #[must_use]
    pub fn place(&self) -> u64 {
        self.slot.place().to_number()
    }

    /// The next fork that the call `caller` of this thread makes is the child: what is held here is held there from the
    /// first moment on. A number that no other call has while it runs; with 0, whatever this thread forks next.
    ///
    /// # Errors
    /// When there is no memory for the references: nothing was taken then.
    pub fn announce(&self, caller: usize) -> Result<(), LaunchError> {
        Ok(Family::current()?.announce(self.slot.place(), caller)?)
    }

    /// The announced fork was not made. Of one that was tried there is nothing to withdraw.
    pub fn withdraw(&self) {
        if let Some(family) = Family::existing() {
            family.withdraw(self.slot.place());
        }
    }

    /// Takes along for the child references to these queues: they stay until it has opened them.
    ///
    /// # Errors
    /// When one of them is gone, or there is no memory.
    pub fn pack(&self, carried: &[Handle]) -> Result<(), LaunchError> {
        if !carried.is_empty() {
            Family::current()?.pack(self.slot.place(), carried)?;
        }
        Ok(())
    }

    /// The child's end of the life pipe, to be inherited or passed.
    ///
    /// # Errors
    /// When other code of this program has closed it since.
    pub fn life(&self) -> Result<BorrowedFd<'_>, OsError> {
        self.life_read.get()
    }

    /// The child was forked from this process. It may have ended, and somebody else may have reaped it.
    ///
    /// # Errors
    /// When the kernel refuses a descriptor for it; it was killed then, and there is nothing left of it.
    pub fn forked(self, pid: u32) -> Result<Process, LaunchError> {
        self.slot.note_forked(pid);
        self.started(pid)
    }

    /// As [`Start::forked`], of a process that need not be the child itself: the program may start another one.
    fn started(self, pid: u32) -> Result<Process, LaunchError> {
        let Self { mut slot, life_read, life } = self;
        // The child has it. Here it was what kept a number free for the child's own descriptor, before there was a child.
        drop(life_read);
        match pidfd_of_child(pid) {
            Ok(pidfd) => Ok(Process::child(pid, pidfd, slot, life)?),
            Err(error) => {
                if error.is_want_of_room() {
                    pidfd::end_unwatched_child(pid);
                    slot.note_end();
                }
                Err(error.into())
            }
        }
    }

    /// Starts a fresh program, which inherits the descriptors in `passed` under their numbers.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn spawn(
        self,
        program: &CStr,
        arguments: &[CString],
        environment: &[CString],
        passed: &[RawFd],
    ) -> Result<Process, LaunchError> {
        let pid = posix_spawn::spawn(program, arguments, environment, passed)?;
        self.started(pid)
    }

    /// Has a fork server start it. `job` reaches the child. What follows is up to the caller: to send the request and wait
    /// until it is answered, or to drop it.
    ///
    /// # Errors
    /// When the kernel refuses a descriptor. Nothing was sent then.
    pub fn ask<'a>(self, zygote: &'a ZygoteClient, job: &'a Remembered) -> Result<Asked<'a>, LaunchError> {
        Asked::new(zygote, self, job)
    }

    fn by_zygote(self, pid: u32, pidfd: OwnedFd, source: Source) -> Result<Process, OsError> {
        Process::new(pid, pidfd, source, self.slot, self.life)
    }

    fn gone(self, pid: u32) -> Result<Process, OsError> {
        Process::gone(pid, self.slot, self.life)
    }

    /// The fork server died over the request. Either its child has taken its slot, and runs; or the slot is taken back, and
    /// the child, should there be one, ends when it wants it.
    fn orphan(self) -> Result<Process, LaunchError> {
        let begun = self.cancel().ok_or(LaunchError::ZygoteGone)?;
        Ok(self.adopt(begun)?)
    }

    /// Takes the slot back; if the child has it already, its pid and when it took it.
    fn cancel(&self) -> Option<(u32, u64)> {
        self.slot.cancel()
    }

    fn adopt(self, (pid, registered): (u32, u64)) -> Result<Process, OsError> {
        Process::orphan(pid, registered, self.slot, self.life)
    }
}

/// How long room for a descriptor is waited for that another thread has taken in the instant in which it was free.
const ROOM_WITHIN: Duration = Duration::from_secs(1);

/// A descriptor for a child of this process; `None` when somebody else has reaped it.
fn pidfd_of_child(pid: u32) -> Result<Option<OwnedFd>, OsError> {
    let deadline = Deadline::after(ROOM_WITHIN);
    loop {
        match pidfd::open_child(pid) {
            Err(error) if error.is_want_of_room() && !deadline.passed() => {
                std::thread::sleep(Duration::from_millis(1));
            }
            opened => return opened,
        }
    }
}

/// In a forked child, whoever forked it, before anything else: lets go of what belongs to the parent.
pub fn after_fork_in_child() {
    life_pipe::let_go_in_child();
}

/// In a child that must not outlive its parent: the kernel kills it when the parent is gone. `false` when the parent is
/// gone already: then end at once.
///
/// # Errors
/// When the kernel refuses.
pub fn die_with_parent(life: BorrowedFd<'_>) -> Result<bool, OsError> {
    life_pipe::die_with_parent(life)
}

/// A descriptor from which a child reads its job, whatever its length.
///
/// # Errors
/// When the kernel refuses the memory.
pub fn job_descriptor(bytes: &[u8]) -> Result<OwnedFd, OsError> {
    memory::file_of("manyhands-job", bytes)
}

/// What this process's children keep for one another, see [`notebook_descriptor`].
static NOTEBOOK: Mutex<Option<Remembered>> = Mutex::new(None);

/// The number of a descriptor behind which this process's children keep something for one another: empty at first, and
/// when other code of this program has closed it.
///
/// # Errors
/// When the kernel refuses the memory.
pub fn notebook_descriptor() -> Result<RawFd, OsError> {
    let mut notebook = NOTEBOOK.lock().unwrap_or_else(PoisonError::into_inner);
    match &mut *notebook {
        Some(known) if known.is_ours() => Ok(known.number()),
        lost => Ok(lost.insert(Remembered::new(memory::notebook("manyhands-notebook")?)?).number()),
    }
}

/// Whether a number that was passed to this process is a notebook's, and no user's file.
#[must_use]
pub fn is_notebook(number: RawFd) -> bool {
    memory::adopt(number).is_ok_and(|fd| memory::is_sealed_against_shrinking(fd.as_fd()))
}
