//! The arena through its public names, in one process.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // not part of the structures that loom checks

mod support;

use manyhands_sync::arena::{
    AllocateError, BLOCK_HEADER_BYTES, Blank, CHUNK_BYTES, Handle, Kind, OpenError, StaleHandle,
};
use manyhands_sync::memory::Memory;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use support::{Mapping, Random, arena, create, open, times};

/// Blocks that are held, by where they begin; panics when one overlaps another.
#[derive(Default)]
struct Held(HashMap<u64, (Handle, u64)>);

impl Held {
    fn add(&mut self, handle: Handle, bytes: u64) {
        let apart =
            self.0.values().all(|&(h, b)| h.offset + b <= handle.offset || handle.offset + bytes <= h.offset);
        assert!(apart, "{handle:?} overlaps a block that is held");
        assert!(self.0.insert(handle.offset, (handle, bytes)).is_none());
    }
}

#[test]
fn blocks_do_not_overlap_and_hold_what_was_asked_for() {
    let arena = arena(8);
    let (mut held, mut random) = (Held::default(), Random::new(5));
    for _ in 0..times(4_000) {
        if random.below(3) == 0 && !held.0.is_empty() {
            let at = *held.0.keys().nth(random.below(held.0.len() as u64) as usize).unwrap();
            let (handle, _) = held.0.remove(&at).unwrap();
            arena.free(handle).unwrap();
            assert_eq!(arena.free(handle), Err(StaleHandle));
            assert_eq!(arena.check(handle), Err(StaleHandle));
            continue;
        }
        let magnitude = 7 + random.below(14);
        let wanted = random.below(1 << magnitude);
        let handle = arena.allocate(wanted).unwrap().share();
        let bytes = arena.payload_bytes(handle).unwrap();
        assert!(bytes >= wanted);
        assert!(handle.offset.is_multiple_of(BLOCK_HEADER_BYTES));
        held.add(handle, bytes);
        arena.backing().stomp(handle.offset, &vec![0xee; bytes as usize]);
    }
}

#[test]
fn freed_blocks_are_reused_first_under_a_new_generation() {
    let arena = arena(1);
    let first = arena.allocate(1_000).unwrap().share();
    arena.free(first).unwrap();
    let second = arena.allocate(1_000).unwrap().share();
    assert_eq!(first.offset, second.offset);
    assert_ne!(first.generation, second.generation);
    assert_eq!(arena.check(first), Err(StaleHandle));
    assert_eq!(arena.free(first), Err(StaleHandle));
    assert_eq!(arena.check(second), Ok(()));
}

#[test]
fn a_generation_wraps_without_becoming_none() {
    let arena = arena(1);
    let handle = arena.allocate(100).unwrap().share();
    // The generation is the header's first word.
    let at = handle.offset - BLOCK_HEADER_BYTES;
    arena.backing().stomp(at, &u32::MAX.to_le_bytes());
    let last = Handle { generation: u32::MAX, ..handle };
    arena.free(last).unwrap();
    let next = arena.allocate(100).unwrap().share();
    assert_eq!(next, Handle { generation: 1, ..handle });
    assert_eq!(arena.check(last), Err(StaleHandle));
}

#[test]
fn one_of_many_who_free_the_same_handle_succeeds() {
    let arena = arena(1);
    for _ in 0..times(2_000) {
        let handle = arena.allocate(200).unwrap().share();
        let freed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..3).map(|_| scope.spawn(|| usize::from(arena.free(handle).is_ok()))).collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(freed, 1);
    }
    let (a, b) = (arena.allocate(200).unwrap().share(), arena.allocate(200).unwrap().share());
    assert_ne!(a.offset, b.offset);
}

