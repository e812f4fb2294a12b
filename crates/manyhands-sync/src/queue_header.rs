//! A queue's shared words beside its ring: whether more may be put, how many items are done with, and who watches.
//!
//! # Unfinished items
//! How many were put is the ring's own count, so an item and its being unfinished are one store. `done` counts those that
//! somebody has said to be done with. Unfinished are `put - discarded - done`, modulo 2^32.
//!
//! # Shutting
//! | step | under | commit |
//! |---|---|---|
//! | nothing more is put | the tail lock, so that nobody is half way | `state` = `SHUT` |
//! | nothing more is taken: `discarded` becomes what lies in the ring, whose counts of puts cannot change any more | the head lock | `state` = `SHUT_AT_ONCE` |
//!
//! Producers look at `state` under the tail lock, consumers under the head lock. A consumer that finds a `SHUT` queue empty
//! looks once more: what it did not see may have been put before. `state` never goes back.
//!
//! # Who may touch what
//! | word | written by | when its writer is killed ([kill point](crate::kill_point)) |
//! |---|---|---|
//! | `state` | who shuts, under a lock of the ring | after the first step (110): the queue is shut, not at once, and who waits looks after its longest sleep; after the second (112): likewise, and what lies in the ring stays until the queue goes |
//! | `discarded` | who shuts at once, before `state` says so | (111) the next one who shuts counts again |
//! | `done` | anyone, by an exchange that never exceeds what was put | (113) who waits for all looks after its longest sleep |
//! | `arrived`, `emptied` | those who watch sleep here | as every wait word; a consumer does not fence for `emptied`, so a watcher may learn of it by its longest sleep only |
//!
//! A watcher that sleeps on `emptied` has told somebody that there is a message, and no put wakes it. Whoever takes that
//! back for it, having found the queue empty, wakes the watcher: it has to sleep on `arrived` now.
//!
//! An item whose taker is killed before it says that it is done stays unfinished, as every other that nobody works on:
//! nobody can know whether its taker handed it on.

use crate::arena::{Backing, Kind};
use crate::deadline::Deadline;
use crate::kill_point;
use crate::memory::{Placed, Shareable};
use crate::notes::WaitKind;
use crate::primitive::{AtomicU32, Ordering, fence};
use crate::ring::{Locking, PutError, Ring, RingHeader, TakeError};
use crate::wait_word::{EVERYONE, WaitWord, Waited, Waiting};

const OPEN: u32 = 0;
const SHUT: u32 = 1;
const SHUT_AT_ONCE: u32 = 2;

/// Placed in the arena, one for each queue. Its ring is its first word: who looks for a ring finds one.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct QueueHeader {
    /// The messages.
    pub ring: RingHeader,
    ending: Ending,
    tasks: Tasks,
}

/// Words that are seldom written and often read.
#[derive(Debug)]
#[repr(C, align(64))]
struct Ending {
    state: AtomicU32,
    discarded: AtomicU32,
    /// Those sleep here who watch an empty queue from outside of it.
    arrived: WaitWord,
    /// Those sleep here who watch one that is not empty.
    emptied: WaitWord,
}

#[derive(Debug)]
#[repr(C, align(64))]
struct Tasks {
    done: AtomicU32,
    all_done: WaitWord,
}

// SAFETY: repr(C), atomics, wait words and a ring's header; whatever is read is a count or compared.
#[allow(unsafe_code)]
unsafe impl Shareable for QueueHeader {}

// SAFETY: the only structure that is laid into blocks of this kind.
#[allow(unsafe_code)]
unsafe impl Placed for QueueHeader {
    const KIND: Kind = Kind::Ring;
}

/// Why an item was not done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotDone {
    /// All are already.
    TooMany,
    /// It cannot be told yet: a producer holds the tail lock.
    Busy,
}

/// Why a queue was not shut, or not at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotShut {
    /// The ring's words make no sense.
    Damaged,
    /// Somebody holds a side's lock.
    Busy,
}

