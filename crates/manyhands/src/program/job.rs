//! What a child finds on its command line, and what it reads from the descriptor named there. Both come from another
//! process, so both are checked.
//!
//! | job | bytes |
//! |---|---|
//! | run an entry | `0`, length of the name (2), the name, the arguments |
//! | work in a pool | `1`, the pool's handle (12), the seat (4), the number of the bell's descriptor (4) |

use manyhands_sync::arena::{HANDLE_BYTES, Handle};
use std::ffi::{CString, OsString};
use std::io::Read;
use std::os::fd::OwnedFd;

/// How a child's command line begins, behind the program's name.
const MARK: &str = "--manyhands-child=";

const CHILD: u8 = 0;
const WORKER: u8 = 1;

/// The numbers that a child is given: its slot, and descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) slot: u32,
    pub(super) family: i32,
    pub(super) job: i32,
    pub(super) life: i32,
}

impl Passed {
    /// What stands on this process's command line; `None` when it is no child.
    pub(super) fn from_arguments(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let argument = arguments.nth(1)?;
        let mut numbers = argument.to_str()?.strip_prefix(MARK)?.split(',');
        let slot = numbers.next()?.parse().ok()?;
        let mut descriptor = || numbers.next()?.parse().ok();
        Some(Self { slot, family: descriptor()?, job: descriptor()?, life: descriptor()? })
    }

    pub(super) fn to_argument(self) -> CString {
        let Self { slot, family, job, life } = self;
        CString::new(format!("{MARK}{slot},{family},{job},{life}")).unwrap_or_default()
    }
}

/// What a child is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Run an entry.
    Child { name: String, arguments: Vec<u8> },
    /// Work in a pool.
    Worker { pool: Handle, seat: u32, bell: i32 },
}

impl Job {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Child { name, arguments } => {
                bytes.push(CHILD);
                bytes.extend((name.len() as u16).to_le_bytes());
                bytes.extend(name.as_bytes());
                bytes.extend(arguments);
            }
            Self::Worker { pool, seat, bell } => {
                bytes.push(WORKER);
                bytes.extend(pool.to_bytes());
                bytes.extend(seat.to_le_bytes());
                bytes.extend(bell.to_le_bytes());
            }
        }
        bytes
    }

    pub(super) fn read(descriptor: OwnedFd) -> Option<Self> {
        let mut bytes = Vec::new();
        std::fs::File::from(descriptor).read_to_end(&mut bytes).ok()?;
        Self::from_bytes(&bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        match kind {
            CHILD => {
                let (length, rest) = rest.split_first_chunk::<2>()?;
                let (name, arguments) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
                let name = str::from_utf8(name).ok()?.to_owned();
                Some(Self::Child { name, arguments: arguments.to_vec() })
            }
            WORKER => {
                let (handle, rest) = rest.split_at_checked(HANDLE_BYTES)?;
                let (seat, bell) = rest.split_first_chunk::<4>()?;
                Some(Self::Worker {
                    pool: Handle::from_bytes(handle)?,
                    seat: u32::from_le_bytes(*seat),
                    bell: i32::from_le_bytes(bell.try_into().ok()?),
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_comes_back_as_it_went_and_others_are_no_childs() {
        let passed = Passed { slot: 7, family: 3, job: 4, life: 5 };
        let argument = OsString::from(passed.to_argument().into_string().expect("digits"));
        assert_eq!(Passed::from_arguments(["program".into(), argument].into_iter()), Some(passed));
        for other in
            ["", "--manyhands-child=", "--manyhands-child=1,2,3", "--manyhands-child=a,b,c,d", "file"]
        {
            assert_eq!(Passed::from_arguments(["program".into(), other.into()].into_iter()), None, "{other}");
        }
        assert_eq!(Passed::from_arguments(std::iter::empty()), None);
    }

    #[test]
    fn jobs_come_back_as_they_went_and_torn_ones_are_refused() {
        let child = Job::Child { name: "count".into(), arguments: b"abc".to_vec() };
        let worker = Job::Worker { pool: Handle { offset: 1 << 30, generation: 2 }, seat: 3, bell: 9 };
        for job in [child, worker] {
            let bytes = job.to_bytes();
            assert_eq!(Job::from_bytes(&bytes), Some(job));
            assert_eq!(Job::from_bytes(&bytes[..2]), None);
        }
        assert_eq!(Job::from_bytes(&[]), None);
        assert_eq!(Job::from_bytes(&[9, 0, 0]), None);
    }
}
