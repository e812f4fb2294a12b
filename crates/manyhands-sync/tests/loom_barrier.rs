//! The barrier under loom: all parties of a generation learn the same of it, in every order, and one that is killed
//! breaks it, whatever it was at.
//!
//! A party that learns nothing is a deadlock, which loom reports. Limits: three threads; the looks that waiters take at
//! each other are taken by one of them, since loom's sleeps have no end.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // says who is dead, outside the model

mod model;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use manyhands_sync::arena::Handle;
use manyhands_sync::barrier::{Arrival, Outcome, Party, Place, SPARE_PLACES, UserBarrier};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::kill_point::KillPoint;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::wait_word::{Waited, Waiting};
use model::{killed_at, orders};

#[derive(Clone)]
struct Meeting {
    /// Who is known to be dead.
    dead: Arc<AtomicU32>,
    barrier: Arc<UserBarrier>,
    places: Arc<Vec<Place>>,
}

impl Meeting {
    fn of(parties: u32) -> Self {
        let places = (0..parties + SPARE_PLACES).map(|_| Place::new()).collect();
        let barrier = UserBarrier::new(parties, Handle { offset: 0, generation: 0 });
        Self { dead: Arc::new(AtomicU32::new(0)), barrier: Arc::new(barrier), places: Arc::new(places) }
    }

    fn table(&self) -> Vec<&Place> {
        self.places.iter().collect()
    }

    fn arrive(&self, me: u32, acts: bool) -> Arrival {
        let known_dead = |name, _| self.dead.load(Ordering::Relaxed) == name;
        self.barrier.arrive(&self.table(), me, acts, 0, known_dead)
    }

    fn wait(&self, party: Party) -> Outcome {
        let waited = self.barrier.wait(party, &mut Waiting::new(WaitKind::Barrier), Deadline::NEVER, |_| ());
        assert_eq!(waited, Waited::Ready);
        self.barrier.outcome(party).unwrap()
    }

    /// Comes and waits for the others; `None` when it is broken, else the index.
    fn meet(&self, me: u32, acts: bool) -> Option<u32> {
        match self.arrive(me, acts) {
            Arrival::Passed(party) => Some(party.index),
            Arrival::Acts(party) => (self.barrier.acted(party) == Outcome::Passed).then_some(party.index),
            Arrival::Waits(party) => (self.wait(party) == Outcome::Passed).then_some(party.index),
            Arrival::Broken => None,
            Arrival::Busy(_) => panic!("nobody else acts"),
        }
    }
}

#[test]
fn everybody_passes_again_and_again() {
    for acts in [false, true] {
        orders(&format!("two parties, twice, acts: {acts}"), move || {
            let meeting = Meeting::of(2);
            let theirs = meeting.clone();
            let other = thread::spawn(move || [1, 2].map(|_| theirs.meet(1, acts).unwrap()));
            let mine = [1, 2].map(|_| meeting.meet(2, acts).unwrap());
            let others = other.join().unwrap();
            assert_eq!([mine[0] + others[0], mine[1] + others[1]], [1, 1]);
            assert_eq!(meeting.barrier.waiting(), 0);
        });
    }
}

#[test]
fn three_parties_pass_together() {
    orders("three parties", || {
        let meeting = Meeting::of(3);
        let others = [1, 2].map(|me| {
            let meeting = meeting.clone();
            thread::spawn(move || meeting.meet(me, false).unwrap())
        });
        let mut indices = vec![meeting.meet(3, false).unwrap()];
        indices.extend(others.map(|other| other.join().unwrap()));
        indices.sort_unstable();
        assert_eq!(indices, [0, 1, 2]);
    });
}

/// One whose time is over, one that resets, one that is called away, against the last one to come.
#[test]
fn all_learn_the_same_of_a_generation() {
    for what in ["time out", "reset", "abort"] {
        orders(what, move || {
            let meeting = Meeting::of(2);
            let Arrival::Waits(party) = meeting.arrive(1, false) else { panic!() };
            let theirs = meeting.clone();
            let last = thread::spawn(move || theirs.arrive(2, false));
            match what {
                "time out" => _ = meeting.barrier.time_out(party),
                "reset" => meeting.barrier.reset(),
                _ => meeting.barrier.abort(),
            }
            let mine = meeting.wait(party);
            match (last.join().unwrap(), what) {
                (Arrival::Passed(_), _) => assert_eq!(mine, Outcome::Passed),
                (Arrival::Broken, "time out" | "abort") => assert_eq!(mine, Outcome::Broken),
                (Arrival::Waits(_), "reset") => assert_eq!(mine, Outcome::Broken),
                (other, _) => panic!("{other:?}"),
            }
        });
    }
}

