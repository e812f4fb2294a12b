//! The turnstile under loom: nobody is forgotten who keeps off, in every order of steps within the preemption bound.
//!
//! The mutex behind it is a word of the model. A model in which nobody dies has no time: there one that keeps off and is not
//! woken is a deadlock, which loom reports.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // counts the orders, outside the model

mod model;

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use manyhands_sync::kill_point::KillPoint;
use manyhands_sync::mutex::Turnstile;
use manyhands_sync::primitive::end_sleeps;
use model::{killed_at, orders};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

#[derive(Default)]
struct Guarded {
    turnstile: Turnstile,
    turns: AtomicU32,
}

impl Guarded {
    /// One that has waited for long, and then has what it waited for.
    fn turn(&self) {
        let closed = self.turnstile.close();
        self.turns.fetch_add(1, Ordering::SeqCst);
        if closed {
            self.turnstile.open();
        }
    }

    fn come(&self) {
        if !self.turnstile.is_open() {
            self.turnstile.pass();
        }
    }
}

#[test]
fn those_who_keep_off_go_on_when_the_turn_is_over() {
    orders("two who come, one turn", || {
        let guarded = Arc::new(Guarded::default());
        let others = [guarded.clone(), guarded.clone()].map(|other| thread::spawn(move || other.come()));
        guarded.turn();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert!(guarded.turnstile.is_open());
    });
}

#[test]
fn of_two_who_have_waited_for_long_one_closes_it_and_the_same_one_opens_it() {
    orders("one who comes, two turns", || {
        let guarded = Arc::new(Guarded::default());
        let (waiter, comes) = (guarded.clone(), guarded.clone());
        let waiter = thread::spawn(move || waiter.turn());
        let comes = thread::spawn(move || comes.come());
        guarded.turn();
        waiter.join().unwrap();
        comes.join().unwrap();
        assert!(guarded.turnstile.is_open());
        assert_eq!(guarded.turns.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn one_that_died_in_its_turn_keeps_nobody_off_for_long() {
    static REACHED: AtomicU64 = AtomicU64::new(0);
    for point in [KillPoint::TurnstileClosed, KillPoint::TurnstilePassed, KillPoint::TurnstileOpened] {
        let reached = REACHED.load(std::sync::atomic::Ordering::Relaxed);
        orders("a death in a turn", move || {
            let guarded = Arc::new(Guarded::default());
            let (dying, comes) = (guarded.clone(), guarded.clone());
            let dead = killed_at(point, move || dying.turn());
            let comes = thread::spawn(move || comes.come());
            REACHED.fetch_add(dead.join().unwrap().into(), std::sync::atomic::Ordering::Relaxed);
            end_sleeps();
            guarded.come();
            comes.join().unwrap();
        });
        assert!(REACHED.load(std::sync::atomic::Ordering::Relaxed) > reached, "{point:?}");
    }
}
