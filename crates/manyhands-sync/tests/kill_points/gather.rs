//! Memory on its way from one size to another, at the hands of members that die meanwhile: whatever they were at, a sweep
//! gives all of it back, every size is served from it as before, and nothing of the living is touched.

use super::ledger::nothing_is_handed_out_twice;
use super::support::{Mapping, Random, arena, be};
use super::{die_at, may_die_at, print_deaths, rounds};
use manyhands_sync::arena::{AllocateError, Arena, Handle, Kind};
use manyhands_sync::kill_point::KillPoint;

/// Steps of making regions, dissolving them, and of gathering.
pub(super) const POINTS: &[KillPoint] = {
    use KillPoint::*;
    &[ArenaRegionMade, ArenaRegionDissolved, ArenaUnitStripped, GatherSetAside, GatherTaken, GatherEmptied]
};

/// Steps that are passed while memory is gathered, and how often at most each is passed for certain.
const GATHERING: &[(KillPoint, u64)] = {
    use KillPoint::*;
    &[
        (GatherSetAside, 4),
        (GatherTaken, 3),
        (GatherEmptied, 6),
        (ArenaRegionDissolved, 6),
        (ArenaRegionMade, 1),
        (ArenaPopMarked, 40),
        (ArenaPopCommitted, 40),
        (ArenaPushMarked, 20),
        (ArenaPushCommitted, 20),
        (ArenaHeaderWritten, 1),
        (ArenaCarved, 1),
    ]
};

const SIZES: [u64; 6] = [1 << 20, 300, 5 << 20, 100_000, 20_000, 14 << 20];

/// As many blocks of that size as there are.
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

/// Blocks of the survivor's own, with something in them, that nobody may ever touch.
struct Own(Vec<(Handle, u64)>);

impl Own {
    fn new(arena: &Arena<Mapping>) -> Self {
        let blocks =
            [100, 70_000, 300, 1 << 20, 300].map(|bytes| (arena.allocate(bytes).unwrap().share(), bytes));
        let own = Self(blocks.to_vec());
        for (block, bytes) in &own.0 {
            arena.backing().stomp(block.offset, &vec![0x5a; *bytes as usize]);
        }
        own
    }

    fn check(&self, arena: &Arena<Mapping>) {
        for (block, bytes) in &self.0 {
            let mut all = Vec::new();
            assert!(
                arena.check(*block).is_ok()
                    && arena.backing().copy_out(block.offset, *bytes as usize, &mut all)
            );
            assert!(all.iter().all(|&byte| byte == 0x5a), "somebody wrote into the survivor's block");
        }
    }
}

/// Free blocks of every size, on their lists; some of each region of 300 bytes are held beside them.
fn scatter(arena: &Arena<Mapping>, random: &mut Random) -> Vec<Handle> {
    let mut blocks: Vec<Handle> = Vec::new();
    for &bytes in &SIZES {
        for _ in 0..((3 << 20) / bytes).clamp(1, 3_000) {
            blocks.push(arena.allocate_exactly(bytes).unwrap().share());
        }
    }
    let (held, freed): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|_| random.below(1_000) == 0);
    freed.into_iter().for_each(|block| arena.free(block).unwrap());
    held
}

/// Everything is as if nobody had died.
fn all_is_right(arena: &Arena<Mapping>, own: &Own, held: u64, point: KillPoint) {
    arena.sweep(|kind, _| panic!("a {kind:?}"));
    let survey = arena.survey(usize::MAX);
    assert!(survey.complete, "{point:?}");
    assert_eq!(survey.held_blocks, held, "{point:?}");
    own.check(arena);
    nothing_is_handed_out_twice(arena);
    // Two of the sizes after each death, all of them after some.
    let first = survey.free_blocks as usize;
    for bytes in [0, 1].map(|next| SIZES[(first + next) % SIZES.len()]) {
        let blocks = fill(arena, bytes);
        assert!(blocks.len() as u64 * bytes > 30 << 20, "{point:?}: {} of {bytes} bytes", blocks.len());
        blocks.into_iter().for_each(|block| arena.free(block).unwrap());
    }
    let zeroed = arena.allocate_zeroed(20 << 20).unwrap().share();
    let mut all = Vec::new();
    assert!(arena.backing().copy_out(zeroed.offset, 20 << 20, &mut all));
    assert!(all.iter().all(|&byte| byte == 0), "{point:?}: zeroes were promised");
    arena.free(zeroed).unwrap();
    own.check(arena);
    arena.trim(0);
    assert_eq!(arena.kept_bytes(), 0, "{point:?}");
}

