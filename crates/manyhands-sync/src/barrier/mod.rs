//! A user's barrier: how many parties are there, and who they are, so that those who wait notice when one of them dies.
//!
//! # The state
//! One word, changed by compare-and-swap:
//!
//! | field | bits | meaning |
//! |---|---|---|
//! | `generation` | 32 | how often the barrier has begun anew: by being passed, or by being reset |
//! | `outcomes` | 16 | of the last 16 generations: a set bit says that it was reset, not passed; the latest is the lowest |
//! | `count` | 14 | how many parties of this generation are there |
//! | `phase` | 2 | filling, acting (all are there, the last one runs the action) or broken |
//!
//! Each party has a *place* in a table: the generation and the party's name, in one word. A place counts only in its own
//! generation, so nobody has to tidy up after a barrier was passed, and nobody waits for the slower ones to leave: they
//! find what became of their generation in `outcomes`, and newcomers are of the next one.
//!
//! # Protocol
//! | who | does | commit |
//! |---|---|---|
//! | party | takes a place of this generation, then counts itself in | the exchange of the state |
//! | last party | instead of counting: begins the next generation and wakes everybody; if there is an action, says "acting", runs it, and does so then | the exchange |
//! | party whose time is over, and `abort` | says "broken" and wakes everybody (a time that is over during the action is not over) | the exchange |
//! | `reset` | begins the next generation, with the outcome "reset", if somebody waits or the barrier is broken | the exchange |
//! | party that an exception takes away | counts itself out, then gives its place back | the exchange |
//! | newcomer during the action, or one that finds no place | waits until the state changes | |
//!
//! # When somebody is killed
//! Those who wait look at the others' places at least every [`LONGEST_SLEEP`](crate::park::LONGEST_SLEEP), and break the barrier when they find a dead
//! party; so does the last party to come. That one asks the kernel only when the barrier has been filling for longer than
//! [`SETTLED_FOR_EACH`], for each place, so as not to slow down quick ones: a party that is killed just before its last
//! companion comes may count as one that was killed just after.
//!
//! | killed ([kill point](crate::kill_point)) | what stays | what the others do |
//! |---|---|---|
//! | a party that is about to be counted in (100) or out (104) | its place | they break the barrier: it was there, or was about to be |
//! | a party that waits (101) | its place, counted | they break the barrier |
//! | the one that runs the action (102) | "acting" | they break the barrier |
//! | one that has begun the next generation (103), broken or reset the barrier (105) | sleepers that were not woken | they look again after their slice |
//!
//! # What is trusted
//! A damaged count or phase lets parties pass too early, or waits for parties that do not come; a damaged place breaks the
//! barrier or is of another generation. A sleeper that missed more than 16 generations (others came in its place) is told
//! that its own was passed.

mod places;
mod state;

pub use places::{Place, find_places, lay_places};
pub use state::MOST_PARTIES;

use crate::arena::{Handle, Kind};
use crate::deadline::Deadline;
use crate::kill_point;
use crate::lock::Look;
use crate::memory::{Placed, Shareable};
use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::wait_word::{EVERYONE, WaitWord, Waited, Waiting};
use places::{find_dead, give_place_back, take_place};
use state::{Phase, State};
use std::time::Duration;

/// Places beyond the parties': for those who come when everybody is there, and for one who died between two steps.
pub const SPARE_PLACES: u32 = 4;
/// A barrier that has been filling for longer, for each of its places, is looked over closely by its last party.
pub const SETTLED_FOR_EACH: Duration = Duration::from_micros(200);
/// At each look, so many places are looked at closely; the others are looked at by others, or at the next look.
const CLOSE_LOOKS: usize = 8;
const OUTCOMES: u32 = 16;

/// Placed in the arena, one for each barrier.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct UserBarrier {
    state: AtomicU64,
    word: WaitWord,
    parties: AtomicU32,
    /// When the first party of this generation came, in nanoseconds of the monotonic clock.
    filling_since: AtomicU64,
    /// The block with the table of places.
    places: AtomicU64,
    places_generation: AtomicU32,
}

// SAFETY: repr(C), atomics only; any bit pattern is some state.
#[allow(unsafe_code)]
unsafe impl Shareable for UserBarrier {}

// SAFETY: the only structure that is laid into blocks of this kind.
#[allow(unsafe_code)]
unsafe impl Placed for UserBarrier {
    const KIND: Kind = Kind::Barrier;
}

/// A party that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Party {
    generation: u32,
    place: usize,
    /// How many were there before it.
    pub index: u32,
}

