//! A user's condition: who waits, and who of them was notified. The lock beside it is not its business, save that
//! whoever notifies, and whoever begins to wait, holds it.
//!
//! # The state
//! One word, changed by compare-and-swap, knows two *groups* of waiters:
//!
//! | field | bits | meaning |
//! |---|---|---|
//! | `epoch` | 22 | the number of the older group |
//! | `waiting` | 14 | how many of the older group have neither gone on nor given up |
//! | `granted` | 14 | how many of those were notified; any of the group may take such a grant |
//! | `newer` | 14 | how many wait in the newer group, whose number is `epoch + 1` |
//!
//! # Protocol
//! | who | does | commit |
//! |---|---|---|
//! | waiter | joins the newer group, and remembers its number | the exchange |
//! | notifier | grants in the older group; when all of that are granted, the newer group becomes the older one, and gets the rest; wakes as many | the exchange |
//! | waiter | goes on when a later group than its own is the older one (then all of its own were granted), or takes a grant of its own group | the exchange |
//! | waiter whose time is over | takes a grant if there is one, else counts itself out | the exchange |
//!
//! So a notification goes to somebody who waited when it was given, never to somebody who came later: those are in the
//! newer group as long as the older one has anybody to notify. Each group sleeps on a [`WaitWord`] of its own, by the
//! parity of its number, so that a wake meant for one is not taken by the other.
//!
//! # When somebody is killed
//! **Rule:** a notification may go to a waiter that was killed, as if it had been killed just after. Nobody waits for
//! waiters, so `notify` never hangs; a dead waiter costs at most one notification, and none as long as another one of its
//! group lives, which takes the grant. `notify_all` reaches everybody who lives.
//!
//! | killed ([kill point](crate::kill_point)) | what stays | what the others do |
//! |---|---|---|
//! | a waiter that has joined (90), or sleeps | it is counted | as above |
//! | a notifier that has granted and woken nobody (91) | sleepers with a grant | they look again after [`LONGEST_SLEEP`](crate::park::LONGEST_SLEEP) |
//! | a waiter that has taken its grant (92), or given up (93) | nothing | nothing |
//!
//! # What is trusted
//! Counts that were damaged end a wait early or late, once: a waiter of no group that is known goes on. A number of a
//! group comes back after 4,194,304 groups: a waiter would have to sleep through exactly so many.

use crate::arena::Kind;
use crate::deadline::Deadline;
use crate::kill_point;
use crate::memory::{Placed, Shareable};
use crate::primitive::{AtomicU64, Ordering};
use crate::wait_word::{EVERYONE, WaitWord, Waited, Waiting};

const COUNT_BITS: u32 = 14;
/// How many may wait in one group.
pub const MOST_WAITERS: u32 = (1 << COUNT_BITS) - 1;
const EPOCHS: u32 = 1 << 22;

/// Placed in the arena, one for each condition.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct UserCondition {
    state: AtomicU64,
    /// Where the groups sleep, by the parity of their numbers.
    words: [WaitWord; 2],
}

// SAFETY: repr(C), atomics only; any bit pattern is some state.
#[allow(unsafe_code)]
unsafe impl Shareable for UserCondition {}

// SAFETY: the only structure that is laid into blocks of this kind.
#[allow(unsafe_code)]
unsafe impl Placed for UserCondition {
    const KIND: Kind = Kind::Condition;
}

/// Somebody who waits: the number of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter(u32);

/// As many wait as can be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyWaiters;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    epoch: u32,
    waiting: u32,
    granted: u32,
    newer: u32,
}

impl State {
    fn of(word: u64) -> Self {
        let field = |at: u32| (word >> (at * COUNT_BITS)) as u32 & MOST_WAITERS;
        let waiting = field(1);
        let epoch = (word >> (3 * COUNT_BITS)) as u32;
        Self { epoch, waiting, granted: field(0).min(waiting), newer: field(2) }
    }

    fn word(self) -> u64 {
        u64::from(self.granted)
            | u64::from(self.waiting) << COUNT_BITS
            | u64::from(self.newer) << (2 * COUNT_BITS)
            | u64::from(self.epoch) << (3 * COUNT_BITS)
    }

