//! The wait word under loom: no wake-up is lost, in any order of steps within the preemption bound.
//!
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test --release -p manyhands-sync --test 'loom_*'`
//!
//! The futex double never times out: a lost wake-up is a deadlock, which loom reports. Limits: loom treats SeqCst
//! *accesses* as AcqRel (the fences, on which the protocol rests, are modelled); the double's lock orders a wake
//! and a sleep as the kernel's bucket lock does; three threads, two or three steps each.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // counts the orders, outside the model

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use manyhands_sync::deadline::Deadline;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::wait_word::{EVERYONE, WaitWord, Waiting};

/// Tokens that can be waited for.
struct Tokens {
    word: WaitWord,
    count: AtomicU32,
}

impl Tokens {
    fn new() -> Arc<Self> {
        Arc::new(Self { word: WaitWord::new(), count: AtomicU32::new(0) })
    }

    fn give(&self, wake: u32) {
        // Relaxed: the fences in the wait word are all that orders this with the waiter's look.
        self.count.fetch_add(1, Ordering::Relaxed);
        self.word.wake(wake);
    }

    fn take(&self) {
        loop {
            self.word.wait(
                || self.count.load(Ordering::Relaxed) != 0,
                &mut Waiting::new(WaitKind::Message),
                Deadline::NEVER,
                |_| (),
            );
            let count = self.count.load(Ordering::Relaxed);
            if count != 0
                && self.count.compare_exchange(count, count - 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            {
                return;
            }
        }
    }
}

fn model(check: impl Fn() + Sync + Send + 'static) {
    model_with(loom::model::Builder::new(), check);
}

fn model_with(builder: loom::model::Builder, check: impl Fn() + Sync + Send + 'static) {
    let rounds = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = rounds.clone();
    builder.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        check();
    });
    println!("{rounds:?} orders");
}

#[test]
fn one_waiter_hears_one_waker() {
    model(|| {
        let tokens = Tokens::new();
        let waker = tokens.clone();
        let other = thread::spawn(move || waker.give(1));
        tokens.take();
        other.join().unwrap();
    });
}

#[test]
fn one_waiter_hears_two_wakers_while_the_bit_is_cleared() {
    model(|| {
        let tokens = Tokens::new();
        let wakers = [tokens.clone(), tokens.clone()].map(|t| thread::spawn(move || t.give(1)));
        tokens.take();
        tokens.take();
        for waker in wakers {
            waker.join().unwrap();
        }
    });
}

#[test]
fn two_waiters_who_each_need_one_token_both_hear() {
    model(|| {
        let tokens = Tokens::new();
        let waiters = [tokens.clone(), tokens.clone()].map(|t| thread::spawn(move || t.take()));
        tokens.give(1);
        tokens.give(1);
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}

/// One wake clears a bit that is set, another waiter sets it again, and a third, between the two, is on its way to
/// sleep: the word it expects must not come back. It takes three preemptions to get there.
#[test]
fn a_word_that_was_cleared_and_set_again_is_not_slept_on() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    model_with(builder, || {
        let tokens = Tokens::new();
        let (one, two) = (tokens.clone(), tokens.clone());
        let waiters = [
            thread::spawn(move || one.take()),
            thread::spawn(move || {
                two.take();
                two.take();
            }),
        ];
        // Wakes nobody, and clears a bit that may be set.
        tokens.word.wake(1);
        for _ in 0..3 {
            tokens.give(1);
        }
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}

#[test]
fn everyone_is_everyone() {
    model(|| {
        let tokens = Tokens::new();
        let waiters = [tokens.clone(), tokens.clone()].map(|t| {
            thread::spawn(move || {
                t.word.wait(
                    || t.count.load(Ordering::Relaxed) != 0,
                    &mut Waiting::new(WaitKind::Message),
                    Deadline::NEVER,
                    |_| (),
                );
            })
        });
        tokens.give(EVERYONE);
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}
