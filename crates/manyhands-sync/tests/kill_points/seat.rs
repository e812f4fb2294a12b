//! A worker's seat: the worker dies at each step of taking and answering, and so does who settles after it.

use super::support::{Mapping, Random, arena, checked, message, placed, ring};
use super::{die_at, print_deaths, rounds};
use manyhands_sync::arena::Arena;
use manyhands_sync::kill_point;
use manyhands_sync::kill_point::KillPoint;
use manyhands_sync::ring::{Locking, Ring, TakeError};
use manyhands_sync::seat::{Progress, Seat};

/// The seat's steps.
pub(super) const POINTS: &[KillPoint] = {
    use KillPoint::*;
    &[SeatInboxWritten, SeatBatchTaken, SeatItemStarted, SeatItemAnswered, SeatSettled]
};

/// The ring's steps at which a worker may die, too.
const OF_THE_RING: &[KillPoint] = {
    use KillPoint::*;
    &[
        RingTakeLocked,
        RingTakeCopied,
        RingTakeCommitted,
        RingTakeCounted,
        RingTakeNoted,
        RingTakeUnlocked,
        RingUnlinkCommitted,
        RingTailHelped,
        RingPutCopied,
        RingPutCommitted,
        RingPutCounted,
        RingPutUnlocked,
    ]
};

const TASKS: u64 = 200;

/// A worker as the seat's protocol has it: batches from the task ring, answers into the result ring.
fn work(
    arena: &Arena<Mapping>,
    tasks: &Ring<Mapping>,
    answers: &Ring<Mapping>,
    offset: u64,
    seat: &Seat,
    seed: u64,
) {
    let mut random = Random::new(seed);
    loop {
        let settle = |total| seat.settle(total);
        let mut taking = match tasks.taking_with(Locking::Wait, settle) {
            Ok(taking) => taking,
            Err(TakeError::Empty) => return,
            Err(error) => panic!("{error:?}"),
        };
        let first = taking.next_number();
        let (mut used, mut count) = (0, 0);
        let wanted = 1 + random.below(8) as u8;
        while count < wanted
            && let Some(frame) = taking.peek().unwrap()
            && let Some((at, end)) = seat.place_task(offset, used, frame.tag, frame.payload_bytes)
        {
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
            let mut out = Vec::new();
            let (tag, next) = seat.read_task(&arena, offset, at, &mut out).unwrap();
            at = next;
            progress.started += 1;
            seat.note(progress);
            kill_point!(SeatItemStarted);
            assert_eq!(checked(&out), (5, u64::from(tag)));
            answers.put(tag, &[&out]).unwrap();
            kill_point!(SeatItemAnswered);
            progress.answered += 1;
            seat.note(progress);
        }
    }
}

#[test]
fn a_seat_tells_what_a_dead_worker_had_taken_at_each_step() {
    use KillPoint::{
        RingPutCopied, RingTailHelped, RingTakeCommitted, RingTakeCopied, RingTakeCounted,
        RingUnlinkCommitted, SeatItemStarted, SeatSettled,
    };
    let arena = arena(32);
    for &point in POINTS.iter().chain(OF_THE_RING) {
        if point == SeatSettled {
            continue;
        }
        for round in 0..rounds() {
            let mut random = Random::new(u64::from(round) << 8 | point as u64);
            let (tasks, answers) = (ring(arena, 0), ring(arena, 0));
            let (offset, seat) = placed(&arena, Seat::new());
            for number in 0..TASKS {
                tasks.put(number as u32, &[&message(5, number, 24 + random.below(1_500) as usize)]).unwrap();
            }
            let nth = if matches!(point, RingUnlinkCommitted | RingTailHelped) {
                1
            } else {
                1 + random.below(15) as u32
            };
            let seed = random.next();
            die_at(point, nth, || work(&arena, &tasks, &answers, offset, seat, seed));
            if matches!(point, RingTakeCopied | RingTakeCommitted | RingTakeCounted) {
                // Its seat says "noted, not taken": the one who finds out which of the two it was dies as well.
                die_at(SeatSettled, 1, || tasks.settle(Locking::Wait, |total| seat.settle(total)).unwrap());
            }
            let lost = bury(&arena, &tasks, &answers, offset, seat);
            let in_progress = matches!(point, SeatItemStarted | RingPutCopied);
            assert_eq!(
                lost,
                u32::from(in_progress),
                "{point:?}: the task in progress, and no other, is lost"
            );
            tasks.dismantle();
            answers.dismantle();
        }
    }
    print_deaths(POINTS);
}

/// What a pool does for a dead worker; how many tasks are lost. Every other one is answered or still to do.
fn bury(
    arena: &Arena<Mapping>,
    tasks: &Ring<Mapping>,
    answers: &Ring<Mapping>,
    offset: u64,
    seat: &Seat,
) -> u32 {
    tasks.settle(Locking::Wait, |total| seat.settle(total)).unwrap();
    let mut places = [0u32; TASKS as usize];
    let mut out = Vec::new();
    // The answers' tail is repaired by the next put, so this looks at all there is.
    answers.put(u32::MAX, &[]).unwrap();
    loop {
        out.clear();
        match answers.try_take(&mut out, Locking::Wait) {
            Ok(u32::MAX) => break,
            Ok(tag) => {
                assert_eq!(checked(&out), (5, u64::from(tag)));
                places[tag as usize] += 1;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    let progress = seat.progress();
    let mut lost = 0;
    let mut at = 0;
    // Once all of a batch is answered, the inbox may hold half of the next one already.
    let unanswered = progress.taken && progress.answered < progress.count;
    for i in 0..if unanswered { progress.count } else { 0 } {
        out.clear();
        let (tag, next) = seat.read_task(&arena, offset, at, &mut out).unwrap();
        assert_eq!(checked(&out), (5, u64::from(tag)));
        assert_eq!(tag, progress.first + u32::from(i), "the batch is of the tasks that the seat says");
        at = next;
        if i < progress.answered {
            assert_eq!(places[tag as usize], 1, "answered, so the answer is there");
        } else if i < progress.started {
            lost += u32::from(places[tag as usize] == 0);
            places[tag as usize] = 1;
        } else {
            places[tag as usize] += 1;
        }
    }
    seat.clear();
    while let Ok(tag) = tasks.try_take(&mut out, Locking::Wait) {
        places[tag as usize] += 1;
    }
    assert!(places.iter().all(|&p| p == 1), "a task is in two places or in none: {places:?}");
    lost
}
