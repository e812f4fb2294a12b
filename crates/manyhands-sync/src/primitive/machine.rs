//! What the machine is like at the moment: whether spinning for somebody else can pay.
//!
//! Each thread reads it for itself, at most every [`FRESH`], and only once a wait has lasted for a microsecond. Nothing is
//! kept open: a remembered descriptor may be somebody else's file by the next look.
#![allow(unsafe_code)] // asks the C library how many processors are online

use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

/// What a spin would meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// This process may use one processor: while it spins, nobody else of its kind runs.
    OneProcessor,
    /// No more threads want to run than there are processors, as far as is known.
    Free,
    /// Some thread waits for a processor: spinning keeps it from running.
    Loaded,
}

/// A reading is believed for so long.
const FRESH: Duration = Duration::from_millis(20);
/// Where the system does not tell: a spinning thread that lost its processor shows a load for so long.
const JUMP_COUNTS: Duration = Duration::from_millis(200);
/// A thread that was woken may want the processor of its waker for so long.
const WAKING: Duration = Duration::from_micros(100);
/// How many readings go by before the number of processors, and the quota, are asked for again.
const READINGS_BETWEEN_COUNTS: u32 = 256;

#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Option<Instant>,
    machine: Machine,
    /// When a spin of this thread last lost its processor.
    jumped: Option<Instant>,
    readings: u32,
    /// How many processors are online.
    online: u32,
    /// How many of them this process may keep busy, by its affinity and the quotas of all groups around it.
    usable: u32,
}

thread_local! {
    static READING: Cell<Reading> = const {
        Cell::new(Reading {
            at: None,
            machine: Machine::Free,
            jumped: None,
            readings: 0,
            online: 1,
            usable: 1,
        })
    };
}

thread_local! {
    /// When this thread last woke another one.
    static WOKE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// This thread has woken another one.
pub fn woke() {
    WOKE.set(Some(Instant::now()));
}

/// Whether this thread has woken another one just now.
pub fn woke_just_now(now: Instant) -> bool {
    WOKE.get().is_some_and(|then| is_within(WAKING, then, now))
}

/// Whether so much time has not gone by since. What comes from the future was read in another time namespace, by the parent of
/// this process: long ago.
fn is_within(limit: Duration, then: Instant, now: Instant) -> bool {
    now.checked_duration_since(then).is_some_and(|age| age < limit)
}

/// What this thread read last, however long ago: no system call, and no clock.
#[inline]
pub fn last_seen() -> Machine {
    READING.get().machine
}

/// What the machine is like now.
pub fn look(now: Instant) -> Machine {
    let mut reading = READING.get();
    if reading.at.is_none_or(|at| !is_within(FRESH, at, now)) {
        reading.refresh(now);
        READING.set(reading);
    }
    reading.machine
}

/// A spin of this thread lost its processor for a while: what was read is out of date.
pub fn lost_processor(now: Instant) {
    READING.set(Reading { at: None, jumped: Some(now), ..READING.get() });
}

impl Reading {
    fn refresh(&mut self, now: Instant) {
        self.at = Some(now);
        let allowed = allowed();
        if allowed == Some(1) {
            self.machine = Machine::OneProcessor;
            return;
        }
        if self.readings.is_multiple_of(READINGS_BETWEEN_COUNTS) {
            self.online = online();
            // More than one is allowed here: one is a quota.
            let usable = std::thread::available_parallelism();
            self.usable = usable.map_or(self.online, |count| u32::try_from(count.get()).unwrap_or(u32::MAX));
        }
        self.readings = self.readings.wrapping_add(1);
        self.machine = if self.usable == 1 {
            Machine::OneProcessor
        } else {
            match runnable() {
                Some(count) if count > self.online => Machine::Loaded,
                Some(_) if allowed.is_none_or(|count| count.min(self.usable) >= self.online) => Machine::Free,
                // Of the few processors that this process may use nobody tells.
                _ if self.jumped.is_some_and(|then| is_within(JUMP_COUNTS, then, now)) => Machine::Loaded,
                _ => Machine::Free,
            }
        };
    }
}

/// `sched_getaffinity`: how many processors this thread may use. Refused where there are more than the mask has bits.
fn allowed() -> Option<u32> {
    rustix::thread::sched_getaffinity(None).ok().map(|set| set.count())
}

fn online() -> u32 {
    // SAFETY: asks for a number.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    u32::try_from(count).unwrap_or(1).max(1)
}

/// How many threads of the machine want to run, this one included. `None` where the system does not say.
fn runnable() -> Option<u32> {
    let mut text = [0; 64];
    let length = File::open("/proc/loadavg").and_then(|mut file| file.read(&mut text)).ok()?;
    runnable_in(&text[..length])
}

/// The number before the slash in "0.20 0.18 0.12 1/80 11206". None that leaves out the thread that reads is believed.
fn runnable_in(text: &[u8]) -> Option<u32> {
    let field = std::str::from_utf8(text).ok()?.split_ascii_whitespace().nth(3)?;
    field.split_once('/')?.0.parse().ok().filter(|&count| count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runnable_count_is_the_fourth_field_before_its_slash() {
        assert_eq!(runnable_in(b"0.20 0.18 0.12 3/80 11206\n"), Some(3));
        for nonsense in [&b""[..], b"0.20 0.18 0.12", b"0 0 0 0/0 0", b"a b c d/e f", b"\xff\xff\xff\xff"] {
            assert_eq!(runnable_in(nonsense), None, "{nonsense:?}");
        }
        assert!(runnable().is_none_or(|count| count > 0));
    }

    #[test]
    fn one_processor_is_told_from_several_when_the_reading_is_renewed() {
        std::thread::spawn(|| {
            let all = rustix::thread::sched_getaffinity(None).expect("a mask");
            let first =
                (0..rustix::thread::CpuSet::MAX_CPU).find(|&cpu| all.is_set(cpu)).expect("a processor");
            let mut one = rustix::thread::CpuSet::new();
            one.set(first);
            rustix::thread::sched_setaffinity(None, &one).expect("fewer processors");
            assert_eq!(look(Instant::now()), Machine::OneProcessor);
            assert_eq!(last_seen(), Machine::OneProcessor);
            rustix::thread::sched_setaffinity(None, &all).expect("those from before");
            // A quota may leave one in any case.
            let several = std::thread::available_parallelism().expect("one").get() > 1;
            let later = Instant::now() + FRESH;
            assert_eq!(look(later) == Machine::OneProcessor, !several);
        })
        .join()
        .expect("no panic");
    }

    #[test]
    fn a_lost_processor_makes_the_next_look_a_new_reading() {
        std::thread::spawn(|| {
            let now = Instant::now();
            if look(now) == Machine::OneProcessor {
                return;
            }
            let before = READING.get().readings;
            look(now);
            assert_eq!(READING.get().readings, before, "it is believed for a while");
            lost_processor(now);
            look(now);
            assert_eq!(READING.get().readings, before + 1);
        })
        .join()
        .expect("no panic");
    }
}
