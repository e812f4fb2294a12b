//! The ring: a producer or a consumer dies at each step, and so does who repairs after it.

use super::support::{Mapping, Random, arena, checked, message, placed, ring};
use super::{Done, die_at, print_deaths, rounds};
use manyhands_sync::kill_point::KillPoint;
use manyhands_sync::ring::{Locking, Ring, TakeError};
use std::sync::atomic::{AtomicU32, Ordering};

/// The ring's steps.
pub(super) const POINTS: &[KillPoint] = {
    use KillPoint::*;
    &[
        RingPutLocked,
        RingPutCopied,
        RingPutCommitted,
        RingPutCounted,
        RingPutUnlocked,
        RingSpareMade,
        RingLinkWritten,
        RingLinkCommitted,
        RingTailMoved,
        RingTakeLocked,
        RingTakeCopied,
        RingTakeCommitted,
        RingTakeCounted,
        RingTakeNoted,
        RingTakeUnlocked,
        RingUnlinkCommitted,
        RingTailHelped,
        RingTailRepaired,
        RingHeadRepaired,
        RingRepairFollowed,
    ]
};

/// Frames 0, 1, 2, ... go in and out; long ones, so that segments are linked and left all the time.
fn put_and_take(ring: &Ring<Mapping>, done: &Done, seed: u64) {
    let mut random = Random::new(seed);
    for _ in 0..60 {
        for _ in 0..random.below(25) {
            let number = done.put.load(Ordering::Relaxed);
            ring.put(1, &[&message(1, number, length_of(number))]).unwrap();
            done.put.store(number + 1, Ordering::Relaxed);
        }
        for _ in 0..random.below(25) {
            let mut taking = match ring.taking(Locking::Wait) {
                Ok(taking) => taking,
                Err(TakeError::Empty) => break,
                Err(error) => panic!("{error:?}"),
            };
            let first = done.taken.load(Ordering::Relaxed);
            let wanted = 1 + random.below(4);
            let mut batch = 0;
            while batch < wanted
                && let Some(frame) = taking.peek().unwrap()
            {
                let mut out = Vec::new();
                taking.read(frame, &mut out).unwrap();
                assert_eq!(checked(&out), (1, first + batch));
                batch += 1;
            }
            done.batch.store(batch, Ordering::Relaxed);
            taking.commit();
            done.taken.store(first + batch, Ordering::Relaxed);
            done.batch.store(0, Ordering::Relaxed);
        }
    }
}

fn length_of(number: u64) -> usize {
    24 + (number as usize * 2_999) % 8_000
}

/// The ring after a death at `point`: every frame intact, in order, none missing, and it goes on.
fn check_ring(ring: &Ring<Mapping>, done: &Done, point: KillPoint, take_first: bool) {
    use KillPoint::{
        RingPutCommitted, RingPutCounted, RingPutUnlocked, RingTakeCommitted, RingTakeCounted, RingTakeNoted,
        RingTakeUnlocked,
    };
    let (put, taken) = (done.put.load(Ordering::Relaxed), done.taken.load(Ordering::Relaxed));
    let batch = done.batch.load(Ordering::Relaxed);
    let (mut out, mut seen) = (Vec::new(), Vec::new());
    if take_first {
        // The head first, with the tail as the dead one left it: a consumer may have to help.
        while take_one(ring, &mut out).unwrap_or(2) != 2 {
            seen.push(checked(&out).1);
        }
    }
    // One more goes in behind what the dead one left: the tail is repaired by that.
    ring.put(2, &[b"behind"]).unwrap();
    while take_one(ring, &mut out).unwrap() != 2 {
        seen.push(checked(&out).1);
    }
    assert_eq!(ring.len(), 0, "the counts equal the marks after the repair");
    assert_eq!(ring.try_take(&mut out, Locking::Wait), Err(TakeError::Empty));

    let took = matches!(point, RingTakeCommitted | RingTakeCounted | RingTakeNoted | RingTakeUnlocked);
    let first = if took { taken + batch } else { taken };
    let put_one = matches!(point, RingPutCommitted | RingPutCounted | RingPutUnlocked);
    let end = if put_one { put + 1 } else { put };
    assert_eq!(seen, (first..end).collect::<Vec<_>>(), "{point:?}: put {put}, taken {taken}, batch {batch}");
    assert_eq!(u64::from(ring.taken_total()), end + u64::from(BEHIND.fetch_add(1, Ordering::Relaxed)) + 1);

    done.put.store(end, Ordering::Relaxed);
    done.taken.store(end, Ordering::Relaxed);
    done.batch.store(0, Ordering::Relaxed);
}

