//! Looking into a family while it runs, from inside or from an unrelated process of the same user: who the members are,
//! what they wait for, what queues and pools hold.
//!
//! **An observer changes nothing.** It finds the family's memory behind a descriptor of one of its members, maps it
//! read-only, takes no lock, sends no signal and does not trace. What it reads may change under its eyes or be damaged;
//! it says "unreadable" then, and never follows an offset or a count that it has not checked.
//!
//! [`Observer`] is for a program that looks again and again; [`Report`] is what it saw once, and its `Display` the text
//! of `python -m manyhands doctor`.

mod arena;
mod locks;
mod locks_text;
mod meetings;
mod member;
mod proc;
mod report;
mod text;

pub use arena::{PoolReport, QueueReport, RingReport, User};
pub use locks::{LockHolder, LockReport, SemaphoreReport};
pub use meetings::{MeetingReport, MeetingSight};
pub use member::{Life, Member, Parent, Waiting};
pub use report::Report;

use crate::family::{Extents, Family, MEMORY_NAME};
use crate::sys::liveness::is_nobody;
use crate::sys::{OsError, memory};
use manyhands_sync::arena::{CHUNK_BYTES, OpenError};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};

/// Somebody who looks into one family.
///
/// Its mappings stay until the process ends, so one that looks again and again should keep its observer.
#[derive(Clone, Copy, Debug)]
pub struct Observer {
    family: Family,
}

/// Why there is nothing to look into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObserveError {
    /// There is no process with that pid.
    NoSuchProcess(u32),
    /// It is another user's, or the system does not let this one look.
    NotPermitted(u32),
    /// It is no member of a family: it has not used manyhands yet, or is none of its programs.
    NotAMember(u32),
    /// Its family was founded by another build of manyhands.
    OtherBuild,
    /// The kernel refused the memory.
    Os(OsError),
}

impl std::fmt::Display for ObserveError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoSuchProcess(pid) => write!(f, "there is no process {pid}"),
            Self::NotPermitted(pid) => {
                write!(
                    f,
                    "the system does not let this user look into process {pid}: run as its user, or as root"
                )
            }
            Self::NotAMember(pid) => {
                write!(f, "process {pid} is in no manyhands family: it has not used manyhands, or not yet")
            }
            Self::OtherBuild => f.write_str(
                "that family runs another build of manyhands: look at it with the installation that it uses",
            ),
            Self::Os(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ObserveError {}

impl From<OsError> for ObserveError {
    fn from(error: OsError) -> Self {
        Self::Os(error)
    }
}

impl Observer {
    /// Looks into this process's own family; `None` when it has none.
    #[must_use]
    pub fn own() -> Option<Self> {
        Family::existing().map(|family| Self { family: *family })
    }

    /// Looks into the family of any process of this user.
    ///
    /// # Errors
    /// See [`ObserveError`].
    pub fn attach(pid: u32) -> Result<Self, ObserveError> {
        let descriptors = proc::descriptors_named(pid, MEMORY_NAME).map_err(|kind| match kind {
            // It may be hidden, or there is no /proc.
            ErrorKind::NotFound if is_nobody(pid) => ObserveError::NoSuchProcess(pid),
            _ => ObserveError::NotPermitted(pid),
        })?;
        let mut refused = ObserveError::NotAMember(pid);
        let mut other = None;
        for path in descriptors {
            match std::fs::File::open(path) {
                Ok(file) => match Self::over(file.into(), pid) {
                    Ok(observer) if observer.shows(pid) => return Ok(observer),
                    // The process has not needed a slot yet; or two of its threads founded a family at once, and this
                    // is the one that will be dropped.
                    Ok(observer) => other = Some(observer),
                    Err(error) => refused = error,
                },
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    refused = ObserveError::NotPermitted(pid);
                }
                // Closed meanwhile.
                Err(_) => {}
            }
        }
        other.ok_or(refused)
    }

    fn shows(&self, pid: u32) -> bool {
        let table = self.family.process_table();
        table.members().any(|(_, member)| member.pid == pid)
    }

    fn over(descriptor: OwnedFd, pid: u32) -> Result<Self, ObserveError> {
        let sealed = memory::is_sealed_against_shrinking(descriptor.as_fd());
        if !sealed || memory::size_of(descriptor.as_fd())? < CHUNK_BYTES {
            return Err(ObserveError::NotAMember(pid));
        }
        let arena = Family::open_arena(Extents::read_only(&descriptor)?).map_err(|error| match error {
            OpenError::NotAnArena => ObserveError::NotAMember(pid),
            OpenError::OtherBuild => ObserveError::OtherBuild,
        })?;
        Ok(Self { family: Family::observed(arena) })
    }

    /// What there is to see at about this moment.
    #[must_use]
    pub fn report(&self) -> Report {
        Report::of(&self.family)
    }
}

#[cfg(test)]
mod tests;
