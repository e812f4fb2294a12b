//! loom's atomics, and a futex whose sleepers are loom threads.
//!
//! The futex double compares and sleeps under one model mutex, as the kernel does under the hash bucket's
//! lock. A sleep's time limit never fires: a model that needs it to make progress has found a lost wake-up.
#![allow(clippy::disallowed_types)] // this is the door

use super::Slept;
use ::std::time::Duration;
use loom::sync::{Condvar, Mutex};

/// A 32-bit atomic of the model.
pub type AtomicU32 = loom::sync::atomic::AtomicU32;
/// A 64-bit atomic of the model.
pub type AtomicU64 = loom::sync::atomic::AtomicU64;

/// A memory fence of the model.
pub fn fence(order: core::sync::atomic::Ordering) {
    loom::sync::atomic::fence(order);
}

/// A spin: lets the model run another thread.
pub fn pause() {
    loom::thread::yield_now();
}

/// A yield: lets the model run another thread.
pub fn yield_now() {
    loom::thread::yield_now();
}

/// Spinning only adds states to a model.
pub const fn yields_worth_trying() -> bool {
    false
}

loom::lazy_static! {
    static ref BUCKET: Bucket = Bucket { sleepers: Mutex::new(0), woken: Condvar::new() };
}

/// One bucket for all words of a model: a wake may wake sleepers of another word, who look again.
struct Bucket {
    sleepers: Mutex<usize>,
    woken: Condvar,
}

/// Sleeps while `word` holds `expected`.
pub fn futex_wait(word: &AtomicU32, expected: u32, _timeout: Duration) -> Slept {
    let mut sleepers = BUCKET.sleepers.lock().expect("a model thread panicked");
    if word.load(core::sync::atomic::Ordering::SeqCst) != expected {
        return Slept::Changed;
    }
    *sleepers += 1;
    sleepers = BUCKET.woken.wait(sleepers).expect("a model thread panicked");
    *sleepers = sleepers.saturating_sub(1);
    Slept::Woken
}

/// Wakes every sleeper of the bucket; how many there were.
pub fn futex_wake(_word: &AtomicU32, _count: u32) -> usize {
    let sleepers = BUCKET.sleepers.lock().expect("a model thread panicked");
    BUCKET.woken.notify_all();
    *sleepers
}
