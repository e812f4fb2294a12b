//! The locks and semaphores that lie in a family's memory, and the waits that wait for each other.

use super::arena::structures;
use super::member::Member;
use crate::family::{Family, Round};
use crate::sys::liveness::Liveness;
use manyhands_sync::arena::{Handle, Kind, Survey};
use manyhands_sync::lock::{HeldBy, Nature, OwnerName, UserLock};
use manyhands_sync::notes::WaitKind;
use manyhands_sync::process_table::ProcessTable;
use manyhands_sync::semaphore::UserSemaphore;

/// A lock, at about one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockReport {
    /// By what members find it.
    pub handle: Handle,
    /// What sort of lock it is.
    pub nature: Nature,
    /// Who holds it.
    pub holder: LockHolder,
    /// How often the holder has taken it.
    pub count: u32,
    /// How often a holder was killed, and somebody found out.
    pub deaths: u32,
}

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockHolder {
    /// Nobody.
    Nobody,
    /// That thread of that process; the thread is 0 while it is not noted.
    Thread {
        /// The process's id.
        pid: u32,
        /// The thread, by the kernel's number.
        thread: u32,
    },
    /// A process that has ended in an orderly way: the lock stays locked until somebody releases it.
    Ended,
    /// A process that was killed: whoever wants the lock next finds that. The pid is 0 when nobody knows it.
    Dead(u32),
}

/// A semaphore, at about one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SemaphoreReport {
    /// By what members find it.
    pub handle: Handle,
    /// The count.
    pub count: u32,
    /// The highest count it may have.
    pub most: u32,
}

pub(super) fn locks(family: &Family, survey: &Survey) -> Vec<LockReport> {
    let round = Round::of(family);
    let report = |handle: Handle| {
        let lock = family.whole_arena().placed::<UserLock>(handle).ok()?;
        Some(LockReport {
            handle,
            nature: lock.nature(),
            holder: holder(family.process_table(), &round, lock.held_by()),
            count: lock.count(),
            deaths: lock.deaths(),
        })
    };
    structures(survey, Kind::Lock).filter_map(report).collect()
}

pub(super) fn semaphores(family: &Family, survey: &Survey) -> Vec<SemaphoreReport> {
    let report = |handle: Handle| {
        let semaphore = family.whole_arena().placed::<UserSemaphore>(handle).ok()?;
        Some(SemaphoreReport { handle, count: semaphore.count(), most: semaphore.most() })
    };
    structures(survey, Kind::Semaphore).filter_map(report).collect()
}

fn holder(table: &ProcessTable, round: &Round, held_by: HeldBy) -> LockHolder {
    match held_by {
        HeldBy::Nobody => LockHolder::Nobody,
        HeldBy::Kept => LockHolder::Ended,
        HeldBy::Member(name, pid, _) if round.of_name(name) == Liveness::Dead => LockHolder::Dead(pid),
        HeldBy::Member(name, noted, thread) => {
            let pid = pid_of(table, name).unwrap_or(noted);
            // A lock that just changed hands may have the last one's thread beside it.
            LockHolder::Thread { pid, thread: if noted == pid { thread } else { 0 } }
        }
    }
}

fn pid_of(table: &ProcessTable, name: OwnerName) -> Option<u32> {
    let (seen, member) = table.member(name.slot()?)?;
    name.is_of(seen.place().life).then_some(member.pid)
}

/// A thread of a process that waits for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) pid: u32,
    pub(super) thread: u32,
    /// Where the lock lies.
    pub(super) lock: u64,
}

/// Threads that wait for each other: each for a lock that the next one holds, the last for one of the first's.
pub(super) fn cycles(members: &[Member], locks: &[LockReport]) -> Vec<Vec<Waiter>> {
    let waiters: Vec<Waiter> = members.iter().filter(|m| m.life.may_be_alive()).flat_map(waiters).collect();
    let next = |waiter: &Waiter| {
        let lock = locks.iter().find(|lock| lock.handle.offset == waiter.lock)?;
        let LockHolder::Thread { pid, thread } = lock.holder else { return None };
        waiters.iter().find(|other| other.pid == pid && other.thread == thread)
    };
    let mut found: Vec<Vec<Waiter>> = Vec::new();
    for first in &waiters {
        let mut chain = vec![*first];
        while let Some(waiter) = chain.last().and_then(next) {
            if waiter == first {
                break;
            }
            if chain.contains(waiter) || chain.len() > waiters.len() {
                chain.clear();
                break;
            }
            chain.push(*waiter);
        }
        let closed = chain.last().and_then(next) == Some(first);
        if closed && !found.iter().flatten().any(|known| known == first) {
            found.push(chain);
        }
    }
    found
}

fn waiters(member: &Member) -> impl Iterator<Item = Waiter> + '_ {
    let of_locks = member.waits.iter().filter(|wait| wait.kind == WaitKind::Lock);
    of_locks.map(|wait| Waiter { pid: member.pid, thread: wait.thread, lock: wait.object })
}
