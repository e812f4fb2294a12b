//! Empty rings move out of the way of what needs much memory at once, and are the same rings as before.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // not part of the structures that loom checks

mod support;

use manyhands_sync::arena::{Arena, Handle, Kind, Owner};
use manyhands_sync::compaction::compact;
use manyhands_sync::pool_header::PoolHeader;
use manyhands_sync::queue_header::QueueHeader;
use manyhands_sync::ring::{Locking, Ring};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use support::{Mapping, Random, arena, be, times};

/// The largest message that fits, in MiB.
fn largest(arena: &Arena<Mapping>) -> u64 {
    let found = (1..64).rev().find_map(|mib| {
        let block = arena.allocate_exactly((mib << 20) - 64).ok()?.share();
        arena.free(block).unwrap();
        Some(mib)
    });
    found.unwrap_or(0)
}

/// A queue, and a reference to it.
fn queue(arena: &Arena<Mapping>) -> (Ring<Mapping>, Handle) {
    let block = arena.allocate_kind(Kind::Ring, size_of::<QueueHeader>() as u64).unwrap();
    let (header, handle) = block.lay(QueueHeader::new(Ring::new_header(arena, 0).unwrap())).unwrap();
    let ring = Ring::found(*arena, &header.ring, handle);
    (ring, arena.refer(handle, arena.me()).unwrap())
}

/// A family of one process.
fn family() -> Arena<Mapping> {
    let arena = arena(1);
    be(&arena, arena.process_table().reserve(None).unwrap());
    arena
}

fn put(ring: &Ring<Mapping>, number: u32) {
    ring.put(number, &[&number.to_le_bytes(), &[7; 200]]).unwrap();
}

fn take(ring: &Ring<Mapping>) -> u32 {
    let mut frame = Vec::new();
    let tag = ring.try_take(&mut frame, Locking::Wait).unwrap();
    assert_eq!((&frame[..4], frame.len()), (&tag.to_le_bytes()[..], 204));
    tag
}

/// Messages of all sizes until there is no memory for one more.
fn fill(arena: &Arena<Mapping>, random: &mut Random) -> Vec<Handle> {
    let mut messages = Vec::new();
    while let Ok(block) = arena.allocate_exactly(1 << random.below(23)) {
        messages.push(block.share());
    }
    messages
}

#[test]
fn queues_that_grew_while_memory_was_full_part_nothing_when_they_are_empty() {
    let arena = family();
    let (first, _) = queue(&arena);
    let fresh = largest(&arena);
    let mut random = Random::new(1);
    let mut rings = vec![first];
    for round in 0..times(8) {
        let mut messages = fill(&arena, &mut random);
        // Each grows where something is free at the moment, and a new one is made there.
        for ring in &rings {
            for number in 0..2_000 {
                while ring.put(number, &[&number.to_le_bytes(), &[7; 200]]).is_err() {
                    arena.free(messages.swap_remove(random.below(messages.len() as u64) as usize)).unwrap();
                }
            }
        }
        if rings.len() < 8 {
            messages.drain(..10).for_each(|block| arena.free(block).unwrap());
            rings.push(queue(&arena).0);
        }
        messages.into_iter().for_each(|block| arena.free(block).unwrap());
        for ring in &rings {
            while !ring.is_empty() {
                take(ring);
            }
        }
        assert_eq!(largest(&arena), fresh, "round {round}");
        for ring in &rings {
            (0..3).for_each(|number| put(ring, number));
            assert_eq!([take(ring), take(ring), take(ring)], [0, 1, 2]);
        }
        let held = arena.survey(usize::MAX).held_bytes;
        assert!(held < rings.len() as u64 * (16 << 10), "{held} bytes for {} empty queues", rings.len());
    }
}

#[test]
fn what_lies_in_a_ring_stays_where_it_is() {
    let arena = family();
    let (ring, _) = queue(&arena);
    (0..500).for_each(|number| put(&ring, number));
    (0..499).for_each(|number| assert_eq!(take(&ring), number));
    assert!(!compact(arena));
    assert_eq!(take(&ring), 499);
    assert!(compact(arena));
    assert!(!compact(arena), "there is nothing better than the first free unit");
    (0..500).for_each(|number| put(&ring, number));
    (0..500).for_each(|number| assert_eq!(take(&ring), number));
}

#[test]
fn a_queue_that_nobody_refers_to_any_more_is_left_alone() {
    let arena = family();
    let (ring, reference) = queue(&arena);
    (0..500).for_each(|number| put(&ring, number));
    (0..500).for_each(|number| assert_eq!(take(&ring), number));
    let (_, handle) = arena.release_reference(reference).unwrap().unwrap();
    assert!(!compact(arena));
    ring.dismantle();
    arena.free(handle).unwrap();
    assert_eq!(arena.survey(usize::MAX).held_blocks, 0);
}

#[test]
fn the_rings_of_a_pool_move_as_well() {
    let arena = family();
    let block = arena.allocate_kind(Kind::Pool, size_of::<PoolHeader>() as u64).unwrap();
    let rings = [(); 2].map(|()| Ring::new_header(&arena, 0).unwrap());
    let [tasks, results] = rings;
    let (header, handle) = block.lay(PoolHeader::new(0, tasks, results)).unwrap();
    let rings = [&header.tasks, &header.results].map(|ring| Ring::found(arena, ring, handle));
    arena.refer(handle, arena.me()).unwrap();
    let fresh = largest(&arena);
    let messages = fill(&arena, &mut Random::new(5));
    let last = messages.len() - 5;
    messages[last..].iter().for_each(|&block| arena.free(block).unwrap());
    for ring in &rings {
        (0..100).for_each(|number| put(ring, number));
        (0..100).for_each(|number| assert_eq!(take(ring), number));
    }
    messages[..last].iter().for_each(|&block| arena.free(block).unwrap());
    assert_eq!(largest(&arena), fresh);
    for ring in &rings {
        (0..1_000).for_each(|number| put(ring, number));
        (0..1_000).for_each(|number| assert_eq!(take(ring), number));
    }
}

#[test]
fn producers_and_consumers_at_work_lose_nothing_while_their_ring_moves() {
    let arena = family();
    let (ring, _) = queue(&arena);
    let (over, moves) = (AtomicBool::new(false), AtomicU32::new(0));
    let count = times(20_000) as u32;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random::new(2);
            while !over.load(Ordering::Relaxed) {
                // What it moves to is free before it, or not.
                let blocks: Vec<Handle> =
                    (0..random.below(40)).filter_map(|_| Some(arena.allocate(8_300).ok()?.share())).collect();
                moves.fetch_add(u32::from(compact(arena)), Ordering::Relaxed);
                blocks.into_iter().for_each(|block| arena.free(block).unwrap());
            }
        });
        scope.spawn(|| {
            for number in 0..count {
                put(&ring, number);
                if number % 300 == 0 {
                    std::thread::yield_now();
                }
            }
        });
        for number in 0..count {
            while ring.is_empty() {
                std::thread::yield_now();
            }
            assert_eq!(take(&ring), number);
        }
        over.store(true, Ordering::Relaxed);
    });
    println!("{} moves", moves.load(Ordering::Relaxed));
    assert_eq!(ring.recoveries(), (0, 0));
    // Its header, its only segment, and the reference.
    assert_eq!(arena.survey(usize::MAX).held_blocks, 3);
    assert!(matches!(arena.me(), Owner::Member(..)));
}