    /// Where a waiter stands.
    fn standing(self, waiter: Waiter) -> Standing {
        match waiter.0.wrapping_sub(self.epoch) % EPOCHS {
            0 => Standing::Older,
            1 => Standing::Newer,
            _ => Standing::Passed,
        }
    }

    /// After so many notifications; how many of them go to the older group of now, and how many to that of then.
    fn notified(mut self, count: u32) -> (Self, u32) {
        let first = count.min(self.waiting - self.granted);
        self.granted += first;
        if first == count || self.newer == 0 {
            return (self, first);
        }
        let granted = (count - first).min(self.newer);
        let epoch = self.epoch.wrapping_add(1) % EPOCHS;
        (Self { epoch, waiting: self.newer, granted, newer: 0 }, granted)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// A later group is the older one: all of this waiter's were granted.
    Passed,
    Older,
    Newer,
}

impl Default for UserCondition {
    fn default() -> Self {
        Self::new()
    }
}

impl UserCondition {
    /// A condition that nobody waits for.
    #[must_use]
    pub fn new() -> Self {
        Self { state: AtomicU64::new(0), words: [WaitWord::new(), WaitWord::new()] }
    }

    fn word_of(&self, group: u32) -> &WaitWord {
        &self.words[group as usize & 1]
    }

