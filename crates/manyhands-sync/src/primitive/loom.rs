//! loom's atomics, and a futex whose sleepers are loom threads.
//!
//! The futex double compares and sleeps under one model mutex, as the kernel does under the hash bucket's
//! lock. A sleep's time limit fires only when the model says so ([`end_sleeps`]): a model that needs it to make progress
//! and does not say so has found a lost wake-up.
#![allow(clippy::disallowed_types)] // this is the door

use super::Slept;
use ::std::cell::Cell;
use ::std::sync::atomic::AtomicBool;
use ::std::time::Duration;
use loom::sync::{Condvar, Mutex};
use loom::thread::ThreadId;

/// A 32-bit atomic of the model.
pub type AtomicU32 = loom::sync::atomic::AtomicU32;
/// A 64-bit atomic of the model.
pub type AtomicU64 = loom::sync::atomic::AtomicU64;
/// A word among bytes that are also copied as bytes. Not one of the model's, which have another size: what orders the
/// bytes orders it.
pub type ByteWord = core::sync::atomic::AtomicU64;

/// A memory fence of the model.
pub fn fence(order: core::sync::atomic::Ordering) {
    loom::sync::atomic::fence(order);
}

/// A yield: lets the model run another thread.
pub fn yield_now() {
    loom::thread::yield_now();
}

loom::lazy_static! {
    static ref BUCKET: Bucket =
        Bucket {
            sleepers: Mutex::new(Sleepers { list: Vec::new(), over: false }),
            woken: Condvar::new(),
            late: AtomicBool::new(false),
        };
}

loom::thread_local! {
    static DYING: Cell<bool> = Cell::new(false);
}

/// The sleepers of all words of a model.
struct Bucket {
    sleepers: Mutex<Sleepers>,
    woken: Condvar,
    /// As `over`, for the clock: not one of the model's, so that reading it is no step.
    late: AtomicBool,
}

struct Sleepers {
    /// In the order in which they fell asleep.
    list: Vec<Sleeper>,
    /// Whether the model has let time pass.
    over: bool,
}

struct Sleeper {
    word: usize,
    thread: ThreadId,
    woken: bool,
}

/// Sleeps while `word` holds `expected`, until a wake of *this* word picks this thread.
pub fn futex_wait(word: &AtomicU32, expected: u32, _timeout: Duration) -> Slept {
    let mut sleepers = BUCKET.sleepers.lock().expect("a model thread panicked");
    if word.load(core::sync::atomic::Ordering::SeqCst) != expected {
        return Slept::Changed;
    }
    if sleepers.over {
        drop(sleepers);
        loom::thread::yield_now();
        return Slept::TimedOut;
    }
    let thread = loom::thread::current().id();
    sleepers.list.push(Sleeper { word: address(word), thread, woken: false });
    loop {
        sleepers = BUCKET.woken.wait(sleepers).expect("a model thread panicked");
        if let Some(mine) = sleepers.list.iter().position(|s| s.thread == thread && s.woken) {
            sleepers.list.remove(mine);
            return Slept::Woken;
        }
        if sleepers.over {
            sleepers.list.retain(|s| s.thread != thread);
            return Slept::TimedOut;
        }
    }
}

/// Lets time pass: every sleep ends by its limit, and so does each that is begun from now on.
pub fn end_sleeps() {
    BUCKET.late.store(true, core::sync::atomic::Ordering::SeqCst);
    BUCKET.sleepers.lock().expect("a model thread panicked").over = true;
    BUCKET.woken.notify_all();
}

/// The time by the model's clock, which stands still until [`end_sleeps`]: then it is as late as anything may wait for.
pub fn microseconds() -> u32 {
    if BUCKET.late.load(core::sync::atomic::Ordering::SeqCst) { 1_000_000 } else { 0 }
}

/// Wakes at most `count` sleepers of the word, the longest asleep first; how many.
pub fn futex_wake(word: &AtomicU32, count: u32) -> usize {
    let mut sleepers = BUCKET.sleepers.lock().expect("a model thread panicked");
    let asleep = sleepers.list.iter_mut().filter(|s| s.word == address(word) && !s.woken);
    let woken = asleep.take(count as usize).map(|s| s.woken = true).count();
    BUCKET.woken.notify_all();
    woken
}

fn address(word: &AtomicU32) -> usize {
    ::std::ptr::from_ref(word).addr()
}

/// Whether this model thread is being killed: what its destructors would do, a killed process does not.
pub fn dying() -> bool {
    DYING.with(Cell::get)
}

/// Kills this model thread: it unwinds, its locks are marked as a dead holder's, and nothing else is done.
pub fn die() -> ! {
    DYING.with(|dying| dying.set(true));
    ::std::panic::resume_unwind(Box::new("a model thread was killed"))
}
