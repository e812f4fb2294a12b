//! The process table under loom: slots are reserved, taken, read and given back in every order of steps within the
//! preemption bound. Under loom a family has two slots.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

mod model;

use loom::thread;
use manyhands_sync::kill_point::KillPoint;
use manyhands_sync::process_table::{Member, Namespaces, Place, ProcessTable, Seen, State};
use model::{killed_at, model};

/// What a member with that pid is known by.
fn known(pid: u32) -> Member {
    let namespaces = Namespaces { pids: pid + 1, clock: pid + 2 };
    Member { pid, namespaces, registered_at: Some(u64::from(pid) * 100), image: u64::from(pid) << 12 }
}

fn registered(table: &ProcessTable, pid: u32) -> Place {
    let place = table.reserve(None).unwrap();
    assert!(table.register(place, known(pid)));
    place
}

/// A finder that knows which member is dead, by its pid.
fn find_dead(table: &ProcessTable, dead: u32) -> u32 {
    let found = |(seen, member): (Seen, Member)| {
        assert_eq!(member, known(member.pid), "half of two");
        member.pid == dead && table.release(seen)
    };
    u32::from(table.members().map(found).fold(false, |any, released| any | released))
}

#[test]
fn two_who_reserve_get_a_slot_each_and_a_third_none() {
    model("two reserve", 1, |arena| {
        let table = arena.process_table();
        let others = [1, 2].map(|_| thread::spawn(move || table.reserve(None)));
        let mine = table.reserve(None);
        let all = [others.map(|o| o.join().unwrap()).to_vec(), vec![mine]].concat();
        let mut got: Vec<u32> = all.into_iter().flatten().map(|place| place.index.get()).collect();
        got.sort_unstable();
        assert_eq!(got, [0, 1]);
    });
}

#[test]
fn a_member_is_never_read_as_half_of_two() {
    model("one slot, two lives", 1, |arena| {
        let table = arena.process_table();
        let place = registered(table, 11);
        let lives = thread::spawn(move || {
            assert!(table.end(place));
            registered(table, 12)
        });
        if let Some((seen, member)) = table.member(place.index) {
            assert_eq!(member, known(member.pid));
            assert_eq!(seen.place().life - place.life + 11, member.pid);
        }
        let next = lives.join().unwrap();
        assert_eq!(table.member(next.index).unwrap().1, known(12));
    });
}

#[test]
fn two_finders_release_a_dead_member_once_and_no_newcomer() {
    model("two finders and a newcomer", 1, |arena| {
        let table = arena.process_table();
        let dead = registered(table, 11);
        let others = registered(table, 12);
        let finders = [1, 2].map(|_| thread::spawn(move || find_dead(table, 11)));
        // It gets the dead one's slot, or none: there is no other.
        let newcomer =
            thread::spawn(move || table.reserve(None).map(|place| (place, table.register(place, known(13)))));
        let newcomer = newcomer.join().unwrap();
        let released: u32 = finders.map(|finder| finder.join().unwrap()).iter().sum();
        assert_eq!(released, 1, "by one of them");
        if let Some((place, was_registered)) = newcomer {
            assert!(was_registered && place.index == dead.index && table.lives(place));
            assert_eq!(table.member(place.index).unwrap().1, known(13));
        }
        assert!(table.lives(others) && !table.lives(dead));
    });
}

