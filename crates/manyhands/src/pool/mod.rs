//! A pool of workers: tasks go out through one ring, answers come back through another, and whatever a worker
//! was doing when it was killed, exactly that is lost. `README.md` beside this file is the map.

mod chunk;
#[cfg(test)]
mod hostile_frames;
mod link;
#[cfg(test)]
mod refused_starts;
mod scheduler;
mod sight;
mod task;
mod worker;

pub use chunk::ChunkPlan;
pub use manyhands_sync::pool_header::MOST_SEATS;
pub use manyhands_sync::seat::Phase;
pub use scheduler::{Action, Event, Scheduler, State};
pub use sight::{PoolSight, SeatSight, WorkerSight};
pub use task::{Answer, Function, Status, Task};
pub(crate) use worker::lock_for_fork as seats_for_fork;
pub use worker::{Next, Worker};

use crate::family::{Extents, Family, Hold};
use crate::payload::{BLOCK, Block, INLINE, Message};
use crate::process::Sentinel;
use crate::queue::{OpenError, SendError};
use crate::sys::{OsError, Remembered, bell};
use crate::waiting::Record;
use link::Link;
use manyhands_sync::arena::{AllocateError, Arena, Handle, Kind, ReferError};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::park::Waiting;
use manyhands_sync::ring::{Locking, PutError, Slices, TakeError};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use task::{ANSWER_BYTES, TASK_BYTES};

/// The pool's side: submit tasks, collect answers, bury workers. It starts no process; its owner does.
#[derive(Debug)]
pub struct Pool {
    link: Link,
    /// Given up with the bell; the memory goes when every worker has given it up as well, or died.
    hold: Mutex<Option<Hold>>,
    /// Given up with the pool's memory, while results that somebody keeps may still hold this value.
    bell: Mutex<Option<Arc<Remembered>>>,
    /// The memory is given back: whoever comes late finds nothing to do.
    destroyed: AtomicBool,
}

/// Why a wait on the pool ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// There are answers, or somebody rang the bell.
    Answers,
    /// The process behind that descriptor (by its place in the list) has ended.
    Exited(usize),
    /// The deadline passed.
    TimedOut,
    /// A signal arrived in this thread.
    Interrupted,
}

/// What a worker leaves behind.
#[derive(Debug)]
pub struct Estate {
    /// Where it was in its life.
    pub phase: Phase,
    /// The task in progress, and how many of its items were begun; its answer may have been collected before.
    pub in_progress: Option<(Task, u32)>,
    /// How many tasks went back into the ring.
    pub returned: usize,
    /// Tasks that were not begun and for which the ring had no room.
    pub unreturned: Vec<Task>,
}

/// Tasks that are submitted together: one lock, one wake-up.
#[derive(Debug, Default)]
pub struct TaskBatch {
    bytes: Vec<u8>,
    /// Where each frame ends, and its tag.
    frames: Vec<(usize, u32)>,
}

/// Answers that were collected: headers, and where their payloads lie.
#[derive(Debug, Default)]
pub struct AnswerBatch {
    bytes: Vec<u8>,
    answers: VecDeque<(Answer, CollectedPayload)>,
}

/// Where an answer's payload is.
#[derive(Debug)]
enum CollectedPayload {
    Range(usize, usize),
    Block(Block),
}

/// Answers collected under one lock.
const MOST_COLLECTED: usize = 256;
/// So many slices, a fifth of a second, the pool's end waits for a worker that holds the tasks.
const MOST_SLICES_TO_DISCARD: u32 = 5;

impl Pool {
    /// The shared memory of a pool with so many seats.
    ///
    /// # Errors
    /// When there is no shared memory or descriptor left.
    pub fn create(family: &Family, seats: usize) -> Result<Self, PoolError> {
        let bell = bell::create().map_err(PoolError::Os)?;
        let link = Link::create(family, seats).map_err(PoolError::Memory)?;
        let hold = family.hold(Kind::Pool, link.handle).map_err(|error| match error {
            ReferError::Allocate(error) => PoolError::Memory(error.into()),
            ReferError::Stale => PoolError::Memory(AllocateError::Corrupted.into()),
        })?;
        Ok(Self {
            link,
            hold: Mutex::new(Some(hold)),
            bell: Mutex::new(Some(Arc::new(bell))),
            destroyed: AtomicBool::new(false),
        })
    }

