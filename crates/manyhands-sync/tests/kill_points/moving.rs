//! Who moves an empty ring dies at each step: every message of the ring is there, the ring goes on, moves again at the next
//! one's hands, and when it is dropped nothing of it is left.

use super::support::{Mapping, Random, arena, be, checked, message};
use super::{die_at, print_deaths, rounds};
use manyhands_sync::arena::{Arena, Handle, Kind};
use manyhands_sync::compaction::compact;
use manyhands_sync::kill_point::KillPoint;
use manyhands_sync::queue_header::QueueHeader;
use manyhands_sync::ring::{Locking, Ring};

/// The mover's own steps.
pub(super) const POINTS: &[KillPoint] = {
    use KillPoint::*;
    &[RingMoveLinked, RingMoveTailed, RingMoved]
};

/// Those, and steps of others that it makes before and after.
const MOVING: &[KillPoint] = {
    use KillPoint::*;
    &[RingMoveLinked, RingMoveTailed, RingMoved, ArenaFreed, ArenaPushMarked, ArenaPushCommitted]
};

fn queue(arena: &Arena<Mapping>) -> (Ring<Mapping>, Handle) {
    let block = arena.allocate_kind(Kind::Ring, size_of::<QueueHeader>() as u64).unwrap();
    let (header, handle) = block.lay(QueueHeader::new(Ring::new_header(arena, 0).unwrap())).unwrap();
    let ring = Ring::found(*arena, &header.ring, handle);
    (ring, arena.refer(handle, arena.me()).unwrap())
}

fn put(ring: &Ring<Mapping>, numbers: std::ops::Range<u64>) {
    numbers.for_each(|number| _ = ring.put(1, &[&message(1, number, 300)]).unwrap());
}

fn take(ring: &Ring<Mapping>, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let mut out = Vec::new();
        ring.try_take(&mut out, Locking::Wait).unwrap();
        assert_eq!(checked(&out), (1, number));
    }
}

#[test]
fn who_moves_an_empty_ring_may_die_at_each_step() {
    for &point in MOVING {
        let arena = arena(2);
        let table = arena.process_table();
        be(&arena, table.reserve(None).unwrap());
        for round in 0..rounds() {
            let mut random = Random::new(u64::from(round) << 8 | point as u64);
            let before = arena.survey(usize::MAX).held_blocks;
            let (ring, reference) = queue(&arena);
            let (mut next, mut moved) = (0, 0);
            for death in 0..3 {
                // It has grown, and is empty: the next one who looks moves it.
                let many = 100 + random.below(400);
                put(&ring, next..next + many);
                take(&ring, next..next + many);
                next += many;
                let slot = table.reserve(None).unwrap();
                die_at(point, 1, || {
                    be(&arena, slot);
                    compact(arena);
                });
                table.end(slot);
                match death {
                    // Consumers find it first, or producers, or the next mover.
                    0 => assert!(ring.try_take(&mut Vec::new(), Locking::Wait).is_err()),
                    1 => moved += u32::from(compact(arena)),
                    _ => {}
                }
                arena.sweep(|kind, _| panic!("a {kind:?}"));
                put(&ring, next..next + 50);
                take(&ring, next..next + 50);
                next += 50;
                assert_eq!(ring.len(), 0);
            }
            put(&ring, next..next + 90);
            take(&ring, next..next + 90);
            moved += u32::from(compact(arena));
            assert!(moved > 0, "{point:?}: it moves again");
            assert!(arena.survey(usize::MAX).complete);
            let (_, handle) = arena.release_reference(reference).unwrap().unwrap();
            ring.dismantle();
            arena.free(handle).unwrap();
            arena.sweep(|kind, _| panic!("a {kind:?}"));
            assert_eq!(arena.survey(usize::MAX).held_blocks, before, "{point:?}: something is left");
        }
        arena.backing().wipe();
    }
    print_deaths(MOVING);
}

#[test]
fn who_takes_a_kinds_units_apart_may_die_at_each_step() {
    use KillPoint::{ArenaRegionDissolved, GatherEmptied, GatherTaken};
    let points = [GatherTaken, GatherEmptied, ArenaRegionDissolved];
    for point in points {
        let arena = arena(1);
        let table = arena.process_table();
        be(&arena, table.reserve(None).unwrap());
        for round in 0..rounds() {
            let (ring, reference) = queue(&arena);
            let fill = || std::iter::from_fn(|| Some(arena.allocate_kind(Kind::Lock, 9_000).ok()?.share()));
            let locks: Vec<Handle> = fill().collect();
            locks.into_iter().for_each(|lock| arena.free(lock).unwrap());
            let slot = table.reserve(None).unwrap();
            die_at(point, 1 + round % 3 * u32::from(point != GatherTaken), || {
                be(&arena, slot);
                let _ = arena.allocate(40 << 20);
            });
            table.end(slot);
            // References are counted under the lock that the dead one held.
            put(&ring, 0..10);
            take(&ring, 0..10);
            let (_, handle) = arena.release_reference(reference).unwrap().unwrap();
            ring.dismantle();
            arena.free(handle).unwrap();
            arena.sweep(|kind, _| panic!("a {kind:?}"));
            let large = arena.allocate(54 << 20).unwrap().share();
            arena.free(large).unwrap();
            assert_eq!(arena.survey(usize::MAX).held_blocks, 0);
        }
    }
    print_deaths(&points);
}