impl From<PutError> for NotShut {
    fn from(error: PutError) -> Self {
        if error == PutError::Busy { Self::Busy } else { Self::Damaged }
    }
}

impl From<TakeError> for NotShut {
    fn from(error: TakeError) -> Self {
        if error == TakeError::Busy { Self::Busy } else { Self::Damaged }
    }
}

impl QueueHeader {
    /// An open queue of the messages in that ring.
    #[must_use]
    pub fn new(ring: RingHeader) -> Self {
        Self {
            ring,
            ending: Ending {
                state: AtomicU32::new(OPEN),
                discarded: AtomicU32::new(0),
                arrived: WaitWord::new(),
                emptied: WaitWord::new(),
            },
            tasks: Tasks { done: AtomicU32::new(0), all_done: WaitWord::new() },
        }
    }

    /// Whether nothing may be put any more. Exact under the ring's tail lock.
    #[inline]
    pub fn is_shut(&self) -> bool {
        self.ending.state.load(Ordering::Acquire) != OPEN
    }

    /// Whether nothing may be taken any more either. Exact under the ring's head lock.
    #[inline]
    pub fn is_shut_at_once(&self) -> bool {
        self.ending.state.load(Ordering::Acquire) >= SHUT_AT_ONCE
    }

    /// From now on nothing is put, and `at_once`, nothing is taken either. Everybody who waits looks again.
    ///
    /// # Errors
    /// When the ring is damaged. `Busy` (when not waiting for ever): it is not shut, or not at once; another call goes on.
    pub fn shut<B: Backing>(
        &self,
        ring: &Ring<B>,
        at_once: bool,
        locking: Locking<'_>,
    ) -> Result<(), NotShut> {
        let state = &self.ending.state;
        {
            let _putting = ring.putting(locking)?;
            let _ = state.compare_exchange(OPEN, SHUT, Ordering::AcqRel, Ordering::Relaxed);
        }
        kill_point!(QueueShut);
        let done = if at_once { self.shut_at_once(ring, locking) } else { Ok(()) };
        self.ring.not_empty.wake(EVERYONE);
        self.ring.not_full.wake(EVERYONE);
        self.tasks.all_done.wake(EVERYONE);
        self.wake_watchers();
        done
    }

    fn shut_at_once<B: Backing>(&self, ring: &Ring<B>, locking: Locking<'_>) -> Result<(), NotShut> {
        ring.at_head(locking, |taken| {
            if !self.is_shut_at_once() {
                // Nobody puts any more: the count is final.
                let lying = ring.put_total().wrapping_sub(taken);
                self.ending.discarded.store(lying, Ordering::Relaxed);
                kill_point!(QueueDiscardCounted);
                self.ending.state.store(SHUT_AT_ONCE, Ordering::Release);
            }
        })?;
        kill_point!(QueueShutAtOnce);
        Ok(())
    }

    /// Whether whoever receives need not wait: for a message, or to be told that there will be none.
    pub fn is_ready<B: Backing>(&self, ring: &Ring<B>) -> bool {
        !ring.is_empty() || self.is_shut()
    }

    /// How many items are neither done with nor discarded.
    pub fn unfinished<B: Backing>(&self, ring: &Ring<B>) -> u32 {
        self.unfinished_beside(self.tasks.done.load(Ordering::Acquire), ring)
    }

    /// What was done was put before: the ring's count is read after it.
    fn unfinished_beside<B: Backing>(&self, done: u32, ring: &Ring<B>) -> u32 {
        let discarded =
            if self.is_shut_at_once() { self.ending.discarded.load(Ordering::Relaxed) } else { 0 };
        let unfinished = ring.put_total().wrapping_sub(discarded).wrapping_sub(done);
        // Too many were said to be done with, just before the rest was discarded.
        if unfinished > u32::MAX / 2 { 0 } else { unfinished }
    }

