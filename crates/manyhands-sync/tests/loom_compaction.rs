//! An empty ring moves to another segment under loom: while others put and take, while two movers meet, and while the
//! mover is killed at each of its steps.
//!
//! What must hold: every frame comes out once and in order, whenever the ring moves; nobody finds it damaged; after a death
//! everybody goes on, the next mover included.
//!
//! Limits: one ring, two or three threads with two frames, `LOOM_MAX_PREEMPTIONS` preemptions; see `loom_ring.rs`.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

mod model;

use loom::thread;
use manyhands_sync::arena::{Arena, Kind};
use manyhands_sync::compaction::compact;
use manyhands_sync::kill_point::KillPoint;
use manyhands_sync::queue_header::QueueHeader;
use manyhands_sync::ring::{Locking, Ring, TakeError};
use model::{Watched, killed_at};

/// A queue that has grown and is empty again: it would move.
fn model(name: &str, check: impl Fn(Arena<Watched>, Ring<Watched>) + Sync + Send + 'static) {
    model::model(name, 1, move |arena| {
        let block = arena.allocate_kind(Kind::Ring, size_of::<QueueHeader>() as u64).unwrap();
        let header = QueueHeader::new(Ring::new_header(&arena, 0).unwrap());
        let (header, handle) = block.lay(header).unwrap();
        let ring = Ring::found(arena, &header.ring, handle);
        arena.refer(handle, arena.me()).unwrap();
        (0..3).for_each(|number| put(&ring, number));
        (0..3).for_each(|number| assert_eq!(try_take(&ring), Some(number)));
        check(arena, ring);
    });
}

fn put(ring: &Ring<Watched>, number: u64) {
    ring.put(number as u32, &[&number.to_le_bytes()]).unwrap();
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

/// All that is left, behind what was seen.
fn drain(ring: &Ring<Watched>, mut seen: Vec<u64>) -> Vec<u64> {
    while let Some(number) = try_take(ring) {
        seen.push(number);
    }
    assert_eq!(ring.len(), 0);
    seen
}

#[test]
fn a_ring_that_nobody_uses_moves_once() {
    model("moves alone", |arena, ring| {
        assert!(compact(arena));
        (7..10).for_each(|number| put(&ring, number));
        assert_eq!(drain(&ring, Vec::new()), [7, 8, 9]);
    });
}

#[test]
fn frames_are_put_and_taken_while_the_ring_moves() {
    model("mover, producer, consumer", |arena, ring| {
        let mover = thread::spawn(move || compact(arena));
        let producer = thread::spawn(move || (7..9).for_each(|number| put(&ring, number)));
        let seen = try_take(&ring).into_iter().collect();
        producer.join().unwrap();
        mover.join().unwrap();
        assert_eq!(drain(&ring, seen), [7, 8]);
    });
}

#[test]
fn two_movers_meet() {
    model("2 movers", |arena, ring| {
        let mover = thread::spawn(move || compact(arena));
        let moved = compact(arena);
        // With nobody at work with the ring, one of them is in nobody's way but the other's.
        let _ = (moved, mover.join().unwrap());
        (7..9).for_each(|number| put(&ring, number));
        assert_eq!(drain(&ring, Vec::new()), [7, 8]);
    });
}

#[test]
fn a_mover_is_killed_at_each_step_while_others_go_on() {
    use KillPoint::{RingMoveLinked, RingMoveTailed, RingMoved};
    for point in [RingMoveLinked, RingMoveTailed, RingMoved] {
        model(&format!("killed at {point:?}"), move |arena, ring| {
            let victim = killed_at(point, move || _ = compact(arena));
            let producer = thread::spawn(move || (7..9).for_each(|number| put(&ring, number)));
            let seen = try_take(&ring).into_iter().collect();
            producer.join().unwrap();
            victim.join().unwrap();
            assert_eq!(drain(&ring, seen), [7, 8]);
            compact(arena);
            put(&ring, 9);
            assert_eq!(drain(&ring, Vec::new()), [9]);
        });
    }
}
