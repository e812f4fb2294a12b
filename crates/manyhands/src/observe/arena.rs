//! The queues and pools that lie in a family's memory.

use crate::family::{Extents, Family};
use crate::pool::{PoolSight, SeatSight};
use manyhands_sync::arena::{Handle, Kind, Owner, Survey};
use manyhands_sync::mutex::Holder;
use manyhands_sync::process_table::Place;
use manyhands_sync::queue_header::QueueHeader;
use manyhands_sync::ring::Ring;
use std::time::Duration;

/// A ring, at about one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingReport {
    /// Messages in it.
    pub messages: u32,
    /// How many bytes they take in the ring, without those of long messages, which lie in blocks of their own; `None`
    /// when the ring's words make no sense.
    pub bytes: Option<u64>,
    /// The most messages it may hold; 0 for no bound.
    pub bound: u32,
    /// How often somebody was killed in the middle of putting or taking, and the next one put it right.
    pub recoveries: u32,
    /// Who has held the lock of the producers' side, and the consumers', for longer than a moment.
    pub holders: [Option<Holder>; 2],
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueReport {
    /// By what members find it.
    pub handle: Handle,
    /// What is in it.
    pub ring: RingReport,
    /// Who keeps it.
    pub users: Vec<User>,
}

/// Who keeps a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// A process that has it open.
    Process(u32),
    /// A process that is about to start.
    Coming,
    /// A message that carries it.
    Message,
    /// A process that was killed; the next sweep finds that.
    Dead,
}

/// A pool.
#[derive(Clone, Debug)]
pub struct PoolReport {
    /// By what members find it.
    pub handle: Handle,
    /// Whether its workers were told to leave.
    pub dismissed: bool,
    /// Tasks that no worker has taken.
    pub tasks: RingReport,
    /// Answers that nobody has collected.
    pub answers: RingReport,
    /// Its seats.
    pub seats: Vec<SeatSight>,
}

/// More blocks than this are not looked at one by one.
const MOST_BLOCKS: usize = 1 << 20;

/// Locks are held for microseconds: who still holds one after this is stuck, stopped or dead.
const A_MOMENT: Duration = Duration::from_millis(5);

/// What the arena holds, and the queues and pools among it.
pub(super) fn look(family: &Family) -> (Survey, Vec<QueueReport>, Vec<PoolReport>) {
    let survey = family.whole_arena().survey(MOST_BLOCKS);
    let pools: Vec<_> =
        structures(&survey, Kind::Pool).filter_map(|handle| PoolSight::read(family, handle).ok()).collect();
    let queues: Vec<_> = structures(&survey, Kind::Ring)
        .filter_map(|handle| {
            let header = family.whole_arena().placed::<QueueHeader>(handle).ok()?;
            Some((handle, Ring::new(family.whole_arena(), &header.ring, handle)))
        })
        .collect();
    let rings = queues.iter().map(|(_, ring)| *ring);
    let rings: Vec<_> = rings.chain(pools.iter().flat_map(|pool| [pool.tasks, pool.answers])).collect();
    let mut reports = look_into(&rings).into_iter();
    // As many reports as rings, in their order.
    let mut next = || reports.next().unwrap_or_else(RingReport::unreadable);
    let queues = queues.iter().map(|(handle, _)| QueueReport {
        handle: *handle,
        ring: next(),
        users: users(family, &survey, *handle),
    });
    let queues = queues.collect();
    let pools = pools
        .into_iter()
        .map(|pool| PoolReport {
            handle: pool.handle,
            dismissed: pool.dismissed,
            tasks: next(),
            answers: next(),
            seats: pool.seats,
        })
        .collect();
    (survey, queues, pools)
}

pub(super) fn structures(survey: &Survey, kind: Kind) -> impl Iterator<Item = Handle> + '_ {
    survey.structures.iter().filter(move |(of, _)| *of == kind).map(|(_, handle)| *handle)
}

fn users(family: &Family, survey: &Survey, queue: Handle) -> Vec<User> {
    let of_queue = survey.references.iter().filter(|(target, _)| *target == queue);
    let table = family.process_table();
    of_queue
        .map(|(_, owner)| match *owner {
            Owner::Member(index, life) if table.lives(Place { index, life }) => {
                let member = table.member(index).filter(|(seen, _)| seen.place().life == life);
                member.map_or(User::Coming, |(_, member)| User::Process(member.pid))
            }
            Owner::Member(..) => User::Dead,
            _ => User::Message,
        })
        .collect()
}

/// Two looks at every lock, a moment apart.
fn look_into(rings: &[Ring<Extents>]) -> Vec<RingReport> {
    let before: Vec<_> = rings.iter().map(Ring::holders).collect();
    if before.iter().flatten().any(Option::is_some) {
        std::thread::sleep(A_MOMENT);
    }
    rings.iter().zip(before).map(|(ring, before)| RingReport::of(ring, before)).collect()
}

impl RingReport {
    fn of(ring: &Ring<Extents>, before: [Option<Holder>; 2]) -> Self {
        let (puts, takes) = ring.recoveries();
        let now = ring.holders();
        let holder = |side: usize| now[side].filter(|_| now[side] == before[side]);
        Self {
            messages: ring.len(),
            bytes: ring.bytes(),
            bound: ring.bound(),
            recoveries: puts.saturating_add(takes),
            holders: [holder(0), holder(1)],
        }
    }

    fn unreadable() -> Self {
        Self { messages: 0, bytes: None, bound: 0, recoveries: 0, holders: [None, None] }
    }
}