#[test]
fn whoever_is_called_away_was_not_there_or_everybody_was() {
    orders("called away", || {
        let meeting = Meeting::of(2);
        let Arrival::Waits(party) = meeting.arrive(1, false) else { panic!() };
        let theirs = meeting.clone();
        let other = thread::spawn(move || theirs.meet(2, false));
        meeting.barrier.leave(&meeting.table(), party, 1);
        if meeting.barrier.outcome(party).is_none() {
            assert!(meeting.meet(1, false).is_some());
        }
        assert!(other.join().unwrap().is_some());
    });
}

/// A party that is killed before everybody is there: whoever waits finds it and breaks the barrier.
#[test]
fn a_party_that_is_killed_breaks_the_barrier() {
    use KillPoint::*;
    for point in [BarrierPlaced, BarrierCounted] {
        orders(&format!("killed at {point:?}"), move || {
            let meeting = Meeting::of(3);
            let (theirs, mine) = (meeting.clone(), meeting.clone());
            let victim = killed_at(point, move || _ = theirs.arrive(9, false));
            let waiter = thread::spawn(move || mine.meet(1, false));
            assert!(victim.join().unwrap());
            // From here on everybody who is the last one to come finds it, too.
            meeting.dead.store(9, Ordering::Relaxed);
            match meeting.arrive(2, false) {
                Arrival::Waits(party) => {
                    meeting.barrier.look_around(&meeting.table(), party, 0, |name, _| name == 9);
                    assert_eq!(meeting.wait(party), Outcome::Broken);
                }
                other => assert_eq!(other, Arrival::Broken),
            }
            assert_eq!(waiter.join().unwrap(), None);
            meeting.barrier.reset();
            assert!(matches!(meeting.arrive(1, false), Arrival::Waits(_)));
        });
    }
}

#[test]
fn one_that_is_killed_with_the_action_to_run_breaks_the_barrier() {
    orders("killed acting", || {
        let meeting = Meeting::of(2);
        let Arrival::Waits(party) = meeting.arrive(1, true) else { panic!() };
        let (theirs, mine) = (meeting.clone(), meeting.clone());
        let waiter = thread::spawn(move || mine.wait(party));
        assert!(killed_at(KillPoint::BarrierActing, move || _ = theirs.arrive(9, true)).join().unwrap());
        assert_eq!(meeting.barrier.time_out(party), None, "everybody is there");
        let Arrival::Busy(glimpse) = meeting.arrive(2, true) else { panic!() };
        meeting.barrier.look_in(&meeting.table(), glimpse, |name, _| name == 9);
        assert_eq!(waiter.join().unwrap(), Outcome::Broken);
    });
}

#[test]
fn nobody_waits_for_one_that_was_killed_after_its_last_step() {
    use KillPoint::*;
    for point in [BarrierTripped, BarrierBroken] {
        orders(&format!("killed at {point:?}"), move || {
            let meeting = Meeting::of(2);
            let Arrival::Waits(party) = meeting.arrive(1, false) else { panic!() };
            let (theirs, mine) = (meeting.clone(), meeting.clone());
            let waiter = thread::spawn(move || mine.wait(party));
            let victim = killed_at(point, move || match point {
                BarrierTripped => _ = theirs.arrive(9, false),
                _ => theirs.barrier.abort(),
            });
            assert!(victim.join().unwrap());
            meeting.barrier.end_slices();
            let expected = if point == BarrierTripped { Outcome::Passed } else { Outcome::Broken };
            assert_eq!(waiter.join().unwrap(), expected);
        });
    }
}

#[test]
fn one_that_is_killed_leaving_breaks_the_barrier() {
    orders("killed leaving", || {
        let meeting = Meeting::of(2);
        let Arrival::Waits(party) = meeting.arrive(9, false) else { panic!() };
        let theirs = meeting.clone();
        let victim =
            killed_at(KillPoint::BarrierLeft, move || theirs.barrier.leave(&theirs.table(), party, 9));
        assert!(victim.join().unwrap());
        let Arrival::Waits(party) = meeting.arrive(1, false) else { panic!() };
        meeting.barrier.look_around(&meeting.table(), party, 0, |name, _| name == 9);
        assert_eq!(meeting.barrier.outcome(party), Some(Outcome::Broken));
    });
}
