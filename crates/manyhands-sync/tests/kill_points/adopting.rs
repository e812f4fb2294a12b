//! A member takes a message and makes the reference that it carries its own, and dies: what is referred to stays while
//! somebody living refers to it, and goes with the last one.

use super::support::{Mapping, arena, be};
use super::{die_at, print_deaths, rounds};
use manyhands_sync::arena::{Arena, Blank, Handle, Kind, Owner, ReferError};
use manyhands_sync::kill_point::KillPoint;

/// The steps tried here.
pub(super) const POINTS: &[KillPoint] = &[KillPoint::ReferenceAdopted];

/// A shared block to which only a message of this process's refers: the block, the message, its reference.
fn carried(arena: &Arena<Mapping>) -> (Handle, Handle, Handle) {
    let target = arena.allocate_kind(Kind::Bytes, 100).unwrap().share();
    let own = arena.refer(target, arena.me()).unwrap();
    let message = arena.allocate(300).unwrap().finish();
    let reference = arena.refer(target, Owner::Block(message)).unwrap();
    arena.note_carried(message, 1);
    assert_eq!(arena.release_reference(own), Ok(None));
    (target, message, reference)
}

#[test]
fn an_adopted_reference_outlives_its_message_and_needs_no_memory() {
    let arena = arena(1);
    be(&arena, arena.process_table().reserve(None).unwrap());
    let (target, message, reference) = carried(&arena);
    let (another, other, _) = carried(&arena);
    for bytes in [1 << 20, 1 << 16, 1 << 12, 1] {
        while arena.allocate(bytes).map(Blank::share).is_ok() {}
    }
    while arena.refer(another, arena.me()).is_ok() {}
    assert!(matches!(arena.refer(target, arena.me()), Err(ReferError::Allocate(_))));
    assert_eq!(arena.adopt(reference, other), Err(ReferError::Stale), "it is another message's");
    assert!(arena.is_carried_by(reference, message));
    assert_eq!(arena.adopt(reference, message), Ok(()));
    assert_eq!(arena.adopt(reference, message), Err(ReferError::Stale), "it is this process's");
    assert!(!arena.is_carried_by(reference, message));
    arena.free(message).unwrap();
    arena.sweep(|_, freed| assert_ne!(freed, target, "this process refers to it"));
    assert_eq!(arena.holders(target), Ok(1));
    assert_eq!(arena.release_reference(reference), Ok(Some((Kind::Bytes, target))));
    arena.backing().wipe();
}

#[test]
fn what_a_dead_receiver_adopted_is_released_once() {
    let arena = arena(2);
    let table = arena.process_table();
    be(&arena, table.reserve(None).unwrap());
    for &point in POINTS {
        for round in 0..rounds() {
            let (target, message, reference) = carried(&arena);
            let another = (round % 2 == 0).then(|| arena.refer(target, arena.me()).unwrap());
            let slot = table.reserve(None).unwrap();
            die_at(point, 1, || {
                be(&arena, slot);
                arena.give(message, arena.me());
                arena.adopt(reference, message).unwrap();
            });
            table.end(slot);
            let mut destroyed = Vec::new();
            arena.sweep(|kind, target| {
                destroyed.push((kind, target));
                arena.free(target).unwrap();
            });
            match another {
                None => assert_eq!(destroyed, [(Kind::Bytes, target)]),
                Some(another) => {
                    assert!(destroyed.is_empty(), "this process refers to it");
                    assert_eq!(arena.release_reference(another), Ok(Some((Kind::Bytes, target))));
                    arena.free(target).unwrap();
                }
            }
            assert_eq!(arena.survey(usize::MAX).held_blocks, 0);
        }
    }
    print_deaths(POINTS);
}