#[test]
fn absurd_handles_are_stale() {
    let arena = arena(1);
    let block = arena.allocate(5_000).unwrap().share();
    let handle = |offset| Handle { offset, generation: block.generation };
    for offset in
        [0, 1, 63, 64, block.offset + 1, block.offset + 64, CHUNK_BYTES, CHUNK_BYTES * 9, u64::MAX, 1 << 63]
    {
        assert_eq!(arena.check(handle(offset)), Err(StaleHandle));
        assert_eq!(arena.free(handle(offset)), Err(StaleHandle));
        assert_eq!(arena.payload_bytes(handle(offset)), Err(StaleHandle));
    }
    assert_eq!(Handle::from_bytes(&block.to_bytes()), Some(block));
    assert_eq!(Handle::from_bytes(&[0; 11]), None);
    assert_eq!(Handle::from_bytes(&[0; 13]), None);
}

#[test]
fn kinds_are_recycled_as_their_own_kind_only() {
    let arena = arena(1);
    let ring = arena.allocate_kind(Kind::Ring, 200).unwrap().share();
    arena.free(ring).unwrap();
    assert_ne!(arena.allocate_kind(Kind::Seat, 200).unwrap().share().offset, ring.offset);
    assert_ne!(arena.allocate(200).unwrap().share().offset, ring.offset);
    assert_eq!(arena.allocate_kind(Kind::Ring, 200).unwrap().share().offset, ring.offset);
    assert_eq!(arena.payload_bytes(ring), Err(StaleHandle));
}

#[test]
fn a_kind_is_never_served_from_a_smaller_block() {
    let arena = arena(1);
    let small = arena.allocate_kind(Kind::Pool, 100).unwrap().share();
    let behind = arena.allocate_kind(Kind::Pool, 100).unwrap().share();
    arena.free(small).unwrap();
    let large = arena.allocate_kind(Kind::Pool, 10_000).unwrap().share();
    assert!(large.offset > behind.offset, "a block of 100 bytes was handed out for 10,000");
    // The small one is not lost either.
    assert_eq!(arena.allocate_kind(Kind::Pool, 100).unwrap().share().offset, small.offset);
}

#[test]
fn large_blocks_are_committed_before_they_are_handed_out_each_time_their_pages_are_fresh() {
    let arena = arena(16);
    let account = arena.backing().account;
    let block = arena.allocate(100 << 20).unwrap().share();
    assert!(account.committed.load(Ordering::Relaxed) >= 100 << 20);
    arena.free(block).unwrap();
    // Below the cap its pages stay with it.
    assert_eq!(account.given_back.load(Ordering::Relaxed), 0);
    let kept = arena.kept_bytes();
    assert!(kept >= 100 << 20);
    let committed = account.committed.load(Ordering::Relaxed);
    let block = arena.allocate(100 << 20).unwrap().share();
    assert_eq!((account.committed.load(Ordering::Relaxed), arena.kept_bytes()), (committed, 0));

    // Above it they go, and are committed again for the next holder.
    let others = [arena.allocate(100 << 20).unwrap().share(), arena.allocate(100 << 20).unwrap().share()];
    arena.free(others[0]).unwrap();
    arena.free(others[1]).unwrap();
    arena.free(block).unwrap();
    let given_back = account.given_back.load(Ordering::Relaxed);
    assert!(given_back >= 100 << 20, "{given_back}");
    assert!(arena.kept_bytes() <= 256 << 20);
    let committed = account.committed.load(Ordering::Relaxed);
    for _ in 0..3 {
        arena.allocate(100 << 20).unwrap().share();
    }
    assert!(account.committed.load(Ordering::Relaxed) >= committed + (100 << 20), "touched without a commit");
    assert_eq!(arena.kept_bytes(), 0);
}

