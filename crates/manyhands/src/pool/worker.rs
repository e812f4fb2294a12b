//! The worker's side of a pool: take tasks, note how far it is, answer.

use super::link::Link;
use super::task::{Answer, Function, Task};
use crate::family::{Family, Hold};
use crate::payload::{BLOCK, Block, INLINE, Message};
use crate::queue::{OpenError, SendError};
use crate::sys::{Remembered, bell, clock};
use crate::waiting::Record;
use manyhands_sync::arena::{Handle, Kind};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::kill_point;
use manyhands_sync::notes::{Role, WaitKind};
use manyhands_sync::park::{Waited, Waiting};
use manyhands_sync::ring::{Frame, Locking, PutError, Slices, TakeError, Taking};
use manyhands_sync::seat::{MOST_TASKS, Phase, Progress, Seat};
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A worker, on its seat.
#[derive(Debug)]
pub struct Worker {
    link: Link,
    _taken: Taken,
    /// The pool's memory stays while this worker may use it, though its pool is gone.
    _hold: Hold,
    seat: &'static Seat,
    seat_offset: u64,
    bell: Remembered,
    progress: Progress,
    /// How much of the inbox has been read.
    read: u32,
    pace: Pace,
    /// The wait for tasks, since the last batch was taken.
    waiting: Waiting,
    /// The wait for other workers that take, likewise.
    slices: Slices,
}

/// A seat on which this process sits: once, so that nobody copies into an inbox that another thread of its reads.
#[derive(Debug)]
struct Taken((u64, u32));

/// Where they lie, and the generation of their pool's block.
static TAKEN: Mutex<BTreeSet<(u64, u32)>> = Mutex::new(BTreeSet::new());

impl Taken {
    fn take(seat: (u64, u32)) -> Option<Self> {
        lock_for_fork().insert(seat).then_some(Self(seat))
    }
}

/// The seats, locked over a fork, too: a child that is to be a worker must not find them in the hands of a thread that it
/// does not have.
pub(crate) fn lock_for_fork() -> MutexGuard<'static, BTreeSet<(u64, u32)>> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Taken {
    fn drop(&mut self) {
        lock_for_fork().remove(&self.0);
    }
}

/// Whether this process sits there: then nobody buries it here.
pub(super) fn is_taken_here(seat: u64, pool: Handle) -> bool {
    lock_for_fork().contains(&(seat, pool.generation))
}

/// What a worker is to do next.
#[derive(Debug)]
pub enum Next {
    /// A task; its arguments were appended to the buffer, or wait in a block.
    Task(Task, Option<Block>),
    /// There is none right now: [`Worker::wait`].
    Nothing,
    /// The pool has no more tasks and wants its workers to leave.
    Leave,
}

impl Worker {
    /// Sits down. `bell` is the descriptor by which the pool's side is woken.
    ///
    /// # Errors
    /// When the pool is gone or has no such seat, this process sits on it already, or the descriptor is none of a pool's.
    pub fn sit(family: &Family, pool: Handle, seat: usize, bell: OwnedFd) -> Result<Self, OpenError> {
        let bell = bell::adopt(bell).map_err(|_| OpenError::Stale)?;
        let link = Link::open(family, pool)?;
        let hold = family.hold(Kind::Pool, pool).map_err(|_| OpenError::not_found())?;
        let number = u32::try_from(seat).unwrap_or(u32::MAX);
        let (seat, seat_offset) = link.seat(seat).ok_or_else(OpenError::not_found)?;
        let taken = Taken::take((seat_offset, pool.generation)).ok_or(OpenError::Stale)?;
        family.note_role(Role::Worker { pool: pool.offset, seat: number });
        Ok(Self {
            link,
            _taken: taken,
            _hold: hold,
            seat,
            seat_offset,
            bell,
            progress: Progress::default(),
            read: 0,
            pace: Pace::default(),
            waiting: Waiting::new(WaitKind::Tasks),
            slices: Slices::new(Deadline::NEVER),
        })
    }

    /// Says that the worker takes tasks from now on, or that it ends of its own will.
    pub fn enter(&self, phase: Phase) {
        self.seat.enter(phase);
    }

