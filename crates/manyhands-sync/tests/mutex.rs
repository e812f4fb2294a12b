//! The robust mutex, between threads and between processes.
#![cfg(not(loom))]
#![allow(unsafe_code)] // forks
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // not part of the structures that loom checks

mod support;

use manyhands_sync::deadline::Deadline;
use manyhands_sync::mutex::{LockError, RobustMutex, Slices};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use support::{arena, fork, placed, reap, times};

#[test]
fn a_held_lock_is_busy_for_others_and_free_afterwards() {
    let arena = arena(1);
    let (_, lock) = placed(&arena, RobustMutex::new());
    let guard = lock.lock_placed(|| panic!("nobody died")).unwrap();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| lock.try_lock_placed(|| panic!("nobody died")).err());
        assert_eq!(other.join().unwrap(), Some(LockError::Busy));
    });
    drop(guard);
    drop(lock.try_lock_placed(|| panic!("nobody died")).unwrap());
}

#[test]
fn only_one_is_inside_at_a_time() {
    let arena = arena(1);
    let (_, lock) = placed(&arena, RobustMutex::new());
    let (inside, count) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..times(20_000) {
                    let guard = lock.lock_placed(|| {}).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                    count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                    inside.fetch_sub(1, Ordering::Relaxed);
                    drop(guard);
                }
            });
        }
    });
    assert_eq!(count.load(Ordering::Relaxed), 4 * times(20_000) as u32);
}

#[test]
fn the_next_holder_after_a_death_repairs_once() {
    let arena = arena(1);
    let (_, lock) = placed(&arena, RobustMutex::new());
    let pid = fork(|| {
        std::mem::forget(lock.lock_placed(|| {}));
        die();
    });
    reap(pid);
    let mut repairs = 0;
    drop(lock.lock_placed(|| repairs += 1).unwrap());
    drop(lock.lock_placed(|| repairs += 1).unwrap());
    assert_eq!(repairs, 1);
}

#[test]
fn a_repairer_that_dies_is_repaired_after() {
    let arena = arena(1);
    let (_, lock) = placed(&arena, RobustMutex::new());
    let first = fork(|| {
        std::mem::forget(lock.lock_placed(|| {}));
        die();
    });
    reap(first);
    for _ in 0..3 {
        reap(fork(|| drop(lock.lock_placed(die))));
    }
    let mut repairs = 0;
    drop(lock.try_lock_placed(|| repairs += 1).unwrap());
    assert_eq!(repairs, 1);
}

#[test]
fn a_waiter_gets_the_lock_of_a_holder_that_dies_while_it_waits() {
    let arena = arena(1);
    let (_, lock) = placed(&arena, RobustMutex::new());
    let (_, held) = placed(&arena, manyhands_sync::wait_word::WaitWord::new());
    let ready = support::atomic_at(std::ptr::from_ref(held).cast(), 0);
    let pid = fork(|| {
        let _guard = lock.lock_placed(|| {});
        ready.store(2, Ordering::SeqCst);
        loop {
            std::thread::park();
        }
    });
    while ready.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    assert_eq!(lock.try_lock_placed(|| {}).err(), Some(LockError::Busy));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut repairs = 0;
            drop(lock.lock_placed(|| repairs += 1).unwrap());
            repairs
        });
        support::kill(pid);
        assert_eq!(waiter.join().unwrap(), 1);
    });
    reap(pid);
}

#[test]
fn a_lock_that_another_thread_holds_during_a_fork_is_that_threads_in_the_child_too() {
    let arena = arena(1);
    let (_, lock) = placed(&arena, RobustMutex::new());
    let (go, held) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let guard = lock.lock_placed(|| {}).unwrap();
            held.store(1, Ordering::SeqCst);
            while go.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            drop(guard);
        });
        while held.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        // The child dies while its parent's thread holds the lock: nobody's death but the holder's counts.
        let busy = fork(|| {
            if lock.try_lock_placed(|| {}).err() == Some(LockError::Busy) {
                die();
            }
        });
        assert_eq!(reap(busy), libc::SIGKILL, "the child could not take it");
        assert_eq!(lock.try_lock_placed(|| {}).err(), Some(LockError::Busy));
        // Another child waits for the parent's thread like anybody.
        let waiter = fork(|| {
            let mut repairs = 0;
            drop(lock.lock_placed(|| repairs += 1));
            if repairs == 0 {
                die();
            }
        });
        go.store(1, Ordering::SeqCst);
        assert_eq!(reap(waiter), libc::SIGKILL, "the child got the lock, and nobody had died");
    });
    drop(lock.lock_placed(|| panic!("the holder lives")).unwrap());
}

