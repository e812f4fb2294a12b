//! Producers and consumers of a queue are killed by SIGKILL at random instants and replaced, thousands of times.
//!
//! `MANYHANDS_RING_KILLS` says how many (2,000 if unset). What must hold at the end of each round of 100:
//! - no message is corrupt, none arrives twice, none arrives that was not sent;
//! - a consumer sees each producer's messages in order;
//! - a message whose `send` returned is lost only if a consumer died between taking and noting it: at most one
//!   for each consumer killed;
//! - something arrives every ten seconds, however many are killed.
#![allow(unsafe_code)] // forks, kills, and maps the ledger that outlives the killed
#![allow(clippy::unwrap_used)]

use manyhands::family::Family;
use manyhands::queue::{Queue, ReceiveError, Received, SendError};
use manyhands::{Deadline, Locking, WaitKind, Waited, Waiting};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const KILLS_A_ROUND: u32 = 100;
const MOST_LIVES: usize = 60_000;
const NUMBERS_A_LIFE: u32 = 1 << 15;
const LONGEST_MESSAGE: usize = 20_000;
const PRODUCERS: usize = 3;
const CONSUMERS: usize = 3;
const STALL: Duration = Duration::from_secs(10);

/// What the test knows, in memory that outlives whoever is killed.
#[repr(C)]
struct Ledger {
    phase: AtomicU32,
    /// Which side pauses, so that the other falls asleep.
    mood: AtomicU32,
    lives: AtomicU32,
    sent: AtomicU64,
    received: AtomicU64,
    by_life: [Life; MOST_LIVES],
}

/// What one producer, from its start to its death, has sent and others have received.
#[repr(C)]
struct Life {
    acknowledged: AtomicU32,
    received: [AtomicU64; NUMBERS_A_LIFE as usize / 64],
}

const WORKING: u32 = 0;
const PRODUCERS_STOP: u32 = 1;
const ALL_STOP: u32 = 2;

const EVERYBODY_WORKS: u32 = 0;
const PRODUCERS_PAUSE: u32 = 1;
const CONSUMERS_PAUSE: u32 = 2;

fn ledger() -> &'static Ledger {
    // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing.
    let place = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size_of::<Ledger>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    assert_ne!(place, libc::MAP_FAILED);
    // SAFETY: page-aligned zeroes are a Ledger of atomics, and it is never unmapped.
    unsafe { &*place.cast::<Ledger>() }
}

struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

/// Life, length, number, sum; then bytes that follow from them.
fn message(life: u32, number: u32, len: usize, out: &mut Vec<u8>) {
    out.clear();
    for word in [life, len as u32, number, 0] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    let mut random = Random::new(u64::from(life) << 32 | u64::from(number));
    while out.len() < len {
        let word = random.below(u64::MAX).to_le_bytes();
        let rest = (len - out.len()).min(8);
        out.extend_from_slice(&word[..rest]);
    }
    let sum = sum(out);
    out[12..16].copy_from_slice(&sum.to_le_bytes());
}

fn checked(bytes: &[u8]) -> (u32, u32) {
    assert!(bytes.len() >= 16, "corrupt: {} bytes", bytes.len());
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(word(4) as usize, bytes.len(), "corrupt: another length");
    assert_eq!(word(12), sum(bytes), "corrupt: another sum");
    (word(0), word(8))
}

fn sum(bytes: &[u8]) -> u32 {
    let word = |chunk: &[u8]| chunk.iter().fold(0u64, |w, &b| w << 8 | u64::from(b));
    let counted = std::iter::once(&bytes[..12]).chain(bytes[16..].chunks(8));
    let hash = counted.fold(7u64, |h, c| (h ^ word(c)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23));
    (hash ^ hash >> 32) as u32
}

