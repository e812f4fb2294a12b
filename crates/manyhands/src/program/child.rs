//! Starting this program again as a child.

use super::job::{Job, Passed};
use super::{ENTRIES, child_function};
use crate::family::{Family, FamilyError};
use crate::launch::{LaunchError, Start, job_descriptor};
use crate::process::Process;
use crate::sys::OsError;
use manyhands_sync::arena::Handle;
use manyhands_sync::deadline::Deadline;
use manyhands_sync::wait_word::Waited;
use std::ffi::{CString, OsString};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStringExt;

/// The running program, even if its file was replaced or deleted meanwhile.
const THIS_PROGRAM: &std::ffi::CStr = c"/proc/self/exe";

/// A process that runs one of the program's entries.
///
/// It ends with the process that started it: the kernel kills it when that one is gone, however it went. Dropping this
/// kills it too, and collects it.
#[derive(Debug)]
pub struct Child(Process);

/// Why no child was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// [`init`](crate::init) was not called in this process: its children would not know what they are.
    NotInitialised,
    /// The program lists no entry of that name for children.
    UnknownEntry(String),
    /// The kernel or the family refused.
    Launch(LaunchError),
}

impl std::fmt::Display for SpawnError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotInitialised => f.write_str(
                "manyhands::init was not called: call it first in main, with the program's entries",
            ),
            Self::UnknownEntry(name) => write!(f, "the program lists no entry {name:?} for children"),
            Self::Launch(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SpawnError {}

impl From<LaunchError> for SpawnError {
    fn from(error: LaunchError) -> Self {
        Self::Launch(error)
    }
}

impl From<FamilyError> for SpawnError {
    fn from(error: FamilyError) -> Self {
        Self::Launch(error.into())
    }
}

impl From<OsError> for SpawnError {
    fn from(error: OsError) -> Self {
        Self::Launch(error.into())
    }
}

impl Child {
    /// Starts this program again, to run the entry of that name with these arguments.
    ///
    /// The child belongs to this process's family: it opens queues by the handles it finds in its arguments. It inherits
    /// the standard streams, the environment and the working directory, and no other descriptor.
    ///
    /// # Errors
    /// When the program has no such entry, or the kernel refuses.
    pub fn spawn(entry: &str, arguments: &[u8]) -> Result<Self, SpawnError> {
        let entries = ENTRIES.get().ok_or(SpawnError::NotInitialised)?;
        // A name that is too long for a job is in no program.
        let listed = u16::try_from(entry.len()).is_ok() && child_function(entries, entry).is_some();
        if !listed {
            return Err(SpawnError::UnknownEntry(entry.to_owned()));
        }
        let job = Job::Child { name: entry.to_owned(), arguments: arguments.to_vec() };
        spawn(&job, &[]).map(Self)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Waits until the process has ended: its exit code, or minus the signal that killed it; `None` when the deadline
    /// passed first. Signals that arrive meanwhile do not end the wait.
    ///
    /// # Errors
    /// When the kernel refuses to tell.
    pub fn wait(&mut self, deadline: Deadline) -> Result<Option<i32>, OsError> {
        loop {
            if let Some(status) = self.0.poll()? {
                return Ok(Some(status));
            }
            if self.0.wait(deadline)? == Waited::TimedOut {
                return self.0.poll();
            }
        }
    }

    /// Kills the process, whatever it is doing; nothing happens when it has ended.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&self) -> Result<(), OsError> {
        self.0.signal(libc::SIGKILL)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // A process that cannot be killed or waited for has ended.
        if self.kill().is_ok() {
            let _ = self.wait(Deadline::NEVER);
        }
    }
}

/// Starts this program again, as the worker on a pool's seat.
pub(crate) fn spawn_worker(pool: Handle, seat: u32, bell: RawFd) -> Result<Process, SpawnError> {
    spawn(&Job::Worker { pool, seat, bell }, &[bell])
}

fn spawn(job: &Job, passed: &[RawFd]) -> Result<Process, SpawnError> {
    let family = Family::current()?.descriptor()?;
    let start = Start::prepare()?;
    let job = job_descriptor(&job.to_bytes())?;
    let numbers = Passed {
        place: start.place(),
        family: family.number(),
        job: job.as_raw_fd(),
        life: start.life()?.as_raw_fd(),
    };
    let mut descriptors = vec![numbers.family, numbers.job, numbers.life];
    descriptors.extend_from_slice(passed);
    let arguments = [own_name(), numbers.to_argument()];
    Ok(start.spawn(THIS_PROGRAM, &arguments, &environment(), &descriptors)?)
}

/// What this program was called, so that its children are called the same.
fn own_name() -> CString {
    std::env::args_os().next().and_then(text).unwrap_or_else(|| THIS_PROGRAM.to_owned())
}

fn environment() -> Vec<CString> {
    let entry = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        text(name)
    };
    std::env::vars_os().filter_map(entry).collect()
}

/// What the kernel handed to this process has no null bytes in it, so it has none on the way back.
fn text(string: OsString) -> Option<CString> {
    CString::new(string.into_vec()).ok()
}
