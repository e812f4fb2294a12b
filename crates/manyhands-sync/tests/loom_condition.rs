//! The condition under loom: each notification goes to one who waited when it was given, in every order, whoever is
//! killed, gives up or is called away.
//!
//! A wait that hears nothing is a deadlock, which loom reports. The user's lock is left out: notifiers are ordered by
//! being one thread. Limits: three threads, two waiters; sleepers of a killed notifier look again when the model ends
//! their sleeps, since loom's have no end.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

mod model;

use loom::sync::Arc;
use loom::thread;
use manyhands_sync::condition::{UserCondition, Waiter};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::kill_point::KillPoint;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::wait_word::{Waited, Waiting};
use model::{killed_at, orders};

fn fresh() -> Arc<UserCondition> {
    Arc::new(UserCondition::new())
}

fn wait(condition: &UserCondition, waiter: Waiter) {
    let waited = condition.wait(waiter, &mut Waiting::new(WaitKind::Condition), Deadline::NEVER, |_| ());
    assert_eq!(waited, Waited::Ready);
}

fn waits(condition: &Arc<UserCondition>, waiter: Waiter) -> thread::JoinHandle<()> {
    let condition = condition.clone();
    thread::spawn(move || wait(&condition, waiter))
}

#[test]
fn two_waiters_hear_two_notifications_or_one_for_all() {
    for all in [false, true] {
        orders(if all { "one for all" } else { "two for two" }, move || {
            let condition = fresh();
            let waiters = [(); 2].map(|()| waits(&condition, condition.join().unwrap()));
            if all {
                assert_eq!(condition.notify(u32::MAX), 2);
            } else {
                assert_eq!((condition.notify(1), condition.notify(1)), (1, 1));
            }
            for waiter in waiters {
                waiter.join().unwrap();
            }
            assert_eq!((condition.waiters(), condition.notify(1)), (0, 0));
        });
    }
}

#[test]
fn a_newcomer_steals_nothing() {
    orders("a newcomer", || {
        let condition = fresh();
        let first = waits(&condition, condition.join().unwrap());
        assert_eq!(condition.notify(1), 1);
        let second = waits(&condition, condition.join().unwrap());
        first.join().unwrap();
        assert_eq!(condition.notify(1), 1);
        second.join().unwrap();
    });
}

#[test]
fn three_groups_one_after_the_other() {
    orders("three groups", || {
        let condition = fresh();
        let first = waits(&condition, condition.join().unwrap());
        assert_eq!(condition.notify(1), 1);
        let second = condition.join().unwrap();
        // The second group passes the first one, which may not have looked yet; the third has its parity.
        assert_eq!(condition.notify(1), 1);
        let third = waits(&condition, condition.join().unwrap());
        first.join().unwrap();
        wait(&condition, second);
        assert_eq!(condition.notify(1), 1);
        third.join().unwrap();
    });
}

#[test]
fn whoever_gives_up_was_notified_or_leaves_it_to_the_other() {
    orders("giving up", || {
        let condition = fresh();
        let (late, patient) = (condition.join().unwrap(), condition.join().unwrap());
        let other = waits(&condition, patient);
        let theirs = condition.clone();
        let leaver = thread::spawn(move || theirs.give_up(late));
        assert_eq!(condition.notify(1), 1);
        if leaver.join().unwrap() {
            assert_eq!(condition.notify(1), 1);
        }
        other.join().unwrap();
        assert_eq!(condition.waiters(), 0);
    });
}

#[test]
fn whoever_is_called_away_leaves_its_notification_to_the_other() {
    orders("called away", || {
        let condition = fresh();
        let (away, patient) = (condition.join().unwrap(), condition.join().unwrap());
        let other = waits(&condition, patient);
        let theirs = condition.clone();
        let leaver = thread::spawn(move || theirs.abandon(away));
        assert_eq!(condition.notify(1), 1);
        other.join().unwrap();
        leaver.join().unwrap();
        assert_eq!(condition.waiters(), 0);
    });
}

#[test]
fn what_a_notifier_has_granted_when_it_is_killed_is_heard() {
    orders("a notifier killed", || {
        let condition = fresh();
        let waiter = waits(&condition, condition.join().unwrap());
        let theirs = condition.clone();
        let notifier = killed_at(KillPoint::ConditionNotified, move || _ = theirs.notify(1));
        assert!(notifier.join().unwrap());
        condition.end_slices();
        waiter.join().unwrap();
    });
}

#[test]
fn a_dead_waiter_costs_at_most_one_notification() {
    use KillPoint::*;
    for point in [ConditionJoined, WaitBitSet, ConditionTaken] {
        orders(&format!("killed at {point:?}"), move || {
            let condition = fresh();
            let theirs = condition.clone();
            let victim = killed_at(point, move || {
                let waiter = theirs.join().unwrap();
                wait(&theirs, waiter);
            });
            let waiter = waits(&condition, condition.join().unwrap());
            let first = condition.notify(1);
            // It may have waited for something until now.
            let second = condition.notify(1);
            assert_eq!(first, 1);
            if point == ConditionTaken {
                // The victim may not have been there yet, and needs one to get to its death.
                let mut given = second;
                while given == 0 && condition.waiters() == 0 {
                    thread::yield_now();
                    given = condition.notify(1);
                }
                _ = condition.notify(1);
            }
            victim.join().unwrap();
            // A wake may have gone with the dead one.
            condition.end_slices();
            waiter.join().unwrap();
        });
    }
}

#[test]
fn one_that_is_killed_leaving_has_left() {
    orders("killed leaving", || {
        let condition = fresh();
        let (late, patient) = (condition.join().unwrap(), condition.join().unwrap());
        let theirs = condition.clone();
        let victim = killed_at(KillPoint::ConditionLeft, move || theirs.abandon(late));
        let other = waits(&condition, patient);
        assert_eq!(condition.notify(1), 1);
        assert!(victim.join().unwrap());
        condition.end_slices();
        other.join().unwrap();
        assert_eq!(condition.waiters(), 0);
    });
}
