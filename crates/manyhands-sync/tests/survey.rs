//! What somebody who only looks finds in an arena.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used)]

mod support;

use manyhands_sync::arena::{Kind, Owner};
use manyhands_sync::mutex::Holder;
use manyhands_sync::ring::{Locking, RingHeader};

#[test]
fn a_survey_finds_every_block_and_the_placed_structures() {
    let arena = support::arena(4);
    let before = arena.survey(usize::MAX);
    assert!(before.complete);
    let ring = arena.allocate_kind(Kind::Ring, size_of::<RingHeader>() as u64).unwrap().share();
    let seat = arena.allocate_kind(Kind::Seat, 64).unwrap().share();
    let plain: Vec<_> = (0..100).map(|n| arena.allocate(1 << (n % 16)).unwrap().share()).collect();
    let huge = arena.allocate(70 << 20).unwrap().share();
    let behind = arena.allocate(100).unwrap().share();
    let all = arena.survey(usize::MAX);
    assert!(all.complete);
    assert_eq!(all.structures, [(Kind::Ring, ring), (Kind::Seat, seat)]);
    assert_eq!(all.held_blocks, before.held_blocks + 104);

    for handle in plain.into_iter().chain([huge, behind, seat]) {
        arena.free(handle).unwrap();
    }
    let freed = arena.survey(usize::MAX);
    assert_eq!(freed.structures, [(Kind::Ring, ring)]);
    assert_eq!((freed.held_blocks, freed.free_blocks), (before.held_blocks + 1, before.free_blocks + 103));
    assert_eq!(freed.held_bytes + freed.free_bytes, all.held_bytes + all.free_bytes);
}

#[test]
fn a_survey_counts_what_the_dead_have_left_until_it_is_swept() {
    let arena = support::arena(1);
    let table = arena.process_table();
    let (living, dying) = (table.reserve(None).unwrap(), table.reserve(None).unwrap());
    let owned_by = |place: manyhands_sync::process_table::Place| {
        let block = arena.allocate(100).unwrap().share();
        arena.give(block, Owner::Member(place.index, place.life));
        block
    };
    let (kept, left) = (owned_by(living), owned_by(dying));
    let part = arena.allocate(1_000).unwrap().share();
    arena.give(part, Owner::Block(left));
    let left_blocks = || arena.survey(usize::MAX).left_blocks;
    assert_eq!(left_blocks(), 0);
    assert!(table.end(dying));
    // What it owned is not garbage itself, as long as the owner stands.
    assert_eq!(left_blocks(), 1);
    assert!(arena.survey(usize::MAX).left_bytes < 1_000);
    assert!(arena.free(left).is_ok());
    assert_eq!(left_blocks(), 1);
    arena.sweep(|_, _| {});
    assert_eq!((left_blocks(), arena.check(kept), arena.check(part).is_ok()), (0, Ok(()), false));
}

#[test]
fn a_survey_takes_no_more_steps_than_it_may() {
    let arena = support::arena(1);
    for _ in 0..10 {
        arena.allocate(100).unwrap().share();
    }
    let some = arena.survey(4);
    assert_eq!((some.held_blocks, some.complete), (4, false));
}

#[test]
fn a_rings_bytes_are_those_that_lie_in_it_over_all_its_segments() {
    let arena = support::arena(1);
    let ring = support::ring(arena, 0);
    assert_eq!(ring.bytes(), Some(0));
    let frames = 100;
    for _ in 0..frames {
        ring.put(1, &[&[7; 4096]]).unwrap();
    }
    assert_eq!(ring.bytes(), Some(frames * (8 + 4096)));
    let mut out = Vec::new();
    while ring.try_take(&mut out, Locking::Wait).is_ok() {}
    assert_eq!(ring.bytes(), Some(0));
    assert_eq!(ring.holders(), [None, None]);
    let _held = ring.putting(Locking::Wait).unwrap();
    let this_thread = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
    assert_eq!(ring.holders(), [Some(Holder::Thread(this_thread)), None]);
}
