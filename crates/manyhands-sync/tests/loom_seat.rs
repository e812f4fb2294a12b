//! Two workers on their seats take from one task ring under loom, and one of them is killed at each step of it. In
//! every order each task is in one place: taken by the living, answered, in progress with the dead, or back in the ring.
//!
//! Limits: two workers, three tasks in two segments, batches of at most two; `LOOM_MAX_PREEMPTIONS` preemptions.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // counts deaths and answers, outside the model

mod model;

use loom::thread;
use manyhands_sync::arena::{Arena, Kind};
use manyhands_sync::kill_point;
use manyhands_sync::kill_point::KillPoint;
use manyhands_sync::ring::{Locking, Ring, TakeError};
use manyhands_sync::seat::{Progress, Seat};
use model::{Watched, fresh_ring, killed_at, model};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

const TASKS: u32 = 3;

#[derive(Clone, Copy)]
struct Pool {
    arena: Arena<Watched>,
    tasks: Ring<Watched>,
    seats: [(u64, &'static Seat); 2],
}

impl Pool {
    fn new(arena: Arena<Watched>) -> Self {
        let tasks = fresh_ring(arena);
        for tag in 0..TASKS {
            tasks.put(tag, &[&u64::from(tag).to_le_bytes()]).unwrap();
        }
        let seats = [(); 2].map(|()| {
            let place = arena.allocate_kind(Kind::Seat, size_of::<Seat>() as u64).unwrap().share();
            (place.offset, arena.backing().place_new(place.offset, Seat::new()).unwrap())
        });
        Self { arena, tasks, seats }
    }

    fn settle(&self, total: u32) {
        self.seats.iter().for_each(|(_, seat)| seat.settle(total));
    }

    /// What a worker does for one batch, noting what it has answered; whether there was one.
    fn work(&self, place: usize, answered: &Answered) -> bool {
        let (offset, seat) = self.seats[place];
        let mut taking = match self.tasks.taking_with(Locking::Wait, |total| self.settle(total)) {
            Ok(taking) => taking,
            Err(TakeError::Empty) => return false,
            Err(error) => panic!("{error:?}"),
        };
        let (first, mut used, mut count) = (taking.next_number(), 0, 0);
        while count < 2
            && let Some(frame) = taking.peek().unwrap()
        {
            let (at, end) = seat.place_task(offset, used, frame.tag, frame.payload_bytes).unwrap();
            taking.read_within(frame, at).unwrap();
            (used, count) = (end, count + 1);
        }
        kill_point!(SeatInboxWritten);
        let mut progress = Progress { first, count, ..Progress::default() };
        seat.note(progress);
        taking.commit_with(|| {
            progress.taken = true;
            seat.note(progress);
        });
        kill_point!(SeatBatchTaken);
        let mut at = 0;
        for _ in 0..count {
            let (tag, end) = self.read(place, at);
            (at, progress.started) = (end, progress.started + 1);
            seat.note(progress);
            kill_point!(SeatItemStarted);
            answered.lock().unwrap().push(tag);
            progress.answered += 1;
            seat.note(progress);
        }
        true
    }

    fn read(&self, place: usize, at: u32) -> (u32, u32) {
        let (offset, seat) = self.seats[place];
        let mut out = Vec::new();
        let (tag, end) = seat.read_task(&self.arena, offset, at, &mut out).unwrap();
        assert_eq!(u64::from_le_bytes(out.try_into().unwrap()), u64::from(tag), "a corrupt task");
        (tag, end)
    }

    /// The tasks of a worker's last batch that it has not answered: one in progress, others to go back.
    fn bury(&self, place: usize) -> [Vec<u32>; 2] {
        self.tasks.settle(Locking::Wait, |total| self.settle(total)).unwrap();
        let progress = self.seats[place].1.progress();
        let (mut in_progress, mut back, mut at) = (Vec::new(), Vec::new(), 0);
        for number in 0..if progress.taken { progress.count } else { 0 } {
            let (tag, end) = self.read(place, at);
            at = end;
            if number >= progress.started {
                back.push(tag);
            } else if number >= progress.answered {
                in_progress.push(tag);
            }
        }
        [in_progress, back]
    }
}

/// What workers have answered, in memory that outlives them.
type Answered = Arc<Mutex<Vec<u32>>>;

/// Each task is in one place, once all that is left was done.
fn each_once(pool: Pool, answered: &Answered, elsewhere: &[Vec<u32>]) {
    while pool.work(1, answered) {}
    let mut all = [answered.lock().unwrap().clone(), elsewhere.concat()].concat();
    all.sort_unstable();
    assert_eq!(all, (0..TASKS).collect::<Vec<_>>(), "a task is in two places or in none");
}

/// The survivor works on while the dead one is buried.
fn killed(point: KillPoint) {
    let deaths = Arc::new(AtomicU32::new(0));
    let counted = deaths.clone();
    model(&format!("killed at {point:?}"), 1, move |arena| {
        let (pool, answered) = (Pool::new(arena), Answered::default());
        let (theirs, mine) = (answered.clone(), answered.clone());
        let victim = killed_at(point, move || while pool.work(0, &theirs) {});
        let survivor = thread::spawn(move || pool.work(1, &mine));
        let died = victim.join().unwrap();
        counted.fetch_add(u32::from(died), Ordering::Relaxed);
        let estate = pool.bury(0);
        assert!(estate[0].len() <= usize::from(died && point == KillPoint::SeatItemStarted));
        survivor.join().unwrap();
        each_once(pool, &answered, &estate);
    });
    assert!(deaths.load(Ordering::Relaxed) > 0, "nobody got to {point:?}");
}

#[test]
fn two_workers_share_the_tasks() {
    model("two workers", 1, |arena| {
        let (pool, answered) = (Pool::new(arena), Answered::default());
        let theirs = answered.clone();
        let other = thread::spawn(move || while pool.work(0, &theirs) {});
        pool.work(1, &answered);
        other.join().unwrap();
        each_once(pool, &answered, &[]);
    });
}

#[test]
fn a_worker_is_killed_at_each_step_of_taking() {
    use KillPoint::*;
    for point in [
        RingTakeLocked,
        SeatInboxWritten,
        RingTakeCopied,
        RingTakeCommitted,
        RingTakeCounted,
        RingTakeNoted,
        RingTakeUnlocked,
        RingUnlinkCommitted,
        RingTailHelped,
        SeatBatchTaken,
        SeatItemStarted,
    ] {
        killed(point);
    }
}

#[test]
fn the_one_who_settles_is_killed_as_well() {
    for point in [KillPoint::SeatSettled, KillPoint::RingHeadRepaired] {
        for first in [KillPoint::RingTakeCopied, KillPoint::RingTakeCounted] {
            model(&format!("killed at {first:?}, then at {point:?}"), 1, move |arena| {
                let (pool, answered) = (Pool::new(arena), Answered::default());
                let (first_ones, mine) = (answered.clone(), answered.clone());
                assert!(killed_at(first, move || _ = pool.work(0, &first_ones)).join().unwrap());
                let second = killed_at(point, move || {
                    pool.tasks.settle(Locking::Wait, |total| pool.settle(total)).unwrap()
                });
                let survivor = thread::spawn(move || pool.work(1, &mine));
                second.join().unwrap();
                let estate = pool.bury(0);
                assert!(estate[0].is_empty());
                survivor.join().unwrap();
                each_once(pool, &answered, &estate);
            });
        }
    }
}