/// What a party finds when it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is one of those who wait.
    Waits(Party),
    /// It is the last one, and everybody passes.
    Passed(Party),
    /// It is the last one and must run the action, then say so: [`UserBarrier::acted`].
    Acts(Party),
    /// The barrier is broken.
    Broken,
    /// Somebody runs the action, or there is no place at this moment: to be waited for, then tried again.
    Busy(Glimpse),
}

/// The state at a moment, to wait for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glimpse(u64);

/// What became of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everybody was there.
    Passed,
    /// It was broken or reset.
    Broken,
}

impl UserBarrier {
    /// A barrier for so many parties, nobody there; `places` is the block with its table.
    #[must_use]
    pub fn new(parties: u32, places: Handle) -> Self {
        // Generation 0 would make free places look taken.
        let state = State { generation: 1, outcomes: 0, count: 0, phase: Phase::Filling };
        Self {
            state: AtomicU64::new(state.word()),
            word: WaitWord::new(),
            parties: AtomicU32::new(parties.clamp(1, MOST_PARTIES)),
            filling_since: AtomicU64::new(0),
            places: AtomicU64::new(places.offset),
            places_generation: AtomicU32::new(places.generation),
        }
    }

    /// How many parties it waits for.
    pub fn parties(&self) -> u32 {
        self.parties.load(Ordering::Relaxed).clamp(1, MOST_PARTIES)
    }

    /// The block with the table of [`UserBarrier::place_count`] places.
    pub fn places(&self) -> Handle {
        let generation = self.places_generation.load(Ordering::Relaxed);
        Handle { offset: self.places.load(Ordering::Relaxed), generation }
    }

    /// How many places the table has.
    pub fn place_count(&self) -> u32 {
        self.parties() + SPARE_PLACES
    }

    fn state(&self) -> State {
        State::of(self.state.load(Ordering::Acquire))
    }

