//! The members of a family, as their slots and the kernel show them.

use super::proc;
use crate::family::{Family, Round};
use crate::sys::clock;
use crate::sys::liveness::Liveness;
use manyhands_sync::notes::{Noted, Role, WaitKind};
use manyhands_sync::process_table::{ProcessTable, Seen, SlotIndex, State};
use std::time::Duration;

/// The longest label that is shown, in characters.
const MOST_LABEL: usize = 64;

/// A process of the family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its process id.
    pub pid: u32,
    /// The process that started it.
    pub parent: Parent,
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
    /// The process that looks cannot find out: it is in another pid namespace, or hidden.
    Unknown,
}

impl Life {
    /// Whether nothing says that it is dead.
    #[must_use]
    pub fn may_be_alive(self) -> bool {
        matches!(self, Self::Alive | Self::Unknown)
    }
}

/// The process that started a member, and waits for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// There is none: the member joined by itself, or its parent has let go of it.
    Nobody,
    /// The process with that pid.
    Process(u32),
    /// A process that is gone.
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
    let (table, round) = (family.process_table(), Round::of(family));
    let mut found: Vec<_> =
        table.used().filter_map(|index| Some((index, member(table, &round, index, now)?))).collect();
    if found.iter().any(|(_, member)| member.seems_busy()) {
        std::thread::sleep(A_MOMENT);
    }
    for (index, seen) in found.iter_mut().filter(|(_, member)| member.seems_busy()) {
        if let Some(again) = member(table, &round, *index, now).filter(|again| again.pid == seen.pid) {
            *seen = again;
        }
    }
    found.into_iter().map(|(_, member)| member).collect()
}

/// How many places wait for a process, or for one to say what it is.
pub(super) fn coming(family: &Family) -> usize {
    let table = family.process_table();
    let waits =
        |&index: &SlotIndex| matches!(table.look(index).state(), State::Reserved | State::Registering);
    table.used().filter(waits).count()
}

/// Whoever sleeps looks around twice a second, and has no note for so long; one who works has none later either.
const A_MOMENT: Duration = Duration::from_millis(5);

impl Member {
    fn seems_busy(&self) -> bool {
        self.life.may_be_alive() && self.waits.is_empty()
    }
}

fn member(table: &ProcessTable, round: &Round, index: SlotIndex, now: u64) -> Option<Member> {
    let (seen, known) = table.member(index)?;
    let (pid, registered) = (known.pid, known.registered_at.unwrap_or(0));
    let life = match round.of_member(seen) {
        Liveness::Alive => Life::Alive,
        Liveness::Unknown => Life::Unknown,
        Liveness::Dead => match round.view().stat_of(&known) {
            Some(stat) if stat.ended && stat.started <= registered => Life::Ended,
            _ => Life::Gone,
        },
    };
    let notes = table.notes(index);
    let noted: Vec<_> = notes.waits().collect();
    let waits: Vec<_> = noted.iter().filter_map(|noted| waiting(*noted, now)).collect();
    let member = Member {
        pid,
        parent: parent(table, seen),
        role: notes.role(),
        life,
        age: since_boot().saturating_sub(ticks(registered)),
        label: proc::shown(&notes.label(), MOST_LABEL),
        command: if life == Life::Alive { proc::command(pid) } else { String::new() },
        unreadable_waits: (noted.len() - waits.len()) as u32,
        waits,
        further_waits: notes.unnoted(),
    };
    // Another member may have the slot by now, and some of this be of that one.
    table.lives(seen.place()).then_some(member)
}

fn parent(table: &ProcessTable, seen: Seen) -> Parent {
    let Some(name) = seen.parent() else { return Parent::Nobody };
    let of_name = name.slot().and_then(|slot| table.member(slot));
    match of_name.filter(|(parent, _)| name.is_of(parent.place().life)) {
        Some((_, parent)) => Parent::Process(parent.pid),
        None => Parent::Gone,
    }
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
