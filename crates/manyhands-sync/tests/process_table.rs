//! The process table.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // not part of the structures that loom checks

mod support;

use manyhands_sync::arena::Handle;
use manyhands_sync::process_table::{MOST_MEMBERS, Place, SlotIndex, State};
use manyhands_sync::taker::OwnerName;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use support::known;

#[test]
fn a_slot_goes_from_reserved_to_live_to_free() {
    let arena = support::arena(1);
    let table = arena.process_table();
    let parent = OwnerName::new(SlotIndex::new(7).unwrap(), 100);
    let place = table.reserve(Some(parent)).unwrap();
    let reserved = table.look(place.index);
    assert_eq!((reserved.state(), reserved.place()), (State::Reserved, place));
    assert_eq!(table.member(place.index), None);
    assert!(table.register(place, known(4711, 99)));
    let (seen, member) = table.member(place.index).unwrap();
    assert_eq!((seen.state(), seen.parent(), member), (State::Live, Some(parent), known(4711, 99)));
    assert_eq!(table.members().collect::<Vec<_>>(), [(seen, member)]);
    assert!(!table.release(reserved), "not as it was seen");
    assert!(!table.cancel(place), "the child has it");
    assert!(table.disown(place) && table.look(place.index).parent().is_none());
    assert!(table.release(seen), "whoever waits for it: it is the same member in the same state");
    assert_eq!((table.member(place.index), table.members().count()), (None, 0));
    assert!(!table.release(seen) && !table.release(table.look(place.index)));
}

#[test]
fn every_exit_status_is_read_as_it_was_written() {
    let arena = support::arena(1);
    let table = arena.process_table();
    let place = table.reserve(None).unwrap();
    assert_eq!(table.noted_exit(place), None);
    for status in -128..=255 {
        table.note_exit(place, status);
        assert_eq!(table.noted_exit(place), Some(status));
    }
    assert!(table.end(place));
    let next = table.reserve(None).unwrap();
    assert_eq!(table.noted_exit(next), None, "the next member has not ended yet");
    table.note_exit(next, 1);
    table.note_exit(place, 2);
    assert_eq!((table.noted_exit(place), table.noted_exit(next)), (None, Some(1)));
}

#[test]
fn luggage_is_for_one_life_and_unpacked_once() {
    let arena = support::arena(1);
    let table = arena.process_table();
    let far = Handle { offset: (1 << 40) - 64, generation: u32::MAX };
    let place = table.reserve(None).unwrap();
    assert!(table.pack(place, far) && table.holds(place));
    assert!(table.register(place, known(1, 1)));
    assert_eq!((table.unpack(place), table.unpack(place)), (Some(far), None));
    assert!(table.holds(place) && table.end(place));
    assert!(!table.pack(place, far), "nobody will come for it");
    let next = table.reserve(None).unwrap();
    assert_eq!((table.unpack(next), table.holds(next)), (None, false));
    assert!(table.pack(next, far));
    assert_eq!((table.unpack(place), table.unpack(next)), (None, Some(far)));
}

#[test]
fn all_slots_can_be_had_once_each_by_many_at_once() {
    let arena = support::arena(1);
    let table = arena.process_table();
    let reserved: Vec<Vec<Place>> = std::thread::scope(|scope| {
        let reserver = || std::iter::from_fn(|| table.reserve(None)).collect();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(reserver)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let all: Vec<Place> = reserved.into_iter().flatten().collect();
    assert_eq!(all.len(), MOST_MEMBERS);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), MOST_MEMBERS);
    assert_eq!(table.reserve(None), None);
    assert!(table.cancel(all[17]));
    let again = table.reserve(None).unwrap();
    assert_eq!((again.index, again.life), (all[17].index, all[17].life + 1));
    assert_eq!(SlotIndex::new(MOST_MEMBERS as u32), None);
}

#[test]
fn a_member_is_never_read_as_half_of_two() {
    let arena = support::arena(1);
    let table = arena.process_table();
    let first = table.reserve(None).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut place = first;
            for life in 1..support::times(200_000) as u32 {
                assert!(table.register(place, known(life, u64::from(life) << 20)));
                assert!(table.end(place));
                place = table.reserve(None).unwrap();
            }
        });
        while !writer.is_finished() {
            if let Some((seen, member)) = table.member(first.index) {
                assert_eq!(member, known(member.pid, u64::from(member.pid) << 20));
                assert_eq!(seen.place().life - first.life + 1, member.pid, "of the life that was seen");
            }
        }
    });
}

/// Finders that know which member is dead, by its pid, and newcomers: nobody alive ever loses its slot.
#[test]
fn finders_release_what_they_saw_and_no_newcomer() {
    let arena = support::arena(1);
    let table = arena.process_table();
    const DEAD: u32 = 1 << 20;
    let rounds = support::times(60_000) as u32;
    let stop = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while stop.load(Ordering::Relaxed) < 2 {
                    let dead = table.members().filter(|(_, member)| member.pid >= DEAD);
                    dead.for_each(|(seen, _)| _ = table.release(seen));
                }
            });
        }
        for me in [1, 2] {
            let stop = &stop;
            scope.spawn(move || {
                for round in 0..rounds {
                    let (place, pid) = (table.reserve(None).unwrap(), (me << 10) | (round % 1024));
                    assert!(table.register(place, known(pid, 5)), "a living one's slot was given away");
                    let (seen, member) = table.member(place.index).unwrap();
                    assert_eq!((seen.place(), member.pid), (place, pid));
                    assert!(table.end(place), "a living one's slot was given away");
                    // One that dies and that the finders find.
                    let place = table.reserve(None).unwrap();
                    assert!(table.register(place, known(DEAD | pid, 5)));
                }
                stop.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
}