fn die() {
    support::kill(std::process::id() as i32);
    loop {
        std::thread::park();
    }
}

#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "a wait while holding a lock")]
fn a_wait_while_holding_a_lock_is_found_in_debug_builds() {
    use manyhands_sync::deadline::Deadline;
    use manyhands_sync::notes::WaitKind;
    use manyhands_sync::wait_word::{WaitWord, Waiting};
    let arena = arena(1);
    let (_, lock) = placed(&arena, RobustMutex::new());
    let _guard = lock.lock_placed(|| {}).unwrap();
    let soon = Deadline::after(std::time::Duration::from_secs(10));
    WaitWord::new().wait(|| false, &mut Waiting::new(WaitKind::Message), soon, |_| ());
}

#[test]
fn who_waits_in_slices_looks_around_behind_a_stopped_holder_and_gets_the_lock_in_the_end() {
    let arena = arena(1);
    let (_, lock) = placed(&arena, RobustMutex::new());
    let (_, held) = placed(&arena, manyhands_sync::wait_word::WaitWord::new());
    let state = support::atomic_at(std::ptr::from_ref(held).cast(), 0);
    let pid = fork(|| {
        let guard = lock.lock_placed(|| {}).unwrap();
        state.store(2, Ordering::SeqCst);
        while state.load(Ordering::SeqCst) != 4 {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(guard);
    });
    while state.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    signal(pid, libc::SIGSTOP);
    let slices = Slices::new(Deadline::NEVER);
    for slice in 1..=3 {
        assert_eq!(lock.lock_slice_placed(&slices, || {}).err(), Some(LockError::Busy));
        assert_eq!(slices.ended(), slice);
    }
    // The longest waiter's turn: others find it busy though nobody else wants it.
    assert!(lock.keeps_off());
    let soon = Slices::new(Deadline::after(Duration::from_millis(20)));
    for _ in 0..3 {
        assert_eq!(lock.lock_slice_placed(&soon, || {}).err(), Some(LockError::Busy));
    }
    let (passed, began) = (Slices::new(Deadline::after(Duration::ZERO)), Instant::now());
    assert_eq!(lock.lock_slice_placed(&passed, || {}).err(), Some(LockError::Busy));
    assert!(began.elapsed() < Duration::from_secs(1), "only tried");
    state.store(4, Ordering::SeqCst);
    signal(pid, libc::SIGCONT);
    let mut tries = 0;
    while lock.lock_slice_placed(&slices, || panic!("nobody died")).is_err() {
        tries += 1;
        assert!(tries < 1_000);
    }
    assert!(!lock.keeps_off(), "its turn is over");
    assert_eq!(reap(pid), 0);
}

#[test]
fn who_waits_in_slices_repairs_after_a_holder_that_was_stopped_and_killed() {
    let arena = arena(1);
    let (_, lock) = placed(&arena, RobustMutex::new());
    let (_, held) = placed(&arena, manyhands_sync::wait_word::WaitWord::new());
    let state = support::atomic_at(std::ptr::from_ref(held).cast(), 0);
    let pid = fork(|| {
        std::mem::forget(lock.lock_placed(|| {}));
        state.store(2, Ordering::SeqCst);
        loop {
            std::thread::park();
        }
    });
    while state.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    signal(pid, libc::SIGSTOP);
    let slices = Slices::new(Deadline::NEVER);
    assert_eq!(lock.lock_slice_placed(&slices, || {}).err(), Some(LockError::Busy));
    support::kill(pid);
    let mut repairs = 0;
    for _ in 0..1_000 {
        if lock.lock_slice_placed(&slices, || repairs += 1).is_ok() {
            break;
        }
    }
    assert_eq!(repairs, 1);
    drop(slices);
    assert!(!lock.keeps_off());
    reap(pid);
}

#[test]
fn who_gives_up_between_slices_lets_others_pass() {
    let arena = arena(1);
    let (_, lock) = placed(&arena, RobustMutex::new());
    let guard = lock.lock_placed(|| {}).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let slices = Slices::new(Deadline::NEVER);
            assert_eq!(lock.lock_slice_placed(&slices, || {}).err(), Some(LockError::Busy));
            drop(slices);
            lock.keeps_off()
        });
        assert!(!waiter.join().unwrap());
    });
    drop(guard);
    drop(lock.try_lock_placed(|| {}).unwrap());
}

fn signal(pid: libc::pid_t, signal: libc::c_int) {
    // SAFETY: a child of this process that was not waited for.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}
