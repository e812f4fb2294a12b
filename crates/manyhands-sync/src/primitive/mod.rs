//! The only door to atomics, fences and the futex: the real ones, or loom's when the crate is built for it.
//!
//! Aliases, not re-exports: clippy's `disallowed_types` then guards the rest of the crate.

#[cfg(loom)]
mod loom;
#[cfg(not(loom))]
pub mod machine;
#[cfg(not(loom))]
mod std;

#[cfg(loom)]
pub use self::loom::{
    AtomicU32, AtomicU64, ByteWord, die, dying, end_sleeps, fence, futex_wait, futex_wake, microseconds,
    yield_now,
};
#[cfg(not(loom))]
pub use self::std::{
    AtomicU32, AtomicU64, ByteWord, dying, fence, futex_wait, futex_wake, microseconds, pause,
};
pub use ::core::sync::atomic::Ordering;

/// What a sleep on a futex word ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slept {
    /// Woken by a waker, or for no reason (the caller looks again).
    Woken,
    /// The word no longer held the expected value: nothing was slept.
    Changed,
    /// The time given was over.
    TimedOut,
    /// A signal handler ran in this thread.
    Interrupted,
}
