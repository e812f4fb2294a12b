//! How long a waiter spins before it sleeps, and what spinning in vain teaches it.
//!
//! Waking a sleeper takes 10 to 60 us, and while a partner runs on another processor a spin of 20 us catches most answers.
//! But where more threads want to run than there are processors, a spin in vain keeps the very partner from running, so it
//! has to earn its keep. And nothing here ever gives the processor away (`sched_yield`): beside busy processes that costs a
//! whole tick of the scheduler, 4 ms, each tenth time.
//!
//! | the machine ([`machine`]) | what is done |
//! |---|---|
//! | any | the word is looked at for about a microsecond; no clock, no reading |
//! | one processor allowed | after a few looks: nothing more |
//! | free | spins for [`LONG`]; for [`SHORT`] once that was in vain several times running, and [`LONG`] now and then |
//! | free, but this thread has just woken another | spins for [`LONG`]; after two in vain the next 8 waits do not, then 16 |
//! | loaded | spins for [`SHORT`]; after two spins in vain, or one that lost its processor, the next 8 waits do not, then 16, up to 1,024 |
//!
//! A thread that was woken often wants the processor of its waker, though another one is free: so what is learnt of spins
//! behind a wake is learnt apart. Two partners that wake each other get out of that by the spin after the rest.
//!
//! A spin that pays forgets all that. A clock that jumps says that the processor was lost: the spin ends there.
//!
//! What was learnt is kept per process and kind of wait, or per connection, in ordinary memory. Threads may overwrite each
//! other's; a child that is forked begins with its parent's.

use crate::primitive::machine::{self, Machine};
use crate::primitive::{AtomicU32, Ordering, pause};
use std::time::{Duration, Instant};

/// About a microsecond.
const LOOKS_BEFORE_THE_CLOCK: u32 = 50;
const LOOKS_ON_ONE_PROCESSOR: u32 = 8;
const PAUSES_BETWEEN_LOOKS: u32 = 8;
const LONG: Duration = Duration::from_micros(60);
const SHORT: Duration = Duration::from_micros(20);
/// Longer between two looks is a processor that was lost.
const JUMP: Duration = Duration::from_micros(100);
const VAIN_BEFORE_SHORT: u32 = 4;
const LONG_AGAIN_EVERY: u32 = 8;
const VAIN_BEFORE_REST: u32 = 2;
const LEAST_REST: u32 = 8;
const LONGEST_REST: u32 = 1024;
const LONGEST_REST_BEHIND_A_WAKE: u32 = 16;

/// What spinning has taught.
#[derive(Debug, Default)]
pub struct Learnt {
    plainly: AtomicU32,
    behind_a_wake: AtomicU32,
}

/// What a spin meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    OneProcessor,
    Free,
    /// As `Free`, but this thread has just woken another one.
    BehindAWake,
    Loaded,
}

impl Scene {
    fn now(now: Instant) -> Self {
        match machine::look(now) {
            Machine::OneProcessor => Self::OneProcessor,
            Machine::Free if machine::woke_just_now(now) => Self::BehindAWake,
            Machine::Free => Self::Free,
            Machine::Loaded => Self::Loaded,
        }
    }

    /// How many waits at most go without a spin where spins have failed; `None` where each wait spins.
    fn longest_rest(self) -> Option<u32> {
        match self {
            Self::OneProcessor | Self::Free => None,
            Self::BehindAWake => Some(LONGEST_REST_BEHIND_A_WAKE),
            Self::Loaded => Some(LONGEST_REST),
        }
    }
}

/// The word of [`Learnt`], taken apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lesson {
    /// Spins in vain since the last one that paid, as far as they are counted.
    vain: u32,
    /// Waits that are still to go without a spin.
    left_out: u32,
    /// How many waits the last rest was for; 0 when there was none.
    rest: u32,
}

impl Lesson {
    fn of(word: u32) -> Self {
        Self { vain: word & 0xff, left_out: word >> 8 & 0xfff, rest: word >> 20 }
    }

    fn word(self) -> u32 {
        self.vain | self.left_out << 8 | self.rest << 20
    }

    /// How long a spin may take; `None` is no spin.
    fn limit(self, scene: Scene) -> Option<Duration> {
        let rests = self.left_out > 0;
        match scene {
            Scene::OneProcessor => None,
            Scene::Free if self.vain < VAIN_BEFORE_SHORT || self.vain.is_multiple_of(LONG_AGAIN_EVERY) => {
                Some(LONG)
            }
            Scene::Free => Some(SHORT),
            Scene::BehindAWake => (!rests).then_some(LONG),
            Scene::Loaded => (!rests).then_some(SHORT),
        }
    }

    /// After a wait without a spin.
    fn left_one_out(self) -> Self {
        Self { left_out: self.left_out.saturating_sub(1), ..self }
    }

    /// After a spin in vain.
    fn failed(self, scene: Scene, lost_processor: bool) -> Self {
        // The count goes round above what is compared with it.
        let vain = if self.vain == 0xff { LONG_AGAIN_EVERY + 1 } else { self.vain + 1 };
        let longest = scene.longest_rest();
        let tired = lost_processor || longest.is_some() && vain >= VAIN_BEFORE_REST;
        if !tired {
            return Self { vain, ..self };
        }
        let rest = (self.rest * 2).clamp(LEAST_REST, longest.unwrap_or(LONGEST_REST));
        Self { vain, left_out: rest, rest }
    }
}

