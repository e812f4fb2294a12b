//! A slot of the process table after a death at each step of taking it, and of giving it back.

use super::support::{arena, known};
use super::{die_at, print_deaths, rounds};
use manyhands_sync::kill_point::KillPoint;
use manyhands_sync::process_table::{Place, ProcessTable, State};
use manyhands_sync::taker::OwnerName;

/// The steps tried here.
pub(super) const POINTS: &[KillPoint] = {
    use KillPoint::*;
    &[SlotClaimed, SlotNamed, SlotRegistering, SlotWritten, SlotReleased, SlotHalfForked]
};

/// A newcomer gets the slot that was given back, and is known as what it is.
fn the_next_one_has(table: &ProcessTable, old: Place, pid: u32) {
    let next = table.reserve(None).unwrap();
    assert_eq!((next.index, next.life), (old.index, old.life + 1));
    // What the last one left is not taken for the newcomer's, and a child that comes too late disturbs nobody.
    assert_eq!((table.noted_exit(next), table.holds(next), table.unpack(next)), (None, false, None));
    assert!(!table.register(old, known(4711, 1)));
    assert!(table.register(next, known(pid, 2)));
    assert!(!table.register(old, known(4711, 1)));
    table.note_exit(old, 3);
    assert!(!table.cancel(old) && !table.end(old) && !table.disown(old));
    let (seen, member) = table.member(next.index).unwrap();
    assert_eq!((member, table.noted_exit(next)), (known(pid, 2), None));
    assert!(table.release(seen) && !table.release(seen));
}

#[test]
fn a_slot_is_given_back_after_a_death_at_each_step_of_taking_it() {
    let arena = arena(1);
    let table = arena.process_table();
    let parent = OwnerName::new(table.reserve(None).unwrap().index, 1);
    for round in 0..rounds() {
        die_at(KillPoint::SlotClaimed, 1, || _ = table.reserve(Some(parent)));
        let seen = table.used().map(|slot| table.look(slot)).find(|seen| seen.parent().is_some()).unwrap();
        assert_eq!((seen.state(), seen.parent()), (State::Reserved, Some(parent)));
        assert!(table.cancel(seen.place()));

        let place = table.reserve(Some(parent)).unwrap();
        die_at(KillPoint::SlotNamed, 1, || _ = table.register(place, known(4711, 1)));
        let seen = table.look(place.index);
        assert_eq!((seen.state(), table.identity(seen)), (State::Reserved, None));
        assert!(table.cancel(place));
        the_next_one_has(table, place, round + 1);

        for point in [KillPoint::SlotRegistering, KillPoint::SlotWritten] {
            let place = table.reserve(Some(parent)).unwrap();
            die_at(point, 1, || _ = table.register(place, known(4712, 1)));
            // It is no member yet, and can be found dead.
            let seen = table.look(place.index);
            assert_eq!((seen.state(), table.member(place.index)), (State::Registering, None));
            let member = table.identity(seen).unwrap();
            assert_eq!((member.pid, member.namespaces.pids, member.registered_at), (4712, 1, None));
            assert!(!table.cancel(place) && table.release(seen));
            the_next_one_has(table, place, round + 1);
        }
    }
    print_deaths(&POINTS[..4]);
}

#[test]
fn what_a_parent_calls_its_child_is_whole_and_of_one_life() {
    let arena = arena(1);
    let table = arena.process_table();
    for round in 0..rounds() {
        let place = table.reserve(None).unwrap();
        die_at(KillPoint::SlotHalfForked, 1, || table.note_forked(place, 17, 5));
        // Before and after the child has come.
        assert_eq!(table.forked_as(table.look(place.index)), None);
        assert!(table.register(place, known(1, 6)));
        let seen = table.look(place.index);
        assert_eq!(table.forked_as(seen), None, "the pid is missing");
        table.note_forked(place, 18, 5);
        assert_eq!(table.forked_as(seen), Some((18, 5)));
        assert!(table.release(seen));
        // Of the next life nothing is known; a parent that comes too late says nothing of it.
        let next = table.reserve(None).unwrap();
        table.note_forked(next, 19, 7);
        assert!(table.register(next, known(round + 2, 2)));
        table.note_forked(place, 18, 5);
        let seen = table.look(next.index);
        assert_eq!(table.forked_as(seen), Some((19, 7)));
        assert!(table.release(seen));
        the_next_one_has(table, next, round + 1);
    }
    print_deaths(&[KillPoint::SlotHalfForked]);
}

#[test]
fn a_slot_is_given_back_once_though_its_finder_dies() {
    let arena = arena(1);
    let table = arena.process_table();
    for round in 0..rounds() {
        let place = table.reserve(None).unwrap();
        assert!(table.register(place, known(4711, 1)));
        let seen = table.look(place.index);
        die_at(KillPoint::SlotReleased, 1, || _ = table.release(seen));
        // The second finder saw it before.
        assert!(!table.release(seen));
        the_next_one_has(table, place, round + 1);
    }
    print_deaths(&[KillPoint::SlotReleased]);
}
