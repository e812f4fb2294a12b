//! The one way to wait in shared memory: spin a little, say that somebody may sleep, sleep in slices.
//!
//! Every primitive parks here: the wait word, the lock, the semaphore, the event; by way of wait words the condition, the
//! barrier, the ring and the queue. Nobody else calls the futex's wait. What differs between them are two closures: what
//! is looked at while spinning, and how a waiter says in its word that it is about to sleep.
//!
//! # A wait
//! | step | what happens | then |
//! |---|---|---|
//! | 1 | spins on `ready` ([`spin`](crate::spin)) | found: over |
//! | 2 | `announce`: takes what is there, or writes into the word that somebody may sleep, and looks once more | there: over; the word has changed meanwhile: again |
//! | 3 | the deadline has passed | over, in vain |
//! | 4 | `about_to_sleep`, once; sleeps while the word is as it was announced, [`FIRST_SLEEP`], then [`LONGEST_SLEEP`] | woken, or the word has changed: 2 |
//! | 5 | the sleep has come to its end before the deadline, a signal has interrupted it, or another sleep is due and the last look around was more than [`FIRST_SLEEP`] ago | the caller looks around (for signals, the dead, frames that nobody counted), and parks again |
//!
//! So a signal that comes outside of the very sleep is noticed at the end of that sleep, 10 ms for a wait that has just
//! begun, or when the waiter is woken in vain. And the end of a sleep puts a waiter at the tail of the kernel's queue, so all but the first are long.
//!
//! # When somebody is killed
//! A waiter leaves its mark in the word, which costs a waker one call in vain (see each primitive). A waker that was killed
//! before it woke anybody costs the waiter the rest of its sleep: [`LONGEST_SLEEP`] at most.

use crate::deadline::Deadline;
use crate::mutex::assert_none_held;
use crate::notes::WaitKind;
use crate::primitive::{AtomicU32, Slept, futex_wait, microseconds};
use crate::turn::LONG_WAIT_US;
use std::time::Duration;

/// The first sleep of a wait is no longer: a signal that came just before it, or a holder that was dead already, is noticed
/// soon. Longer than the scheduler's tick (1 to 10 ms): a timer that is due before the tick has the processor's own timer set
/// and reset, which on a virtual machine takes longer (12 us) than the whole wait of a message.
pub const FIRST_SLEEP: Duration = Duration::from_millis(10);
/// No sleep is longer: the price of a wake-up that died with its waker, and of an idle process (two a second).
pub const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// As [`FIRST_SLEEP`].
const BETWEEN_LOOKS_US: u32 = FIRST_SLEEP.as_micros() as u32;

/// Nor is one between threads of one process, of which none dies alone, and for which no signal is meant.
const UNDISTURBED_SLEEP: Duration = Duration::from_secs(3600);

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The condition was seen to hold.
    Ready,
    /// The deadline passed first.
    TimedOut,
    /// A signal arrived in this thread, or a sleep has come to its end; the condition may or may not hold.
    Interrupted,
}

/// How a wait for something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parked<R> {
    /// It has come.
    Done(R),
    /// As [`Waited::TimedOut`].
    TimedOut,
    /// As [`Waited::Interrupted`].
    Interrupted,
}

impl Parked<()> {
    /// The same, as a bare outcome.
    #[must_use]
    pub fn waited(self) -> Waited {
        match self {
            Self::Done(()) => Waited::Ready,
            Self::TimedOut => Waited::TimedOut,
            Self::Interrupted => Waited::Interrupted,
        }
    }
}

impl From<Waited> for Parked<()> {
    fn from(waited: Waited) -> Self {
        match waited {
            Waited::Ready => Self::Done(()),
            Waited::TimedOut => Self::TimedOut,
            Waited::Interrupted => Self::Interrupted,
        }
    }
}

/// What a waiter came to that was about to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Announced<R> {
    /// What it waits for is there.
    Done(R),
    /// The word was changed by somebody else: it has to look again.
    Changed,
    /// The word holds this now, and says that somebody may be asleep.
    Sleep(u32),
}

