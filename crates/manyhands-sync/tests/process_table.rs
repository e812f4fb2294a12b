//! The process table.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used)]

mod support;

use manyhands_sync::process_table::{MOST_MEMBERS, SlotIndex};
use std::collections::HashSet;

#[test]
fn a_slot_goes_from_reserved_to_live_to_free() {
    let arena = support::arena(1);
    let table = arena.process_table();
    let slot = table.reserve(100).unwrap();
    assert_eq!(table.member(slot), None);
    table.register(slot, 4711, 99);
    assert_eq!(table.member(slot), Some((4711, 99)));
    assert_eq!(table.members().collect::<Vec<_>>(), [slot]);
    table.release(slot);
    assert_eq!(table.member(slot), None);
    assert_eq!(table.members().count(), 0);
}

#[test]
fn every_exit_status_is_read_as_it_was_written() {
    let arena = support::arena(1);
    let table = arena.process_table();
    let slot = table.reserve(1).unwrap();
    assert_eq!(table.noted_exit(slot), None);
    for status in -128..=255 {
        table.note_exit(slot, status);
        assert_eq!(table.noted_exit(slot), Some(status));
    }
    table.release(slot);
    assert_eq!(table.noted_exit(table.reserve(2).unwrap()), None, "the next member has not ended yet");
}

#[test]
fn all_slots_can_be_had_once_each_by_many_at_once() {
    let arena = support::arena(1);
    let table = arena.process_table();
    let reserved: Vec<Vec<SlotIndex>> = std::thread::scope(|scope| {
        let reserver = || std::iter::from_fn(|| table.reserve(5)).collect();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(reserver)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let all: Vec<SlotIndex> = reserved.into_iter().flatten().collect();
    assert_eq!(all.len(), MOST_MEMBERS);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), MOST_MEMBERS);
    assert_eq!(table.reserve(5), None);
    table.release(all[17]);
    assert_eq!(table.reserve(5), Some(all[17]));
    assert_eq!(SlotIndex::new(MOST_MEMBERS as u32), None);
}

#[test]
fn a_member_is_never_read_as_half_of_two() {
    let arena = support::arena(1);
    let table = arena.process_table();
    let slot = table.reserve(0).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for life in 1..support::times(200_000) as u32 {
                table.register(slot, life, u64::from(life) << 20);
                table.release(slot);
                assert_eq!(table.reserve(0), Some(slot));
            }
        });
        while !writer.is_finished() {
            if let Some((pid, registered_at)) = table.member(slot) {
                assert_eq!(u64::from(pid) << 20, registered_at);
            }
        }
    });
}
