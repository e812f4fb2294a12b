//! Blocks, references and messages of a member that dies at each step: a sweep gives all of it back, once, and nothing of
//! the living.

use super::support::{Mapping, Random, arena, be};
use super::{die_at, print_deaths, rounds};
use manyhands_sync::arena::{Arena, Blank, Handle, Kind, Owner};
use manyhands_sync::kill_point::KillPoint;
use manyhands_sync::ring::{Ring, RingHeader};

/// The steps tried here.
pub(super) const POINTS: &[KillPoint] = {
    use KillPoint::*;
    &[
        ArenaPopMarked,
        ArenaPopCommitted,
        ArenaPushMarked,
        ArenaPushCommitted,
        ArenaFreed,
        ArenaHeaderWritten,
        ArenaCarved,
        ArenaExtentReserved,
        ReferenceLogged,
        ReferenceCounted,
        ReferenceMarked,
        ReferenceCommitted,
        RingSpareMade,
        RingLinkWritten,
    ]
};

/// Steps of those who clear up.
pub(super) const SWEEPING: &[KillPoint] = {
    use KillPoint::*;
    &[SweepClaimed, SweepReleased, ReferencesRepaired, SweepCycleClaimed]
};

/// A ring that lives as long as references to it: its block, and the reference that this process holds.
fn shared_ring(arena: &Arena<Mapping>) -> (Handle, Handle) {
    let home = arena.allocate_kind(Kind::Ring, size_of::<RingHeader>() as u64).unwrap().share();
    let header = Ring::new_header(arena, 0).unwrap();
    Ring::found(*arena, arena.backing().place_new(home.offset, header).unwrap(), home);
    (home, arena.refer(home, arena.me()).unwrap())
}

fn open(arena: &Arena<Mapping>, home: Handle) -> Ring<Mapping> {
    Ring::new(*arena, arena.backing().place(home.offset).unwrap(), home)
}

fn release(arena: &Arena<Mapping>, reference: Handle) {
    if let Some((kind, target)) = arena.release_reference(reference).unwrap() {
        destroy(arena, kind, target);
    }
}

fn destroy(arena: &Arena<Mapping>, kind: Kind, target: Handle) {
    assert_eq!(kind, Kind::Ring);
    open(arena, target).dismantle();
    arena.free(target).unwrap();
}

/// A message in a block of its own that carries a reference, lying in a ring.
fn parcel(arena: &Arena<Mapping>, home: Handle, carried: Handle) -> Handle {
    let block = arena.allocate(300).unwrap().share();
    let reference = arena.refer(carried, Owner::Block(block)).unwrap();
    arena.backing().stomp(block.offset, &reference.to_bytes());
    arena.note_carried(block, 1);
    arena.give(block, Owner::Block(home));
    block
}

/// Rings that nobody has open and that keep each other: each holds a message that carries the other.
fn circle(arena: &Arena<Mapping>) {
    let ((one, of_one), (other, of_other)) = (shared_ring(arena), shared_ring(arena));
    parcel(arena, one, other);
    parcel(arena, other, one);
    parcel(arena, one, one);
    assert_eq!(arena.release_reference(of_one), Ok(None));
    assert_eq!(arena.release_reference(of_other), Ok(None));
}

/// What a member does all day, for ever.
fn live(arena: &Arena<Mapping>, theirs: Handle, large: bool, seed: u64) {
    let mut random = Random::new(seed);
    let mut rings: Vec<(Handle, Handle)> = Vec::new();
    let mut blocks: Vec<Handle> = Vec::new();
    let mut references: Vec<Handle> = Vec::new();
    loop {
        if random.below(30) == 0 {
            circle(arena);
        }
        match random.below(9) {
            0 | 1 => blocks.push(arena.allocate(100 << random.below(5)).unwrap().share()),
            2 if large => blocks.push(arena.allocate(40 << 20).unwrap().share()),
            3 if !blocks.is_empty() => {
                arena.free(blocks.swap_remove(random.below(blocks.len() as u64) as usize)).unwrap();
            }
            4 if rings.len() < 4 => rings.push(shared_ring(arena)),
            5 if references.len() < 20 => references.push(arena.refer(theirs, arena.me()).unwrap()),
            6 if !references.is_empty() => release(arena, references.swap_remove(0)),
            7 if !rings.is_empty() => {
                let (home, reference) = rings.swap_remove(0);
                let ring = open(arena, home);
                for _ in 0..if random.below(4) == 0 { 200 } else { 4 } {
                    ring.put(1, &[&[7; 2_000]]).unwrap();
                }
                // Never taken out: it goes with the ring.
                if random.below(2) == 0 {
                    parcel(arena, home, theirs);
                }
                release(arena, reference);
            }
            8 if !rings.is_empty() => {
                let parcel = parcel(arena, rings[0].0, theirs);
                if random.below(2) == 0 {
                    let mut bytes = Vec::new();
                    assert!(arena.backing().copy_out(parcel.offset, 12, &mut bytes));
                    release(arena, Handle::from_bytes(&bytes).unwrap());
                    arena.free(parcel).unwrap();
                }
            }
            _ => {}
        }
        if blocks.len() > 30 {
            arena.free(blocks.swap_remove(3)).unwrap();
        }
    }
}

