//! Blocks that were just handed out: written through their `Blank` alone, and opened by their handle only once shared.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // not part of the structures that loom checks

mod support;

use manyhands_sync::arena::{Blank, Handle, Kind, Owner, ReferError, StaleHandle};
use manyhands_sync::event::UserEvent;
use manyhands_sync::lock::{Nature, UserLock};
use support::{Mapping, arena, be};

fn bytes(memory: &Mapping, handle: Handle, len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(memory.copy_out(handle.offset, len, &mut out));
    out
}

#[test]
fn what_is_written_is_there_and_nothing_beyond_the_end() {
    let arena = arena(1);
    let mut blank = arena.allocate_exactly(100).unwrap();
    assert_eq!(blank.len(), 100);
    assert!(blank.write(0, &[1; 60]) && blank.write(60, &[2; 40]));
    for (at, len) in [(100, 1), (0, 101), (60, 41), (usize::MAX, 1), (usize::MAX, 0)] {
        assert!(!blank.write(at, &vec![3; len]), "{at} {len}");
    }
    assert!(blank.write(100, &[]));
    let mut other = arena.allocate_exactly(50).unwrap();
    assert!(other.write_from(10, &blank, 55, 40));
    assert!(!other.write_from(11, &blank, 55, 40) && !other.write_from(0, &blank, 61, 40));
    let (first, second) = (blank.finish(), other.share());
    assert_eq!(bytes(arena.backing(), first, 100), [[1u8; 60].as_slice(), &[2; 40]].concat());
    assert_eq!(bytes(arena.backing(), second, 50)[10..], [[1u8; 5].as_slice(), &[2; 35]].concat());
}

#[test]
fn one_that_is_dropped_is_free_and_one_that_was_used_is_not() {
    let arena = arena(1);
    let (offset, generation) = {
        let blank = arena.allocate(1_000).unwrap();
        (blank.offset, blank.generation)
    };
    assert_eq!(arena.check(Handle { offset, generation }), Err(StaleHandle));
    for use_up in [Blank::finish, Blank::share] {
        let handle = use_up(arena.allocate(1_000).unwrap());
        assert_eq!(arena.check(handle), Ok(()));
        arena.free(handle).unwrap();
    }
}

#[test]
fn a_guessed_handle_opens_nothing_that_was_not_shared() {
    let arena = arena(1);
    be(&arena, arena.process_table().reserve(None).unwrap());
    let me = arena.me();
    let blank = arena.allocate(100).unwrap();
    assert_eq!(arena.refer(*blank, me), Err(ReferError::Stale), "somebody writes it");
    let finished = blank.finish();
    assert_eq!(arena.refer(finished, me), Err(ReferError::Stale), "it is one owner's");
    let shared = arena.allocate(100).unwrap().share();
    let reference = arena.refer(shared, me).unwrap();
    assert_eq!(arena.release_reference(reference), Ok(Some((Kind::Bytes, shared))));
    arena.free(shared).unwrap();
    // Recycled, it is blank again.
    let again = arena.allocate(100).unwrap();
    assert_eq!(again.offset, shared.offset);
    assert_eq!(arena.refer(*again, me), Err(ReferError::Stale));
    assert!(matches!(me, Owner::Member(..)));
}

#[test]
fn a_structure_is_found_only_where_one_of_its_kind_was_laid() {
    let arena = arena(1);
    let blank = arena.allocate_kind(Kind::Lock, size_of::<UserLock>() as u64).unwrap();
    assert!(arena.placed::<UserLock>(*blank).is_err(), "nothing was laid into it");
    let (lock, handle) = blank.lay(UserLock::new(Nature::default())).unwrap();
    assert!(std::ptr::eq(arena.placed::<UserLock>(handle).unwrap(), lock));
    assert!(std::ptr::eq(arena.placed_at::<UserLock>(handle.offset).unwrap(), lock));
    assert!(arena.placed::<UserEvent>(handle).is_err());
    assert!(arena.placed_at::<UserLock>(handle.offset + 64).is_none());
    let stale = Handle { generation: handle.generation + 1, ..handle };
    assert!(arena.placed::<UserLock>(stale).is_err());
    for other in
        [arena.allocate(4_096), arena.allocate_kind(Kind::Event, 4_096), arena.allocate_kind(Kind::Lock, 1)]
    {
        assert_eq!(other.unwrap().lay(UserLock::new(Nature::default())).err(), Some(StaleHandle));
    }
}