#[test]
fn a_trim_gives_back_what_is_kept_and_a_later_block_is_committed_again() {
    let arena = arena(16);
    let account = arena.backing().account;
    let blocks: Vec<Handle> = [70_000, 1 << 20, 30 << 20, 70 << 20]
        .into_iter()
        .map(|bytes| arena.allocate_exactly(bytes).unwrap().share())
        .collect();
    let held = arena.allocate(1 << 20).unwrap().share();
    for &block in &blocks {
        arena.free(block).unwrap();
    }
    let kept = arena.kept_bytes();
    assert!(kept >= 101 << 20);
    // Somebody has wanted a block just now.
    assert_eq!((arena.trim(1), arena.kept_bytes()), (0, kept));
    assert_eq!((arena.trim(0), arena.kept_bytes(), arena.trim(0)), (kept, 0, 0));
    assert!(account.given_back.load(Ordering::Relaxed) > kept - (1 << 20));
    assert!(blocks.iter().all(|&block| arena.check(block) == Err(StaleHandle)));
    arena.check(held).unwrap();
    let committed = account.committed.load(Ordering::Relaxed);
    let again = arena.allocate_exactly(30 << 20).unwrap().share();
    assert!(blocks.iter().any(|block| block.offset == again.offset));
    assert!(account.committed.load(Ordering::Relaxed) >= committed + (30 << 20));
}

#[test]
fn only_what_is_wanted_of_a_large_block_is_committed() {
    let arena = arena(8);
    let account = arena.backing().account;
    arena.allocate_exactly((32 << 20) + 1).unwrap().share();
    let committed = account.committed.load(Ordering::Relaxed);
    assert!((32 << 20..34 << 20).contains(&committed), "{committed}");
}

#[test]
fn what_is_kept_is_a_part_of_the_limit_at_most() {
    let arena = arena(4);
    let blocks: Vec<Handle> = (0..4).map(|_| arena.allocate_exactly(20 << 20).unwrap().share()).collect();
    blocks.into_iter().for_each(|block| arena.free(block).unwrap());
    assert!((1..=64 << 20).contains(&arena.kept_bytes()), "{}", arena.kept_bytes());
}

#[test]
fn a_system_without_memory_is_an_error_and_costs_the_arena_nothing() {
    let arena = arena(4);
    arena.backing().account.refuse.store(true, Ordering::Relaxed);
    for _ in 0..100 {
        let refused = arena.allocate(40 << 20);
        assert!(matches!(refused, Err(AllocateError::OutOfMemory { .. })), "{refused:?}");
    }
    arena.backing().account.refuse.store(false, Ordering::Relaxed);
    arena.allocate(40 << 20).unwrap().share();
    assert!(arena.extent_bytes() <= 2 * CHUNK_BYTES, "refusals ate the arena");
}

#[test]
fn the_limit_is_an_error_that_names_it_and_small_blocks_still_fit() {
    let arena = arena(2);
    let limit_bytes = 2 * CHUNK_BYTES;
    let refused = arena.allocate(200 << 20).unwrap_err();
    assert!(
        matches!(refused, AllocateError::OutOfMemory { limit_bytes: l, .. } if l == limit_bytes),
        "{refused:?}"
    );
    assert!(arena.allocate(u64::MAX).is_err());
    assert!(arena.allocate(1 << 39).is_err());
    assert!(arena.allocate_kind(Kind::Pool, u64::MAX).is_err());
    let mut blocks = Vec::new();
    while let Ok(block) = arena.allocate(1 << 20) {
        blocks.push(block.share());
    }
    assert!(blocks.len() >= 60, "{}", blocks.len());
    let last = blocks.pop().unwrap();
    arena.free(last).unwrap();
    assert_eq!(arena.allocate(1 << 20).unwrap().share().offset, last.offset);
}

#[test]
fn blocks_of_many_chunks_lie_in_one_extent() {
    let arena = arena(12);
    let block = arena.allocate(200 << 20).unwrap().share();
    let bytes = arena.payload_bytes(block).unwrap();
    assert!(bytes >= 200 << 20 && block.offset + bytes <= 12 * CHUNK_BYTES);
    let small = arena.allocate(100).unwrap().share();
    assert!(small.offset < block.offset || small.offset >= block.offset + bytes);
}