    /// The next task: from the batch taken last, or from the ring. Its arguments are appended to `out`.
    ///
    /// # Errors
    /// When the pool's memory makes no sense.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Result<Next, TakeError> {
        if self.progress.answered == self.progress.count && !self.take_batch()? {
            let leave = self.link.is_dismissed() && self.link.tasks.is_empty();
            return Ok(if leave { Next::Leave } else { Next::Nothing });
        }
        self.start_next(out)
    }

    /// WAYPOINT task 5/9: the oldest task of the batch is marked started, then handed out.
    fn start_next(&mut self, out: &mut Vec<u8>) -> Result<Next, TakeError> {
        let start = out.len();
        let read = self.seat.read_task(&self.link.arena, self.seat_offset, self.read, out);
        let (tag, end) = read.ok_or(TakeError::Corrupted)?;
        self.read = end;
        self.progress.started += 1;
        self.seat.begin_item(0);
        self.seat.begin_task_at(self.pace.begin());
        self.seat.note(self.progress);
        kill_point!(SeatItemStarted);
        let (task, _) = Task::split_from(&out[start..]).ok_or(TakeError::Corrupted)?;
        out.drain(start..start + super::task::TASK_BYTES);
        if tag == INLINE {
            return Ok(Next::Task(task, None));
        }
        let block = Block::named_by(self.link.arena, &out[start..]).ok_or(TakeError::Corrupted)?;
        out.truncate(start);
        Ok(Next::Task(task, Some(block)))
    }

    /// Takes as many tasks as this worker can do in a moment, and no more than its share; whether it got any.
    fn take_batch(&mut self) -> Result<bool, TakeError> {
        let share = self.link.tasks.len() as usize / (2 * self.link.seat_count()).max(1);
        let most = share.clamp(1, usize::from(self.pace.tasks_in_a_moment()));
        let link = self.link;
        let locking = Locking::Slice(&self.slices);
        let taking = match link.tasks.taking_with(locking, |total| link.settle_seats(total)) {
            Ok(taking) => taking,
            // Another worker holds the tasks for longer than a slice: the caller looks around.
            Err(TakeError::Empty | TakeError::Busy) => return Ok(false),
            Err(error) => return Err(error),
        };
        self.fill_inbox(taking, most)
    }

    fn fill_inbox(
        &mut self,
        mut taking: Taking<'_, crate::family::Extents>,
        most: usize,
    ) -> Result<bool, TakeError> {
        let first = taking.next_number();
        let (mut count, mut used) = (0u8, 0u32);
        while usize::from(count) < most {
            let Some(Frame { tag, payload_bytes }) = taking.peek()? else { break };
            let Some((to, end)) = self.seat.place_task(self.seat_offset, used, tag, payload_bytes) else {
                break;
            };
            taking.read_within(Frame { tag, payload_bytes }, to)?;
            used = end;
            count += 1;
        }
        if count == 0 {
            return Err(TakeError::Corrupted);
        }
        kill_point!(SeatInboxWritten);
        self.progress = Progress { first, count, ..Progress::default() };
        self.seat.note(self.progress);
        self.progress.taken = true;
        self.read = 0;
        self.waiting.start_over();
        self.slices.start_over();
        taking.commit_with(|| self.seat.note(self.progress));
        kill_point!(SeatBatchTaken);
        Ok(true)
    }

    /// Parks once: until there may be a task, the word to leave, a signal or the end of a sleep. The caller looks around after
    /// each of them.
    pub fn wait(&mut self) -> Waited {
        let (link, deadline) = (self.link, Deadline::NEVER);
        let record = Record::new(link.handle.offset, deadline);
        let note = |waiting: &mut Waiting| record.note(waiting);
        link.tasks.wait_for_frame_or(|| link.is_dismissed(), &mut self.waiting, deadline, note)
    }

    /// The bytes of a function this worker has not met yet; `None` when the pool has dropped it.
    #[must_use]
    pub fn function(&self, function: Function) -> Option<Vec<u8>> {
        self.link.read_function(function)
    }

    /// Whether the pool has not withdrawn the function. A job that was given up has no function any more, so a worker
    /// that asks before each item begins none that nobody wants.
    #[must_use]
    pub fn is_published(&self, function: Function) -> bool {
        self.link.is_published(function)
    }

    /// Says that the worker begins the `count`-th item of the task in progress, so that its death names it.
    #[inline]
    pub fn begin_item(&self, count: u32) {
        self.seat.begin_item(count);
    }

    /// WAYPOINT task 7/9: answers items of the task in progress; [`Worker::finish`] follows the last of them.
    ///
    /// # Errors
    /// When there is no shared memory for the answer.
    pub fn answer(&mut self, answer: Answer, parts: &[&[u8]]) -> Result<(), SendError> {
        self.answer_message(answer, parts.into())
    }

    /// As [`Worker::answer`], for a result that may carry handles.
    ///
    /// # Errors
    /// When there is no shared memory for the answer.
    pub fn answer_message(&mut self, answer: Answer, result: Message<'_>) -> Result<(), SendError> {
        let header = answer.to_bytes();
        let bell = if !result.fits_inline(header.len()) {
            let reference = Block::with(self.link.arena, result)?.into_reference(self.link.handle);
            self.link.results.put(BLOCK, &[&header, &reference])
        } else if let [part] = result.parts {
            self.link.results.put(INLINE, &[&header, part])
        } else {
            let mut all: Vec<&[u8]> = Vec::with_capacity(1 + result.parts.len());
            all.push(&header);
            all.extend_from_slice(result.parts);
            self.link.results.put(INLINE, &all)
        };
        match bell {
            Ok(true) => {
                kill_point!(BellTaken);
                bell::ring(&self.bell);
            }
            Ok(false) => {}
            Err(PutError::NoRoom) => return Err(self.no_room()),
            Err(_) => return Err(SendError::Corrupted),
        }
        Ok(())
    }

    fn no_room(&self) -> SendError {
        match self.link.arena.allocate(u64::MAX >> 1) {
            Err(error) => error.into(),
            Ok(_) => SendError::Corrupted,
        }
    }

    /// The task in progress is answered.
    pub fn finish(&mut self) {
        kill_point!(SeatItemAnswered);
        self.progress.answered = self.progress.started;
        self.seat.note(self.progress);
        self.pace.end();
    }

    /// How long the task in progress has been running.
    #[must_use]
    pub fn running_for(&self) -> Duration {
        self.pace.began.map_or(Duration::ZERO, |began| began.elapsed())
    }
}