fn produce(queue: &Queue, ledger: &Ledger, seed: u64) {
    let (mut random, mut waiting, mut bytes) = (Random::new(seed), Waiting::new(WaitKind::Room), Vec::new());
    while ledger.phase.load(Ordering::Relaxed) == WORKING {
        let life = ledger.lives.fetch_add(1, Ordering::Relaxed);
        let known = &ledger.by_life[life as usize];
        let mut number = 0;
        while number < NUMBERS_A_LIFE && ledger.phase.load(Ordering::Relaxed) == WORKING {
            // A queue without bound is not to fill the machine.
            while ledger.mood.load(Ordering::Relaxed) == PRODUCERS_PAUSE || queue.len() > 3_000 {
                std::thread::sleep(Duration::from_micros(200));
                if ledger.phase.load(Ordering::Relaxed) != WORKING {
                    return;
                }
            }
            let most = [64, 64, 1_500, 8_200, LONGEST_MESSAGE as u64][random.below(5) as usize];
            message(life, number, 16 + random.below(most - 15) as usize, &mut bytes);
            let (front, back) = bytes.split_at(random.below(17) as usize);
            let locking = if random.below(2) == 0 { Locking::Try } else { Locking::Wait };
            match queue.send(&[front, back], locking) {
                Ok(()) => {
                    number += 1;
                    known.acknowledged.store(number, Ordering::Release);
                    ledger.sent.fetch_add(1, Ordering::Relaxed);
                }
                Err(SendError::Busy) => std::thread::yield_now(),
                Err(SendError::Full) => {
                    queue.wait_for_room(&mut waiting, Deadline::after(Duration::from_millis(500)));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn consume(queue: &Queue, ledger: &Ledger, seed: u64) {
    let (mut random, mut waiting, mut out) = (Random::new(seed), Waiting::new(WaitKind::Message), Vec::new());
    let mut last: HashMap<u32, u32> = HashMap::new();
    loop {
        while ledger.mood.load(Ordering::Relaxed) == CONSUMERS_PAUSE {
            std::thread::sleep(Duration::from_micros(200));
        }
        out.clear();
        let locking = if random.below(2) == 0 { Locking::Try } else { Locking::Wait };
        match queue.receive(&mut out, locking) {
            Ok(Received::Inline) => {}
            Ok(Received::Block(block)) => {
                out.resize(block.len(), 0);
                block.copy_to(&mut out);
            }
            Err(ReceiveError::Busy) => {
                std::thread::yield_now();
                continue;
            }
            Err(ReceiveError::Empty) => {
                let waited =
                    queue.wait_for_message(&mut waiting, Deadline::after(Duration::from_millis(500)));
                if waited == Waited::TimedOut && ledger.phase.load(Ordering::Relaxed) == ALL_STOP {
                    return;
                }
                continue;
            }
            Err(error) => panic!("{error}"),
        }
        let (life, number) = checked(&out);
        let before = last.insert(life, number);
        assert!(before < Some(number), "out of order: {before:?}, {number} of {life}");
        let word = &ledger.by_life[life as usize].received[number as usize / 64];
        let bit = 1 << (number % 64);
        assert_eq!(word.fetch_or(bit, Ordering::AcqRel) & bit, 0, "{number} of {life} arrived twice");
        ledger.received.fetch_add(1, Ordering::Relaxed);
    }
}

/// A worker that may be killed and is replaced.
struct Worker {
    pid: i32,
    produces: bool,
}

fn start(queue: &Queue, ledger: &'static Ledger, produces: bool, seed: u64) -> Worker {
    // SAFETY: the child runs only `produce` or `consume` and leaves by _exit; glibc keeps its allocator usable.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid == 0 {
        let work = || if produces { produce(queue, ledger, seed) } else { consume(queue, ledger, seed) };
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(if done.is_ok() { 0 } else { 101 }) };
    }
    Worker { pid, produces }
}

impl Worker {
    /// Whether it sleeps on a futex right now, as far as the kernel tells.
    fn sleeps(&self) -> bool {
        let call = std::fs::read_to_string(format!("/proc/{}/syscall", self.pid)).unwrap_or_default();
        call.split(' ').next() == Some(&libc::SYS_futex.to_string())
    }

    /// `None` while it runs, and what `waitpid` said once it does not.
    fn ended(&self, flags: i32) -> Option<i32> {
        let mut status = 0;
        // SAFETY: `status` lives across the call.
        let reaped = unsafe { libc::waitpid(self.pid, &raw mut status, flags) };
        (reaped == self.pid).then_some(status)
    }

    fn kill(&self) {
        // SAFETY: our child, not reaped yet.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
    }
}

#[derive(Debug, Default)]
struct Figures {
    kills: u32,
    consumers_killed: u32,
    sleepers_killed: u32,
    messages: u64,
    lost_with_their_taker: u64,
    recoveries: u32,
    longest_pause: Duration,
}

struct Watch {
    received: u64,
    since: Instant,
    /// The longest time in which nothing arrived.
    longest: Duration,
}

impl Watch {
    fn look(&mut self, queue: &Queue, ledger: &Ledger, workers: &[Worker]) {
        let received = ledger.received.load(Ordering::Relaxed);
        if received != self.received {
            // Half of all moods let a side pause, for ten milliseconds at most.
            self.longest = self.longest.max(self.since.elapsed());
            self.received = received;
            self.since = Instant::now();
        }
        if self.since.elapsed() > STALL {
            let asleep: Vec<_> = workers.iter().map(|w| (w.pid, w.produces, w.sleeps())).collect();
            for worker in workers {
                worker.kill();
            }
            panic!(
                "stalled: {} messages lie in the queue, recoveries {:?}, sent {:?}, received {received}, \
                 (pid, produces, sleeps) {asleep:?}",
                queue.len(),
                queue.recoveries(),
                ledger.sent
            );
        }
        for worker in workers {
            let early = worker.ended(libc::WNOHANG);
            assert!(
                early.is_none() || ledger.phase.load(Ordering::Relaxed) != WORKING,
                "a worker failed: {early:?}"
            );
        }
    }
}

fn round(family: &Family, ledger: &'static Ledger, bound: u32, random: &mut Random, figures: &mut Figures) {
    let queue = Queue::create(family, bound).unwrap();
    let first_life = ledger.lives.load(Ordering::Relaxed) as usize;
    ledger.phase.store(WORKING, Ordering::SeqCst);
    let mut workers: Vec<Worker> = (0..PRODUCERS + CONSUMERS)
        .map(|i| start(&queue, ledger, i < PRODUCERS, random.below(u64::MAX)))
        .collect();
    let mut watch = Watch { received: 0, since: Instant::now(), longest: Duration::ZERO };
    let mut consumers_killed = 0;
    for _ in 0..KILLS_A_ROUND {
        let mood =
            [EVERYBODY_WORKS, EVERYBODY_WORKS, PRODUCERS_PAUSE, CONSUMERS_PAUSE][random.below(4) as usize];
        ledger.mood.store(mood, Ordering::Relaxed);
        std::thread::sleep(Duration::from_micros(500 + random.below(9_000)));
        let victim = random.below(workers.len() as u64) as usize;
        watch.look(&queue, ledger, &workers);
        figures.sleepers_killed += u32::from(workers[victim].sleeps());
        workers[victim].kill();
        let status = workers[victim].ended(0).unwrap();
        assert!(libc::WIFSIGNALED(status), "a worker failed before it was killed: {status:#x}");
        let produces = workers[victim].produces;
        consumers_killed += u64::from(!produces);
        workers[victim] = start(&queue, ledger, produces, random.below(u64::MAX));
    }
    ledger.mood.store(EVERYBODY_WORKS, Ordering::Relaxed);
    figures.longest_pause = figures.longest_pause.max(watch.longest);
    finish(&queue, ledger, workers, watch);

    let lost = settle_accounts(ledger, first_life, &mut figures.messages);
    assert!(lost <= consumers_killed, "{lost} messages lost, {consumers_killed} consumers killed");
    figures.lost_with_their_taker += lost;
    figures.kills += KILLS_A_ROUND;
    figures.consumers_killed += consumers_killed as u32;
    let (puts, takes) = queue.recoveries();
    figures.recoveries += puts + takes;
    assert_eq!(queue.len(), 0, "the counts agree when everything is taken");
    drop(queue);
}

/// Stops the producers, lets the consumers empty the queue, and ends them.
fn finish(queue: &Queue, ledger: &Ledger, workers: Vec<Worker>, mut watch: Watch) {
    watch.since = Instant::now();
    let (producers, consumers): (Vec<_>, Vec<_>) = workers.into_iter().partition(|w| w.produces);
    for (phase, mut running) in [(PRODUCERS_STOP, producers), (ALL_STOP, consumers)] {
        ledger.phase.store(phase, Ordering::SeqCst);
        while !running.is_empty() {
            running.retain(|worker| match worker.ended(libc::WNOHANG) {
                None => true,
                Some(status) => {
                    assert_eq!(status, 0, "a worker failed");
                    false
                }
            });
            std::thread::sleep(Duration::from_millis(1));
            if watch.since.elapsed() > STALL + STALL {
                watch.look(queue, ledger, &[]);
            }
        }
    }
    // What a dead producer committed and nobody counted lies there still; a receiver finds it.
    let mut out = Vec::new();
    assert_eq!(queue.receive(&mut out, Locking::Wait).err(), Some(ReceiveError::Empty));
}

/// How many acknowledged messages never arrived; panics when one arrived that was never sent.
fn settle_accounts(ledger: &Ledger, first_life: usize, messages: &mut u64) -> u64 {
    let mut lost = 0;
    for (life, known) in
        ledger.by_life[..ledger.lives.load(Ordering::Relaxed) as usize].iter().enumerate().skip(first_life)
    {
        let acknowledged = known.acknowledged.load(Ordering::Acquire);
        let arrived = |number: u32| {
            known.received[number as usize / 64].load(Ordering::Acquire) >> (number % 64) & 1 == 1
        };
        lost += (0..acknowledged).filter(|&n| !arrived(n)).count() as u64;
        *messages += (0..NUMBERS_A_LIFE).filter(|&n| arrived(n)).count() as u64;
        // One may have been committed without its sender living to hear of it.
        let unsent = (acknowledged + 1..NUMBERS_A_LIFE).find(|&n| arrived(n));
        assert_eq!(unsent, None, "life {life} sent only {acknowledged}");
    }
    lost
}

#[test]
fn killing_producers_and_consumers_at_random_corrupts_stalls_and_loses_nothing() {
    let kills = std::env::var("MANYHANDS_RING_KILLS").map_or(2_000, |text| text.parse().unwrap());
    let family = Family::current().unwrap();
    let ledger = ledger();
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut figures = Figures::default();
    let start = Instant::now();
    while figures.kills < kills {
        let bound = [0, 0, 3, 40][(figures.kills / KILLS_A_ROUND) as usize % 4];
        round(family, ledger, bound, &mut random, &mut figures);
    }
    let arena = family.arena();
    println!(
        "{figures:?}, {} in the arena's lists, {} MiB of arena, {:?}: 0 corrupt, 0 doubled, 0 out of order, 0 stalls",
        arena.recoveries(),
        arena.extent_bytes() >> 20,
        start.elapsed()
    );
    assert!(figures.recoveries > 0, "no kill hit a holder of a lock: this run proves little");
}
