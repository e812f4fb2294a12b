//! A child dies at each numbered step of each protocol of this crate; a survivor checks what must hold then.
//!
//! `cargo test -p manyhands-sync --features kill-points --test kill_points`; `MANYHANDS_KILL_ROUNDS` says how often
//! at each step (5 if unset).
#![cfg(all(feature = "kill-points", not(loom)))]
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // not part of the structures that loom checks

mod support;

use manyhands_sync::arena::{AllocateError, Arena, Handle};
use manyhands_sync::kill_point;
use manyhands_sync::kill_point::{KillPoint, arm};
use manyhands_sync::memory::Shareable;
use manyhands_sync::notes::{NOTES_PER_MEMBER, Noted, Wait, WaitKind};
use manyhands_sync::ring::{Locking, Ring, TakeError};
use manyhands_sync::seat::{Progress, Seat};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use support::{Mapping, Random, arena, checked, fork, message, placed, reap, ring};

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

    let first = if point == KillPoint::RingTakeCommitted { taken + batch } else { taken };
    let end =
        if matches!(point, KillPoint::RingPutCommitted | KillPoint::RingPutUnlocked) { put + 1 } else { put };
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

/// The one who repairs after a death at `point` dies as well, and the one after it too.
fn die_repairing(ring: &Ring<Mapping>, point: KillPoint, aborts: &mut u32) {
    use KillPoint::{RingHeadRepaired, RingPutUnlocked, RingTailRepaired};
    for _ in 0..2 {
        match point {
            RingPutUnlocked => return,
            _ if format!("{point:?}").starts_with("RingPut")
                || format!("{point:?}").starts_with("RingLink") =>
            {
                // Nothing is put when the lock cannot be had.
                die_at(RingTailRepaired, 1, || drop(ring.putting(Locking::Wait)));
            }
            _ => die_at(RingHeadRepaired, 1, || drop(ring.taking(Locking::Wait))),
        }
        *aborts += 1;
    }
}

/// How many frames the survivor itself has put and taken.
static BEHIND: AtomicU32 = AtomicU32::new(0);

