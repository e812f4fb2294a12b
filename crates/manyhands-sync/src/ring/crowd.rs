//! A side that several want at once: where processors are scarce, who finds it held again and again steps aside.
//!
//! Two that put (or take) at the same time do not pass twice as much as one: they hand each other the lines of the cache
//! that the side consists of. On a machine with more threads than processors, the second one also keeps somebody of the
//! other side from running, for whom the first one works. So who collides again and again there sleeps for a moment, on
//! nothing, and the processor is free.
//!
//! | what this process saw of the side | score |
//! |---|---|
//! | held when it was wanted | [`COLLIDED`] more |
//! | free when it was wanted | one less; at none, [`Crowd`] begins anew |
//! | [`FULL`], and the machine is not loaded | stays |
//! | [`FULL`], and the machine is loaded | a try says `Busy`; a wait sleeps for [`ASIDE`], twice as long each time, and then waits for the lock |
//!
//! Nobody is told of who steps aside, and nobody waits for it: nothing in shared memory is written, so one that is killed
//! there leaves nothing. A side whose holder has died is not held: the lock itself tells of that, to tries as to waits.

use super::{Locking, Side};
use crate::mutex::{Guard, LockError};

impl Side {
    /// Takes the side's lock.
    ///
    /// # Errors
    /// `Busy` (when not waiting for ever) or `Corrupted`.
    #[inline(always)]
    pub(super) fn enter(
        &'static self,
        locking: Locking<'_>,
        crowd: &Crowd,
        repair: impl FnOnce(),
    ) -> Result<Guard<'static>, LockError> {
        crowd.before(self, locking)?;
        match locking {
            Locking::Try => self.lock.try_lock(repair),
            Locking::Wait => self.lock.lock(repair),
            Locking::Slice(slices) => self.lock.lock_slice(slices, repair),
        }
    }
}

#[cfg(loom)]
pub(super) use absent::{CONSUMERS, Crowd, PRODUCERS};
#[cfg(not(loom))]
pub(super) use present::{CONSUMERS, Crowd, PRODUCERS};

#[cfg(not(loom))]
mod present {
    use super::{LockError, Locking, Side};
    use crate::mutex::{Holder, assert_none_held};
    use crate::primitive::machine::{self, Machine};
    use crate::primitive::{AtomicU32, Ordering};
    use core::time::Duration;
    use std::time::Instant;

    const COLLIDED: u32 = 3;
    const FULL: u32 = 96;
    /// After stepping aside: a side that stays crowded is left again soon, one that does not is forgotten soon.
    const AFTERWARDS: u32 = 32;
    /// About the shortest sleep that is no spin: a timer is 50 us late.
    const ASIDE: Duration = Duration::from_micros(100);
    const MOST_DOUBLINGS: u32 = 4;
    const ONE_TIME: u32 = 1 << 16;

    /// What this process has seen of one side of its rings. Threads may overwrite each other's.
    #[derive(Debug)]
    pub(in crate::ring) struct Crowd(AtomicU32);

    /// Of the tails of rings.
    pub(in crate::ring) static PRODUCERS: Crowd = Crowd(AtomicU32::new(0));
    /// Of their heads.
    pub(in crate::ring) static CONSUMERS: Crowd = Crowd(AtomicU32::new(0));

    /// The word of a [`Crowd`]: the score, and above it how many times this process has stepped aside.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Seen(u32);

    impl Seen {
        fn score(self) -> u32 {
            self.0 % ONE_TIME
        }

        fn times(self) -> u32 {
            self.0 / ONE_TIME
        }

        /// The side was held; `None` when that has been so again and again.
        fn collided(self) -> Option<Self> {
            (self.score() + COLLIDED < FULL).then_some(Self(self.0 + COLLIDED))
        }

        /// The side was free.
        #[inline(always)]
        fn calmed(self) -> Self {
            if self.score() <= 1 { Self(0) } else { Self(self.0 - 1) }
        }

        /// Steps aside: for how long, and what is remembered of it.
        fn aside(self) -> (Duration, Self) {
            let again = (self.times() + 1).min(MOST_DOUBLINGS);
            (ASIDE * (1 << self.times().min(MOST_DOUBLINGS)), Self(again * ONE_TIME + AFTERWARDS))
        }
    }