/// One wait, from its beginning to its end, over all of its sleeps; not shared.
#[derive(Debug)]
pub struct Waiting {
    kind: WaitKind,
    /// When the waiter first had to sleep, by whichever clock it uses; 0 while it has not.
    since: u64,
    /// Sleeps that came to their end.
    slices: u32,
    /// Whether it has spun, and found nothing.
    spun: bool,
    /// Whether it was woken, by a waker that may have had others to wake.
    woken: bool,
    /// Whether a sleep has come to its end since it was last asked.
    ended: bool,
    /// When it was first asked for how long it has waited, in microseconds.
    began: Option<u32>,
    /// When its first sleep since the last look around began, in microseconds.
    looked: Option<u32>,
    /// When the present slice began: it may be slept in several times.
    slice_from: Option<u32>,
}

impl Waiting {
    /// A wait of that kind that has not begun.
    #[must_use]
    pub const fn new(kind: WaitKind) -> Self {
        Self {
            kind,
            since: 0,
            slices: 0,
            spun: false,
            woken: false,
            ended: false,
            began: None,
            looked: None,
            slice_from: None,
        }
    }

    /// One that sleeps at once, and long: of a thread that nobody waits for.
    #[must_use]
    pub const fn at_leisure(kind: WaitKind) -> Self {
        Self { slices: 1, spun: true, ..Self::new(kind) }
    }

    /// One that does not spin: others that do have its processor.
    #[must_use]
    pub const fn without_spin(kind: WaitKind) -> Self {
        Self { spun: true, ..Self::new(kind) }
    }

    /// One of a thread that no signal is meant for, and that only threads of its own process wake, which do not die alone: it
    /// wakes for nothing else.
    #[must_use]
    pub const fn undisturbed(kind: WaitKind) -> Self {
        Self { slices: u32::MAX, spun: true, ..Self::new(kind) }
    }

    /// Another wait begins: what the last one was has no meaning for how long this one takes.
    pub fn start_over(&mut self) {
        *self = Self::new(self.kind);
    }

    /// What is waited for.
    #[must_use]
    pub fn kind(&self) -> WaitKind {
        self.kind
    }

    /// Since when the waiter has been sleeping, waking in between included; `now` if it has not yet.
    pub fn since(&mut self, now: u64) -> u64 {
        if self.since == 0 {
            self.since = now;
        }
        self.since
    }

    /// How many sleeps came to their end.
    #[must_use]
    pub fn slices(&self) -> u32 {
        self.slices
    }

    /// Whether a waker woke it.
    #[must_use]
    pub fn was_woken(&self) -> bool {
        self.woken
    }

    /// Whether a sleep has come to its end since this was last asked: once for each of them there is time for a closer look.
    pub(crate) fn take_ended(&mut self) -> bool {
        std::mem::take(&mut self.ended)
    }

    /// Whether it has slept, until it was woken or the sleep came to its end.
    #[must_use]
    pub fn has_slept(&self) -> bool {
        self.woken || self.slices > 0
    }

    /// Whether it has slept, and waited for long since it was first asked: so long that it is to have its
    /// [turn](crate::turn). Asked before each sleep.
    pub(crate) fn has_waited_long(&mut self) -> bool {
        let now = microseconds();
        let began = *self.began.get_or_insert(now);
        self.has_slept() && now.wrapping_sub(began) >= LONG_WAIT_US
    }

    /// What was waited for was found without a park: the next one may spin again.
    pub fn found(&mut self) {
        self.spun = false;
    }

    /// How long the next sleep may be.
    #[must_use]
    pub fn longest_sleep(&self) -> Duration {
        match self.slices {
            0 => FIRST_SLEEP,
            u32::MAX => UNDISTURBED_SLEEP,
            _ => LONGEST_SLEEP,
        }
    }

