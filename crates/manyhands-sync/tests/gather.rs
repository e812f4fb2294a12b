//! Memory that was freed serves every size: an empty arena is an empty arena.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // not part of the structures that loom checks

mod support;

use manyhands_sync::arena::{
    AllocateError, Arena, BLOCK_HEADER_BYTES, CHUNK_BYTES, Handle, Kind, StaleHandle,
};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use support::{Mapping, Random, arena, be, times};

/// Blocks of that size until there is no memory for one more.
fn fill(arena: &Arena<Mapping>, bytes: u64) -> Vec<Handle> {
    let mut blocks = Vec::new();
    loop {
        match arena.allocate_exactly(bytes) {
            Ok(block) => blocks.push(block.share()),
            Err(AllocateError::OutOfMemory { .. }) => return blocks,
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn free_all(arena: &Arena<Mapping>, blocks: Vec<Handle>) {
    blocks.into_iter().for_each(|block| arena.free(block).unwrap());
}

#[test]
fn an_arena_that_was_filled_with_one_size_and_emptied_serves_every_other() {
    let arena = arena(2);
    let sizes = [1 << 20, 5 << 20, 60_000, 30 << 20, 200, 100 << 20, 3 << 20, 150_000, 900, 1 << 20];
    let mut most: Vec<(u64, usize)> = Vec::new();
    for round in 0..3 {
        for &bytes in &sizes {
            let blocks = fill(&arena, bytes);
            let held = blocks.len() as u64 * bytes;
            assert!(held > CHUNK_BYTES / 3, "{held} bytes in blocks of {bytes}, round {round}");
            assert!(arena.survey(usize::MAX).complete);
            // As many as when this size was the first one.
            match most.iter().find(|(of, _)| *of == bytes) {
                Some((_, count)) => assert!(blocks.len() >= *count, "{} of {bytes}", blocks.len()),
                None => most.push((bytes, blocks.len())),
            }
            free_all(&arena, blocks);
            assert_eq!(arena.survey(usize::MAX).held_blocks, 0);
        }
    }
    assert_eq!(arena.extent_bytes(), 2 * CHUNK_BYTES);
}

#[test]
fn a_block_over_the_border_of_extents_is_had_when_nothing_else_is() {
    let arena = arena(3);
    let small = fill(&arena, 40 << 20);
    assert_eq!((small.len(), arena.extent_bytes()), (3, 3 * CHUNK_BYTES));
    free_all(&arena, small);
    let large = arena.allocate_exactly(150 << 20).unwrap().share();
    arena.backing().stomp(large.offset, &[1]);
    arena.backing().stomp(large.offset + (150 << 20) - 1, &[2]);
    assert!(arena.payload_bytes(large).unwrap() >= 150 << 20);
    arena.free(large).unwrap();
    assert_eq!(fill(&arena, 40 << 20).len(), 3);
}

/// Copies what lies in front of a block's payload: its header.
fn header_of(arena: &Arena<Mapping>, block: Handle) -> Vec<u8> {
    let mut copy = Vec::new();
    assert!(arena.backing().copy_out(
        block.offset - BLOCK_HEADER_BYTES,
        BLOCK_HEADER_BYTES as usize,
        &mut copy
    ));
    copy
}

#[test]
fn a_stale_handle_names_nothing_however_its_memory_is_used_since() {
    let arena = arena(1);
    let mut random = Random::new(9);
    let mut stale: Vec<(Handle, Vec<u8>)> = Vec::new();
    let (mut known, mut forged) = (HashSet::new(), 0);
    for round in 0..times(15) {
        let blocks = fill(&arena, 100 << random.below(18));
        let by_place: BTreeMap<u64, u64> =
            blocks.iter().map(|block| (block.offset, arena.payload_bytes(*block).unwrap())).collect();
        assert!(blocks.iter().all(|&block| known.insert(block)), "handed out before, round {round}");
        for (handle, header) in &stale {
            // Whatever lies in a message: a copy of the header that was in this very place, say.
            let at = handle.offset - BLOCK_HEADER_BYTES;
            if let Some((&start, &bytes)) = by_place.range(..=at).next_back()
                && at + BLOCK_HEADER_BYTES <= start + bytes
            {
                arena.backing().stomp(at, header);
                forged += 1;
            }
            assert_eq!(arena.check(*handle), Err(StaleHandle));
            assert_eq!(arena.free(*handle), Err(StaleHandle));
            assert_eq!(arena.payload_bytes(*handle), Err(StaleHandle));
        }
        // Nor does a sweep, or who only looks, find any of them.
        arena.sweep(|kind, _| panic!("a {kind:?}"));
        assert_eq!(arena.survey(usize::MAX).held_blocks, blocks.len() as u64);
        let some = blocks.iter().step_by(blocks.len().div_ceil(50));
        stale.extend(some.map(|&block| (block, header_of(&arena, block))));
        free_all(&arena, blocks);
    }
    assert!(forged > 20, "{forged} headers in messages");
}

#[test]
fn what_is_promised_to_be_zero_is_zero_wherever_the_memory_was() {
    let arena = arena(2);
    let mut random = Random::new(3);
    for _ in 0..times(60) {
        let bytes = 60_000 << random.below(9);
        let mut blocks = Vec::new();
        for _ in 0..1 + random.below(5) {
            if let Ok(block) = arena.allocate_zeroed(bytes) {
                let mut all = Vec::new();
                assert!(arena.backing().copy_out(block.offset, bytes as usize, &mut all));
                assert!(all.iter().all(|&byte| byte == 0), "{bytes} bytes were promised to be zero");
                arena.backing().stomp(block.offset, &vec![0xee; bytes as usize]);
                blocks.push(block.share());
            }
        }
        free_all(&arena, blocks);
        match random.below(6) {
            0 => _ = arena.trim(0),
            1 => free_all(&arena, fill(&arena, 90_000)),
            _ => {}
        }
    }
}

/// As many blocks of that kind as there are.
fn fill_with(arena: &Arena<Mapping>, kind: Kind, bytes: u64) -> Vec<Handle> {
    std::iter::from_fn(|| arena.allocate_kind(kind, bytes).ok().map(|block| block.share())).collect()
}

#[test]
fn memory_that_kinds_had_serves_everything_and_their_handles_name_nothing() {
    let arena = arena(1);
    let fresh = largest(&arena);
    for kind in [Kind::Ring, Kind::Lock, Kind::Reference, Kind::Seat] {
        let kinds = fill_with(&arena, kind, 700);
        assert!(kinds.len() > 60_000, "{} of {kind:?}", kinds.len());
        free_all(&arena, kinds.clone());
        assert_eq!(largest(&arena), fresh);
        // Something else lies there now, a forged header of the old block among it.
        let blocks = fill(&arena, 1 << 20);
        for (old, header) in kinds.iter().step_by(997).map(|&old| (old, header_of(&arena, old))) {
            let at = old.offset - BLOCK_HEADER_BYTES;
            if blocks.iter().any(|block| (block.offset..block.offset + (1 << 20) - 64).contains(&at)) {
                arena.backing().stomp(at, &header);
            }
            assert_eq!((arena.check(old), arena.free(old)), (Err(StaleHandle), Err(StaleHandle)));
        }
        free_all(&arena, blocks);
    }
}

#[test]
fn kinds_that_are_held_keep_their_memory_and_part_nothing() {
    let arena = arena(1);
    let fresh = largest(&arena);
    let messages = fill(&arena, 300_000);
    // Memory is full; what is made now has a place of its own.
    let kinds: Vec<Handle> =
        (0..1_000).map(|_| arena.allocate_kind(Kind::Ring, 700).unwrap().share()).collect();
    free_all(&arena, messages);
    assert_eq!(largest(&arena), fresh);
    for kind in kinds {
        assert_eq!(arena.check_kind(Kind::Ring, kind), Ok(()));
        arena.free(kind).unwrap();
    }
}

#[test]
fn what_is_made_to_stay_after_memory_was_full_parts_nothing() {
    let arena = arena(1);
    let fresh = largest(&arena);
    let mut random = Random::new(7);
    for _ in 0..times(5) {
        let mut messages = Vec::new();
        while let Ok(block) = arena.allocate_exactly(1 << random.below(16)) {
            messages.push(block.share());
        }
        free_all(&arena, messages);
        // It looks once in a while.
        std::thread::sleep(std::time::Duration::from_millis(500));
        arena.prepare_for_what_stays();
        let lasting = [100, 5_000, 12_000].map(|bytes| arena.allocate_zeroed(bytes).unwrap().share());
        assert_eq!(largest(&arena), fresh);
        free_all(&arena, lasting.to_vec());
    }
}

/// The largest block that can be had, in MiB.
fn largest(arena: &Arena<Mapping>) -> u64 {
    let found = (1..=arena.extent_bytes() >> 20).rev().find_map(|mib| {
        let block = arena.allocate_exactly((mib << 20) - BLOCK_HEADER_BYTES).ok()?.share();
        arena.free(block).unwrap();
        Some(mib)
    });
    found.unwrap_or(0)
}

#[test]
fn gathered_memory_keeps_its_pages_up_to_the_cap_and_a_trim_gives_them_back() {
    let arena = arena(4);
    let account = arena.backing().account;
    for bytes in [60_000, 3 << 20, 500, 300_000] {
        free_all(&arena, fill(&arena, bytes));
        let kept = arena.kept_bytes();
        assert!(kept <= CHUNK_BYTES, "{kept} bytes kept, of 64 MiB at most");
    }
    // Small ones are everywhere now; gathered, they are given back beyond the cap.
    let given_back = account.given_back.load(Ordering::Relaxed);
    free_all(&arena, vec![arena.allocate_exactly(100 << 20).unwrap().share()]);
    assert!(account.given_back.load(Ordering::Relaxed) > given_back);
    arena.trim(0);
    assert_eq!((arena.kept_bytes(), arena.trim(0)), (0, 0));
}

#[test]
fn what_lies_on_lists_beside_a_gathering_is_as_it_was() {
    let arena = arena(1);
    let small: Vec<Handle> = (0..5_000).map(|_| arena.allocate(200).unwrap().share()).collect();
    // Every region of theirs has one that is held.
    let (held, freed): (Vec<_>, Vec<_>) = (0..).zip(small).partition(|(i, _)| i % 200 == 0);
    let freed: Vec<Handle> = freed.into_iter().map(|(_, block)| block).collect();
    free_all(&arena, freed.clone());
    free_all(&arena, fill(&arena, 1 << 20));
    free_all(&arena, vec![arena.allocate(20 << 20).unwrap().share()]);
    for (_, block) in &held {
        arena.check(*block).unwrap();
    }
    // Last in, first out, as before.
    for old in freed.iter().rev() {
        assert_eq!(arena.allocate(200).unwrap().share().offset, old.offset);
    }
}

#[test]
fn members_that_want_other_sizes_at_once_all_get_memory() {
    let arena = arena(2);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Each alone fits; no two threads hold more than the arena has.
        for (thread, bytes) in [(0u64, 6 << 20), (1, 300_000), (2, 2_000), (3, 15 << 20)] {
            let over = &over;
            scope.spawn(move || {
                let mut random = Random::new(thread);
                for round in 0..times(300) {
                    let most = ((12 << 20) / bytes).max(1);
                    let blocks: Vec<Handle> = (0..1 + random.below(most))
                        .map(|_| {
                            arena
                                .allocate_exactly(bytes)
                                .unwrap_or_else(|e| panic!("{thread}: {e:?}"))
                                .share()
                        })
                        .collect();
                    let mark = thread << 32 | round;
                    for block in &blocks {
                        arena.backing().stomp(block.offset, &mark.to_le_bytes());
                        arena.backing().stomp(block.offset + bytes - 8, &mark.to_le_bytes());
                    }
                    for block in blocks {
                        assert_eq!(arena.backing().word(block.offset), mark, "somebody else wrote into it");
                        assert_eq!(arena.backing().word(block.offset + bytes - 8), mark);
                        arena.free(block).unwrap();
                    }
                    assert!(!over.load(Ordering::Relaxed));
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..times(200) {
                let _ = arena.survey(usize::MAX);
                arena.sweep(|kind, _| panic!("a {kind:?}"));
                arena.trim(0);
            }
        });
    });
    assert!(arena.survey(usize::MAX).complete);
    assert_eq!(arena.survey(usize::MAX).held_blocks, 0);
}

#[test]
fn what_a_dead_member_held_is_swept_and_serves_every_size() {
    let arena = arena(2);
    let table = arena.process_table();
    let own = table.reserve(None).unwrap();
    be(&arena, own);
    for bytes in [1 << 20, 500, 9 << 20, 100_000] {
        let slot = table.reserve(None).unwrap();
        let child = support::fork(|| {
            be(&arena, slot);
            assert!(!fill(&arena, bytes).is_empty());
        });
        assert_eq!(support::reap(child), 0);
        table.end(slot);
        arena.sweep(|kind, _| panic!("a {kind:?}"));
        assert_eq!(arena.survey(usize::MAX).held_blocks, 0);
    }
}

#[test]
fn trims_take_no_longer_the_more_free_blocks_there_are() {
    let arena = arena(64);
    let many: Vec<Handle> =
        (0..times(12_000)).map(|_| arena.allocate_exactly(80_000).unwrap().share()).collect();
    let count = many.len() as u64;
    // Each is freed and its pages go at once, as when a process drops its last channel. Ten seconds would be the square.
    let began = std::time::Instant::now();
    for block in many {
        arena.free(block).unwrap();
        assert!(arena.trim(0) > 0);
        assert_eq!(arena.kept_bytes(), 0);
    }
    println!("{count} blocks freed and trimmed one by one: {:?}", began.elapsed());
    let lone = arena.allocate_exactly(80_000).unwrap().share();
    let began = std::time::Instant::now();
    for _ in 0..1_000 {
        assert_eq!(arena.trim(0), 0);
    }
    println!("1,000 trims beside {count} free blocks without pages: {:?}", began.elapsed());
    arena.free(lone).unwrap();
}
