//! The wait word between threads, on the real futex.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // not part of the structures that loom checks

mod support;

use manyhands_sync::deadline::Deadline;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::wait_word::{EVERYONE, FIRST_SLEEP, LONGEST_SLEEP, WaitWord, Waited, Waiting};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use support::times;

#[test]
fn what_holds_already_needs_no_sleep() {
    let word = WaitWord::new();
    assert_eq!(
        word.wait(|| true, &mut Waiting::new(WaitKind::Message), Deadline::NEVER, |_| ()),
        Waited::Ready
    );
    let past = Deadline::after(Duration::ZERO);
    assert_eq!(word.wait(|| true, &mut Waiting::new(WaitKind::Message), past, |_| ()), Waited::Ready);
    assert_eq!(word.wait(|| false, &mut Waiting::new(WaitKind::Message), past, |_| ()), Waited::TimedOut);
}

#[test]
fn a_deadline_ends_a_wait_and_not_before() {
    let word = WaitWord::new();
    let start = Instant::now();
    let timeout = Duration::from_millis(50);
    let (mut waiting, deadline) = (Waiting::new(WaitKind::Message), Deadline::after(timeout));
    // A short sleep comes to its end first.
    assert_eq!(word.wait(|| false, &mut waiting, deadline, |_| ()), Waited::Interrupted);
    assert_eq!(word.wait(|| false, &mut waiting, deadline, |_| ()), Waited::TimedOut);
    assert!(start.elapsed() >= timeout);
}

#[test]
fn a_wait_looks_again_after_each_sleep_without_being_woken() {
    let (word, mut waiting, start) = (WaitWord::new(), Waiting::new(WaitKind::Message), Instant::now());
    // A short sleep first, then a long one; what nobody tells of is found at the end of either.
    for (sleeps, slept) in [(1, FIRST_SLEEP), (2, FIRST_SLEEP + LONGEST_SLEEP)] {
        assert_eq!(word.wait(|| false, &mut waiting, Deadline::NEVER, |_| ()), Waited::Interrupted);
        assert_eq!(waiting.slices(), sleeps);
        assert!(start.elapsed() >= slept);
    }
    assert_eq!(word.wait(|| true, &mut waiting, Deadline::NEVER, |_| ()), Waited::Ready);
}

#[test]
fn who_is_woken_in_vain_again_and_again_looks_around_all_the_same() {
    let (word, over) = (WaitWord::new(), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // More often than any sleep comes to its end.
            while over.load(Ordering::Relaxed) == 0 {
                word.wake(EVERYONE);
                std::thread::sleep(FIRST_SLEEP / 10);
            }
        });
        let mut waiting = Waiting::new(WaitKind::Message);
        let deadline = Deadline::after(Duration::from_secs(60));
        // Two sleeps may have come to their end by accident.
        for _ in 0..20 {
            let waited = word.wait(|| false, &mut waiting, deadline, |_| ());
            assert_eq!(waited, Waited::Interrupted, "{waiting:?}");
        }
        over.store(1, Ordering::Relaxed);
    });
}

#[test]
fn a_note_is_made_once_for_each_sleep_and_none_where_nobody_sleeps() {
    let (word, mut waiting, mut notes) = (WaitWord::new(), Waiting::new(WaitKind::Event), 0);
    word.wait(|| true, &mut waiting, Deadline::NEVER, |_| notes += 1);
    assert_eq!(notes, 0);
    let mut since = [0; 2];
    for (at, since) in since.iter_mut().enumerate() {
        let note = |waiting: &mut Waiting| *since = waiting.since(7 + at as u64);
        assert_eq!(word.wait(|| false, &mut waiting, Deadline::NEVER, note), Waited::Interrupted);
    }
    assert_eq!(since, [7, 7], "the wait began when it first slept");
}

/// A ball between two threads, thousands of times: a lost wake-up costs a whole second each.
#[test]
fn wake_ups_are_not_lost_between_two() {
    let rounds = times(20_000) as u32;
    let (ball, words) = (AtomicU32::new(0), [WaitWord::new(), WaitWord::new()]);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for side in 0..2 {
            let (ball, words) = (&ball, &words);
            scope.spawn(move || {
                // Never started over: after the first spin in vain it sleeps at once, which is what is to be tested.
                let mut waiting = Waiting::new(WaitKind::Message);
                for round in 0..rounds {
                    let wanted = round * 2 + side;
                    let ready = || ball.load(Ordering::Acquire) == wanted;
                    let wait =
                        |waiting: &mut _| words[side as usize].wait(ready, waiting, Deadline::NEVER, |_| ());
                    while wait(&mut waiting) != Waited::Ready {}
                    ball.store(wanted + 1, Ordering::Release);
                    words[1 - side as usize].wake(1);
                }
            });
        }
    });
    assert!(start.elapsed() < Duration::from_secs(60), "wake-ups are lost: {:?}", start.elapsed());
}

/// Tokens handed out by several wakers to several waiters, who take one each and sleep in between.
#[test]
fn every_token_is_taken_by_somebody() {
    let all = times(30_000) as u32;
    let (tokens, taken, word) = (AtomicU32::new(0), AtomicU32::new(0), WaitWord::new());
    let take = || tokens.fetch_update(Ordering::AcqRel, Ordering::Acquire, |t| t.checked_sub(1)).is_ok();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut waiting = Waiting::new(WaitKind::Message);
                let done = || taken.load(Ordering::Acquire) == all;
                while !done() {
                    word.wait(
                        || tokens.load(Ordering::Acquire) != 0 || done(),
                        &mut waiting,
                        Deadline::NEVER,
                        |_| (),
                    );
                    while take() {
                        taken.fetch_add(1, Ordering::AcqRel);
                    }
                }
                word.wake(EVERYONE);
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for i in 0..all / 2 {
                    tokens.fetch_add(1, Ordering::AcqRel);
                    word.wake(1);
                    if i % 64 == 0 {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                }
            });
        }
    });
    assert_eq!(taken.load(Ordering::Acquire), all);
    assert!(start.elapsed() < Duration::from_secs(60), "wake-ups are lost: {:?}", start.elapsed());
}