impl Learnt {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { plainly: AtomicU32::new(0), behind_a_wake: AtomicU32::new(0) }
    }

    /// Spins until `ready` gives something, or spinning does not pay any more. `ready` looks at memory.
    pub fn spin<R>(&self, mut ready: impl FnMut() -> Option<R>) -> Option<R> {
        let one = machine::last_seen() == Machine::OneProcessor;
        for _ in 0..if one { LOOKS_ON_ONE_PROCESSOR } else { LOOKS_BEFORE_THE_CLOCK } {
            if let Some(found) = ready() {
                paid(&self.plainly);
                return Some(found);
            }
            pause();
        }
        self.spin_by_the_clock(PAUSES_BETWEEN_LOOKS, ready)
    }

    /// As [`Learnt::spin`], where `ready` makes a system call and found nothing just now.
    pub fn spin_on_calls<R>(&self, ready: impl FnMut() -> Option<R>) -> Option<R> {
        self.spin_by_the_clock(1, ready)
    }

    fn spin_by_the_clock<R>(&self, pauses: u32, mut ready: impl FnMut() -> Option<R>) -> Option<R> {
        let began = Instant::now();
        let scene = Scene::now(began);
        let word = if scene == Scene::BehindAWake { &self.behind_a_wake } else { &self.plainly };
        let lesson = Lesson::of(word.load(Ordering::Relaxed));
        let learn = |lesson: Lesson| word.store(lesson.word(), Ordering::Relaxed);
        let Some(limit) = lesson.limit(scene) else {
            learn(lesson.left_one_out());
            return None;
        };
        // Reading the machine takes its time, and is no jump.
        let mut last = Instant::now();
        let end = last + limit;
        loop {
            (0..pauses).for_each(|_| pause());
            if let Some(found) = ready() {
                paid(word);
                return Some(found);
            }
            let now = Instant::now();
            let lost = now.saturating_duration_since(last) > JUMP;
            if lost {
                machine::lost_processor(now);
            }
            if lost || now >= end {
                learn(lesson.failed(scene, lost));
                return None;
            }
            last = now;
        }
    }
}

/// Mostly there is nothing to forget, and no line of the cache to be taken from other threads.
#[inline]
fn paid(word: &AtomicU32) {
    if word.load(Ordering::Relaxed) != 0 {
        word.store(Lesson::default().word(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lesson_comes_back_as_it_was() {
        for lesson in [Lesson::default(), Lesson { vain: 255, left_out: LONGEST_REST, rest: LONGEST_REST }] {
            assert_eq!(Lesson::of(lesson.word()), lesson);
        }
    }

    #[test]
    fn on_a_loaded_machine_spins_in_vain_are_left_out_more_and_more() {
        let (mut lesson, mut rests) = (Lesson::default(), Vec::new());
        for _ in 0..20_000 {
            match lesson.limit(Scene::Loaded) {
                Some(limit) => {
                    assert_eq!(limit, SHORT);
                    lesson = lesson.failed(Scene::Loaded, false);
                    rests.push(lesson.left_out);
                }
                None => lesson = lesson.left_one_out(),
            }
        }
        assert_eq!(rests[..10], [0, 8, 16, 32, 64, 128, 256, 512, 1024, 1024]);
    }

    #[test]
    fn a_lost_processor_rests_at_once_and_one_processor_is_never_spun_on() {
        assert_eq!(Lesson::default().failed(Scene::Free, true).left_out, LEAST_REST);
        assert_eq!(Lesson::default().limit(Scene::OneProcessor), None);
    }

    #[test]
    fn on_a_free_machine_every_wait_spins_and_long_spins_get_rare() {
        let (mut lesson, mut long) = (Lesson::default(), 0);
        for _ in 0..800 {
            let limit = lesson.limit(Scene::Free).expect("a spin");
            long += u32::from(limit == LONG);
            lesson = lesson.failed(Scene::Free, false);
        }
        assert!((90..130).contains(&long), "{long} of 800 were long");
    }

    #[test]
    fn what_comes_is_found_and_forgets_every_failure() {
        let tired = Lesson { vain: 9, left_out: 900, rest: 1024 };
        let learnt = Learnt { plainly: AtomicU32::new(tired.word()), ..Learnt::new() };
        let mut looks = 0;
        let found = learnt.spin(|| {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found, Some(3));
        assert_eq!(Lesson::of(learnt.plainly.load(Ordering::Relaxed)), Lesson::default());
        assert_eq!(learnt.spin(|| None::<()>), None, "a spin has an end");
    }

    #[test]
    fn behind_a_wake_spins_in_vain_are_left_out_but_each_17th_wait_spins_long() {
        let (mut lesson, mut spins) = (Lesson::default(), 0);
        for _ in 0..1_700 {
            match lesson.limit(Scene::BehindAWake) {
                Some(limit) => {
                    assert_eq!(limit, LONG);
                    lesson = lesson.failed(Scene::BehindAWake, false);
                    spins += 1;
                }
                None => lesson = lesson.left_one_out(),
            }
        }
        assert!((100..105).contains(&spins), "{spins} spins");
    }
}
