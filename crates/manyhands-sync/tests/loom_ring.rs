//! The ring (and beneath it the arena) under loom: producers and consumers in any order of steps within the
//! preemption bound, while segments are linked and left, and while one of them is killed at each of its steps.
//!
//! Under loom a segment holds two frames of eight bytes, so the third put links. A killed thread unwinds; its locks
//! are marked as a dead holder's, and nothing else of what its destructors do is done.
//!
//! Limits: two or three threads with two or three frames each, `LOOM_MAX_PREEMPTIONS` preemptions; SeqCst accesses
//! count as AcqRel (fences are modelled); the payload's bytes are checked for races word by word through loom
//! cells, the words of a segment's header are loom atomics; a lock's holder is never *stopped* for ever.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

mod model;

use loom::thread;
use manyhands_sync::deadline::Deadline;
use manyhands_sync::kill_point::KillPoint;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::ring::{Locking, Ring, TakeError};
use manyhands_sync::wait_word::Waiting;
use model::{Watched, fresh_ring, killed_at};

/// Runs the check on a fresh ring in every order.
fn model(name: &str, check: impl Fn(Ring<Watched>) + Sync + Send + 'static) {
    model::model(name, 1, move |arena| check(fresh_ring(arena)));
}

fn put(ring: &Ring<Watched>, number: u64) {
    ring.put(number as u32, &[&number.to_le_bytes()]).unwrap();
}

/// Waits for a frame and takes it.
fn take(ring: &Ring<Watched>) -> u64 {
    loop {
        match try_take(ring) {
            Some(number) => return number,
            None => {
                ring.wait_for_frame(&mut Waiting::new(WaitKind::Message), Deadline::NEVER);
            }
        }
    }
}

fn try_take(ring: &Ring<Watched>) -> Option<u64> {
    let mut out = Vec::new();
    match ring.try_take(&mut out, Locking::Wait) {
        Ok(tag) => {
            let number = u64::from_le_bytes(out.try_into().unwrap());
            assert_eq!(number, u64::from(tag), "a corrupt frame");
            Some(number)
        }
        Err(TakeError::Empty) => None,
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn one_producer_and_one_sleeping_consumer_over_a_link() {
    model("1 producer, 1 consumer", |ring| {
        let producer = thread::spawn(move || (0..3).for_each(|number| put(&ring, number)));
        for number in 0..3 {
            assert_eq!(take(&ring), number);
        }
        producer.join().unwrap();
        assert_eq!((try_take(&ring), ring.len()), (None, 0));
    });
}

#[test]
fn two_producers_link_while_a_consumer_leaves() {
    model("2 producers, 1 consumer", |ring| {
        // Two frames fill the first segment: either of the two producers links.
        put(&ring, 0);
        put(&ring, 1);
        let producers = [10, 20].map(|n| thread::spawn(move || put(&ring, n)));
        let taken = [(); 4].map(|()| take(&ring));
        assert_eq!(taken[..2], [0, 1]);
        assert!(matches!(taken[2..], [10, 20] | [20, 10]), "{taken:?}");
        for producer in producers {
            producer.join().unwrap();
        }
        assert_eq!((try_take(&ring), ring.len()), (None, 0));
    });
}

#[test]
fn one_producer_links_while_two_consumers_take_and_leave() {
    model("1 producer, 2 consumers", |ring| {
        put(&ring, 0);
        put(&ring, 1);
        let consumer = thread::spawn(move || (take(&ring), take(&ring)));
        let producer = thread::spawn(move || put(&ring, 2));
        let last = take(&ring);
        let (a, b) = consumer.join().unwrap();
        producer.join().unwrap();
        assert!(a < b, "out of order");
        let mut all = [a, b, last];
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
        assert_eq!((try_take(&ring), ring.len()), (None, 0));
    });
}

#[test]
fn a_producer_is_killed_at_each_step_while_others_go_on() {
    use KillPoint::*;
    for point in [
        RingPutLocked,
        RingPutCopied,
        RingPutCommitted,
        RingPutCounted,
        RingPutUnlocked,
        RingSpareMade,
        RingLinkWritten,
        RingLinkCommitted,
        RingTailMoved,
    ] {
        model(&format!("killed at {point:?}"), move |ring| {
            put(&ring, 0);
            put(&ring, 1);
            // Links, then puts.
            let victim = killed_at(point, move || put(&ring, 2));
            // Leaves the first segment if it is linked by then.
            let consumer = thread::spawn(move || (take(&ring), take(&ring), try_take(&ring)));
            put(&ring, 3);
            let (a, b, c) = consumer.join().unwrap();
            let died = victim.join().unwrap();
            // Another may have linked, or made room, before it had to.
            let may_need_no_link =
                matches!(point, RingSpareMade | RingLinkWritten | RingLinkCommitted | RingTailMoved);
            assert!(died || may_need_no_link, "it got there");
            let mut seen = vec![a, b];
            seen.extend(c);
            while let Some(number) = try_take(&ring) {
                seen.push(number);
            }
            let committed = !died || matches!(point, RingPutCommitted | RingPutCounted | RingPutUnlocked);
            let before = [0, 1, 2, 3];
            let after = [0, 1, 3, 2];
            let without = [0, 1, 3];
            assert!(if committed { seen == before || seen == after } else { seen == without }, "{seen:?}");
            // Whoever locks next repairs what is left to repair.
            put(&ring, 4);
            assert_eq!((try_take(&ring), ring.len()), (Some(4), 0));
        });
    }
}

#[test]
fn a_consumer_is_killed_at_each_step_while_others_go_on() {
    use KillPoint::*;
    for point in [
        RingTakeLocked,
        RingTakeCopied,
        RingTakeCommitted,
        RingTakeCounted,
        RingTakeNoted,
        RingTakeUnlocked,
        RingUnlinkCommitted,
        RingTailHelped,
    ] {
        model(&format!("killed at {point:?}"), move |ring| {
            put(&ring, 0);
            put(&ring, 1);
            put(&ring, 2);
            let at_the_end = matches!(point, RingUnlinkCommitted | RingTailHelped);
            if at_the_end {
                assert_eq!((try_take(&ring), try_take(&ring)), (Some(0), Some(1)));
            }
            let victim = killed_at(point, move || {
                take(&ring);
            });
            let producer = thread::spawn(move || put(&ring, 3));
            let mut seen = vec![take(&ring)];
            if !at_the_end {
                seen.push(take(&ring));
            }
            producer.join().unwrap();
            let died = victim.join().unwrap();
            while let Some(number) = try_take(&ring) {
                seen.push(number);
            }
            // Another may have left the segment before it had to.
            assert!(died || at_the_end, "it got there");
            let all: Vec<u64> = if at_the_end { vec![2, 3] } else { vec![0, 1, 2, 3] };
            let missing: Vec<u64> = all.iter().copied().filter(|n| !seen.contains(n)).collect();
            assert!(seen.is_sorted() && seen.iter().all(|n| all.contains(n)), "{seen:?}");
            let took =
                matches!(point, RingTakeCommitted | RingTakeCounted | RingTakeNoted | RingTakeUnlocked);
            assert_eq!(missing.len(), usize::from(!died || took), "{seen:?}");
            put(&ring, 4);
            assert_eq!((try_take(&ring), ring.len()), (Some(4), 0));
            assert_eq!(ring.recoveries().1, u32::from(died && point != RingTakeUnlocked));
        });
    }
}
