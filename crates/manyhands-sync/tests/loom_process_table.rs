//! The process table under loom: slots are reserved, taken, read and given back in every order of steps within the
//! preemption bound. Under loom a family has two slots.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

mod model;

use loom::thread;
use manyhands_sync::process_table::SlotIndex;
use model::model;

/// What a member with that pid notes as the time it took its slot.
fn time_of(pid: u32) -> u64 {
    u64::from(pid) * 100
}

#[test]
fn two_who_reserve_get_a_slot_each_and_a_third_none() {
    model("two reserve", 1, |arena| {
        let table = arena.process_table();
        let others = [1, 2].map(|parent| thread::spawn(move || table.reserve(parent)));
        let mine = table.reserve(3);
        let all = [others.map(|o| o.join().unwrap()).to_vec(), vec![mine]].concat();
        let mut got: Vec<SlotIndex> = all.into_iter().flatten().collect();
        got.sort_unstable_by_key(|slot| slot.get());
        assert_eq!(got.iter().map(|slot| slot.get()).collect::<Vec<_>>(), [0, 1]);
    });
}

#[test]
fn a_member_is_never_read_as_half_of_two() {
    model("one slot, two lives", 1, |arena| {
        let table = arena.process_table();
        let slot = table.reserve(1).unwrap();
        table.register(slot, 11, time_of(11));
        let lives = thread::spawn(move || {
            table.release(slot);
            let slot = table.reserve(2).unwrap();
            table.register(slot, 12, time_of(12));
        });
        if let Some((pid, time)) = table.member(slot) {
            assert_eq!(time, time_of(pid));
        }
        lives.join().unwrap();
        assert_eq!(table.member(slot), Some((12, time_of(12))));
    });
}

#[test]
fn what_a_member_noted_is_not_taken_for_the_next_ones() {
    model("exit notes", 1, |arena| {
        let table = arena.process_table();
        let slot = table.reserve(1).unwrap();
        table.register(slot, 11, time_of(11));
        let member = thread::spawn(move || table.note_exit(slot, -9));
        let early = table.noted_exit(slot);
        assert!(early.is_none() || early == Some(-9));
        member.join().unwrap();
        // Its parent reads the note once the member is gone, then gives the slot back.
        assert_eq!(table.noted_exit(slot), Some(-9));
        table.release(slot);
        let next = table.reserve(1).unwrap();
        assert_eq!((next, table.noted_exit(next), table.member(next)), (slot, None, None));
    });
}