    /// One more item is done with.
    ///
    /// # Errors
    /// When all are already; `Busy` when not waiting for ever.
    pub fn task_done<B: Backing>(&self, ring: &Ring<B>, locking: Locking<'_>) -> Result<(), NotDone> {
        let mut settled = false;
        let mut done = self.tasks.done.load(Ordering::Acquire);
        loop {
            let unfinished = self.unfinished_beside(done, ring);
            if unfinished == 0 {
                if settled {
                    return Err(NotDone::TooMany);
                }
                // A producer may be between its commit and its count, or have been killed there.
                if ring.settle_tail(locking) == Err(PutError::Busy) {
                    return Err(NotDone::Busy);
                }
                settled = true;
            } else if let Err(now) = self.tasks.done.compare_exchange(
                done,
                done.wrapping_add(1),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                done = now;
                continue;
            } else {
                kill_point!(QueueTaskDone);
                // Counted again: who shut the queue at once in between may have woken those who wait while this item was
                // unfinished still. With the fence of `WaitWord::announce`, either this sees what was discarded, or who
                // waits sees that this item is done.
                fence(Ordering::SeqCst);
                if self.unfinished(ring) == 0 {
                    self.tasks.all_done.wake_fenced(EVERYONE);
                }
                return Ok(());
            }
            done = self.tasks.done.load(Ordering::Acquire);
        }
    }

    /// Whether every item that was put is done with, what a producer that was killed has not counted included.
    /// `None` when that cannot be told, because a producer holds the tail lock for longer than `locking` waits.
    pub fn all_done<B: Backing>(&self, ring: &Ring<B>, locking: Locking<'_>) -> Option<bool> {
        if self.unfinished(ring) != 0 {
            return Some(false);
        }
        (ring.settle_tail(locking) != Err(PutError::Busy)).then(|| self.unfinished(ring) == 0)
    }

    /// Waits until all items may be done with, the deadline passes or a signal arrives; "may" and `note` as in
    /// [`Ring::wait_for_frame_or`].
    pub fn wait_for_all_done<B: Backing, N>(
        &self,
        ring: &Ring<B>,
        waiting: &mut Waiting,
        deadline: Deadline,
        note: impl FnOnce(&mut Waiting) -> N,
    ) -> Waited {
        self.tasks.all_done.wait(|| self.unfinished(ring) == 0, waiting, deadline, note)
    }

    /// After a put, whose fence is behind us: those who watch look.
    #[inline]
    pub fn wake_for_arrival(&self) {
        self.ending.arrived.wake_fenced(EVERYONE);
    }

    /// After a take: those who watch look if that was the last message.
    #[inline]
    pub fn wake_if_emptied<B: Backing>(&self, ring: &Ring<B>) {
        if self.ending.emptied.may_have_sleepers() && ring.is_empty() {
            self.ending.emptied.wake(EVERYONE);
        }
    }

    /// Everybody who watches looks again.
    pub fn wake_watchers(&self) {
        self.ending.arrived.wake(EVERYONE);
        self.ending.emptied.wake(EVERYONE);
    }

    /// Sleeps until the queue may not be as it `was` any more ([`QueueHeader::is_ready`]), or until one is `called`, which
    /// is looked at after [`QueueHeader::wake_watchers`]; for one sleep at most. Then it looks for what a producer that
    /// was killed has not counted.
    pub fn watch<B: Backing>(&self, ring: &Ring<B>, was: bool, called: impl Fn() -> bool) {
        let word = if was { &self.ending.emptied } else { &self.ending.arrived };
        let changed = || called() || self.is_ready(ring) != was;
        let mut waiting = Waiting::at_leisure(WaitKind::Message);
        if word.wait(changed, &mut waiting, Deadline::NEVER, |_| ()) == Waited::Interrupted && !was {
            // Who holds the lock counts that: nobody waits for a holder here.
            let _ = ring.settle_tail(Locking::Try);
        }
    }

    /// What the ends of the longest sleeps do. (loom's sleeps have no end.)
    #[cfg(loom)]
    pub fn end_slices(&self) {
        self.tasks.all_done.end_slices();
        self.ring.not_empty.end_slices();
        self.ring.not_full.end_slices();
    }
}