    /// Changes the state as `next` says, unless it says nothing; what it is then.
    fn change(&self, next: impl Fn(State) -> Option<State>) -> Result<State, State> {
        let mut word = self.state.load(Ordering::Acquire);
        loop {
            let from = State::of(word);
            let to = next(from).ok_or(from)?;
            match self.state.compare_exchange(word, to.word(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(to),
                Err(now) => word = now,
            }
        }
    }

    /// A party named `me` (not 0) comes, at that time of the monotonic clock; it has an action to run, or not. `is_gone`
    /// says of a name whether it is that of a dead member.
    pub fn arrive(
        &self,
        places: &[&Place],
        me: u32,
        acts: bool,
        now: u64,
        is_gone: impl Fn(u32, Look) -> bool,
    ) -> Arrival {
        loop {
            let word = self.state.load(Ordering::Acquire);
            let state = State::of(word);
            match state.phase {
                Phase::Broken => return Arrival::Broken,
                Phase::Acting => return Arrival::Busy(Glimpse(word)),
                Phase::Filling => {}
            }
            let last = state.count + 1 >= self.parties();
            if last && self.last_finds_dead(places, state.generation, now, &is_gone) {
                self.break_generation(state.generation);
                continue;
            }
            let Some(place) = take_place(places, state, me) else { return Arrival::Busy(Glimpse(word)) };
            kill_point!(BarrierPlaced);
            if state.count == 0 {
                self.filling_since.store(now, Ordering::Relaxed);
            }
            if let Some(arrival) = self.count_in(state.generation, place, last, acts) {
                return arrival;
            }
            give_place_back(places, place, state.generation, me);
        }
    }

    /// `None` when the generation is over, everybody is there already, or the party turns out to be the last one and has
    /// not looked at the others as such.
    fn count_in(&self, generation: u32, place: usize, may_be_last: bool, acts: bool) -> Option<Arrival> {
        let parties = self.parties();
        let counted = self.change(|state| {
            if state.generation != generation || state.phase != Phase::Filling {
                return None;
            }
            let count = state.count + 1;
            if count >= parties && !may_be_last {
                return None;
            }
            Some(match (count >= parties, acts) {
                (false, _) => State { count, ..state },
                (true, true) => State { count, phase: Phase::Acting, ..state },
                (true, false) => state.next(false),
            })
        });
        let state = counted.ok()?;
        let party = |index| Party { generation, place, index };
        if state.generation != generation {
            kill_point!(BarrierTripped);
            self.word.wake(EVERYONE);
            return Some(Arrival::Passed(party(parties - 1)));
        }
        let party = party(state.count - 1);
        if state.phase == Phase::Acting {
            kill_point!(BarrierActing);
            return Some(Arrival::Acts(party));
        }
        kill_point!(BarrierCounted);
        Some(Arrival::Waits(party))
    }

    /// The action was run: everybody passes, unless the barrier was broken or reset meanwhile.
    pub fn acted(&self, party: Party) -> Outcome {
        let passed = self.change(|state| {
            let acting = state.generation == party.generation && state.phase == Phase::Acting;
            acting.then(|| state.next(false))
        });
        kill_point!(BarrierTripped);
        if passed.is_err() {
            return Outcome::Broken;
        }
        self.word.wake(EVERYONE);
        Outcome::Passed
    }

    /// What became of the party's generation; `None` while it is not over.
    pub fn outcome(&self, party: Party) -> Option<Outcome> {
        let state = self.state();
        let behind = state.generation.wrapping_sub(party.generation);
        match behind {
            0 => (state.phase == Phase::Broken).then_some(Outcome::Broken),
            1..=OUTCOMES if state.outcomes >> (behind - 1) & 1 == 1 => Some(Outcome::Broken),
            _ => Some(Outcome::Passed),
        }
    }

    /// Waits until the party's generation is over, the deadline, a signal or the end of a sleep; `about_to_sleep` is called
    /// if the wait comes to that, and what it returns is kept while it lasts.
    pub fn wait<N>(
        &self,
        party: Party,
        waiting: &mut Waiting,
        deadline: Deadline,
        about_to_sleep: impl FnOnce(&mut Waiting) -> N,
    ) -> Waited {
        self.word.wait(|| self.outcome(party).is_some(), waiting, deadline, about_to_sleep)
    }

    /// As [`UserBarrier::wait`], until the state is another one.
    pub fn wait_for_change<N>(
        &self,
        glimpse: Glimpse,
        waiting: &mut Waiting,
        deadline: Deadline,
        about_to_sleep: impl FnOnce(&mut Waiting) -> N,
    ) -> Waited {
        let changed = || self.state.load(Ordering::Acquire) != glimpse.0;
        self.word.wait(changed, waiting, deadline, about_to_sleep)
    }

    /// The party's time is over: breaks the barrier, unless everybody is there; what became of it, `None` while the action
    /// is run.
    pub fn time_out(&self, party: Party) -> Option<Outcome> {
        let broken = self.change(|state| {
            let filling = state.generation == party.generation && state.phase == Phase::Filling;
            filling.then_some(State { phase: Phase::Broken, ..state })
        });
        if broken.is_ok() {
            kill_point!(BarrierBroken);
            self.word.wake(EVERYONE);
        }
        self.outcome(party)
    }

    /// Breaks the barrier, whatever it is at.
    pub fn abort(&self) {
        let broken = self.change(|state| {
            (state.phase != Phase::Broken).then_some(State { phase: Phase::Broken, ..state })
        });
        if broken.is_ok() {
            kill_point!(BarrierBroken);
            self.word.wake(EVERYONE);
        }
    }

    /// The action was not run to its end: breaks the barrier, unless it was reset meanwhile.
    pub fn fail(&self, party: Party) {
        self.break_generation(party.generation);
    }

    fn break_generation(&self, generation: u32) {
        let broken = self.change(|state| {
            let current = state.generation == generation && state.phase != Phase::Broken;
            current.then_some(State { phase: Phase::Broken, ..state })
        });
        if broken.is_ok() {
            kill_point!(BarrierBroken);
            self.word.wake(EVERYONE);
        }
    }

    /// Begins anew: for those who wait the barrier was broken.
    pub fn reset(&self) {
        let begun = self.change(|state| {
            let untouched = state.phase == Phase::Filling && state.count == 0;
            (!untouched).then(|| state.next(true))
        });
        if begun.is_ok() {
            kill_point!(BarrierBroken);
            self.word.wake(EVERYONE);
        }
    }

    /// An exception takes the party away: it was not there, unless everybody is.
    pub fn leave(&self, places: &[&Place], party: Party, me: u32) {
        let left = self.change(|state| {
            let filling = state.generation == party.generation && state.phase == Phase::Filling;
            filling.then(|| State { count: state.count.saturating_sub(1), ..state })
        });
        kill_point!(BarrierLeft);
        if left.is_ok() {
            give_place_back(places, party.place, party.generation, me);
        }
    }

    fn last_finds_dead(
        &self,
        places: &[&Place],
        generation: u32,
        now: u64,
        is_gone: impl Fn(u32, Look) -> bool,
    ) -> bool {
        let since = self.filling_since.load(Ordering::Relaxed);
        let settled = SETTLED_FOR_EACH.as_nanos() * places.len() as u128;
        let long = u128::from(now.saturating_sub(since)) > settled;
        let look = if long { Look::Close } else { Look::Quick };
        find_dead(places, generation, places.len(), 0, |name| is_gone(name, look))
    }

    /// A waiter looks at some of the others, beginning behind its own place, further with each `turn`; breaks the barrier
    /// if one of them is gone.
    pub fn look_around(
        &self,
        places: &[&Place],
        party: Party,
        turn: usize,
        is_gone: impl Fn(u32, Look) -> bool,
    ) {
        let first = party.place + 1 + turn * CLOSE_LOOKS;
        if find_dead(places, party.generation, CLOSE_LOOKS, first, |name| is_gone(name, Look::Close)) {
            self.break_generation(party.generation);
        }
    }

    /// As [`UserBarrier::look_around`], for somebody who is not there yet.
    pub fn look_in(&self, places: &[&Place], glimpse: Glimpse, is_gone: impl Fn(u32, Look) -> bool) {
        let generation = State::of(glimpse.0).generation;
        if find_dead(places, generation, places.len(), 0, |name| is_gone(name, Look::Close)) {
            self.break_generation(generation);
        }
    }

    /// How many parties wait; 0 when the barrier is broken.
    pub fn waiting(&self) -> u32 {
        let state = self.state();
        if state.phase == Phase::Broken { 0 } else { state.count }
    }

    /// Whether it is broken.
    pub fn is_broken(&self) -> bool {
        self.state().phase == Phase::Broken
    }

    /// What the end of a slice does: whoever sleeps looks again. (loom's sleeps have no end.)
    #[cfg(loom)]
    pub fn end_slices(&self) {
        self.word.end_slices();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn places(count: u32) -> Vec<&'static Place> {
        (0..count + SPARE_PLACES).map(|_| &*Box::leak(Box::new(Place::new()))).collect()
    }

    fn barrier(parties: u32) -> UserBarrier {
        UserBarrier::new(parties, Handle { offset: 0, generation: 0 })
    }

    fn waits(arrival: Arrival) -> Party {
        match arrival {
            Arrival::Waits(party) => party,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_sleeper_learns_what_became_of_its_own_generation() {
        let (barrier, places) = (barrier(2), places(2));
        let come = |me| barrier.arrive(&places, me, false, 0, |_, _| false);
        for was_reset in [false, true, false, true, true, false] {
            let party = waits(come(1));
            assert_eq!((barrier.outcome(party), barrier.waiting(), party.index), (None, 1, 0));
            if was_reset {
                barrier.reset();
            } else {
                assert!(matches!(come(2), Arrival::Passed(Party { index: 1, .. })));
            }
            for later in 0..12 {
                assert_eq!(barrier.outcome(party) == Some(Outcome::Broken), was_reset, "{later}");
                let other = waits(come(3));
                assert!(
                    matches!(come(4), Arrival::Passed(_)) && barrier.outcome(other) == Some(Outcome::Passed)
                );
            }
        }
    }

    #[test]
    fn a_late_taker_does_not_take_the_place_of_a_later_generation() {
        let places = places(1);
        let state = |generation| State { generation, outcomes: 0, count: 0, phase: Phase::Filling };
        for early in [1, u32::MAX - 1, u32::MAX] {
            let later = take_place(&places, state(early.wrapping_add(1)), 7).expect("free");
            let late = take_place(&places, state(early), 8).expect("free");
            assert_ne!(late, later);
            assert_eq!(places[later].party(early.wrapping_add(1)), Some(7));
            places.iter().for_each(|place| place.0.store(0, Ordering::Relaxed));
        }
    }

    #[test]
    fn who_finds_everything_taken_waits_and_the_dead_break_the_barrier() {
        let (barrier, places) = (barrier(3), places(3));
        let party = waits(barrier.arrive(&places, 1, false, 0, |_, _| false));
        for _ in 0..places.len() - 1 {
            take_place(&places, barrier.state(), 9).expect("free");
        }
        let Arrival::Busy(glimpse) = barrier.arrive(&places, 2, false, 0, |_, _| false) else { panic!() };
        barrier.look_in(&places, glimpse, |name, _| name == 9);
        assert_eq!(barrier.outcome(party), Some(Outcome::Broken));
        assert_eq!(barrier.arrive(&places, 2, false, 0, |_, _| false), Arrival::Broken);
        barrier.reset();
        assert_eq!((barrier.is_broken(), barrier.waiting()), (false, 0));
    }

    #[test]
    fn the_last_one_looks_for_the_dead_when_it_was_a_long_time() {
        let (barrier, places) = (barrier(2), places(2));
        let long = u64::try_from(SETTLED_FOR_EACH.as_nanos()).expect("short") * places.len() as u64 + 1;
        waits(barrier.arrive(&places, 1, false, 1, |_, _| false));
        assert_eq!(
            barrier.arrive(&places, 2, false, 1 + long, |name, look| name == 1 && look == Look::Close),
            Arrival::Broken
        );
    }
}
