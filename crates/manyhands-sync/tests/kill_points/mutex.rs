//! The turnstile before the robust mutex: a waiter that has waited for long dies at each step of its turn, and the others
//! get the mutex all the same.

use super::support::{arena, placed};
use super::{die_at, print_deaths, rounds};
use manyhands_sync::kill_point::KillPoint;
use manyhands_sync::mutex::{LockError, RobustMutex};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The turnstile's steps.
pub(super) const POINTS: &[KillPoint] = {
    use KillPoint::*;
    &[TurnstileClosed, TurnstilePassed, TurnstileOpened]
};

/// One holds the mutex until another one has waited for long, and a third has come.
fn a_turn(mutex: &'static RobustMutex) {
    let comes = AtomicBool::new(false);
    thread::scope(|scope| {
        let guard = mutex.lock_placed(|| {}).unwrap();
        scope.spawn(|| drop(mutex.lock_placed(|| {})));
        while !mutex.keeps_off() {
            thread::yield_now();
        }
        scope.spawn(|| {
            comes.store(true, Ordering::Release);
            drop(mutex.lock_placed(|| {}));
        });
        while !comes.load(Ordering::Acquire) {
            thread::yield_now();
        }
        // It keeps off by now, mostly; if it does not, there is another turn.
        thread::sleep(Duration::from_millis(2));
        drop(guard);
    });
}

#[test]
fn a_mutex_survives_a_death_at_each_step_of_a_turn() {
    let arena = arena(1);
    for &point in POINTS {
        let mut longest = Duration::ZERO;
        for _ in 0..rounds() {
            let (_, mutex) = placed(&arena, RobustMutex::new());
            die_at(point, 1, || (0..200).for_each(|_| a_turn(mutex)));
            let (began, repaired) = (Instant::now(), Cell::new(false));
            drop(mutex.lock_placed(|| repaired.set(true)).unwrap());
            longest = longest.max(began.elapsed());
            // In each of them somebody holds it: the one that was waited for, or the one that had waited.
            assert!(repaired.get(), "{point:?}");
            while let Err(error) = mutex.try_lock_placed(|| {}).map(drop) {
                assert_eq!(error, LockError::Busy);
                assert!(began.elapsed() < Duration::from_secs(10), "a turn has an end");
                thread::yield_now();
            }
        }
        println!("{point:?}: the mutex was had within {longest:?}");
    }
    print_deaths(POINTS);
}
