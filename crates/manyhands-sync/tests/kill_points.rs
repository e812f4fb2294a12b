//! A child dies at each numbered step of each protocol of this crate; a survivor checks what must hold then.
//!
//! `cargo test -p manyhands-sync --features kill-points --test kill_points`; `MANYHANDS_KILL_ROUNDS` says how often
//! at each step (5 if unset).
#![cfg(all(feature = "kill-points", not(loom)))]
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // not part of the structures that loom checks

#[path = "kill_points/adopting.rs"]
mod adopting;
#[path = "kill_points/gather.rs"]
mod gather;
#[path = "kill_points/kept.rs"]
mod kept;
#[path = "kill_points/ledger.rs"]
mod ledger;
#[path = "kill_points/lock.rs"]
mod lock;
#[path = "kill_points/meeting.rs"]
mod meeting;
#[path = "kill_points/moving.rs"]
mod moving;
#[path = "kill_points/mutex.rs"]
mod mutex;
#[path = "kill_points/notes.rs"]
mod notes;
#[path = "kill_points/pins.rs"]
mod pins;
#[path = "kill_points/queue.rs"]
mod queue;
#[path = "kill_points/ring.rs"]
mod ring;
#[path = "kill_points/seat.rs"]
mod seat;
#[path = "kill_points/slot.rs"]
mod slot;
mod support;
#[path = "kill_points/wait_word.rs"]
mod wait_word;

use manyhands_sync::arena::{AllocateError, Arena, Blank, Handle};
use manyhands_sync::kill_point::{KillPoint, arm};
use manyhands_sync::memory::Shareable;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use support::{Mapping, Random, arena, fork, placed, reap};

fn rounds() -> u32 {
    std::env::var("MANYHANDS_KILL_ROUNDS").map_or(5, |text| text.parse().unwrap())
}

/// Runs `work` in a child armed to die at the `nth` pass of `point`; panics if it does not get there.
fn die_at(point: KillPoint, nth: u32, work: impl FnOnce()) {
    let pid = fork(|| {
        arm(point, nth);
        work();
    });
    assert_eq!(reap(pid), libc::SIGKILL, "the child ended before {point:?} came the {nth}. time");
    DEATHS.with_borrow_mut(|deaths| deaths.entry(point as u32).or_insert((point, 0)).1 += 1);
}

/// As `die_at`, for work that may have ended before it gets there.
fn may_die_at(point: KillPoint, nth: u32, work: impl FnOnce()) {
    let pid = fork(|| {
        arm(point, nth);
        work();
    });
    assert!(matches!(reap(pid), libc::SIGKILL | 0));
}

thread_local! {
    /// How often a child of this test died at each step.
    static DEATHS: RefCell<BTreeMap<u32, (KillPoint, u32)>> = const { RefCell::new(BTreeMap::new()) };
}

/// Prints how often a child died at each of these steps, none of them less often than it should.
fn print_deaths(points: &[KillPoint]) {
    DEATHS.with_borrow(|deaths| {
        for &point in points {
            let (_, count) = deaths.get(&(point as u32)).copied().unwrap_or((point, 0));
            println!("{:>3} {point:?}: {count} deaths, 0 violations", point as u32);
            assert!(count >= rounds(), "{point:?} was tried {count} times only");
        }
    });
}

/// What a child has finished, in memory that outlives it.
#[repr(C)]
struct Done {
    put: AtomicU64,
    taken: AtomicU64,
    /// How many frames the take in progress is about.
    batch: AtomicU64,
    blocks: [AtomicU64; BLOCKS],
}

const BLOCKS: usize = 64;

// SAFETY: repr(C), atomics only.
#[allow(unsafe_code)]
unsafe impl Shareable for Done {}

impl Done {
    fn new() -> Self {
        Self {
            put: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            batch: AtomicU64::new(0),
            blocks: [const { AtomicU64::new(0) }; BLOCKS],
        }
    }
}

/// Takes and gives back blocks of a few sizes, noting each block it holds.
fn allocate_and_free(arena: &Arena<Mapping>, done: &Done, seed: u64, sizes: &[u64]) {
    let mut random = Random::new(seed);
    for _ in 0..3_000 {
        let place = &done.blocks[random.below(BLOCKS as u64) as usize];
        match place.load(Ordering::Relaxed) {
            0 => {
                let handle =
                    arena.allocate(sizes[random.below(sizes.len() as u64) as usize]).unwrap().share();
                place.store(pack(handle), Ordering::Relaxed);
            }
            held => {
                // Forgotten first: a block that is being freed when its holder dies may be free, or lost.
                place.store(0, Ordering::Relaxed);
                arena.free(unpack(held)).unwrap();
            }
        }
    }
}

/// Offset and generation in one word: test arenas are small, and generations stay low.
fn pack(handle: Handle) -> u64 {
    assert!(handle.generation < 1 << 20);
    (handle.offset / 64) << 20 | u64::from(handle.generation)
}

fn unpack(word: u64) -> Handle {
    Handle { offset: (word >> 20) * 64, generation: (word & 0xf_ffff) as u32 }
}

/// The arena's steps.
const ARENA: &[KillPoint] = {
    use KillPoint::*;
    &[ArenaPopMarked, ArenaPopCommitted, ArenaPushMarked, ArenaCarved, ArenaExtentReserved, ArenaListRepaired]
};

