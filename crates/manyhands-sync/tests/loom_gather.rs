//! Gathering under loom: free blocks become free units while others allocate, free and sweep, and while the gatherer is
//! killed at each of its steps.
//!
//! What must hold: no two holders have the same memory; who wants a block of the size that is being gathered gets one, and
//! is not told that there is none because of the gathering; a handle frees its block once, and names nothing afterwards,
//! whatever its memory has become; after a death and a sweep every size is served as before.
//!
//! Limits: three free units of one chunk, two threads, `LOOM_MAX_PREEMPTIONS` preemptions.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // counts, outside the model

mod model;

use loom::thread;
use manyhands_sync::arena::{AllocateError, Arena, Handle, Kind, StaleHandle};
use manyhands_sync::kill_point::KillPoint;
use manyhands_sync::process_table::{Member, Namespaces, Place};
use model::{Watched, be, killed_at, model};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A block of one unit.
const ONE: u64 = 3_000;
/// A block of two.
const TWO: u64 = 5_000;
/// A block of half a unit.
const HALF: u64 = 1_200;
/// So many units are left to each model.
const UNITS: u32 = 3;

fn take(arena: &Arena<Watched>, bytes: u64) -> Option<Handle> {
    match arena.allocate(bytes) {
        Ok(block) => Some(block.share()),
        Err(AllocateError::OutOfMemory { .. }) => None,
        Err(error) => panic!("{error:?}"),
    }
}

/// How many units a fresh arena of a chunk has.
fn units_of_a_chunk() -> u32 {
    let units = Arc::new(AtomicU32::new(0));
    let counted = units.clone();
    model("the units of a chunk", 1, move |arena| {
        let mut count = 0;
        while take(&arena, ONE).is_some() {
            count += 1;
        }
        counted.store(count, Ordering::Relaxed);
    });
    units.load(Ordering::Relaxed)
}

/// As `model`, with three units left for blocks: the others are of kinds, for ever.
fn model_of_few_units(name: &str, check: impl Fn(Arena<Watched>) + Sync + Send + 'static) {
    let units = units_of_a_chunk();
    model(name, 1, move |arena| {
        for _ in UNITS..units {
            arena.allocate_kind(Kind::Seat, 4_096 - 256).unwrap().share();
        }
        check(arena);
    });
}

/// Three blocks of a unit each that were freed: on their list.
fn three_freed(arena: &Arena<Watched>) -> [Handle; 3] {
    let blocks = [(); 3].map(|()| take(arena, ONE).expect("three units"));
    blocks.into_iter().for_each(|block| arena.free(block).unwrap());
    blocks
}

/// Nothing is held: every size can be had, and the old handles name nothing.
fn everything_serves_everything(arena: &Arena<Watched>, stale: &[Handle]) {
    for sizes in [&[TWO, ONE][..], &[ONE, ONE, ONE]] {
        let blocks: Vec<Handle> =
            sizes.iter().map(|&bytes| take(arena, bytes).expect("all is free")).collect();
        assert!(take(arena, ONE).is_none());
        for old in stale {
            assert_eq!((arena.check(*old), arena.free(*old)), (Err(StaleHandle), Err(StaleHandle)));
        }
        blocks.into_iter().for_each(|block| arena.free(block).unwrap());
    }
}

#[test]
fn who_wants_the_size_that_is_gathered_gets_it() {
    model_of_few_units("a gathering beside a taker", |arena| {
        let old = three_freed(&arena);
        let gatherer = thread::spawn(move || take(&arena, TWO));
        let one = take(&arena, ONE).expect("one of three units is free all the time");
        arena.free(one).unwrap();
        let again = take(&arena, ONE).expect("and still is");
        let two = gatherer.join().unwrap();
        if let Some(two) = two {
            // Two units and one are three: nobody has the same.
            assert!(take(&arena, ONE).is_none());
            arena.free(two).unwrap();
        }
        arena.free(again).unwrap();
        everything_serves_everything(&arena, &[old[0], old[1], old[2], one, again]);
    });
}

#[test]
fn two_gather_at_once() {
    model_of_few_units("two gatherings", |arena| {
        let old = three_freed(&arena);
        let other = thread::spawn(move || take(&arena, TWO));
        let half = take(&arena, HALF).expect("there is always a unit for it");
        let two = other.join().unwrap().expect("and two are left");
        assert!(half.offset < two.offset || half.offset > two.offset + TWO);
        arena.free(half).unwrap();
        arena.free(two).unwrap();
        everything_serves_everything(&arena, &[old[0], old[1], old[2], half, two]);
    });
}

