//! A mutex whose word names nobody here is waited for while its holder may be unseen, and is damaged once none can be.
#![cfg(not(loom))]
#![allow(unsafe_code)] // damages a mutex
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // not part of the structures that loom checks

mod support;

use manyhands_sync::mutex::{LockError, RobustMutex, ask_for_the_unseen};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use support::{arena, placed};

static SOMEBODY_IS_UNSEEN: AtomicBool = AtomicBool::new(true);
/// As of a thread of another pid namespace: no thread here has it.
const UNSEEN: u32 = (1 << 22) - 3;

fn word(mutex: &'static RobustMutex) -> &'static AtomicU32 {
    support::atomic_at(std::ptr::from_ref(mutex).cast::<AtomicU32>(), 0)
}

/// One test: what is said of the unseen is said once for the process.
#[test]
fn a_holder_that_nobody_sees_is_waited_for_while_there_may_be_one() {
    ask_for_the_unseen(|| SOMEBODY_IS_UNSEEN.load(Ordering::SeqCst));
    let arena = arena(1);
    let (_, mutex) = placed(&arena, RobustMutex::new());
    word(mutex).store(UNSEEN, Ordering::SeqCst);
    let (tell, told) = mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let locked = mutex.lock_placed(|| panic!("nobody died")).map(drop);
        tell.send(()).unwrap();
        locked
    });
    assert!(told.recv_timeout(Duration::from_secs(8)).is_err(), "five seconds say nothing");
    // It goes on, and lets go: the kernel wakes no thread of another's word, so the waiter looks again by itself.
    word(mutex).store(0, Ordering::SeqCst);
    told.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(waiter.join().unwrap(), Ok(()));

    word(mutex).store(UNSEEN, Ordering::SeqCst);
    SOMEBODY_IS_UNSEEN.store(false, Ordering::SeqCst);
    let begun = Instant::now();
    assert_eq!(mutex.lock_placed(|| {}).map(drop), Err(LockError::Corrupted));
    assert!(begun.elapsed() >= Duration::from_secs(4), "not at once");
    // A wait for a holder that is named by nothing is for nobody, wherever members are.
    SOMEBODY_IS_UNSEEN.store(true, Ordering::SeqCst);
    word(mutex).store(0x8000_0000, Ordering::SeqCst);
    assert_eq!(mutex.lock_placed(|| {}).map(drop), Err(LockError::Corrupted));
}