    impl Crowd {
        #[inline(always)]
        pub(super) fn before(&self, side: &Side, locking: Locking<'_>) -> Result<(), LockError> {
            if matches!(side.lock.holder(), Some(Holder::Thread(_))) {
                return self.collided(locking);
            }
            let seen = self.0.load(Ordering::Relaxed);
            // Mostly nothing: no line of the cache is taken from other threads.
            if seen != 0 {
                self.0.store(Seen(seen).calmed().0, Ordering::Relaxed);
            }
            Ok(())
        }

        #[cold]
        #[inline(never)]
        fn collided(&self, locking: Locking<'_>) -> Result<(), LockError> {
            let seen = Seen(self.0.load(Ordering::Relaxed));
            if let Some(more) = seen.collided() {
                self.0.store(more.0, Ordering::Relaxed);
                return Ok(());
            }
            match (machine::look(Instant::now()), locking) {
                (Machine::Free, _) => Ok(()),
                (_, Locking::Try) => Err(LockError::Busy),
                (_, Locking::Wait | Locking::Slice(_)) => {
                    let (aside, remembered) = seen.aside();
                    self.0.store(remembered.0, Ordering::Relaxed);
                    assert_none_held();
                    std::thread::sleep(aside);
                    Ok(())
                }
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// So many waits at a side of which one in `held_in` finds it held; the longest time aside, and how many there were.
        fn asides(waits: u32, held_in: u32) -> (Duration, u32) {
            let (mut seen, mut longest, mut count) = (Seen(0), Duration::ZERO, 0);
            for wait in 0..waits {
                seen = if wait % held_in != 0 {
                    seen.calmed()
                } else if let Some(more) = seen.collided() {
                    more
                } else {
                    let (aside, remembered) = seen.aside();
                    (longest, count) = (longest.max(aside), count + 1);
                    remembered
                };
            }
            (longest, count)
        }

        #[test]
        fn a_side_that_is_held_now_and_then_is_never_left() {
            for held_in in 4..10 {
                assert_eq!(asides(100_000, held_in).1, 0, "one in {held_in}");
            }
        }

        #[test]
        fn a_crowded_one_is_left_rarely_and_for_a_bounded_time() {
            for held_in in 1..=2 {
                let (longest, count) = asides(100_000, held_in);
                assert_eq!(longest, ASIDE * 16);
                assert!((1_000..6_000).contains(&count), "{count} times, one in {held_in}");
            }
        }

        #[test]
        fn what_was_crowded_is_forgotten() {
            let mut seen = Seen(0);
            for _ in 0..3 {
                seen = seen.aside().1;
            }
            assert_eq!(seen.times(), 3);
            for _ in 0..AFTERWARDS {
                seen = seen.calmed();
            }
            assert_eq!(seen, Seen(0));
        }

        #[test]
        fn a_try_at_a_crowded_side_says_busy_or_tries_and_a_wait_gets_in() {
            let side = Side::new(0);
            let crowd = Crowd(AtomicU32::new(FULL));
            let calm = crowd.before(&side, Locking::Try);
            assert_eq!((calm, crowd.0.load(Ordering::Relaxed)), (Ok(()), FULL - 1));
            let guard = side.lock.try_lock(|| {}).expect("nobody has it");
            std::thread::scope(|scope| {
                let other = scope.spawn(|| {
                    let tried = crowd.before(&side, Locking::Try);
                    // It depends on what else the machine does.
                    assert!(matches!(tried, Ok(()) | Err(LockError::Busy)));
                    crowd.before(&side, Locking::Wait)
                });
                assert_eq!(other.join().expect("no panic"), Ok(()));
            });
            drop(guard);
        }
    }
}

/// A model has no processors that could be scarce.
#[cfg(loom)]
mod absent {
    use super::{LockError, Locking, Side};

    #[derive(Debug)]
    pub(in crate::ring) struct Crowd;
    pub(in crate::ring) static PRODUCERS: Crowd = Crowd;
    pub(in crate::ring) static CONSUMERS: Crowd = Crowd;

    impl Crowd {
        pub(super) fn before(&self, _side: &Side, _locking: Locking<'_>) -> Result<(), LockError> {
            Ok(())
        }
    }
}
