//! Pages of freed large blocks, kept and given back by members that die meanwhile: what is noted of a block is never more
//! than it has, and what is counted is put right.

use super::ledger::nothing_is_handed_out_twice;
use super::support::{Mapping, arena, be};
use super::{die_at, print_deaths, rounds};
use manyhands_sync::arena::{Arena, Handle};
use manyhands_sync::kill_point::KillPoint;
use std::sync::atomic::Ordering;

/// Steps of keeping pages and of giving them back.
pub(super) const POINTS: &[KillPoint] = &[
    KillPoint::ArenaKeepCounted,
    KillPoint::ArenaGivingBack,
    KillPoint::ArenaGivenBack,
    KillPoint::ArenaStripped,
];

/// Steps of freeing a block whose pages stay with it.
const KEEPING: &[KillPoint] = &[
    KillPoint::ArenaPopMarked,
    KillPoint::ArenaPopCommitted,
    KillPoint::ArenaFreed,
    KillPoint::ArenaKeepCounted,
    KillPoint::ArenaPushMarked,
    KillPoint::ArenaPushCommitted,
];

/// Steps of giving kept pages back.
const TRIMMING: &[KillPoint] =
    &[KillPoint::ArenaGivingBack, KillPoint::ArenaGivenBack, KillPoint::ArenaStripped];

/// Steps of freeing a block whose pages go at once.
const DROPPING: &[KillPoint] =
    &[KillPoint::ArenaGivingBack, KillPoint::ArenaGivenBack, KillPoint::ArenaPushMarked];

const MARK: u64 = 0xa5a5_a5a5_a5a5_a5a5;

/// Where the last word lies that this block was wanted for.
fn last_word(block: Handle, bytes: u64) -> u64 {
    block.offset + bytes - 8
}

/// A block with something in its last page.
fn marked(arena: &Arena<Mapping>, bytes: u64) -> Handle {
    let block = arena.allocate_exactly(bytes).unwrap().share();
    arena.backing().stomp(last_word(block, bytes), &MARK.to_ne_bytes());
    block
}

/// Does it in a member of its own that dies at the `nth` pass of that step, and clears up after it.
fn die_as_a_member(arena: &Arena<Mapping>, point: KillPoint, nth: u32, work: impl FnOnce()) {
    let table = arena.process_table();
    let slot = table.reserve(None).unwrap();
    die_at(point, nth, || {
        be(arena, slot);
        work();
    });
    assert!(table.end(slot));
    arena.sweep(|kind, _| panic!("a {kind:?}"));
    assert_eq!(arena.survey(usize::MAX).held_blocks, 0, "{point:?}");
}

/// Blocks of that size are handed out with pages, whether those are left from before or made sure of anew; with nothing
/// but zeroes to whom they are promised; and none of them is counted among the kept ones for ever.
fn all_is_right(arena: &Arena<Mapping>, bytes: u64, count: usize, zeroed: bool) {
    let committed = || arena.backing().account.committed.load(Ordering::Relaxed);
    let blocks: Vec<Handle> = (0..count)
        .map(|_| {
            let before = committed();
            let taken = if zeroed { arena.allocate_zeroed(bytes) } else { arena.allocate_exactly(bytes) };
            let block = taken.unwrap().share();
            let word = arena.backing().word(last_word(block, bytes));
            assert!(!zeroed || word == 0, "zeroes were promised");
            // Pages that are there are known by what is in them.
            assert!(committed() > before || zeroed || word == MARK, "touched without a commit");
            block
        })
        .collect();
    blocks.into_iter().for_each(|block| arena.free(block).unwrap());
    arena.trim(0);
    assert_eq!(arena.kept_bytes(), 0);
    nothing_is_handed_out_twice(arena);
}

#[test]
fn who_gives_pages_back_may_die_at_each_step() {
    let arena = arena(4);
    be(&arena, arena.process_table().reserve(None).unwrap());
    for round in 0..rounds() {
        for &point in TRIMMING {
            for zeroed in [false, true] {
                let bytes = 2 << 20;
                let blocks: Vec<Handle> = (0..3).map(|_| marked(&arena, bytes)).collect();
                blocks.into_iter().for_each(|block| arena.free(block).unwrap());
                assert!(arena.kept_bytes() > 0);
                die_as_a_member(&arena, point, 1 + round % 3, || _ = arena.trim(0));
                all_is_right(&arena, bytes, 3, zeroed);
            }
        }
    }
    print_deaths(TRIMMING);
}

#[test]
fn who_frees_a_block_that_keeps_its_pages_may_die_at_each_step() {
    let arena = arena(4);
    be(&arena, arena.process_table().reserve(None).unwrap());
    let bytes = 2 << 20;
    for _ in 0..rounds() {
        for &point in KEEPING {
            for zeroed in [false, true] {
                arena.free(marked(&arena, bytes)).unwrap();
                die_as_a_member(&arena, point, 1, || arena.free(marked(&arena, bytes)).unwrap());
                all_is_right(&arena, bytes, 1, zeroed);
            }
        }
    }
    print_deaths(KEEPING);
}

#[test]
fn who_frees_more_than_is_kept_may_die_before_the_block_is_on_its_list() {
    let arena = arena(8);
    be(&arena, arena.process_table().reserve(None).unwrap());
    let bytes = 100 << 20;
    for _ in 0..rounds() {
        for &point in DROPPING {
            for zeroed in [false, true] {
                let (one, other) = (marked(&arena, bytes), marked(&arena, bytes));
                arena.free(one).unwrap();
                arena.free(other).unwrap();
                let nth = if point == KillPoint::ArenaPushMarked { 2 } else { 1 };
                die_as_a_member(&arena, point, nth, || {
                    let blocks = [marked(&arena, bytes), marked(&arena, bytes)];
                    blocks.into_iter().for_each(|block| arena.free(block).unwrap());
                });
                all_is_right(&arena, bytes, 2, zeroed);
            }
        }
    }
    print_deaths(DROPPING);
}