    /// A sleep has come to its end.
    pub fn end_slice(&mut self) {
        if self.slices < u32::MAX - 1 {
            self.slices += 1;
        }
        (self.ended, self.looked, self.slice_from) = (true, None, None);
    }

    /// A sleep begins.
    pub fn begin_sleep(&mut self) {
        if self.slice_from.is_none() {
            self.slice_from = Some(microseconds());
        }
    }

    /// A sleep has ended, and the caller looks around. Signals may come so often that none comes to its end by itself.
    pub fn look_around(&mut self) {
        self.looked = None;
        let over =
            |from: u32| u128::from(microseconds().wrapping_sub(from)) >= self.longest_sleep().as_micros();
        if self.slice_from.is_some_and(over) {
            self.end_slice();
        }
    }

    /// Whether the caller is to look around before the next sleep: of a waiter that others keep waking in vain no sleep comes
    /// to its end.
    fn is_to_look(&mut self) -> bool {
        let now = microseconds();
        self.slice_from.get_or_insert(now);
        let since = *self.looked.get_or_insert(now);
        self.slices != u32::MAX && now.wrapping_sub(since) >= BETWEEN_LOOKS_US
    }

    /// Spins, once a wait, until `ready` gives something: after what was found was lost to somebody else, again.
    #[cfg(not(loom))]
    pub fn spin<R>(&mut self, ready: impl FnMut() -> Option<R>) -> Option<R> {
        if self.spun {
            return None;
        }
        let found = LEARNT[self.kind as usize % LEARNT.len()].spin(ready);
        self.spun = found.is_none();
        found
    }

    /// A model has nothing to gain by spinning.
    #[cfg(loom)]
    pub fn spin<R>(&mut self, _ready: impl FnMut() -> Option<R>) -> Option<R> {
        None
    }
}

/// What spinning has taught this process, by kinds of wait.
#[cfg(not(loom))]
static LEARNT: [crate::spin::Learnt; 16] = [const { crate::spin::Learnt::new() }; 16];

/// Sleeps once, while the word holds `expected`, for at most so long. By itself for the [turnstile](crate::mutex) of a lock that
/// may be wanted under other locks; everybody else parks.
pub(crate) fn sleep_once(word: &AtomicU32, expected: u32, limit: Duration) -> Slept {
    futex_wait(word, expected, limit)
}

/// Waits on the word, as told at the head of this file. `about_to_sleep` is called at most once, and what it returns is
/// dropped at the end.
pub(crate) fn park<R, N>(
    word: &AtomicU32,
    waiting: &mut Waiting,
    deadline: Deadline,
    ready: impl Fn() -> Option<R>,
    mut announce: impl FnMut(&mut Waiting) -> Announced<R>,
    about_to_sleep: impl FnOnce(&mut Waiting) -> N,
) -> Parked<R> {
    if let Some(found) = waiting.spin(&ready) {
        return Parked::Done(found);
    }
    assert_none_held();
    let (mut about_to_sleep, mut _noted) = (Some(about_to_sleep), None);
    loop {
        let expected = match announce(waiting) {
            Announced::Done(found) => {
                waiting.found();
                return Parked::Done(found);
            }
            Announced::Changed => continue,
            Announced::Sleep(expected) => expected,
        };
        let Some(slice) = deadline.slice(waiting.longest_sleep()) else { return Parked::TimedOut };
        if waiting.is_to_look() {
            waiting.look_around();
            return Parked::Interrupted;
        }
        if let Some(note) = about_to_sleep.take() {
            _noted = Some(note(waiting));
        }
        match sleep_once(word, expected, slice) {
            Slept::Woken => waiting.woken = true,
            Slept::Changed => {}
            Slept::Interrupted => {
                waiting.look_around();
                return Parked::Interrupted;
            }
            Slept::TimedOut => {
                waiting.end_slice();
                // At the deadline itself only a last look is missing.
                if !deadline.passed() {
                    return Parked::Interrupted;
                }
            }
        }
    }
}