#[test]
fn a_child_that_comes_too_late_disturbs_no_newcomer() {
    model("a late child and a newcomer", 1, |arena| {
        let table = arena.process_table();
        let others = registered(table, 12);
        let place = table.reserve(None).unwrap();
        let child = thread::spawn(move || table.register(place, known(11)));
        let newcomer = thread::spawn(move || {
            // Its parent gives it up; another process is started in its place.
            let given_up = table.cancel(place);
            let next = table.reserve(None).filter(|_| given_up);
            next.map(|next| (next, table.register(next, known(13))))
        });
        let (came, newcomer) = (child.join().unwrap(), newcomer.join().unwrap());
        assert_eq!(came, newcomer.is_none(), "one of them has the slot");
        table.note_exit(place, 7);
        let (seen, member) = table.member(place.index).unwrap();
        match newcomer {
            None => assert_eq!((seen.place(), member, table.noted_exit(place)), (place, known(11), Some(7))),
            Some((next, was_registered)) => {
                assert!(was_registered);
                assert_eq!((seen.place(), member, table.noted_exit(next)), (next, known(13), None));
            }
        }
        assert!(table.lives(others));
    });
}

#[test]
fn a_child_that_dies_while_it_registers_is_found_once() {
    for point in [KillPoint::SlotRegistering, KillPoint::SlotWritten] {
        model(&format!("a death at {point:?}"), 1, move |arena| {
            let table = arena.process_table();
            let others = registered(table, 12);
            let place = table.reserve(None).unwrap();
            assert!(killed_at(point, move || _ = table.register(place, known(11))).join().unwrap());
            // Not a member, and known by its pid and where that means something.
            assert_eq!(table.member(place.index), None);
            let find = move || {
                let seen = table.look(place.index);
                let found = table.identity(seen).is_some_and(|found| found.pid == 11);
                found && seen.state() == State::Registering && table.release(seen)
            };
            let finders = [1, 2].map(|_| thread::spawn(find));
            let newcomer =
                thread::spawn(move || table.reserve(None).map(|next| table.register(next, known(13))));
            let came = newcomer.join().unwrap();
            let released = finders.map(|finder| finder.join().unwrap());
            assert_eq!(released.iter().filter(|released| **released).count(), 1);
            assert!(came != Some(false) && table.lives(others) && !table.lives(place));
            assert_eq!(table.member(place.index).map(|(_, member)| member), came.map(|_| known(13)));
        });
    }
}

#[test]
fn who_takes_its_own_slot_and_is_given_up_by_a_finder_disturbs_no_newcomer() {
    model("a finder of slots without parents", 1, |arena| {
        let table = arena.process_table();
        let others = registered(table, 12);
        // Reserved for nobody's child: any finder takes it back.
        let own = thread::spawn(move || {
            let place = table.reserve(None)?;
            Some((place, table.register(place, known(11))))
        });
        let finder = thread::spawn(move || {
            let orphans = table.used().map(|index| table.look(index)).filter(|seen| seen.parent().is_none());
            let places: Vec<_> = orphans.map(Seen::place).filter(|place| *place != others).collect();
            places.into_iter().any(|place| table.cancel(place))
        });
        let newcomer =
            thread::spawn(move || table.reserve(None).map(|place| (place, table.register(place, known(13)))));
        let newcomer = newcomer.join().unwrap();
        let (own, taken_back) = (own.join().unwrap(), finder.join().unwrap());
        for (pid, came) in [(11, own), (13, newcomer)] {
            match came {
                Some((place, true)) => assert_eq!(table.member(place.index).unwrap().1, known(pid)),
                Some((_, false)) => assert!(taken_back),
                None => {}
            }
        }
        assert!(table.lives(others));
    });
}

#[test]
fn what_a_member_noted_is_not_taken_for_the_next_ones() {
    model("exit notes", 1, |arena| {
        let table = arena.process_table();
        let place = registered(table, 11);
        let member = thread::spawn(move || table.note_exit(place, -9));
        let early = table.noted_exit(place);
        assert!(early.is_none() || early == Some(-9));
        // Another process has found it dead, rightly or not, and a newcomer has the slot: the late note is not the
        // newcomer's.
        assert!(table.end(place));
        let next = table.reserve(None).unwrap();
        table.note_exit(next, 3);
        member.join().unwrap();
        assert_eq!((next.index, table.noted_exit(next)), (place.index, Some(3)));
        assert_eq!(table.noted_exit(place), None);
    });
}