#[test]
fn a_handle_is_freed_once_though_its_memory_becomes_another_block() {
    model_of_few_units("a second free beside a gathering", |arena| {
        let [first, second, third] = [(); 3].map(|()| take(&arena, ONE).unwrap());
        arena.free(third).unwrap();
        arena.free(first).unwrap();
        let other = thread::spawn(move || arena.free(second).is_ok());
        let mine = arena.free(second).is_ok();
        let two = take(&arena, TWO);
        let theirs = other.join().unwrap();
        assert!(mine != theirs, "one of two frees it");
        if let Some(two) = two {
            assert_eq!(arena.check(two), Ok(()));
            arena.free(two).unwrap();
        }
        everything_serves_everything(&arena, &[first, second, third]);
    });
}

#[test]
fn a_region_from_which_a_block_is_carved_meanwhile_stays() {
    model_of_few_units("a carving beside a gathering", |arena| {
        let held = [(); 2].map(|()| take(&arena, ONE).unwrap());
        let old = take(&arena, HALF).unwrap();
        arena.free(old).unwrap();
        // The one unit that is left has room for two halves, or for one whole.
        let other = thread::spawn(move || take(&arena, ONE));
        let halves = [(); 2].map(|()| take(&arena, HALF));
        let one = other.join().unwrap();
        let got: Vec<Handle> = halves.into_iter().flatten().collect();
        assert!(one.is_none() || got.is_empty(), "{one:?} and {got:?} are the same memory");
        assert!(one.is_some() || got.len() == 2, "{got:?}");
        for block in one.into_iter().chain(got).chain(held) {
            assert_eq!(arena.free(block), Ok(()));
        }
        everything_serves_everything(&arena, &[old, held[0], held[1]]);
    });
}

/// Makes a member; its place.
fn join(arena: &Arena<Watched>) -> Place {
    let table = arena.process_table();
    let slot = table.reserve(None).unwrap();
    let namespaces = Namespaces { pids: 1, clock: 1 };
    assert!(table.register(slot, Member { pid: 1, namespaces, registered_at: Some(1), image: 1 }));
    slot
}

#[test]
fn what_a_dead_member_held_is_swept_beside_a_gathering() {
    model_of_few_units("a sweep beside a gathering", |arena| {
        let table = arena.process_table();
        let (own, dead) = (join(&arena), join(&arena));
        be(dead);
        let left = take(&arena, ONE).unwrap();
        be(own);
        let freed = [(); 2].map(|()| take(&arena, ONE).unwrap());
        freed.into_iter().for_each(|block| arena.free(block).unwrap());
        table.end(dead);
        let sweeper = thread::spawn(move || {
            be(own);
            arena.sweep(|kind, _| panic!("a {kind:?}")).reclaimed
        });
        let two = take(&arena, TWO);
        sweeper.join().unwrap();
        if let Some(two) = two {
            arena.free(two).unwrap();
        }
        arena.sweep(|kind, _| panic!("a {kind:?}"));
        everything_serves_everything(&arena, &[left]);
    });
}

/// How often the one died at that step who gathers; and then gives back the pages of what is free.
fn deaths_at(point: KillPoint) -> u32 {
    let deaths = Arc::new(AtomicU32::new(0));
    let counted = deaths.clone();
    model_of_few_units(&format!("a gatherer is killed at {point:?}"), move |arena| {
        let table = arena.process_table();
        let (own, other) = (join(&arena), join(&arena));
        be(own);
        let old = three_freed(&arena);
        let victim = killed_at(point, move || {
            be(other);
            let two = take(&arena, TWO);
            two.into_iter().for_each(|two| arena.free(two).unwrap());
            let half = take(&arena, HALF);
            half.into_iter().for_each(|half| arena.free(half).unwrap());
            let one = take(&arena, ONE);
            arena.trim(0);
            one.into_iter().for_each(|one| arena.free(one).unwrap());
        });
        // The dead may hold everything, until they are swept.
        let one = take(&arena, ONE);
        one.into_iter().for_each(|one| arena.free(one).unwrap());
        counted.fetch_add(u32::from(victim.join().unwrap()), Ordering::Relaxed);
        table.end(other);
        arena.sweep(|kind, _| panic!("a {kind:?}"));
        assert!(arena.survey(usize::MAX).complete);
        everything_serves_everything(&arena, &old);
    });
    deaths.load(Ordering::Relaxed)
}

#[test]
fn a_gatherer_is_killed_at_each_step_while_another_goes_on() {
    use KillPoint::{
        ArenaCarved, ArenaHeaderWritten, ArenaPopCommitted, ArenaPopMarked, ArenaRegionDissolved,
        ArenaRegionMade, ArenaUnitStripped, GatherEmptied, GatherSetAside, GatherTaken,
    };
    for point in [
        GatherSetAside,
        GatherTaken,
        GatherEmptied,
        ArenaRegionDissolved,
        ArenaPopMarked,
        ArenaPopCommitted,
        ArenaHeaderWritten,
        ArenaRegionMade,
        ArenaCarved,
        ArenaUnitStripped,
    ] {
        let deaths = deaths_at(point);
        assert!(deaths > 0, "nobody died at {point:?}");
        println!("{point:?}: {deaths} deaths");
    }
}
