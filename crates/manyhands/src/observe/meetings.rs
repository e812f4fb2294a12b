//! The events, conditions and barriers that lie in a family's memory, and who waits there.

use super::Report;
use super::arena::structures;
use super::text::{count, write_waiting};
use crate::family::Family;
use manyhands_sync::arena::{Handle, Kind, Survey};
use manyhands_sync::barrier::UserBarrier;
use manyhands_sync::condition::UserCondition;
use manyhands_sync::event::UserEvent;
use manyhands_sync::notes::WaitKind;
use std::fmt::{Formatter, Result};

/// An event, a condition or a barrier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeetingReport {
    /// By what members find it.
    pub handle: Handle,
    /// Which of them it is, and how it stands.
    pub sight: MeetingSight,
}

/// How an event, a condition or a barrier stands at about one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeetingSight {
    /// An event.
    Event {
        /// Whether the flag is up.
        is_set: bool,
    },
    /// A condition.
    Condition {
        /// How many wait and were not notified, those that were killed included.
        waiters: u32,
    },
    /// A barrier.
    Barrier {
        /// How many it waits for.
        parties: u32,
        /// How many are there.
        waiting: u32,
        /// Whether it is broken.
        is_broken: bool,
    },
}

const KINDS: [(Kind, WaitKind, &str); 3] = [
    (Kind::Event, WaitKind::Event, "event"),
    (Kind::Condition, WaitKind::Condition, "condition"),
    (Kind::Barrier, WaitKind::Barrier, "barrier"),
];

pub(super) fn meetings(family: &Family, survey: &Survey) -> Vec<MeetingReport> {
    let of_kind =
        |(kind, ..): (Kind, WaitKind, &str)| structures(survey, kind).map(move |handle| (kind, handle));
    let report = |(kind, handle)| Some(MeetingReport { handle, sight: sight(family, kind, handle)? });
    KINDS.into_iter().flat_map(of_kind).filter_map(report).collect()
}

fn sight(family: &Family, kind: Kind, handle: Handle) -> Option<MeetingSight> {
    let arena = family.whole_arena();
    match kind {
        Kind::Event => Some(MeetingSight::Event { is_set: arena.placed::<UserEvent>(handle).ok()?.is_set() }),
        Kind::Condition => {
            let condition = arena.placed::<UserCondition>(handle).ok()?;
            Some(MeetingSight::Condition { waiters: condition.waiters() })
        }
        Kind::Barrier => {
            let barrier = arena.placed::<UserBarrier>(handle).ok()?;
            let (waiting, is_broken) = (barrier.waiting(), barrier.is_broken());
            Some(MeetingSight::Barrier { parties: barrier.parties(), waiting, is_broken })
        }
        _ => None,
    }
}

impl MeetingSight {
    fn kind(self) -> Kind {
        match self {
            Self::Event { .. } => Kind::Event,
            Self::Condition { .. } => Kind::Condition,
            Self::Barrier { .. } => Kind::Barrier,
        }
    }

    fn standing(self) -> String {
        match self {
            Self::Event { is_set: true } => "set".to_owned(),
            Self::Event { is_set: false } => "not set".to_owned(),
            Self::Condition { waiters } => format!("{} not notified", count(waiters as usize, "waiter")),
            Self::Barrier { is_broken: true, .. } => "broken".to_owned(),
            Self::Barrier { parties, waiting, .. } => format!("{waiting} of {parties} are there"),
        }
    }
}

impl Report {
    /// What a member waits for that waits so: an event, a condition or a barrier, with its number among its like.
    pub(super) fn meeting_name(&self, kind: WaitKind, offset: u64) -> String {
        let Some((kind, _, word)) = KINDS.into_iter().find(|(_, waits, _)| *waits == kind) else {
            return "something unknown".to_owned();
        };
        let of_kind = self.meetings.iter().filter(|meeting| meeting.sight.kind() == kind);
        match (1..).zip(of_kind).find(|(_, meeting)| meeting.handle.offset == offset) {
            Some((number, MeetingReport { sight: sight @ MeetingSight::Barrier { .. }, .. })) => {
                format!("barrier {number} ({})", sight.standing())
            }
            Some((number, _)) => format!("{word} {number}"),
            None => format!("one that is gone, a {word} ({offset:#x})"),
        }
    }

    /// Those that somebody waits for; the others are only counted.
    pub(super) fn write_meetings(&self, f: &mut Formatter<'_>) -> Result {
        if !self.meetings.is_empty() {
            writeln!(f, "\nEvents, conditions, barriers")?;
        }
        let mut idle = 0;
        for (kind, waits, word) in KINDS {
            let of_kind = self.meetings.iter().filter(|meeting| meeting.sight.kind() == kind);
            for (number, MeetingReport { handle, sight }) in (1..).zip(of_kind) {
                let waiting = self.waiting(waits, handle.offset);
                if waiting.is_empty() {
                    idle += 1;
                    continue;
                }
                writeln!(f, "  {word} {number} ({:#x}): {}", handle.offset, sight.standing())?;
                write_waiting(f, &waiting, "there")?;
            }
        }
        if idle > 0 {
            writeln!(f, "  {idle} for which nobody waits")?;
        }
        Ok(())
    }
}
