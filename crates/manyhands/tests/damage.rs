//! Words of a family's memory change at random while its members work: they get errors and wrong values, but none is killed
//! by a signal, panics, or hangs.
//!
//! `MANYHANDS_DAMAGE_ROUNDS` says how many families are tried (12 if unset), `MANYHANDS_DAMAGE_SEED` with which the first is.
#![allow(unsafe_code)] // forks, damages memory
#![allow(clippy::unwrap_used)]

use manyhands::family::Family;
use manyhands::lock::Nature;
use manyhands::observe::Observer;
use manyhands::pool::{
    Answer, AnswerBatch, Function, Next, Payload, Phase, Pool, Status, Task, TaskBatch, Worker,
};
use manyhands::queue::{Queue, Received};
use manyhands::{
    Barrier, Condition, Deadline, Event, Handle, Lock, Locking, Message, Mutex, Semaphore, SharedBlock,
    UnheldParcel,
};
use manyhands_sync::memory::Memory;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const DAMAGED_FOR: Duration = Duration::from_millis(400);
/// A lock that names a holder that is not there is waited for, for five seconds; several may be in the way of one call.
const ALL_IS_OVER_AFTER: u32 = 120;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // xorshift64: Marsaglia, 2003.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Below one of these.
    fn below_one_of<const N: usize>(&mut self, ends: [u64; N]) -> u64 {
        let end = ends[self.below(N as u64) as usize];
        self.below(end)
    }
}

/// What the threads of one family work on.
struct World {
    family: &'static Family,
    queues: Vec<Queue>,
    lock: Lock,
    semaphore: Semaphore,
    event: Event,
    condition: Condition,
    barrier: Barrier,
    mutex: Mutex<[u64; 4]>,
    block: SharedBlock,
    pool: Pool,
    stop: AtomicBool,
    /// Whether the thread that meets others works still.
    meeting: AtomicBool,
    steps: AtomicU64,
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_millis(5))
}

impl World {
    fn new() -> Self {
        let family = Family::current().unwrap();
        let world = Self {
            family,
            queues: [0, 3].map(|bound| Queue::create(family, bound).unwrap()).into(),
            lock: Lock::create(family, Nature::default()).unwrap(),
            semaphore: Semaphore::create(family, 2, 5).unwrap(),
            event: Event::create(family).unwrap(),
            condition: Condition::create(family).unwrap(),
            barrier: Barrier::create(family, 2).unwrap(),
            mutex: Mutex::create(family, [0; 4]).unwrap(),
            block: SharedBlock::create(family, 5_000).unwrap(),
            pool: Pool::create(family, 2).unwrap(),
            stop: AtomicBool::new(false),
            meeting: AtomicBool::new(true),
            steps: AtomicU64::new(0),
        };
        for size in [10, 3_000, 20_000, 200_000] {
            world.queues[0].send_by(&vec![1; size], Deadline::NEVER).unwrap();
        }
        world
    }

