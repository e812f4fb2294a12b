//! What somebody who only looks may learn of a pool: nothing here writes, takes a lock or trusts what it reads.

use super::Phase;
use super::link::Link;
use super::task::Task;
use crate::family::{Extents, Family};
use crate::queue::OpenError;
use manyhands_sync::arena::Handle;
use manyhands_sync::ring::Ring;

/// A pool, at about one moment.
#[derive(Debug)]
pub struct PoolSight {
    /// By what its members find it.
    pub handle: Handle,
    /// Whether its workers were told to leave.
    pub dismissed: bool,
    /// Its seats, by number.
    pub seats: Vec<SeatSight>,
    pub(crate) tasks: Ring<Extents>,
    pub(crate) answers: Ring<Extents>,
}

/// A seat.
#[derive(Clone, Copy, Debug)]
pub struct SeatSight {
    /// Where its worker is in its life.
    pub phase: Phase,
    /// Tasks its worker has taken and not begun.
    pub waiting: u8,
    /// What its worker is at, if it is at something.
    pub work: Option<WorkerSight>,
}

/// What a worker is at.
#[derive(Clone, Copy, Debug)]
pub struct WorkerSight {
    /// The task's number among those that went through the pool, from 1, modulo 2^32.
    pub number: u32,
    /// The task; `None` when the seat's memory makes no sense.
    pub task: Option<Task>,
    /// How many of the task's items were begun.
    pub begun: u32,
    /// When the task was started, in nanoseconds of the monotonic clock; 0 when that is not known.
    pub started_at: u64,
}

impl PoolSight {
    pub(crate) fn read(family: &Family, handle: Handle) -> Result<Self, OpenError> {
        let link = Link::open(family, handle)?;
        let seats = (0..link.seat_count()).filter_map(|index| seat(&link, index)).collect();
        Ok(Self { handle, dismissed: link.is_dismissed(), seats, tasks: link.tasks, answers: link.results })
    }
}

fn seat(link: &Link, index: usize) -> Option<SeatSight> {
    let (seat, offset) = link.seat(index)?;
    let progress = seat.progress();
    let begun = progress.taken && progress.answered < progress.started && progress.started <= progress.count;
    let work = begun.then(|| {
        let place = progress.started - 1;
        let number = progress.first.wrapping_add(u32::from(progress.started));
        let task = task_at(link, seat, offset, place);
        WorkerSight { number, task, begun: seat.item(), started_at: seat.started_at() }
    });
    let waiting = if progress.taken { progress.count.saturating_sub(progress.started) } else { 0 };
    Some(SeatSight { phase: seat.phase(), waiting, work })
}

fn task_at(link: &Link, seat: &manyhands_sync::seat::Seat, offset: u64, place: u8) -> Option<Task> {
    let (mut read, mut frame) = (0, Vec::new());
    for _ in 0..=place {
        frame.clear();
        (_, read) = seat.read_task(&link.arena, offset, read, &mut frame)?;
    }
    Task::split_from(&frame).map(|(task, _)| task)
}