/// How fast this worker's tasks are, so that it takes many short ones at once and long ones one by one.
#[derive(Debug, Default)]
struct Pace {
    began: Option<Instant>,
    /// One moment, by both kinds of clock.
    anchor: Option<(Instant, u64)>,
    /// A slowly forgetting mean; zero until the first task.
    nanoseconds_per_task: u64,
}

/// A batch should not take longer: while a worker holds it, nobody else can take from it.
const MOMENT_NANOSECONDS: u64 = 50_000;

impl Pace {
    /// The task begins now; by the clock that all processes share.
    fn begin(&mut self) -> u64 {
        let now = Instant::now();
        self.began = Some(now);
        // One reading of one clock serves both: asking it twice would cost each task.
        let (instant, nanoseconds) =
            *self.anchor.get_or_insert_with(|| (now, clock::monotonic_nanoseconds()));
        nanoseconds + now.duration_since(instant).as_nanos() as u64
    }

    fn end(&mut self) {
        let Some(began) = self.began else { return };
        let ran = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mean = self.nanoseconds_per_task;
        // A long task counts at once, short ones gradually: taking too little costs less than taking too much.
        self.nanoseconds_per_task = if ran > mean { ran } else { mean - (mean - ran) / 4 };
    }

    fn tasks_in_a_moment(&self) -> u8 {
        let tasks = MOMENT_NANOSECONDS.checked_div(self.nanoseconds_per_task).unwrap_or(1);
        u8::try_from(tasks.clamp(1, u64::from(MOST_TASKS))).unwrap_or(1)
    }
}