    /// Changes the state as `next` says, unless it says nothing; what it was, and is.
    fn change(&self, next: impl Fn(State) -> Option<State>) -> Option<(State, State)> {
        let mut word = self.state.load(Ordering::Acquire);
        loop {
            let from = State::of(word);
            let to = next(from)?;
            match self.state.compare_exchange(word, to.word(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some((from, to)),
                Err(now) => word = now,
            }
        }
    }

    /// The caller, who holds the lock and is about to let go of it, waits from now on.
    ///
    /// # Errors
    /// When as many wait as can be counted.
    pub fn join(&self) -> Result<Waiter, TooManyWaiters> {
        let joined = self
            .change(|state| (state.newer < MOST_WAITERS).then(|| State { newer: state.newer + 1, ..state }));
        kill_point!(ConditionJoined);
        joined.map(|(_, to)| Waiter((to.epoch + 1) % EPOCHS)).ok_or(TooManyWaiters)
    }

    /// Notifies at most so many of those who wait; the caller holds the lock. How many it notified.
    pub fn notify(&self, count: u32) -> u32 {
        if count == 0 {
            return 0;
        }
        let anybody = |state: State| state.newer > 0 || state.granted < state.waiting;
        let change = self.change(|state| anybody(state).then(|| state.notified(count).0));
        let Some((from, to)) = change else { return 0 };
        kill_point!(ConditionNotified);
        let granted = from.notified(count).1;
        if from.epoch == to.epoch {
            self.word_of(to.epoch).wake(granted);
            return granted;
        }
        let rest = from.waiting - from.granted;
        if rest > 0 {
            self.word_of(from.epoch).wake(EVERYONE);
        }
        self.word_of(to.epoch).wake(granted);
        granted + rest
    }

    fn may_go_on(&self, waiter: Waiter) -> bool {
        let state = State::of(self.state.load(Ordering::Acquire));
        match state.standing(waiter) {
            Standing::Passed => true,
            Standing::Older => state.granted > 0,
            Standing::Newer => false,
        }
    }

    /// Goes on, if the waiter was notified; whether it did.
    fn go_on(&self, waiter: Waiter) -> bool {
        let mut passed = false;
        let taken = self.change(|state| match state.standing(waiter) {
            Standing::Older if state.granted > 0 => {
                Some(State { granted: state.granted - 1, waiting: state.waiting - 1, ..state })
            }
            _ => None,
        });
        if taken.is_none() {
            let state = State::of(self.state.load(Ordering::Acquire));
            passed = state.standing(waiter) == Standing::Passed;
        }
        kill_point!(ConditionTaken);
        passed || taken.is_some()
    }

    /// Waits, without the lock, until the waiter was notified and has gone on ([`Waited::Ready`]), until the deadline, a
    /// signal or the end of a sleep; `about_to_sleep` is called if the wait comes to that, and what it returns is kept while it lasts. After
    /// [`Waited::Interrupted`] the caller calls again; whoever will wait no more calls [`UserCondition::give_up`] or
    /// [`UserCondition::abandon`].
    pub fn wait<N>(
        &self,
        waiter: Waiter,
        waiting: &mut Waiting,
        deadline: Deadline,
        about_to_sleep: impl FnOnce(&mut Waiting) -> N,
    ) -> Waited {
        let gone_on = || self.may_go_on(waiter) && self.go_on(waiter);
        self.word_of(waiter.0).wait(gone_on, waiting, deadline, about_to_sleep)
    }

    /// The waiter's time is over: whether it was notified after all.
    pub fn give_up(&self, waiter: Waiter) -> bool {
        let left = self.change(|state| match state.standing(waiter) {
            Standing::Older => Some(State {
                granted: state.granted.saturating_sub(1),
                waiting: state.waiting.saturating_sub(1),
                ..state
            }),
            Standing::Newer => Some(State { newer: state.newer.saturating_sub(1), ..state }),
            Standing::Passed => None,
        });
        kill_point!(ConditionLeft);
        // Of those who went before it was passed, each had a grant.
        left.is_none_or(|(from, _)| from.standing(waiter) == Standing::Older && from.granted > 0)
    }

    /// The waiter leaves whether or not it was notified (an exception takes it away): a grant that another one of its
    /// group can take is left to that one.
    pub fn abandon(&self, waiter: Waiter) {
        let left = self.change(|state| match state.standing(waiter) {
            Standing::Older => {
                let waiting = state.waiting.saturating_sub(1);
                Some(State { waiting, granted: state.granted.min(waiting), ..state })
            }
            Standing::Newer => Some(State { newer: state.newer.saturating_sub(1), ..state }),
            Standing::Passed => None,
        });
        kill_point!(ConditionLeft);
        if let Some((from, to)) = left
            && from.standing(waiter) == Standing::Older
            && to.granted > 0
        {
            // The wake that came with the grant may have been this waiter's.
            self.word_of(to.epoch).wake(to.granted);
        }
    }

    /// How many wait and were not notified.
    pub fn waiters(&self) -> u32 {
        let state = State::of(self.state.load(Ordering::Acquire));
        state.waiting - state.granted + state.newer
    }

    /// What the end of a longest sleep does: whoever sleeps looks again. (loom's sleeps have no end.)
    #[cfg(loom)]
    pub fn end_slices(&self) {
        self.words.iter().for_each(WaitWord::end_slices);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn state(epoch: u32, waiting: u32, granted: u32, newer: u32) -> State {
        State { epoch, waiting, granted, newer }
    }

    #[test]
    fn a_state_comes_back_as_it_was() {
        for s in [
            state(0, 0, 0, 0),
            state(EPOCHS - 1, MOST_WAITERS, MOST_WAITERS, MOST_WAITERS),
            state(7, 3, 2, 1),
        ] {
            assert_eq!(State::of(s.word()), s);
        }
    }

    #[test]
    fn the_older_group_is_served_first_and_the_newer_one_with_the_rest() {
        assert_eq!(state(5, 3, 1, 2).notified(1), (state(5, 3, 2, 2), 1));
        assert_eq!(state(5, 3, 1, 2).notified(3), (state(6, 2, 1, 0), 1));
        assert_eq!(state(5, 3, 1, 0).notified(9), (state(5, 3, 3, 0), 2));
        assert_eq!(state(EPOCHS - 1, 0, 0, 2).notified(u32::MAX), (state(0, 2, 2, 0), 2));
    }

    #[test]
    fn a_number_that_comes_round_is_still_told_apart() {
        let condition = UserCondition {
            state: AtomicU64::new(state(EPOCHS - 1, 0, 0, 0).word()),
            ..UserCondition::new()
        };
        let waiter = condition.join().expect("room");
        assert!(!condition.may_go_on(waiter));
        assert_eq!(condition.notify(1), 1);
        let later = condition.join().expect("room");
        assert!(condition.go_on(waiter) && !condition.go_on(later));
        assert_eq!((condition.waiters(), condition.notify(1)), (1, 1));
        assert!(condition.give_up(later));
    }
}
