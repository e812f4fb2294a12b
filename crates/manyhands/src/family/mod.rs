//! The family: the first process that uses manyhands and its descendants, with the memory they share.
//!
//! **Invariant:** a family has no name anywhere in the system. Members reach its memory by an inherited
//! descriptor only, and the kernel frees it when the last of them is gone, however they went.

mod absent;
mod forks;
mod holdings;
mod member;
mod orphans;
pub(crate) mod reclaim;
mod taker;

pub(crate) use crate::sys::Extents;
pub use crate::sys::arena::{ArenaView, Mapped};
pub use forks::{after_fork_in_parent, before_fork};
pub use holdings::Hold;
pub(crate) use member::me;
pub use member::{Place, Slot, process_identity};
pub(crate) use orphans::Round;
pub(crate) use taker::{is_gone, is_gone_in, known_taker};

use crate::sys::{OsError, Remembered, arena, limits, lost_memory, memory};
use manyhands_sync::arena::{AllocateError, Arena, CHUNK_BYTES, MOST_CHUNKS, OpenError};
use manyhands_sync::mutex::ask_for_the_unseen;
use manyhands_sync::notes::Role;
use manyhands_sync::process_table::{MOST_MEMBERS, ProcessTable};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

static FAMILY: OnceLock<Family> = OnceLock::new();

/// The name under which `/proc` shows the memory; it opens nothing.
pub(crate) const MEMORY_NAME: &str = "manyhands";

/// Bounds the shared memory of a family, in bytes; suffixes K, M, G and T are understood.
pub const ARENA_MAX_VARIABLE: &str = "MANYHANDS_ARENA_MAX";

/// This process's family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    arena: Arena<Extents>,
}

/// Why there is no family to work with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FamilyError {
    /// The kernel refused the memory.
    Os(OsError),
    /// `MANYHANDS_ARENA_MAX` is not a size.
    BadLimit(String),
    /// The descriptor is not that of a family.
    NotAFamily,
    /// The family was founded by another build of manyhands.
    OtherBuild,
    /// This process belongs to another family already.
    AlreadyInAFamily,
    /// The family has as many members as it can.
    Full {
        /// How many places belong to processes of which this one cannot find out whether they live.
        unknown: u32,
    },
    /// There is no shared memory left.
    Memory(AllocateError),
    /// The parent has given this process up: it took too long, or the parent is gone.
    Unwanted,
    /// This process was forked without a reference to the structure, and nobody else holds it any more.
    NotHeld,
    /// This process was forked without a reference to the structure, and there is no memory for one.
    NoReference,
}

impl std::fmt::Display for FamilyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Os(error) => error.fmt(f),
            Self::BadLimit(text) => {
                write!(
                    f,
                    "{ARENA_MAX_VARIABLE}={text:?} is not a size: give bytes, or a number with K, M, G or T"
                )
            }
            Self::NotAFamily => f.write_str("the descriptor is not that of a manyhands family"),
            Self::OtherBuild => f.write_str(
                "the parent process runs another build of manyhands: \
                 parent and child must use the same installation",
            ),
            Self::Memory(AllocateError::OutOfMemory { wanted_bytes, limit_bytes }) => {
                write!(f, "no {wanted_bytes} bytes of shared memory left, of {limit_bytes}")
            }
            Self::Memory(AllocateError::Corrupted) => f.write_str("the family's memory is damaged"),
            Self::Unwanted => f.write_str("the parent process does not wait for this one any more"),
            Self::NotHeld => f.write_str(
                "it no longer exists: this process was forked without a reference to it, and nobody holds it any more",
            ),
            Self::NoReference => f.write_str(
                "this process was forked without a reference to it, and there is no shared memory left for one",
            ),
            Self::Full { unknown } => {
                f.write_str("the family has as many processes as it can")?;
                if *unknown == 0 {
                    return Ok(());
                }
                write!(
                    f,
                    "; {unknown} of the {MOST_MEMBERS} places belong to processes of which nobody can find out \
                     whether they live"
                )
            }
            Self::AlreadyInAFamily => f.write_str("this process belongs to another manyhands family already"),
        }
    }
}

impl std::error::Error for FamilyError {}

impl From<OsError> for FamilyError {
    fn from(error: OsError) -> Self {
        Self::Os(error)
    }
}

impl From<OpenError> for FamilyError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NotAnArena => Self::NotAFamily,
            OpenError::OtherBuild => Self::OtherBuild,
        }
    }
}