#[test]
fn who_gathers_may_die_at_each_step() {
    for &(point, passes) in GATHERING {
        let arena = arena(2);
        let table = arena.process_table();
        be(&arena, table.reserve(None).unwrap());
        let own = Own::new(&arena);
        let held = arena.survey(usize::MAX).held_blocks;
        for round in 0..rounds() {
            let mut random = Random::new(u64::from(round) << 8 | point as u64);
            let scattered = scatter(&arena, &mut random);
            let nth = 1 + random.below(passes) as u32;
            let slot = table.reserve(None).unwrap();
            die_at(point, nth, || {
                be(&arena, slot);
                // All that is free serves one size now, and then another.
                let blocks = fill(&arena, 1 << 20);
                blocks.into_iter().for_each(|block| arena.free(block).unwrap());
                let _ = fill(&arena, 150_000);
            });
            table.end(slot);
            if round % 2 == 1 {
                // The one who clears up dies, and the one who gathers next.
                for (point, sweeping) in [(KillPoint::SweepClaimed, true), (KillPoint::GatherEmptied, false)]
                {
                    let slot = table.reserve(None).unwrap();
                    may_die_at(point, 1, || {
                        be(&arena, slot);
                        if sweeping {
                            arena.sweep(|kind, _| panic!("a {kind:?}"));
                        } else {
                            let _ = fill(&arena, 3 << 20);
                        }
                    });
                    table.end(slot);
                }
            }
            arena.sweep(|kind, _| panic!("a {kind:?}"));
            scattered.into_iter().for_each(|block| arena.free(block).unwrap());
            all_is_right(&arena, &own, held, point);
        }
        arena.backing().wipe();
    }
    print_deaths(&GATHERING.iter().map(|&(point, _)| point).collect::<Vec<_>>());
}

#[test]
fn who_makes_a_region_may_die_before_a_block_is_in_it() {
    let point = KillPoint::ArenaRegionMade;
    for bytes in [300, 70_000, 3 << 20] {
        let arena = arena(2);
        let table = arena.process_table();
        be(&arena, table.reserve(None).unwrap());
        let own = Own::new(&arena);
        let held = arena.survey(usize::MAX).held_blocks;
        for round in 0..rounds() {
            let slot = table.reserve(None).unwrap();
            die_at(point, 1 + round % 3, || {
                be(&arena, slot);
                let _ = (fill(&arena, bytes), arena.allocate_kind(Kind::Pool, bytes));
            });
            table.end(slot);
            all_is_right(&arena, &own, held, point);
        }
    }
    print_deaths(&[point]);
}

#[test]
fn who_gives_back_pages_of_free_units_may_die_in_between() {
    let point = KillPoint::ArenaUnitStripped;
    let arena = arena(2);
    let table = arena.process_table();
    be(&arena, table.reserve(None).unwrap());
    let own = Own::new(&arena);
    let held = arena.survey(usize::MAX).held_blocks;
    for round in 0..rounds() {
        for bytes in [20_000, 3 << 20, 90 << 20] {
            // The second size makes units of what the first one has used.
            for block in fill(&arena, bytes) {
                arena.backing().stomp(block.offset, &[0xee; 4_000]);
                arena.free(block).unwrap();
            }
            let large = arena.allocate_exactly(40 << 20).unwrap().share();
            arena.free(large).unwrap();
        }
        let slot = table.reserve(None).unwrap();
        die_at(point, 1 + round % 8, || {
            be(&arena, slot);
            arena.trim(0);
        });
        table.end(slot);
        all_is_right(&arena, &own, held, point);
    }
    print_deaths(&[point]);
}
