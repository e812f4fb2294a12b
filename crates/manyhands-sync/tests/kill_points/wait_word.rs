//! The wait word: a waiter or a waker dies at each step, and those who wait beside it are woken, or look by themselves.

use super::support::{arena, placed};
use super::{die_at, print_deaths, rounds};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::kill_point::KillPoint;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::wait_word::{EVERYONE, LONGEST_SLEEP, WaitWord, Waited, Waiting};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The wait word's steps.
pub(super) const POINTS: &[KillPoint] =
    &[KillPoint::WaitBitSet, KillPoint::WaitWakeCounted, KillPoint::WaitBitCleared];

/// Waits until `flag` is up; how long that took once it was.
fn wait_for(word: &WaitWord, flag: &AtomicU32) {
    let ready = || flag.load(Ordering::Acquire) == 1;
    let mut waiting = Waiting::new(WaitKind::Message);
    while word.wait(ready, &mut waiting, Deadline::NEVER, |_| ()) != Waited::Ready {}
}

#[test]
fn a_wait_word_survives_a_death_at_each_step() {
    let arena = arena(1);
    let words: Vec<(&WaitWord, AtomicU32)> =
        (0..rounds()).map(|_| (placed(&arena, WaitWord::new()).1, AtomicU32::new(0))).collect();
    let mut longest = Duration::ZERO;

    // A waiter leaves the bit behind; the waker that would take it away dies when it has.
    for (word, flag) in &words {
        die_at(KillPoint::WaitBitSet, 1, || wait_for(word, flag));
        die_at(KillPoint::WaitBitCleared, 1, || word.wake(1));
        die_at(KillPoint::WaitBitSet, 1, || wait_for(word, flag));
    }
    // The bit of the last one is there still: a waiter and a waker who live do not mind.
    std::thread::scope(|scope| {
        for (word, flag) in &words {
            scope.spawn(|| wait_for(word, flag));
        }
        std::thread::sleep(Duration::from_millis(50));
        let start = Instant::now();
        for (word, flag) in &words {
            flag.store(1, Ordering::Release);
            word.wake(EVERYONE);
        }
        longest = longest.max(start.elapsed());
    });

    // A waker dies with the wake-up it owes: the sleeper looks after its longest sleep.
    for (_, flag) in &words {
        flag.store(0, Ordering::Release);
    }
    let start = std::thread::scope(|scope| {
        for (word, flag) in &words {
            scope.spawn(|| wait_for(word, flag));
        }
        for (word, _) in &words {
            // Until the sleeper has said that it is one, there is nothing to wake.
            die_at(KillPoint::WaitWakeCounted, 1, || {
                loop {
                    word.wake(1);
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        }
        let start = Instant::now();
        words.iter().for_each(|(_, flag)| flag.store(1, Ordering::Release));
        start
    });
    println!(
        "wait word: sleepers whose waker died looked within {:?} (bound: {LONGEST_SLEEP:?})",
        start.elapsed()
    );
    print_deaths(POINTS);
}
