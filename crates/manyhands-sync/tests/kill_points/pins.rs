//! A member dies while it pins a shared block or makes a pin a reference: the block is kept, or given up, but never while
//! it is pinned.

use super::support::{arena, be};
use super::{die_at, print_deaths, rounds};
use manyhands_sync::arena::{Arena, Handle, Kind, ReferError};
use manyhands_sync::kill_point::KillPoint;

/// The steps tried here.
pub(super) const POINTS: &[KillPoint] = {
    use KillPoint::*;
    &[PinCounted, PinReferred, PinAdopted]
};

type TestArena = Arena<super::support::Mapping>;

fn release(arena: &TestArena, reference: Handle) {
    if let Some((kind, target)) = arena.release_reference(reference).unwrap() {
        assert_eq!(kind, Kind::Bytes);
        arena.free(target).unwrap();
    }
}

/// A shared block, and this process's reference to it.
fn shared_block(arena: &TestArena) -> (Handle, Handle) {
    let target = arena.allocate_kind(Kind::Bytes, 100).unwrap().share();
    (target, arena.refer(target, arena.me()).unwrap())
}

#[test]
fn a_pin_keeps_a_block_until_it_is_a_reference_that_is_released() {
    let arena = arena(2);
    be(&arena, arena.process_table().reserve(None).unwrap());
    let (target, reference) = shared_block(&arena);
    arena.pin(target).unwrap();
    assert_eq!(arena.release_reference(reference), Ok(None));
    arena.sweep(|_, _| panic!("it is pinned"));
    assert_eq!(arena.holders(target), Ok(1));
    let pin = arena.adopt_pin(target).unwrap();
    assert_eq!(arena.holders(target), Ok(1), "it was counted before");
    release(&arena, pin);
    assert_eq!(arena.pin(target), Err(ReferError::Stale));
    assert_eq!(arena.adopt_pin(target), Err(ReferError::Stale));
    // One of a single process's is nobody's to pin.
    let own = arena.allocate_kind(Kind::Bytes, 100).unwrap().share();
    assert_eq!(arena.pin(own), Err(ReferError::Stale));
    arena.free(own).unwrap();
    assert_eq!(arena.survey(usize::MAX).held_blocks, 0);
}

#[test]
fn a_death_at_each_step_keeps_what_is_pinned() {
    let arena = arena(2);
    let table = arena.process_table();
    be(&arena, table.reserve(None).unwrap());
    for &point in POINTS {
        for _ in 0..rounds() {
            let (target, reference) = shared_block(&arena);
            if point != KillPoint::PinCounted {
                arena.pin(target).unwrap();
            }
            let slot = table.reserve(None).unwrap();
            die_at(point, 1, || {
                be(&arena, slot);
                match point {
                    KillPoint::PinCounted => arena.pin(target).unwrap(),
                    _ => release(&arena, arena.adopt_pin(target).unwrap()),
                }
            });
            table.end(slot);
            arena.sweep(|_, _| panic!("{point:?}: this process holds it"));
            // The last step leaves a reference of the dead one's; the others leave the pin.
            let pinned = point != KillPoint::PinAdopted;
            assert_eq!(arena.holders(target), Ok(1 + u32::from(pinned)), "{point:?}");
            release(&arena, reference);
            if pinned {
                arena.sweep(|_, _| panic!("{point:?}: it is pinned"));
                release(&arena, arena.adopt_pin(target).unwrap());
            }
            assert_eq!(arena.survey(usize::MAX).held_blocks, 0, "{point:?}");
        }
    }
    print_deaths(POINTS);
}