impl Family {
    /// This process's family; founded now if it has none.
    ///
    /// # Errors
    /// When the kernel refuses the memory or `MANYHANDS_ARENA_MAX` makes no sense.
    pub fn current() -> Result<&'static Self, FamilyError> {
        match FAMILY.get() {
            Some(family) => Ok(family),
            None => {
                let family = Self::become_its_member(Self::found()?)?;
                family.note_role(Role::Founder);
                Ok(family)
            }
        }
    }

    /// This process's family, if it has one.
    #[must_use]
    pub fn existing() -> Option<&'static Self> {
        FAMILY.get()
    }

    /// Another family, through a mapping that can only be read.
    pub(crate) fn observed(arena: Arena<Extents>) -> Self {
        Self { arena }
    }

    /// Opens the arena behind a mapping, if this build can read it.
    pub(crate) fn open_arena(extents: Extents) -> Result<Arena<Extents>, OpenError> {
        arena::open(extents, build())
    }

    /// Joins the family whose memory is behind that descriptor, inherited from a parent.
    ///
    /// # Errors
    /// When it is none, or one of another build, or this process has a family already.
    pub fn join(descriptor: OwnedFd) -> Result<&'static Self, FamilyError> {
        if FAMILY.get().is_some() {
            return Err(FamilyError::AlreadyInAFamily);
        }
        // Looked at before anything of it is mapped: a number that was passed may have become a user's file.
        if !memory::is_sealed(descriptor.as_fd()) || memory::size_of(descriptor.as_fd())? < CHUNK_BYTES {
            return Err(FamilyError::NotAFamily);
        }
        let extents = Extents::new(descriptor)?;
        Self::become_its_member(Self { arena: arena::open(extents, build())? })
    }

    /// Joins by the number of the inherited descriptor, which stays open and is not used any more.
    ///
    /// # Errors
    /// As [`Family::join`].
    pub fn join_number(number: i32) -> Result<&'static Self, FamilyError> {
        Self::join(memory::adopt(number)?)
    }

    fn become_its_member(family: Self) -> Result<&'static Self, FamilyError> {
        forks::register()?;
        ask_for_the_unseen(orphans::may_have_unseen_members);
        Ok(FAMILY.get_or_init(|| family))
    }

    fn found() -> Result<Self, FamilyError> {
        let limit = limit_bytes()?;
        let most = limits::largest_file().min(limit).min(MOST_CHUNKS as u64 * CHUNK_BYTES);
        let size = (most / CHUNK_BYTES).max(1) * CHUNK_BYTES;
        let extents = Extents::new(memory::create_sealed(MEMORY_NAME, size)?)?;
        Ok(Self { arena: arena::create(extents, memory::random_u64()?, build(), size)? })
    }

    /// The family's memory, for everybody.
    #[must_use]
    pub fn arena(&self) -> ArenaView {
        ArenaView::of(self.arena)
    }

    /// The family's memory, for the engine alone: see [`ArenaView`].
    pub(crate) fn whole_arena(&self) -> Arena<Extents> {
        self.arena
    }

    /// The descriptor by which a child joins: inherited by `fork`, passed on by the other ways to start. One that other code
    /// of this program has closed is had anew: from this process's mapping, which is for administrators, or from another
    /// member that has it still.
    ///
    /// # Errors
    /// When it was closed, and cannot be had anew.
    pub fn descriptor(&self) -> Result<&'static Remembered, OsError> {
        let extents = self.arena.backing();
        let known = extents.descriptor();
        if known.is_ok() {
            return known;
        }
        let table = self.process_table();
        let pids = table.members().map(|(_, member)| member.pid);
        extents.adopt_again(pids.flat_map(|pid| lost_memory::of_process(pid, MEMORY_NAME)))
    }

    /// The table of the family's processes.
    pub(crate) fn process_table(&self) -> &'static ProcessTable {
        self.arena.process_table()
    }

    /// A number that no other family has.
    pub fn id(&self) -> u64 {
        self.arena.family()
    }
}

/// Tells builds apart whose placed structures may differ.
fn build() -> u64 {
    const TEXT: &str = concat!(env!("CARGO_PKG_VERSION"), "/", env!("MANYHANDS_BUILD"));
    // FNV-1a, 64 bits.
    TEXT.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn limit_bytes() -> Result<u64, FamilyError> {
    match std::env::var(ARENA_MAX_VARIABLE) {
        Ok(text) => parse_bytes(&text).ok_or(FamilyError::BadLimit(text)),
        Err(_) => Ok(memory::physical_bytes()),
    }
}

fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, shift) = match text.as_bytes().last()?.to_ascii_uppercase() {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        b'T' => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn limits_are_read_with_and_without_suffix() {
        assert_eq!(parse_bytes("4096"), Some(4096));
        assert_eq!(parse_bytes(" 2G "), Some(2 << 30));
        assert_eq!(parse_bytes("64m"), Some(64 << 20));
        assert_eq!(parse_bytes("much"), None);
        assert_eq!(parse_bytes(""), None);
        assert_eq!(parse_bytes("99999999T"), None);
    }
}