    /// By what a worker finds the pool.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.link.handle
    }

    /// The descriptor by which workers wake the pool's side; they must inherit it. A new one when other code of this
    /// program has closed it: workers that have the old one are heard within half a second.
    #[must_use]
    pub fn bell(&self) -> Option<Arc<Remembered>> {
        let mut bell = self.bell.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = bell.as_mut().filter(|known| !known.is_ours())
            && let Ok(fresh) = bell::create()
        {
            *known = Arc::new(fresh);
        }
        bell.clone()
    }

    /// The bell, without a look at it.
    fn own_bell(&self) -> Option<Arc<Remembered>> {
        self.bell.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a function where workers find it.
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub fn publish(&self, id: u32, bytes: &[u8]) -> Result<Function, SendError> {
        self.publish_message(id, Message { parts: &[bytes], carried: &[] })
    }

    /// As [`Pool::publish`], for a function that may carry handles.
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub fn publish_message(&self, id: u32, function: Message<'_>) -> Result<Function, SendError> {
        Ok(self.link.publish(id, function)?)
    }

    /// Drops a function. Tasks that still name it fail when a worker meets them, or, if they watch for it
    /// ([`Worker::is_published`]), are passed over.
    pub fn withdraw(&self, function: Function) {
        drop(Block::luggage(self.link.arena, function.handle));
    }

    /// Appends a task to a batch.
    ///
    /// # Errors
    /// When there is no shared memory for long arguments.
    pub fn batch(&self, batch: &mut TaskBatch, task: Task, arguments: &[u8]) -> Result<(), SendError> {
        self.batch_message(batch, task, Message { parts: &[arguments], carried: &[] })
    }

    /// As [`Pool::batch`], for arguments that may carry handles.
    ///
    /// # Errors
    /// When there is no shared memory for long arguments.
    pub fn batch_message(
        &self,
        batch: &mut TaskBatch,
        task: Task,
        arguments: Message<'_>,
    ) -> Result<(), SendError> {
        batch.bytes.extend_from_slice(&task.to_bytes());
        let tag = if arguments.fits_inline(TASK_BYTES) {
            for part in arguments.parts {
                batch.bytes.extend_from_slice(part);
            }
            INLINE
        } else {
            let block = Block::with(self.link.arena, arguments).inspect_err(|_| {
                batch.bytes.truncate(batch.bytes.len() - TASK_BYTES);
            })?;
            batch.bytes.extend_from_slice(&block.into_reference(self.link.handle));
            BLOCK
        };
        batch.frames.push((batch.bytes.len(), tag));
        Ok(())
    }

    /// WAYPOINT task 4/9: the tasks of a batch enter the ring, in order. The batch is empty afterwards.
    ///
    /// # Errors
    /// When there is no shared memory left. The tasks before the one that did not fit were submitted; the others are
    /// still in the batch, for [`Pool::take_back`].
    pub fn submit(&self, batch: &mut TaskBatch) -> Result<(), SendError> {
        let (submitted, done) = self.submit_frames(batch);
        batch.keep_from(submitted);
        done
    }

    /// Takes tasks that were not submitted out of a batch, and drops their arguments.
    pub fn take_back(&self, batch: &mut TaskBatch) -> Vec<Task> {
        let TaskBatch { bytes, frames } = batch;
        let mut start = 0;
        let mut tasks = Vec::with_capacity(frames.len());
        for (end, tag) in frames.drain(..) {
            tasks.extend(self.lost(&bytes[start..end], tag));
            start = end;
        }
        bytes.clear();
        tasks
    }

    /// How many of the batch's frames are in the ring now, and why no more.
    fn submit_frames(&self, batch: &TaskBatch) -> (usize, Result<(), SendError>) {
        let (mut next, mut start) = (0, 0);
        if self.is_destroyed() {
            return (0, Err(SendError::Corrupted));
        }
        let done = self.submit_from(batch, &mut next, &mut start);
        (next, done)
    }

    fn submit_from(&self, batch: &TaskBatch, at: &mut usize, from: &mut usize) -> Result<(), SendError> {
        let ring = &self.link.tasks;
        // Only this process puts tasks: nobody else can be stopped while it holds that side.
        while *at < batch.frames.len() {
            let mut putting = ring.putting(Locking::Wait).map_err(|_| AllocateError::Corrupted)?;
            let mut refused = None;
            for &(end, tag) in &batch.frames[*at..] {
                if let Err(error) = putting.put(tag, &[&batch.bytes[*from..end]]) {
                    refused = Some((error, end));
                    break;
                }
                (*at, *from) = (*at + 1, end);
            }
            putting.finish();
            match refused {
                None => {}
                Some((PutError::NoRoom, end)) => ring.grow(&[&batch.bytes[*from..end]], Locking::Wait)?,
                Some(_) => return Err(AllocateError::Corrupted.into()),
            }
        }
        Ok(())
    }

    /// WAYPOINT task 8/9: collects the answers that are there; `false` when there were none.
    ///
    /// # Errors
    /// When the pool's memory makes no sense.
    pub fn collect(&self, batch: &mut AnswerBatch) -> Result<bool, OpenError> {
        batch.clear();
        if self.is_destroyed() || self.link.results.is_empty() {
            return Ok(false);
        }
        let mut taking = match self.link.results.taking(Locking::Wait) {
            Ok(taking) => taking,
            Err(TakeError::Empty | TakeError::Busy) => return Ok(false),
            Err(TakeError::Corrupted) => return Err(OpenError::not_found()),
        };
        let mut ends = Vec::new();
        while ends.len() < MOST_COLLECTED {
            let Some(frame) = taking.peek().map_err(|_| OpenError::not_found())? else { break };
            taking.read(frame, &mut batch.bytes).map_err(|_| OpenError::not_found())?;
            ends.push((batch.bytes.len(), frame.tag));
        }
        taking.commit();
        batch.sort_out(self.link, &ends);
        Ok(true)
    }

    /// Parks once, as the leader of the pool: until there may be answers, one of these processes ends, the deadline passes, a
    /// signal arrives or the sleep has come to its end.
    ///
    /// # Errors
    /// When the kernel refuses to poll.
    pub fn wait(
        &self,
        watched: &[&Sentinel],
        waiting: &mut Waiting,
        deadline: Deadline,
    ) -> Result<Woken, OsError> {
        let Some(bell) = self.own_bell() else { return Ok(Woken::Answers) };
        let results = &self.link.results;
        if waiting.spin(|| (!results.is_empty()).then_some(())).is_some() {
            return Ok(Woken::Answers);
        }
        results.want_bell();
        if !results.is_empty() {
            results.unwant_bell();
            waiting.found();
            return Ok(Woken::Answers);
        }
        let noted = Record::new(self.link.handle.offset, deadline).note(waiting);
        let woken = bell::wait(&bell, watched, waiting, deadline);
        drop(noted);
        results.unwant_bell();
        if woken.is_err() && !bell.is_ours() && self.bell().is_some_and(|fresh| fresh.is_ours()) {
            return Ok(Woken::Answers);
        }
        woken
    }

    /// How many tasks lie in the ring, taken by no worker yet; a moment later it may be another number.
    #[must_use]
    pub fn tasks_waiting(&self) -> usize {
        self.link.tasks.len() as usize
    }

    /// How often [`Pool::collect`] has to be called until what lies there now is collected, and what was before.
    #[must_use]
    pub fn rounds_of_answers(&self) -> usize {
        2 + self.link.results.len() as usize / MOST_COLLECTED
    }

    /// Rings the bell: whoever sleeps in [`Pool::wait`] comes back.
    pub fn ring(&self) {
        if let Some(bell) = self.own_bell() {
            bell::ring(&bell);
        }
    }

    /// Tells the workers to leave once the task ring is empty.
    pub fn dismiss(&self) {
        if !self.is_destroyed() {
            self.link.dismiss();
        }
    }

    fn is_destroyed(&self) -> bool {
        self.destroyed.load(Ordering::Acquire)
    }

    /// Counts the answers of a worker that died while it was answering, so that they are collected before it is buried.
    pub fn settle_answers(&self) {
        if self.is_destroyed() {
            return;
        }
        // A ring that makes no sense says so when it is collected from.
        let _ = self.link.results.settle_tail(Locking::Wait);
    }

    /// Whether a burial need not wait now: `false` when a worker holds a side of a ring for longer than a slice, as one that was
    /// stopped there does. For one who has to look at signals before it asks again, with the same `slices`; then come
    /// [`Pool::settle_answers`] and [`Pool::bury`].
    #[must_use]
    pub fn settle_for_burial(&self, slices: &Slices) -> bool {
        if self.is_destroyed() {
            return true;
        }
        let (link, locking) = (self.link, Locking::Slice(slices));
        link.results.settle_tail(locking) != Err(PutError::Busy)
            && link.tasks.settle(locking, |total| link.settle_seats(total)) != Err(TakeError::Busy)
    }

    /// Buries the worker of that seat, whose process is gone: untouched tasks go back into the ring, and the one in
    /// progress is named. Collect every answer first.
    ///
    /// # Errors
    /// When the pool's memory makes no sense, or the worker is this process.
    pub fn bury(&self, seat: usize) -> Result<Estate, OpenError> {
        if self.is_destroyed() {
            return Err(OpenError::Stale);
        }
        let link = self.link;
        let (seat, offset) = link.seat(seat).ok_or_else(OpenError::not_found)?;
        if worker::is_taken_here(offset, link.handle) {
            return Err(OpenError::Stale);
        }
        let settle = |total| link.settle_seats(total);
        link.tasks.settle(Locking::Wait, settle).map_err(|_| OpenError::not_found())?;
        let (progress, phase) = (seat.progress(), seat.phase());
        let mut estate = Estate { phase, in_progress: None, returned: 0, unreturned: Vec::new() };
        let mut returned = TaskBatch::default();
        let mut read = 0;
        // A batch that was answered may be half overwritten by the next one.
        let unfinished = progress.taken && progress.answered < progress.count;
        let count = if unfinished { progress.count } else { 0 };
        for number in 0..count {
            let start = returned.bytes.len();
            let task = seat.read_task(&link.arena, offset, read, &mut returned.bytes);
            let (tag, end) = task.ok_or_else(OpenError::not_found)?;
            read = end;
            if number >= progress.started {
                returned.frames.push((returned.bytes.len(), tag));
                continue;
            }
            if number >= progress.answered {
                estate.in_progress = self.lost(&returned.bytes[start..], tag).map(|task| (task, seat.item()));
            }
            returned.bytes.truncate(start);
        }
        estate.returned = returned.frames.len();
        if self.submit(&mut returned).is_err() {
            estate.returned -= returned.frames.len();
            estate.unreturned = self.take_back(&mut returned);
        }
        seat.clear();
        Ok(estate)
    }

    /// The header of a task that is lost; its arguments' block is freed, if the worker had not done so.
    fn lost(&self, frame: &[u8], tag: u32) -> Option<Task> {
        let (task, rest) = Task::split_from(frame)?;
        if tag == BLOCK {
            drop(Block::named_by(self.link.arena, rest));
        }
        Some(task)
    }

    /// Gives the pool's memory up. Every worker is gone, and no thread is in [`Pool::wait`]. Whoever comes later finds
    /// nothing to do.
    pub fn destroy(&self) {
        if self.destroyed.swap(true, Ordering::AcqRel) {
            return;
        }
        drop(self.hold.lock().unwrap_or_else(PoisonError::into_inner).take());
        drop(self.bell.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Takes every task that no worker has taken out of the ring, and drops it; how many there were. What lies behind a worker
    /// that holds the ring for longer than a few slices, as one that was stopped there does, is left.
    pub fn discard_tasks(&self) -> usize {
        if self.is_destroyed() {
            return 0;
        }
        // Whoever takes next swallows the notice of a worker that died taking: its seat must be settled before.
        let link = self.link;
        let slices = Slices::new(Deadline::NEVER);
        let (mut discarded, mut frame) = (0, Vec::new());
        while slices.ended() < MOST_SLICES_TO_DISCARD {
            match link.tasks.settle(Locking::Slice(&slices), |total| link.settle_seats(total)) {
                Ok(()) => break,
                Err(TakeError::Busy) => {}
                Err(_) => return 0,
            }
        }
        while slices.ended() < MOST_SLICES_TO_DISCARD {
            match link.tasks.try_take(&mut frame, Locking::Slice(&slices)) {
                Ok(tag) => {
                    self.lost(&frame, tag);
                    frame.clear();
                    discarded += 1;
                }
                Err(TakeError::Busy) => {}
                Err(_) => break,
            }
        }
        discarded
    }
}

/// Frees what lies in a pool that nobody holds any more.
pub(crate) fn dismantle(arena: Arena<Extents>, handle: Handle) {
    if let Some(link) = Link::at(arena, handle) {
        link.dismantle();
    }
}

/// The first of these processes that has ended, without waiting.
#[must_use]
pub fn first_exited(watched: &[&Sentinel]) -> Option<usize> {
    bell::first_ended(watched)
}

/// Why there is no pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolError {
    /// The kernel refused a descriptor.
    Os(OsError),
    /// There is no shared memory.
    Memory(SendError),
}

impl std::fmt::Display for PoolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Os(error) => error.fmt(f),
            Self::Memory(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PoolError {}

impl TaskBatch {
    /// How many tasks are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether no task is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Forgets the first frames.
    fn keep_from(&mut self, first: usize) {
        if first == self.frames.len() {
            self.bytes.clear();
            self.frames.clear();
        } else if first > 0 {
            let start = self.frames[first - 1].0;
            self.bytes.drain(..start);
            self.frames.drain(..first);
            self.frames.iter_mut().for_each(|(end, _)| *end -= start);
        }
    }
}

impl AnswerBatch {
    fn clear(&mut self) {
        self.bytes.clear();
        self.answers.clear();
    }

    fn sort_out(&mut self, link: Link, ends: &[(usize, u32)]) {
        let mut start = 0;
        for &(end, tag) in ends {
            if let Some((answer, rest)) = Answer::split_from(&self.bytes[start..end]) {
                let payload = match tag {
                    BLOCK => Block::named_by(link.arena, rest).map(Block::taken).map(CollectedPayload::Block),
                    _ => Some(CollectedPayload::Range(start + ANSWER_BYTES, end)),
                };
                // A block that is gone leaves an empty payload, which the reader refuses for that item alone.
                self.answers.push_back((answer, payload.unwrap_or(CollectedPayload::Range(end, end))));
            }
            start = end;
        }
    }

    /// The oldest answer, and its payload as `read` makes it.
    pub fn pop<T>(&mut self, read: impl FnOnce(Payload<'_>) -> T) -> Option<(Answer, T)> {
        let (answer, payload) = self.answers.pop_front()?;
        let payload = match payload {
            CollectedPayload::Range(start, end) => Payload::Bytes(&self.bytes[start..end]),
            CollectedPayload::Block(block) => Payload::Block(block),
        };
        Some((answer, read(payload)))
    }
}

/// An answer's payload.
#[derive(Debug)]
pub enum Payload<'a> {
    /// Few bytes, copied out already.
    Bytes(&'a [u8]),
    /// Many bytes, to be copied once.
    Block(Block),
}
