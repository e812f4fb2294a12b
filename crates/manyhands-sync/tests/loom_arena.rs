//! The arena under loom: blocks are taken, freed and carved in any order of steps within the preemption bound, and
//! while one member is killed at each of the arena's numbered steps.
//!
//! What must hold: no two holders have the same block, a handle frees its block once, a stale handle names nothing
//! however soon the block is reused, and after a death every list still works.
//!
//! Limits: two or three threads with a few blocks each, `LOOM_MAX_PREEMPTIONS` preemptions, an arena of two chunks
//! of 64 KiB.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // counts deaths, outside the model

mod model;

use loom::thread;
use manyhands_sync::arena::{
    AllocateError, Arena, BLOCK_HEADER_BYTES, Blank, CHUNK_BYTES, Handle, Kind, StaleHandle,
};
use manyhands_sync::kill_point::KillPoint;
use model::{Watched, killed_at, model};
use std::sync::atomic::{AtomicU32, Ordering};

const BYTES: u64 = 50;
/// Enough for a block that keeps its pages when it is free.
const LARGE_BYTES: u64 = 1_000;

fn take(arena: &Arena<Watched>) -> Handle {
    arena.allocate(BYTES).unwrap().share()
}

/// Every block is held, by one holder only, and frees once.
fn give_back_all(arena: &Arena<Watched>, blocks: &[Handle]) {
    for (i, block) in blocks.iter().enumerate() {
        assert_eq!(arena.check(*block), Ok(()));
        assert!(blocks[..i].iter().all(|b| b.offset != block.offset), "handed out twice: {blocks:?}");
    }
    for &block in blocks {
        assert_eq!(arena.free(block), Ok(()));
        assert_eq!(arena.free(block), Err(StaleHandle));
    }
}

/// The lists still work: more blocks than were ever freed can be had, each once.
fn goes_on(arena: &Arena<Watched>, mut held: Vec<Handle>) {
    held.extend([(); 3].map(|()| take(arena)));
    give_back_all(arena, &held);
}

#[test]
fn two_take_and_free_at_once() {
    model("two take and free", 1, |arena| {
        give_back_all(&arena, &[take(&arena), take(&arena)]);
        let churn = move || {
            let (first, second) = (take(&arena), take(&arena));
            arena.free(first).unwrap();
            [second, take(&arena)]
        };
        let other = thread::spawn(churn);
        let mine = churn();
        let held = [mine, other.join().unwrap()].concat();
        goes_on(&arena, held);
    });
}

#[test]
fn one_of_two_who_free_the_same_handle_succeeds_while_a_third_takes() {
    model("two free the same", 1, |arena| {
        let block = take(&arena);
        let freers = [(); 2].map(|()| thread::spawn(move || arena.free(block).is_ok()));
        // Perhaps the same block in its next life: the slower of the two must not free that.
        let next = take(&arena);
        let freed = freers.map(|f| f.join().unwrap()).into_iter().filter(|&f| f).count();
        assert_eq!(freed, 1);
        assert_eq!(arena.check(block), Err(StaleHandle));
        goes_on(&arena, vec![next]);
    });
}

#[test]
fn a_structure_of_a_kind_comes_back_as_that_kind_only() {
    model("kinds", 1, |arena| {
        let seat = arena.allocate_kind(Kind::Seat, BYTES).unwrap().share();
        let freer = thread::spawn(move || arena.free(seat).unwrap());
        let ring = arena.allocate_kind(Kind::Ring, BYTES).unwrap().share();
        let plain = take(&arena);
        freer.join().unwrap();
        assert!(ring.offset != seat.offset && plain.offset != seat.offset);
        give_back_all(&arena, &[ring, plain]);
    });
}

/// A unit of memory, under loom.
const UNIT_BYTES: u64 = 4 << 10;

/// Fills the first chunk, so that the next block of [`BYTES`] needs a new extent.
fn fill_first_chunk(arena: &Arena<Watched>) {
    loop {
        let unit = arena.allocate_kind(Kind::Pool, UNIT_BYTES - BLOCK_HEADER_BYTES).unwrap().share();
        assert!(unit.offset < CHUNK_BYTES, "still in the first chunk");
        if unit.offset + UNIT_BYTES > CHUNK_BYTES {
            return;
        }
    }
}