#[test]
fn another_build_and_no_arena_are_refused() {
    let memory = Mapping::new(1);
    assert_eq!(open(memory, 11).unwrap_err(), OpenError::NotAnArena);
    create(memory, CHUNK_BYTES).unwrap();
    assert_eq!(open(memory, 12).unwrap_err(), OpenError::OtherBuild);
    assert_eq!(open(memory, 11).unwrap().family(), 7);
}

#[test]
fn many_threads_allocate_and_free_without_ever_sharing_a_block() {
    let arena = arena(8);
    std::thread::scope(|scope| {
        for thread in 0..6u64 {
            scope.spawn(move || {
                let mut random = Random::new(thread);
                let mut mine: Vec<(Handle, u64)> = Vec::new();
                for round in 0..times(20_000) {
                    if mine.len() > 20 || (random.below(2) == 0 && !mine.is_empty()) {
                        let (handle, mark) = mine.swap_remove(random.below(mine.len() as u64) as usize);
                        assert_eq!(arena.backing().word(handle.offset), mark, "somebody else wrote into it");
                        arena.free(handle).unwrap();
                    } else {
                        let handle = arena.allocate(1 << random.below(12)).unwrap().share();
                        let mark = thread << 32 | round;
                        arena.backing().stomp(handle.offset, &mark.to_le_bytes());
                        mine.push((handle, mark));
                    }
                }
            });
        }
    });
    assert!(arena.extent_bytes() <= 2 * CHUNK_BYTES);
}

#[test]
fn damaged_free_lists_give_errors_and_never_a_loop() {
    for how in 0..6u64 {
        let arena = arena(1);
        let blocks: Vec<Handle> = (0..20).map(|_| arena.allocate(1_000).unwrap().share()).collect();
        for &block in &blocks {
            arena.free(block).unwrap();
        }
        let head = blocks[19].offset - BLOCK_HEADER_BYTES;
        let middle = blocks[9].offset - BLOCK_HEADER_BYTES;
        let next = 16;
        match how {
            0 => arena.backing().stomp(head + next, &head.to_le_bytes()),
            1 => arena.backing().stomp(middle + next, &head.to_le_bytes()),
            2 => arena.backing().stomp(middle + next, &(1u64 << 60).to_le_bytes()),
            3 => arena.backing().stomp(middle + next, &(head + 8).to_le_bytes()),
            4 => arena.backing().stomp(middle, &[0xff; 64]),
            _ => arena.backing().stomp(head, &[0; 64]),
        }
        let mut seen = std::collections::HashSet::new();
        let mut errors = 0;
        for _ in 0..60 {
            match arena.allocate(1_000) {
                Ok(block) => assert!(seen.insert(block.share().offset), "handed out twice"),
                Err(AllocateError::Corrupted) => errors += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!(errors, 1, "the damage was found once, and the list cut there");
        arena.allocate(3_000).unwrap().share();
    }
}

#[test]
fn random_damage_in_block_headers_never_leads_out_of_the_arena() {
    for seed in 0..times(2_000) {
        let mut random = Random::new(seed);
        let arena = arena(1);
        let mut blocks: Vec<Handle> =
            (0..30).map(|_| arena.allocate(100 << random.below(4)).unwrap().share()).collect();
        for _ in 0..15 {
            let at = random.below(blocks.len() as u64) as usize;
            arena.free(blocks.swap_remove(at)).unwrap();
        }
        for _ in 0..3 {
            let block = blocks[random.below(15) as usize].offset - BLOCK_HEADER_BYTES;
            let at = block + random.below(5) * 8;
            let value = if random.below(2) == 0 { random.next() } else { random.below(CHUNK_BYTES) };
            arena.backing().stomp(at, &value.to_le_bytes());
        }
        for block in blocks {
            let _ = arena.payload_bytes(block);
            let _ = arena.free(block);
        }
        for _ in 0..60 {
            if let Ok(block) = arena.allocate(100 << random.below(4)).map(Blank::share) {
                assert!(arena.backing().resolve(block.offset, 100).is_some());
            }
        }
        arena.backing().wipe();
    }
}
