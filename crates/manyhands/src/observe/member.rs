//! The members of a family, as their slots and the kernel show them.

use super::proc;
use crate::family::Family;
use crate::sys::clock;
use manyhands_sync::notes::{Noted, Role, WaitKind};
use manyhands_sync::process_table::{ProcessTable, SlotIndex};
use std::time::Duration;

/// The longest label that is shown, in characters.
const MOST_LABEL: usize = 64;

/// A process of the family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its process id.
    pub pid: u32,
    /// The pid of the process that started it; `None` when it joined by itself.
    pub parent: Option<u32>,
    /// What it says it is.
    pub role: Role,
    /// Whether it runs.
    pub life: Life,
    /// How long it has been in the family, whether it runs or not.
    pub age: Duration,
    /// What it says it runs; empty when it says nothing.
    pub label: String,
    /// Its command line; empty when it is gone.
    pub command: String,
    /// What its threads wait for, or last waited for when it is dead.
    pub waits: Vec<Waiting>,
    /// Waits that could not be read.
    pub unreadable_waits: u32,
    /// Threads that wait beyond those that are listed.
    pub further_waits: u32,
}

/// Whether a member runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It runs, or is stopped.
    Alive,
    /// It has ended; its parent has not asked how.
    Ended,
    /// It is gone; its slot is still kept.
    Gone,
}

/// One thread's wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What it waits for.
    pub kind: WaitKind,
    /// On which object: see [`WaitKind`].
    pub object: u64,
    /// Which thread, by the kernel's number.
    pub thread: u32,
    /// How long it has been waiting.
    pub lasting: Duration,
    /// How long it will wait at most from now on; `None` for ever.
    pub left: Option<Duration>,
}

/// Every member, dead ones whose slots are kept included.
pub(super) fn members(family: &Family, now: u64) -> Vec<Member> {
    let table = family.process_table();
    let mut found: Vec<_> =
        table.used().filter_map(|index| Some((index, member(table, index, now)?))).collect();
    if found.iter().any(|(_, member)| member.seems_busy()) {
        std::thread::sleep(A_MOMENT);
    }
    for (index, seen) in found.iter_mut().filter(|(_, member)| member.seems_busy()) {
        if let Some(again) = member(table, *index, now).filter(|again| again.pid == seen.pid) {
            *seen = again;
        }
    }
    found.into_iter().map(|(_, member)| member).collect()
}

/// Whoever sleeps looks around once a second, and has no note for so long; one who works has none later either.
const A_MOMENT: Duration = Duration::from_millis(5);

impl Member {
    fn seems_busy(&self) -> bool {
        self.life == Life::Alive && self.waits.is_empty()
    }
}

fn member(table: &ProcessTable, index: SlotIndex, now: u64) -> Option<Member> {
    let (pid, registered) = table.member(index)?;
    let stat = proc::stat(pid);
    let life = match stat {
        // A process with that pid that was started after the slot was taken is another one.
        Some(stat) if stat.started > registered => Life::Gone,
        Some(stat) if stat.ended => Life::Ended,
        Some(_) => Life::Alive,
        None => Life::Gone,
    };
    let notes = table.notes(index);
    let noted: Vec<_> = notes.waits().collect();
    let waits: Vec<_> = noted.iter().filter_map(|noted| waiting(*noted, now)).collect();
    Some(Member {
        pid,
        parent: Some(table.parent(index)).filter(|&parent| parent != 0),
        role: notes.role(),
        life,
        age: since_boot().saturating_sub(ticks(registered)),
        label: proc::shown(&notes.label(), MOST_LABEL),
        command: if life == Life::Alive { proc::command(pid) } else { String::new() },
        unreadable_waits: (noted.len() - waits.len()) as u32,
        waits,
        further_waits: notes.unnoted(),
    })
}

fn waiting(noted: Noted, now: u64) -> Option<Waiting> {
    let Noted::Wait(wait) = noted else { return None };
    let left = Duration::from_nanos(wait.deadline.saturating_sub(now));
    Some(Waiting {
        kind: wait.kind,
        object: wait.object,
        thread: wait.thread,
        lasting: Duration::from_nanos(now.saturating_sub(wait.since)),
        left: (wait.deadline != 0).then_some(left),
    })
}

fn since_boot() -> Duration {
    ticks(clock::ticks_since_boot())
}

fn ticks(ticks: u64) -> Duration {
    let per_second = clock::ticks_per_second();
    // Slots are untrusted: no number of ticks may overflow.
    Duration::from_millis(ticks.saturating_mul(1000) / per_second)
}
