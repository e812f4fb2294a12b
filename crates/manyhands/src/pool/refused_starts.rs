//! What the scheduler makes of workers that cannot be started.

use super::{Action, Event, Scheduler, State};
use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const STARVES_FOR: Duration = Duration::from_secs(5);

#[test]
fn a_refused_start_is_tried_again_after_growing_pauses_while_a_worker_lives() {
    let (mut scheduler, _) = Scheduler::new(3);
    scheduler.on(Event::Submitted { tasks: 9 });
    for seat in [0, 1] {
        assert_eq!(scheduler.on(Event::WorkerExited { seat, was_ready: true }), [Action::Start { seat }]);
    }
    let mut pauses = Vec::new();
    let mut actions = scheduler.on(Event::StartRefused { seat: 1 });
    assert_eq!(scheduler.on(Event::StartRefused { seat: 0 }), [], "two pauses at once");
    for _ in 0..100 {
        let [Action::Pause(pause)] = actions[..] else { panic!("{actions:?}") };
        pauses.push(pause.as_millis());
        assert_eq!(scheduler.on(Event::PauseOver), [Action::Start { seat: 0 }]);
        actions = scheduler.on(Event::StartRefused { seat: 0 });
    }
    assert_eq!(pauses[..9], [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
    // As soon as one can be started, so can the other, perhaps.
    assert_eq!(scheduler.on(Event::PauseOver), [Action::Start { seat: 0 }]);
    assert_eq!(scheduler.on(Event::Started { seat: 0 }), [Action::Start { seat: 1 }]);
    assert_eq!(scheduler.on(Event::StartRefused { seat: 1 }), [Action::Pause(FIRST_PAUSE)]);
    assert_eq!(scheduler.state(), State::Running);
    // Nothing is tried for a pool that has nothing to do any more.
    scheduler.on(Event::Close);
    assert_eq!(scheduler.on(Event::Answered { tasks: 9 }), [Action::Dismiss]);
    assert_eq!(scheduler.on(Event::PauseOver), []);
}

#[test]
fn a_pool_that_has_no_worker_and_gets_none_breaks_in_the_end() {
    let (mut scheduler, _) = Scheduler::new(2);
    scheduler.on(Event::WorkerExited { seat: 0, was_ready: true });
    scheduler.on(Event::StartRefused { seat: 0 });
    scheduler.on(Event::WorkerExited { seat: 1, was_ready: true });
    scheduler.on(Event::StartRefused { seat: 1 });
    let (mut waited, mut pause) = (Duration::ZERO, FIRST_PAUSE);
    loop {
        waited += pause;
        assert_eq!(scheduler.on(Event::PauseOver), [Action::Start { seat: 0 }]);
        match scheduler.on(Event::StartRefused { seat: 0 })[..] {
            [Action::Pause(next)] => pause = next,
            ref actions => break assert_eq!(actions, [Action::Break, Action::Kill]),
        }
    }
    assert!(waited >= STARVES_FOR && waited <= STARVES_FOR + LONGEST_PAUSE, "{waited:?}");
    assert_eq!(scheduler.on(Event::PauseOver), []);
}

#[test]
fn what_is_demanded_during_a_pause_comes_after_it() {
    let mut scheduler = Scheduler::on_demand(3);
    scheduler.on(Event::WorkerDemanded);
    assert_eq!(scheduler.on(Event::StartRefused { seat: 0 }), [Action::Pause(FIRST_PAUSE)]);
    assert_eq!(scheduler.on(Event::WorkerDemanded), []);
    assert_eq!(scheduler.on(Event::PauseOver), [Action::Start { seat: 0 }]);
    assert_eq!(scheduler.on(Event::Started { seat: 0 }), [Action::Start { seat: 1 }]);
    assert_eq!(scheduler.on(Event::Started { seat: 1 }), []);
    // One that nobody wants any more is not tried again.
    assert_eq!(scheduler.on(Event::WorkerDemanded), [Action::Start { seat: 2 }]);
    assert_eq!(scheduler.on(Event::StartGivenUp { seat: 2 }), []);
    assert_eq!(scheduler.on(Event::PauseOver), []);
}
