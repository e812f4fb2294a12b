//! The real atomics, and the futex of the kernel, shared between processes (never `FUTEX_PRIVATE_FLAG`).
#![allow(unsafe_code)] // rustix's futex calls are `unsafe` for commands this file does not use.
#![allow(clippy::disallowed_types)] // this is the door

use super::Slept;
use core::time::Duration;
use rustix::io::Errno;
use rustix::thread::futex;

/// A 32-bit atomic.
pub type AtomicU32 = core::sync::atomic::AtomicU32;
/// A 64-bit atomic.
pub type AtomicU64 = core::sync::atomic::AtomicU64;
/// A word among bytes that are also copied as bytes: eight bytes under a model checker, too.
pub type ByteWord = core::sync::atomic::AtomicU64;

/// A memory fence.
#[inline]
pub fn fence(order: core::sync::atomic::Ordering) {
    core::sync::atomic::fence(order);
}

/// Tells the processor that this is a spin loop.
#[inline]
pub fn pause() {
    core::hint::spin_loop();
}

/// What a sleep that the kernel refuses takes instead.
const REFUSED_SLEEP: Duration = Duration::from_millis(1);

/// `futex(word, FUTEX_WAIT, expected, timeout)`: sleeps while `word` holds `expected`, for at most `timeout`.
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout: Duration) -> Slept {
    let limit = rustix::time::Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    match futex::wait(word, futex::Flags::empty(), expected, Some(&limit)) {
        Err(Errno::AGAIN) => Slept::Changed,
        Err(Errno::TIMEDOUT) => Slept::TimedOut,
        Err(Errno::INTR) => Slept::Interrupted,
        // Any other error (a kernel that refuses) must not become a busy loop: the caller looks at its word every
        // millisecond instead.
        Err(_) => {
            std::thread::sleep(timeout.min(REFUSED_SLEEP));
            Slept::TimedOut
        }
        Ok(()) => Slept::Woken,
    }
}

/// `futex(word, FUTEX_WAKE, count)`: wakes at most `count` sleepers; how many were woken.
pub fn futex_wake(word: &AtomicU32, count: u32) -> usize {
    let woken = futex::wake(word, futex::Flags::empty(), count).unwrap_or(0);
    if woken > 0 {
        super::machine::woke();
    }
    woken
}

/// The time by the monotonic clock, in microseconds: it comes round after 71 minutes.
pub fn microseconds() -> u32 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // By the C library: rustix looks for the kernel's vDSO by itself, and dies where a tool (valgrind) hides it.
    // SAFETY: writes to the place it is given; this clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    (now.tv_sec as u32).wrapping_mul(1_000_000).wrapping_add(now.tv_nsec as u32 / 1_000)
}

/// Whether this thread is being killed: only a model's thread runs anything then.
#[inline]
pub const fn dying() -> bool {
    false
}
