//! What an observer saw once.

use super::arena::{self, PoolReport, QueueReport};
use super::locks::{self, LockReport, SemaphoreReport};
use super::meetings::{self, MeetingReport};
use super::member::{self, Member};
use crate::family::Family;
use crate::sys::clock;
use manyhands_sync::arena::Survey;

/// What an observer saw, at about one moment: members, queues, pools, locks, the arena. Its `Display` is a text for people.
#[derive(Clone, Debug)]
pub struct Report {
    /// The family's number.
    pub family: u64,
    /// When this was seen, in nanoseconds of the monotonic clock.
    pub seen_at: u64,
    /// The processes, in the order of their slots.
    pub members: Vec<Member>,
    /// How many places are kept for processes that have not come yet.
    pub coming: usize,
    /// The queues, in the order in which they lie in memory.
    pub queues: Vec<QueueReport>,
    /// The pools, likewise.
    pub pools: Vec<PoolReport>,
    /// The locks, likewise.
    pub locks: Vec<LockReport>,
    /// The semaphores, likewise.
    pub semaphores: Vec<SemaphoreReport>,
    /// The events, the conditions and the barriers, each likewise.
    pub meetings: Vec<MeetingReport>,
    /// How much of the arena is in use.
    pub arena: Survey,
}

impl Report {
    pub(super) fn of(family: &Family) -> Self {
        let (arena, queues, pools) = arena::look(family);
        let (locks, semaphores) = (locks::locks(family, &arena), locks::semaphores(family, &arena));
        let meetings = meetings::meetings(family, &arena);
        // Later than every time that is compared with it, give or take what happens meanwhile.
        let seen_at = clock::monotonic_nanoseconds();
        let (members, coming) = (member::members(family, seen_at), member::coming(family));
        Self {
            family: family.id(),
            seen_at,
            members,
            coming,
            queues,
            pools,
            locks,
            semaphores,
            meetings,
            arena,
        }
    }
}
