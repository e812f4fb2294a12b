//! Events, conditions and barriers after a death at each step: nobody waits for the dead one.

use super::support::{Mapping, arena, placed};
use super::{die_at, print_deaths, rounds};
use manyhands_sync::arena::{Arena, Handle};
use manyhands_sync::barrier::{Arrival, Outcome, Party, Place, SPARE_PLACES, UserBarrier};
use manyhands_sync::condition::UserCondition;
use manyhands_sync::deadline::Deadline;
use manyhands_sync::event::UserEvent;
use manyhands_sync::kill_point::KillPoint::{self, *};
use manyhands_sync::notes::WaitKind;
use manyhands_sync::wait_word::{Waited, Waiting};

/// The steps tried here.
pub(super) const POINTS: &[KillPoint] = &[
    ConditionJoined,
    ConditionNotified,
    ConditionTaken,
    ConditionLeft,
    EventFlagged,
    EventSet,
    BarrierPlaced,
    BarrierCounted,
    BarrierActing,
    BarrierTripped,
    BarrierLeft,
    BarrierBroken,
];

const DEAD: u32 = 77;

/// A barrier and its places, in memory that outlives whoever dies.
struct Meeting {
    barrier: &'static UserBarrier,
    places: Vec<&'static Place>,
}

impl Meeting {
    fn of(arena: &Arena<Mapping>, parties: u32) -> Self {
        let barrier = UserBarrier::new(parties, Handle { offset: 0, generation: 0 });
        let places = (0..parties + SPARE_PLACES).map(|_| placed(arena, Place::new()).1).collect();
        Self { barrier: placed(arena, barrier).1, places }
    }

    fn arrive(&self, me: u32, acts: bool) -> Arrival {
        self.barrier.arrive(&self.places, me, acts, 0, |_, _| false)
    }

    fn comes(&self, me: u32) -> Party {
        match self.arrive(me, true) {
            Arrival::Waits(party) => party,
            other => panic!("{other:?}"),
        }
    }

    fn wait(&self, party: Party) -> Outcome {
        to_the_end(|waiting| self.barrier.wait(party, waiting, Deadline::NEVER, |_| ()));
        self.barrier.outcome(party).expect("over")
    }
}

/// A wait, however many slices it takes.
fn to_the_end(wait: impl Fn(&mut Waiting) -> Waited) -> Waited {
    let mut waiting = Waiting::new(WaitKind::Barrier);
    loop {
        match wait(&mut waiting) {
            Waited::Interrupted => {}
            waited => return waited,
        }
    }
}

/// The victim works while somebody else waits; what that one got.
fn beside<T: Send>(wait: impl FnOnce() -> T + Send, victim: impl FnOnce()) -> T {
    std::thread::scope(|scope| {
        let waiter = scope.spawn(wait);
        // Most often asleep by then; right in either case.
        std::thread::sleep(std::time::Duration::from_millis(5));
        victim();
        waiter.join().unwrap()
    })
}

fn event(arena: &Arena<Mapping>, point: KillPoint) {
    let event = placed(arena, UserEvent::new()).1;
    let since = event.begin_wait().expect("down");
    let wait = || to_the_end(|waiting| event.wait(since, waiting, Deadline::NEVER, |_| ()));
    let heard = beside(wait, || match point {
        EventFlagged => {
            die_at(point, 1, || _ = wait());
            event.set();
        }
        _ => die_at(point, 1, || {
            event.set();
        }),
    });
    assert_eq!((heard, event.is_set()), (Waited::Ready, true));
}

fn condition(arena: &Arena<Mapping>, point: KillPoint) {
    let condition = placed(arena, UserCondition::new()).1;
    let wait = |waiter| to_the_end(|waiting| condition.wait(waiter, waiting, Deadline::NEVER, |_| ()));
    if point == ConditionNotified {
        let waiter = condition.join().unwrap();
        assert_eq!(beside(|| wait(waiter), || die_at(point, 1, || _ = condition.notify(1))), Waited::Ready);
        return;
    }
    die_at(point, 1, || {
        let waiter = condition.join().unwrap();
        if point == ConditionTaken {
            condition.notify(1);
            wait(waiter);
        }
        condition.give_up(waiter);
    });
    let stays = u32::from(point == ConditionJoined);
    assert_eq!(condition.waiters(), stays);
    let waiter = condition.join().unwrap();
    // One at most for the dead one; it is in the same group, so none.
    assert_eq!((condition.notify(1), wait(waiter)), (1, Waited::Ready));
    assert_eq!((condition.notify(u32::MAX), condition.waiters()), (stays, 0));
    let waiter = condition.join().unwrap();
    assert_eq!((condition.notify(1), wait(waiter)), (1, Waited::Ready));
}

fn barrier(arena: &Arena<Mapping>, point: KillPoint) {
    let parties = if point == BarrierActing || point == BarrierTripped { 2 } else { 3 };
    let meeting = Meeting::of(arena, parties);
    let party = meeting.comes(1);
    let outcome = beside(
        || meeting.wait(party),
        || {
            die_at(point, 1, || match point {
                BarrierBroken => meeting.barrier.abort(),
                BarrierLeft => {
                    let party = meeting.comes(DEAD);
                    meeting.barrier.leave(&meeting.places, party, DEAD);
                }
                _ => _ = meeting.arrive(DEAD, point != BarrierTripped),
            });
            meeting.barrier.look_around(&meeting.places, party, 0, |name, _| name == DEAD);
        },
    );
    let expected = if point == BarrierTripped { Outcome::Passed } else { Outcome::Broken };
    assert_eq!(outcome, expected, "{point:?}");
    meeting.barrier.reset();
    let all: Vec<_> = (1..=parties).map(|me| meeting.arrive(me, false)).collect();
    assert!(matches!(all.last(), Some(Arrival::Passed(_))), "{point:?}: {all:?}");
}

#[test]
fn nobody_waits_for_who_died_at_any_step_of_a_meeting() {
    let arena = arena(1);
    for &point in POINTS {
        for _ in 0..rounds() {
            match point {
                EventFlagged | EventSet => event(&arena, point),
                ConditionJoined | ConditionNotified | ConditionTaken | ConditionLeft => {
                    condition(&arena, point);
                }
                _ => barrier(&arena, point),
            }
        }
    }
    print_deaths(POINTS);
}
