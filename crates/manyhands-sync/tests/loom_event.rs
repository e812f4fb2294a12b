//! The event under loom: whoever began to wait before the flag went up goes on, in every order, whoever is killed.
//!
//! Limits: three threads; a killed setter's sleepers look again when the model ends their slices, since loom's sleeps
//! have no end.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

mod model;

use loom::sync::Arc;
use loom::thread;
use manyhands_sync::deadline::Deadline;
use manyhands_sync::event::{Since, UserEvent};
use manyhands_sync::kill_point::KillPoint;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::wait_word::{Waited, Waiting};
use model::{killed_at, orders};

fn wait(event: &UserEvent, since: Since) {
    let waited = event.wait(since, &mut Waiting::new(WaitKind::Event), Deadline::NEVER, |_| ());
    assert_eq!(waited, Waited::Ready);
}

#[test]
fn a_flag_that_is_lowered_at_once_is_not_missed() {
    orders("set and clear", || {
        let event = Arc::new(UserEvent::new());
        let waiters = [event.clone(), event.clone()].map(|event| {
            let since = event.begin_wait().unwrap();
            thread::spawn(move || wait(&event, since))
        });
        event.set();
        event.clear();
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert!(!event.is_set());
    });
}

#[test]
fn what_was_done_before_the_flag_went_up_is_seen() {
    orders("what was done before", || {
        let event = Arc::new(UserEvent::new());
        let cell = Arc::new(loom::cell::UnsafeCell::new(0));
        let (theirs, written) = (event.clone(), cell.clone());
        let setter = thread::spawn(move || {
            written.with_mut(|_| ());
            theirs.set();
        });
        if let Some(since) = event.begin_wait() {
            wait(&event, since);
        }
        cell.with(|_| ());
        setter.join().unwrap();
    });
}

#[test]
fn nobody_waits_for_a_setter_that_was_killed() {
    orders("a setter killed", || {
        let event = Arc::new(UserEvent::new());
        let since = event.begin_wait().unwrap();
        let (theirs, mine) = (event.clone(), event.clone());
        let waiter = thread::spawn(move || wait(&mine, since));
        assert!(
            killed_at(KillPoint::EventSet, move || {
                theirs.set();
            })
            .join()
            .unwrap()
        );
        event.end_slices();
        waiter.join().unwrap();
    });
}

#[test]
fn a_waiter_that_is_killed_takes_nothing_with_it() {
    orders("a waiter killed", || {
        let event = Arc::new(UserEvent::new());
        let (theirs, mine) = (event.clone(), event.clone());
        let since = event.begin_wait().unwrap();
        let victim = killed_at(KillPoint::EventFlagged, move || wait(&theirs, since));
        let waiter = thread::spawn(move || wait(&mine, since));
        event.set();
        victim.join().unwrap();
        waiter.join().unwrap();
    });
}