/// As [`take`], when the arena may be at its end.
fn take_if_there_is_room(arena: &Arena<Watched>) -> Option<Handle> {
    match arena.allocate(BYTES) {
        Ok(block) => Some(block.share()),
        Err(AllocateError::OutOfMemory { .. }) => None,
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn two_who_need_a_new_extent_share_one() {
    model("growth", 2, |arena| {
        fill_first_chunk(&arena);
        let other = thread::spawn(move || take(&arena));
        let mine = take(&arena);
        let theirs = other.join().unwrap();
        give_back_all(&arena, &[mine, theirs]);
        assert!(arena.extent_bytes() <= 2 * CHUNK_BYTES);
    });
}

#[test]
fn pages_are_given_back_while_another_takes_the_block() {
    model("a trim beside a taker", 1, |arena| {
        let first = arena.allocate(LARGE_BYTES).unwrap().share();
        arena.free(first).unwrap();
        let trimmer = thread::spawn(move || _ = arena.trim(0));
        let mine = arena.allocate(LARGE_BYTES).unwrap().share();
        trimmer.join().unwrap();
        // It is free all the time: who finds no other need not be told that there is none.
        assert_eq!(mine.offset, first.offset);
        let next = arena.allocate(LARGE_BYTES).unwrap().share();
        assert_eq!(arena.kept_bytes(), 0);
        give_back_all(&arena, &[mine, next]);
    });
}

#[test]
fn one_of_two_gets_the_last_extent() {
    model("the last extent", 2, |arena| {
        let all = move || arena.allocate_kind(Kind::Pool, CHUNK_BYTES - BLOCK_HEADER_BYTES).map(Blank::share);
        let large = move || all().ok();
        let other = thread::spawn(large);
        let got = [large(), other.join().unwrap()];
        assert_eq!(got.iter().flatten().count(), 1, "{got:?}");
        goes_on(&arena, got.into_iter().flatten().collect());
    });
}

/// What the one who is killed does, and what is there before.
#[derive(Clone, Copy, Debug)]
enum Scene {
    /// Two blocks are free; the victim takes one and frees it.
    Lists,
    /// Nothing is free; the victim has two blocks carved.
    Carving,
    /// The first chunk is full; the victim needs another.
    Growth,
    /// A large block is free and keeps its pages; the victim gives them back.
    Trim,
    /// As above; the victim takes it and frees it.
    Keep,
}

impl Scene {
    fn set(self, arena: &Arena<Watched>) {
        match self {
            Self::Lists => give_back_all(arena, &[take(arena), take(arena)]),
            Self::Carving => {}
            Self::Growth => fill_first_chunk(arena),
            Self::Trim | Self::Keep => {
                arena.free(arena.allocate(LARGE_BYTES).unwrap().share()).unwrap();
                assert!(arena.kept_bytes() > 0);
            }
        }
    }

    /// What the victim does. Whether it dies depends on where it is armed.
    fn act(self, arena: &Arena<Watched>) {
        match self {
            Self::Lists => arena.free(take(arena)).unwrap(),
            Self::Carving => _ = (take(arena), take(arena)),
            Self::Growth => _ = take_if_there_is_room(arena),
            Self::Trim => _ = arena.trim(0),
            Self::Keep => _ = arena.allocate(LARGE_BYTES).map(|block| arena.free(block.share())),
        }
    }
}

/// The survivor beside it, and after it.
fn survive(arena: &Arena<Watched>, died_in_growth: impl Fn() -> bool) -> Vec<Handle> {
    let first = take_if_there_is_room(arena);
    if let Some(block) = first {
        arena.free(block).unwrap();
    }
    // Of the list that the victim may be at.
    if let Ok(block) = arena.allocate(LARGE_BYTES) {
        arena.free(block.share()).unwrap();
    }
    let again = take_if_there_is_room(arena);
    assert!(again.is_some() || died_in_growth(), "there is room");
    again.into_iter().collect()
}

/// How often a victim died at that step of that scene, over all orders.
fn deaths_at(point: KillPoint, scene: Scene) -> u32 {
    let deaths = std::sync::Arc::new(AtomicU32::new(0));
    let counted = deaths.clone();
    model(&format!("{scene:?}, killed at {point:?}"), 2, move |arena| {
        scene.set(&arena);
        let victim = killed_at(point, move || scene.act(&arena));
        let held = survive(&arena, || matches!(scene, Scene::Growth));
        let died = victim.join().unwrap();
        counted.fetch_add(u32::from(died), Ordering::Relaxed);
        give_back_all(&arena, &held);
        // An extent that was reserved by the dead one may have been the last.
        if !(died && matches!(scene, Scene::Growth)) {
            goes_on(&arena, Vec::new());
        }
    });
    deaths.load(Ordering::Relaxed)
}

#[test]
fn a_member_is_killed_at_each_step_while_another_goes_on() {
    for &point in KillPoint::ALL {
        let name = format!("{point:?}");
        // Steps of gathering are tried in loom_gather.rs.
        let gathering = matches!(point, KillPoint::ArenaRegionDissolved | KillPoint::ArenaUnitStripped);
        if !name.starts_with("Arena") || name.ends_with("Repaired") || gathering {
            continue;
        }
        let deaths: u32 = [Scene::Lists, Scene::Carving, Scene::Growth, Scene::Trim, Scene::Keep]
            .map(|scene| deaths_at(point, scene))
            .iter()
            .sum();
        assert!(deaths > 0, "no scene leads to {point:?}: it needs one");
        println!("{point:?}: {deaths} deaths");
    }
}

#[test]
fn the_one_who_repairs_is_killed_as_well() {
    model("the repairer is killed", 1, |arena| {
        give_back_all(&arena, &[take(&arena), take(&arena)]);
        assert!(killed_at(KillPoint::ArenaPopMarked, move || _ = take(&arena)).join().unwrap());
        let repairer = killed_at(KillPoint::ArenaListRepaired, move || _ = take(&arena));
        let mine = take(&arena);
        repairer.join().unwrap();
        goes_on(&arena, vec![mine]);
    });
}