#[test]
fn a_sweep_gives_back_what_a_member_held_when_it_died_at_each_step() {
    for &point in POINTS {
        let large = point == KillPoint::ArenaExtentReserved;
        let arena = arena(if large { u64::from(rounds()) * 2 + 8 } else { 4 });
        let table = arena.process_table();
        be(&arena, table.reserve(None).unwrap());
        let (theirs, reference) = shared_ring(&arena);
        let own: Vec<Handle> = (0..20).map(|i| arena.allocate(100 << (i % 4)).unwrap().share()).collect();
        let held = arena.survey(usize::MAX).held_blocks;
        for round in 0..rounds() {
            let mut random = Random::new(u64::from(round) << 8 | point as u64);
            let slot = table.reserve(None).unwrap();
            // Fresh memory and large blocks are needed soon after the start, or never.
            let rare = matches!(
                point,
                KillPoint::ArenaExtentReserved | KillPoint::ArenaHeaderWritten | KillPoint::ArenaCarved
            );
            let nth = 1 + random.below(if rare { 2 } else { 40 }) as u32;
            die_at(point, nth, || {
                be(&arena, slot);
                if rare {
                    while !large || arena.allocate(40 << 20).map(Blank::share).is_ok() {
                        let _ = arena.allocate(1 << 14).unwrap().share();
                    }
                }
                live(&arena, theirs, large, random.next());
            });
            assert!(table.end(slot));
            if round % 2 == 0 {
                die_sweeping(&arena, round);
            }
            arena.sweep(|kind, target| destroy(&arena, kind, target));
            let survey = arena.survey(usize::MAX);
            assert!(survey.complete, "{point:?}");
            assert_eq!(survey.held_blocks, held, "{point:?}, round {round}");
            assert_eq!(arena.holders(theirs), Ok(1), "{point:?}, round {round}");
            assert!(own.iter().all(|&block| arena.check(block).is_ok()));
            nothing_is_handed_out_twice(&arena);
        }
        release(&arena, reference);
        own.into_iter().for_each(|block| arena.free(block).unwrap());
        assert_eq!(arena.survey(usize::MAX).held_blocks, 0, "{point:?}");
        arena.backing().wipe();
    }
    print_deaths(POINTS);
}

/// Those who clear up die as well, one after the other.
fn die_sweeping(arena: &Arena<Mapping>, round: u32) {
    let table = arena.process_table();
    for turn in 0..2 {
        let slot = table.reserve(None).unwrap();
        let point = SWEEPING[(round as usize + turn) % 2];
        super::may_die_at(point, 1, || {
            be(arena, slot);
            arena.sweep(|kind, target| destroy(arena, kind, target));
        });
        assert!(table.end(slot));
    }
}

#[test]
fn who_clears_up_may_die_at_each_step() {
    let arena = arena(4);
    let table = arena.process_table();
    be(&arena, table.reserve(None).unwrap());
    let (theirs, reference) = shared_ring(&arena);
    let held = arena.survey(usize::MAX).held_blocks;
    for round in 0..rounds() {
        for &point in SWEEPING {
            circle(&arena);
            let slot = table.reserve(None).unwrap();
            let first = match point {
                KillPoint::ReferencesRepaired => KillPoint::ReferenceCounted,
                _ => KillPoint::ReferenceCommitted,
            };
            die_at(first, 5 + round % 7, || {
                be(&arena, slot);
                live(&arena, theirs, false, u64::from(round));
            });
            assert!(table.end(slot));
            let slot = table.reserve(None).unwrap();
            die_at(point, 1, || {
                be(&arena, slot);
                arena.sweep(|kind, target| destroy(&arena, kind, target));
            });
            assert!(table.end(slot));
            arena.sweep(|kind, target| destroy(&arena, kind, target));
            assert_eq!(arena.survey(usize::MAX).held_blocks, held, "{point:?}, round {round}");
            assert_eq!(arena.holders(theirs), Ok(1));
        }
    }
    print_deaths(SWEEPING);
    release(&arena, reference);
}

pub(super) fn nothing_is_handed_out_twice(arena: &Arena<Mapping>) {
    let mut blocks: Vec<(Handle, u64)> = Vec::new();
    for i in 0..120 {
        let block = arena.allocate(100 << (i % 5)).unwrap().share();
        blocks.push((block, arena.payload_bytes(block).unwrap()));
    }
    blocks.sort_by_key(|(block, _)| block.offset);
    assert!(blocks.windows(2).all(|pair| pair[0].0.offset + pair[0].1 <= pair[1].0.offset));
    blocks.into_iter().for_each(|(block, _)| arena.free(block).unwrap());
}