fn take_one(ring: &Ring<Mapping>, out: &mut Vec<u8>) -> Result<u32, TakeError> {
    out.clear();
    ring.try_take(out, Locking::Wait)
}

/// Whether the lock is held at that step: then the next holder repairs, and may die at that.
fn holds_lock(point: KillPoint) -> bool {
    use KillPoint::{RingPutUnlocked, RingSpareMade, RingTakeUnlocked};
    !matches!(point, RingPutUnlocked | RingSpareMade | RingTakeUnlocked)
}

/// Whether it is a step of a producer.
fn puts(point: KillPoint) -> bool {
    use KillPoint::*;
    matches!(
        point,
        RingPutLocked
            | RingPutCopied
            | RingPutCommitted
            | RingPutCounted
            | RingLinkWritten
            | RingLinkCommitted
            | RingTailMoved
    )
}

/// The one who repairs after a death at `point` dies as well, and the one after it too.
fn die_repairing(ring: &Ring<Mapping>, point: KillPoint) {
    use KillPoint::{RingHeadRepaired, RingLinkCommitted, RingRepairFollowed, RingTailRepaired};
    if !holds_lock(point) {
        return;
    }
    // Nothing is put and nothing taken when the lock cannot be had.
    if point == RingLinkCommitted {
        die_at(RingRepairFollowed, 1, || drop(ring.putting(Locking::Wait)));
    }
    for _ in 0..2 {
        if puts(point) {
            die_at(RingTailRepaired, 1, || drop(ring.putting(Locking::Wait)));
        } else {
            die_at(RingHeadRepaired, 1, || drop(ring.taking(Locking::Wait)));
        }
    }
}

/// How many frames the survivor itself has put and taken.
static BEHIND: AtomicU32 = AtomicU32::new(0);

#[test]
fn a_ring_survives_a_death_at_each_step() {
    use KillPoint::{
        RingHeadRepaired, RingLinkCommitted, RingLinkWritten, RingRepairFollowed, RingSpareMade,
        RingTailHelped, RingTailMoved, RingTailRepaired, RingUnlinkCommitted,
    };
    let arena = arena(64);
    let (_, done) = placed(&arena, Done::new());
    for &point in POINTS {
        if matches!(point, RingTailRepaired | RingHeadRepaired | RingRepairFollowed) {
            continue;
        }
        // A fresh ring: its small first segments are linked and left; later only the largest is used.
        for round in 0..rounds() {
            let ring = ring(arena, 0);
            done.put.store(0, Ordering::Relaxed);
            done.taken.store(0, Ordering::Relaxed);
            BEHIND.store(0, Ordering::Relaxed);
            let mut random = Random::new(u64::from(round) << 8 | point as u64);
            let rare = matches!(
                point,
                RingSpareMade
                    | RingLinkWritten
                    | RingLinkCommitted
                    | RingTailMoved
                    | RingUnlinkCommitted
                    | RingTailHelped
            );
            for _ in 0..if rare { 1 } else { 2 } {
                let nth = 1 + random.below(if rare { 1 } else { 30 }) as u32;
                die_at(point, nth, || put_and_take(&ring, done, random.next()));
                if point == RingLinkCommitted || random.below(2) == 0 {
                    die_repairing(&ring, point);
                }
                check_ring(&ring, done, point, random.below(2) == 0);
            }
            // It goes on as if nothing had been: more is put than the largest segment so far holds.
            for number in 0..300 {
                ring.put(3, &[&message(3, number, 8_000)]).unwrap();
            }
            for number in 0..300 {
                let mut out = Vec::new();
                assert_eq!(ring.try_take(&mut out, Locking::Wait), Ok(3));
                assert_eq!(checked(&out), (3, number));
            }
            ring.dismantle();
        }
    }
    print_deaths(POINTS);
}