#[test]
fn the_arena_survives_a_death_at_each_step() {
    use KillPoint::{ArenaCarved, ArenaExtentReserved, ArenaPopCommitted, ArenaPopMarked, ArenaPushMarked};
    let points = [ArenaPopMarked, ArenaPopCommitted, ArenaPushMarked, ArenaCarved, ArenaExtentReserved];
    for point in points {
        let arena = arena(u64::from(rounds()) * 3 + 20);
        let (_, done) = placed(&arena, Done::new());
        // Blocks of the survivor's own, which nobody may ever touch.
        let own: Vec<Handle> = (0..40).map(|i| arena.allocate(100 << (i % 4)).unwrap().share()).collect();
        for block in &own {
            arena.backing().stomp(block.offset, &block.offset.to_le_bytes());
        }
        let large = point == ArenaExtentReserved;
        let sizes: &[u64] = if large { &[40 << 20] } else { &[100, 200, 400, 800, 300 << 10] };
        let mut known: HashSet<u64> = HashSet::new();
        let mut recovered = 0;
        for round in 0..rounds() {
            let mut random = Random::new(u64::from(round) << 8 | point as u64);
            // Fresh memory is carved only while the lists are empty: soon after the start.
            let nth =
                1 + random.below(if matches!(point, ArenaCarved | ArenaExtentReserved) { 1 } else { 40 })
                    as u32;
            let seed = random.next();
            die_at(point, nth, || {
                if matches!(point, ArenaCarved | ArenaExtentReserved) {
                    // Takes without giving back until fresh memory is needed.
                    while arena.allocate(sizes[0]).map(Blank::share).is_ok() {}
                }
                allocate_and_free(&arena, done, seed, sizes);
            });
            let mut repairers = 0;
            if point == ArenaPopMarked || point == ArenaPopCommitted && round % 2 == 0 {
                // The one who repairs dies as well.
                die_at(KillPoint::ArenaListRepaired, 1, || {
                    for &size in sizes {
                        let _ = arena.allocate(size).map(Blank::share);
                    }
                });
                repairers = 1;
            }
            recovered += 1 + repairers;
            let theirs: Vec<Handle> = done
                .blocks
                .iter()
                .map(|b| b.swap(0, Ordering::Relaxed))
                .filter(|&b| b != 0)
                .map(unpack)
                .collect();
            check_arena(&arena, &own, &theirs, sizes, &mut known, round);
        }
        println!("arena, {point:?}: {} locks recovered", arena.recoveries());
        let locked = matches!(point, ArenaPopMarked | ArenaPopCommitted | ArenaPushMarked);
        let expected = if locked { recovered } else { 0 };
        assert_eq!(arena.recoveries(), expected, "holders of a list's lock that died");
    }
    print_deaths(ARENA);
}

fn check_arena(
    arena: &Arena<Mapping>,
    own: &[Handle],
    theirs: &[Handle],
    sizes: &[u64],
    known: &mut HashSet<u64>,
    round: u32,
) {
    for block in own {
        assert_eq!(
            arena.backing().word(block.offset),
            block.offset,
            "somebody wrote into the survivor's block"
        );
    }
    // What the dead one held is held for ever, until somebody who knows of it gives it back.
    for &block in theirs {
        assert_eq!(arena.check(block), Ok(()));
    }
    let mut held: Vec<(u64, u64)> =
        own.iter().chain(theirs).map(|&b| (b.offset, arena.payload_bytes(b).unwrap())).collect();
    let mut mine = Vec::new();
    for i in 0..if sizes[0] < 1 << 20 { 150 } else { 1 } {
        let block = arena.allocate(sizes[i % sizes.len()]).expect("no list is damaged").share();
        let bytes = arena.payload_bytes(block).unwrap();
        assert!(
            held.iter().all(|&(o, b)| o + b <= block.offset || block.offset + bytes <= o),
            "handed out twice"
        );
        held.push((block.offset, bytes));
        mine.push(block);
    }
    let fresh = mine.iter().filter(|b| known.insert(b.offset)).count();
    // After a first round has made enough of them, a round costs at most the block its death was about and those
    // that the dead one held then and nobody noted.
    assert!(round < 3 || fresh <= 150, "{fresh} new blocks in round {round}");
    for block in mine.into_iter().chain(theirs.iter().copied()) {
        arena.free(block).unwrap();
    }
}

/// Steps of the crate above, tried by its own test of this name.
const ABOVE: &[KillPoint] = {
    use KillPoint::*;
    &[
        PayloadFilled,
        PayloadTaken,
        BellTaken,
        PoolSeatPlaced,
        PoolDismissed,
        SlotReserved,
        SlotRegistered,
        ForkAnnounced,
        ForkPlaced,
        SlotJudged,
        ChildForked,
        ZygoteAsked,
        ZygoteForked,
        ZygoteHandedOver,
        ZygoteTold,
        ZygoteReserved,
        ReserveAsked,
        ReserveSentAway,
    ]
};

#[test]
fn every_step_has_its_test() {
    let tried = [
        ring::POINTS,
        ARENA,
        seat::POINTS,
        wait_word::POINTS,
        mutex::POINTS,
        notes::POINTS,
        meeting::POINTS,
        queue::POINTS,
        lock::POINTS,
        lock::SEMAPHORE,
        adopting::POINTS,
        ledger::POINTS,
        pins::POINTS,
        ledger::SWEEPING,
        slot::POINTS,
        kept::POINTS,
        gather::POINTS,
        moving::POINTS,
        ABOVE,
    ]
    .concat();
    let untried: Vec<_> = KillPoint::ALL.iter().filter(|p| !tried.contains(p)).collect();
    assert!(untried.is_empty(), "a new step needs its place in a test: {untried:?}");
    println!("{} numbered steps, {} of them tried here", KillPoint::ALL.len(), tried.len() - ABOVE.len());
    assert!(KillPoint::ALL.iter().all(|point| !point.meaning().is_empty()));
    assert!(matches!(arena(1).allocate(1 << 40), Err(AllocateError::OutOfMemory { .. })));
}