    fn until_stopped(&self, seed: u64, step: impl Fn(&Self, &mut Random)) {
        let mut random = Random(seed | 1);
        while !self.stop.load(Ordering::Relaxed) {
            step(self, &mut random);
            self.steps.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every call may fail, and none may do worse.
    fn send(&self, random: &mut Random) {
        let queue = &self.queues[random.below(2) as usize];
        let bytes = vec![7; random.below_one_of([100, 9_000, 100_000]) as usize];
        let carried = [self.queues[0].handle(), self.block.handle()];
        let carried = &carried[..random.below(3) as usize];
        let _ = queue.send_message(Message { parts: &[&bytes], carried }, Locking::Wait);
        let _ = queue.send_by(&bytes, soon());
    }

    fn receive(&self, random: &mut Random) {
        let queue = &self.queues[random.below(2) as usize];
        let mut out = Vec::new();
        if let Ok(Received::Block(block)) = queue.receive(&mut out, Locking::Wait) {
            let mut bytes = vec![0; block.len()];
            block.copy_to(&mut bytes);
        }
        let _ = queue.receive_by(soon());
        let _ = (queue.len(), queue.is_full(), queue.unfinished(), queue.task_done(), queue.all_done());
    }

    fn meet(&self, random: &mut Random) {
        match random.below(7) {
            0 => {
                if self.lock.acquire_by(soon()) == Ok(true) {
                    let _ = self.condition.wait_by(&self.lock, soon());
                    let _ = self.lock.release();
                }
            }
            1 => {
                if self.semaphore.acquire_by(soon()) {
                    let _ = self.semaphore.release();
                }
            }
            2 => _ = (self.event.wait_by(soon()), self.event.set(), self.event.clear()),
            3 => _ = (self.condition.notify_all(), self.condition.waiters()),
            4 => {
                let _ = self.barrier.wait_by(soon());
                self.barrier.reset();
            }
            5 => {
                if let Ok(Some(mut guard)) = self.mutex.lock_by(soon()) {
                    guard[0] = guard[0].wrapping_add(1);
                }
            }
            _ => {
                let at = random.below(5_000) as usize;
                let _ = (
                    self.block.load::<u8>(at),
                    self.block.store(at, 1u8),
                    self.block.fetch_add(at & !7, 1u64),
                );
            }
        }
    }

    fn make(&self, random: &mut Random) {
        let family = self.family;
        let size = random.below_one_of([200, 20_000, 3_000_000]) as usize;
        let _ = SharedBlock::create(family, size).map(|block| block.store(size / 2, 1u8));
        let _ = UnheldParcel::new(family, size).map(|mut parcel| parcel.fill(0, &[1, 2, 3]));
        let _ = Queue::create(family, 1).map(|queue| queue.send(&[&[1; 100]], Locking::Wait));
        let _ = Barrier::create(family, 3);
        let guess = Handle { offset: random.below(1 << 20) * 64, generation: random.below(4) as u32 };
        let _ = (Queue::open(family, guess).is_ok(), SharedBlock::open(family, guess, 10).is_ok());
        let _ = (Lock::open(family, guess).is_ok(), Barrier::open(family, guess).is_ok());
        let _ = (
            Barrier::open(family, self.barrier.handle()).is_ok(),
            Queue::open(family, self.queues[0].handle()),
        );
    }

    fn look(&self, random: &mut Random) {
        match random.below(3) {
            0 => _ = self.family.sweep(),
            1 => _ = Observer::own().map(|observer| observer.report().to_string()),
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }

    fn lead(&self, random: &mut Random) {
        let mut batch = TaskBatch::default();
        let arguments = vec![3; random.below_one_of([50, 20_000]) as usize];
        for index in 0..10 {
            let task = Task { job: 1, index, items: 1, kind: 0, function: Function::none(0) };
            let _ = self.pool.batch(&mut batch, task, &arguments);
        }
        let _ = self.pool.submit(&mut batch);
        let _ = self.pool.take_back(&mut batch);
        let mut answers = AnswerBatch::default();
        while !self.stop.load(Ordering::Relaxed) && self.pool.collect(&mut answers) == Ok(true) {
            while answers.pop(|payload| matches!(payload, Payload::Bytes(_))).is_some() {}
        }
        if random.below(50) == 0 {
            let _ = self.pool.discard_tasks();
        }
    }

    fn work(&self, seat: usize) {
        let family = self.family;
        let Some(bell) = self.pool.bell().and_then(|bell| bell.get().ok()?.try_clone_to_owned().ok()) else {
            return;
        };
        let Ok(mut worker) = Worker::sit(family, self.pool.handle(), seat, bell) else { return };
        worker.enter(Phase::Ready);
        while !self.stop.load(Ordering::Relaxed) {
            let mut arguments = Vec::new();
            match worker.next(&mut arguments) {
                Ok(Next::Task(task, _)) => {
                    worker.begin_item(1);
                    let Task { job, index, items, .. } = task;
                    let answer = Answer { job, index, items, status: Status::Returned, nanoseconds: 0 };
                    let _ = worker.answer(answer, &[&arguments]);
                    worker.finish();
                }
                Ok(Next::Nothing) => std::thread::sleep(Duration::from_millis(1)),
                Ok(Next::Leave) | Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Overwrites words where something is: in the arena's header and in the blocks at its beginning.
    fn damage(&self, seed: u64) {
        let mut random = Random(seed | 1);
        let pause = Duration::from_micros([50, 1_000, 20_000, 100_000][random.below(4) as usize]);
        let view = self.family.arena();
        let bytes = 3 << 20;
        let start = view.backing().resolve(0, bytes as usize).unwrap().cast::<AtomicU64>();
        let interesting: Vec<u64> =
            [self.lock.handle(), self.barrier.handle(), self.pool.handle(), self.condition.handle()]
                .into_iter()
                .chain(self.queues.iter().map(Queue::handle))
                .map(|handle| handle.offset - 64)
                .chain([64, 4_096])
                .collect();
        let began = Instant::now();
        while began.elapsed() < DAMAGED_FOR {
            let base = match random.below(3) {
                0 => random.below(bytes),
                _ => interesting[random.below(interesting.len() as u64) as usize],
            };
            let at = ((base + random.below(700)) / 8).min(bytes / 8 - 1);
            // SAFETY: inside the memory that was resolved.
            let place = unsafe { start.add(at as usize) };
            // SAFETY: aligned and mapped for ever; nothing of Rust's but atomics is at work on what lies there, and what
            // pthread finds there is what is tried.
            let word = unsafe { place.as_ref() };
            let value = match random.below(4) {
                // No number of a thread that lives: those are waited for, as ever.
                0 => (random.next() | 1 << 29) & !(1 << 30),
                1 => random.below(1 << 30) << 32 | 0x7fff_0000 | random.below(1 << 16),
                2 => word.load(Ordering::Relaxed) ^ (1 << (26 + random.below(38))),
                _ => 0,
            };
            word.store(value, Ordering::Relaxed);
            // Some families are damaged a few times only: in others soon nothing works at all.
            std::thread::sleep(pause);
        }
        self.stop.store(true, Ordering::Relaxed);
        // A barrier that says that a party acts is waited for until somebody resets it, as ever.
        while self.meeting.load(Ordering::Acquire) {
            self.barrier.reset();
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// In a process of its own: a family, damaged.
fn live_through_damage(seed: u64) {
    // SAFETY: only this process, if it hangs.
    unsafe { libc::alarm(ALL_IS_OVER_AFTER) };
    let world = World::new();
    std::thread::scope(|threads| {
        let world = &world;
        threads.spawn(|| world.until_stopped(seed ^ 1, World::send));
        threads.spawn(|| world.until_stopped(seed ^ 2, World::receive));
        threads.spawn(|| {
            world.until_stopped(seed ^ 4, World::meet);
            world.meeting.store(false, Ordering::Release);
        });
        threads.spawn(|| world.until_stopped(seed ^ 8, World::make));
        threads.spawn(|| world.until_stopped(seed ^ 16, World::look));
        threads.spawn(|| world.until_stopped(seed ^ 32, World::lead));
        threads.spawn(|| world.work(0));
        threads.spawn(|| world.work(1));
        threads.spawn(|| world.damage(seed));
    });
    assert!(world.steps.load(Ordering::Relaxed) > 50, "nobody worked");
    // The structures are given up: that follows what is damaged, too.
    drop(world);
}

fn fork(work: impl FnOnce()) -> i32 {
    // SAFETY: the child runs `work` alone and leaves by _exit; this process has no family that it could share.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid == 0 {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(if done.is_ok() { 0 } else { 101 }) };
    }
    pid
}

fn reap(pid: i32) -> String {
    let mut status = 0;
    // SAFETY: `status` lives across the call.
    let reaped = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(reaped, pid);
    match status {
        _ if libc::WIFSIGNALED(status) => format!("killed by signal {}", libc::WTERMSIG(status)),
        _ => format!("ended with {}", libc::WEXITSTATUS(status)),
    }
}

#[test]
fn random_damage_while_members_work_gives_errors_and_nothing_worse() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let rounds = number("MANYHANDS_DAMAGE_ROUNDS", 12);
    let first = number("MANYHANDS_DAMAGE_SEED", u64::from(std::process::id()) << 16);
    println!("seed {first}");
    for seeds in (first..first + rounds).collect::<Vec<_>>().chunks(4) {
        let children: Vec<_> = seeds
            .iter()
            .map(|&seed| (seed, fork(move || live_through_damage(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)))))
            .collect();
        for (seed, child) in children {
            assert_eq!(reap(child), "ended with 0", "MANYHANDS_DAMAGE_SEED={seed} MANYHANDS_DAMAGE_ROUNDS=1");
        }
    }
}