#[test]
fn a_ring_survives_a_death_at_each_step() {
    use KillPoint::{
        RingLinkCommitted, RingLinkWritten, RingPutCommitted, RingPutCopied, RingPutLocked, RingPutUnlocked,
        RingTakeCommitted, RingTakeCopied, RingTakeLocked, RingUnlinkCommitted,
    };
    let points = [
        RingPutLocked,
        RingPutCopied,
        RingPutCommitted,
        RingPutUnlocked,
        RingLinkWritten,
        RingLinkCommitted,
        RingTakeLocked,
        RingTakeCopied,
        RingTakeCommitted,
        RingUnlinkCommitted,
    ];
    let arena = arena(64);
    let (_, done) = placed(&arena, Done::new());
    let mut aborts = 0;
    for point in points {
        // A fresh ring: its small first segments are linked and left; later only the largest is used.
        for round in 0..rounds() {
            let ring = ring(arena, 0);
            done.put.store(0, Ordering::Relaxed);
            done.taken.store(0, Ordering::Relaxed);
            BEHIND.store(0, Ordering::Relaxed);
            let mut random = Random::new(u64::from(round) << 8 | point as u64);
            let rare = matches!(point, RingLinkWritten | RingLinkCommitted | RingUnlinkCommitted);
            for _ in 0..if rare { 1 } else { 2 } {
                let nth = 1 + random.below(if rare { 1 } else { 30 }) as u32;
                die_at(point, nth, || put_and_take(&ring, done, random.next()));
                aborts += 1;
                if random.below(2) == 0 {
                    die_repairing(&ring, point, &mut aborts);
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
    println!("ring: {} steps and two of the repair, {aborts} deaths", points.len());
}

/// Takes and gives back blocks of a few sizes, noting each block it holds.
fn allocate_and_free(arena: &Arena<Mapping>, done: &Done, seed: u64, sizes: &[u64]) {
    let mut random = Random::new(seed);
    for _ in 0..3_000 {
        let place = &done.blocks[random.below(BLOCKS as u64) as usize];
        match place.load(Ordering::Relaxed) {
            0 => {
                let handle = arena.allocate(sizes[random.below(sizes.len() as u64) as usize]).unwrap();
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

#[test]
fn the_arena_survives_a_death_at_each_step() {
    use KillPoint::{ArenaCarved, ArenaExtentReserved, ArenaPopCommitted, ArenaPopMarked, ArenaPushMarked};
    let points = [ArenaPopMarked, ArenaPopCommitted, ArenaPushMarked, ArenaCarved, ArenaExtentReserved];
    let mut aborts = 0;
    for point in points {
        let arena = arena(u64::from(rounds()) * 3 + 20);
        let (_, done) = placed(&arena, Done::new());
        // Blocks of the survivor's own, which nobody may ever touch.
        let own: Vec<Handle> = (0..40).map(|i| arena.allocate(100 << (i % 4)).unwrap()).collect();
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
                    while arena.allocate(sizes[0]).is_ok() {}
                }
                allocate_and_free(&arena, done, seed, sizes);
            });
            aborts += 1;
            let mut repairers = 0;
            if matches!(point, ArenaPopMarked | ArenaPopCommitted) && round % 2 == 0 {
                // The one who repairs dies as well.
                die_at(KillPoint::ArenaListRepaired, 1, || {
                    for &size in sizes {
                        let _ = arena.allocate(size);
                    }
                });
                repairers = 1;
            }
            recovered += 1 + repairers;
            aborts += repairers;
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
        let expected = if matches!(point, ArenaPopMarked | ArenaPopCommitted) { recovered } else { 0 };
        assert_eq!(arena.recoveries(), expected, "holders of a list's lock that died");
    }
    println!("arena: {} steps, {aborts} deaths", points.len());
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
        let block = arena.allocate(sizes[i % sizes.len()]).expect("no list is damaged");
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
            let (tag, next) = seat.read_task(arena.backing(), offset, at, &mut out).unwrap();
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
        RingTakeCommitted, RingTakeCopied, RingTakeLocked, RingUnlinkCommitted, SeatBatchTaken,
        SeatInboxWritten, SeatItemAnswered, SeatItemStarted,
    };
    let points = [
        RingTakeLocked,
        RingTakeCopied,
        RingTakeCommitted,
        RingUnlinkCommitted,
        SeatInboxWritten,
        SeatBatchTaken,
        SeatItemStarted,
        SeatItemAnswered,
        KillPoint::RingPutCopied,
        KillPoint::RingPutCommitted,
        KillPoint::RingPutUnlocked,
    ];
    let arena = arena(32);
    let mut aborts = 0;
    for point in points {
        for round in 0..rounds() {
            let mut random = Random::new(u64::from(round) << 8 | point as u64);
            let (tasks, answers) = (ring(arena, 0), ring(arena, 0));
            let (offset, seat) = placed(&arena, Seat::new());
            for number in 0..TASKS {
                tasks.put(number as u32, &[&message(5, number, 24 + random.below(1_500) as usize)]).unwrap();
            }
            let nth = if point == RingUnlinkCommitted { 1 } else { 1 + random.below(15) as u32 };
            let seed = random.next();
            die_at(point, nth, || work(&arena, &tasks, &answers, offset, seat, seed));
            aborts += 1;
            let lost = bury(&arena, &tasks, &answers, offset, seat);
            let in_progress = matches!(point, SeatItemStarted | KillPoint::RingPutCopied);
            assert_eq!(
                lost,
                u32::from(in_progress),
                "{point:?}: the task in progress, and no other, is lost"
            );
            tasks.dismantle();
            answers.dismantle();
        }
    }
    println!("seat: {} steps, {aborts} deaths", points.len());
}

/// What a pool does for a dead worker; how many tasks are lost. Every other one is answered or still to do.
fn bury(
    arena: &Arena<Mapping>,
    tasks: &Ring<Mapping>,
    answers: &Ring<Mapping>,
    offset: u64,
    seat: &Seat,
) -> u32 {
    tasks.settle(|total| seat.settle(total)).unwrap();
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
        let (tag, next) = seat.read_task(arena.backing(), offset, at, &mut out).unwrap();
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

#[test]
fn a_wait_note_is_whole_or_unreadable_after_a_death_at_each_step() {
    let arena = arena(1);
    let table = arena.process_table();
    let wait = |n: u64| Wait { kind: WaitKind::Room, object: n, thread: 7, since: 2 * n, deadline: 3 * n };
    let mut aborts = 0;
    for point in [KillPoint::NoteClaimed, KillPoint::NoteWritten, KillPoint::NoteGivenBack] {
        for round in 1..=rounds() {
            let slot = table.reserve(1).unwrap();
            let notes = table.notes(slot);
            assert_eq!((notes.waits().count(), notes.unnoted()), (0, 0), "wiped for the next member");
            die_at(point, round, || {
                for n in 1.. {
                    let place = notes.begin_wait(wait(n));
                    notes.end_wait(place);
                }
            });
            let left: Vec<_> = notes.waits().collect();
            let expected = match point {
                KillPoint::NoteClaimed => vec![Noted::Unreadable],
                KillPoint::NoteWritten => vec![Noted::Wait(wait(u64::from(round)))],
                _ => vec![],
            };
            assert_eq!(left, expected, "{point:?}");
            // Another thread would go on with the notes that are left.
            let places: Vec<_> =
                (0..NOTES_PER_MEMBER - left.len()).map(|_| notes.begin_wait(wait(1))).collect();
            assert_eq!((notes.waits().count(), notes.unnoted()), (NOTES_PER_MEMBER, 0));
            places.into_iter().for_each(|place| notes.end_wait(place));
            table.release(slot);
            aborts += 1;
        }
    }
    println!("notes: {aborts} aborts");
}

#[test]
fn every_step_of_this_crate_is_tried() {
    println!("{} numbered steps", KillPoint::ALL.len());
    for point in KillPoint::ALL {
        let name = format!("{point:?}");
        assert!(
            ["Ring", "Arena", "Seat", "Note"].iter().any(|of| name.starts_with(of)),
            "{name} belongs to no test here"
        );
        assert!(!point.meaning().is_empty());
    }
    assert_eq!(KillPoint::ALL.len(), 25, "a new step needs its place in a test of this file");
    assert!(matches!(arena(1).allocate(1 << 40), Err(AllocateError::OutOfMemory { .. })));
}
