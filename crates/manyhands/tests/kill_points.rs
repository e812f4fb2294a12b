//! A member dies at each numbered step of queues with long messages, of a pool's workers, of making and dismissing a
//! pool, of reserving a place for a child, and of a fork server's requests; the survivor does what the engine does then,
//! and checks what must hold.
//!
//! `cargo test -p manyhands --features kill-points --test kill_points`; `MANYHANDS_KILL_ROUNDS` says how often at each
//! step (5 if unset). The steps of ring, arena and seat alone are tried in `manyhands-sync`.
#![cfg(feature = "kill-points")]
#![allow(unsafe_code)] // forks, and maps the notes that outlive the killed
#![allow(clippy::unwrap_used)]

#[path = "kill_points/zygote.rs"]
mod zygote;

use manyhands::family::{self, Family, Place};
use manyhands::launch::Start;
use manyhands::pool::{
    Answer, AnswerBatch, Function, Next, Payload, Phase, Pool, Status, Task, TaskBatch, Woken, Worker,
};
use manyhands::process::Sentinel;
use manyhands::queue::{Queue, ReceiveError, Received};
use manyhands::{Deadline, Locking, WaitKind, Waiting};
use manyhands_sync::kill_point::{KillPoint, arm};
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Children are forked from one test at a time: another test's descriptors and threads are not theirs.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn rounds() -> u32 {
    std::env::var("MANYHANDS_KILL_ROUNDS").map_or(5, |text| text.parse().unwrap())
}

/// Words that outlive whoever is killed.
fn shared_words() -> &'static [AtomicU32; 1024] {
    // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing.
    let place = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(place, libc::MAP_FAILED);
    // SAFETY: a page of zeroes, aligned, never unmapped.
    unsafe { &*place.cast() }
}

fn fork(work: impl FnOnce()) -> i32 {
    // SAFETY: the child runs `work` alone and leaves by _exit; glibc keeps its allocator usable.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid == 0 {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(if done.is_ok() { 0 } else { 101 }) };
    }
    pid
}

/// Waits for a child; the signal that killed it, or minus its exit code.
fn reap(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: `status` lives across the call.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { -libc::WEXITSTATUS(status) }
}

/// Runs `work` in a child that dies at the `nth` pass of `point`.
fn die_at(point: KillPoint, nth: u32, work: impl FnOnce()) {
    let pid = fork(|| {
        arm(point, nth);
        work();
    });
    assert_eq!(reap(pid), libc::SIGKILL, "the child ended before {point:?} came the {nth}. time");
}

fn print_deaths(point: KillPoint, what: &str) {
    println!("{:>3} {point:?}: {} deaths, 0 violations{what}", point as u32, rounds());
}

/// Bytes that follow from a number: long ones for every second.
fn bytes_of(number: u32) -> Vec<u8> {
    let len = if number.is_multiple_of(2) { 100 } else { 9_000 + number as usize };
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize_with(len, || number as u8);
    bytes
}

fn number_of(bytes: &[u8]) -> u32 {
    let number = u32::from_le_bytes(bytes[..4].try_into().unwrap());
    assert_eq!(bytes, bytes_of(number), "a corrupt message");
    number
}

fn receive(queue: &Queue) -> Option<u32> {
    let mut out = Vec::new();
    match queue.receive(&mut out, Locking::Wait) {
        Ok(Received::Inline) => {}
        Ok(Received::Block(block)) => {
            out.resize(block.len(), 0);
            block.copy_to(&mut out);
        }
        Err(ReceiveError::Empty) => return None,
        Err(error) => panic!("{error}"),
    }
    Some(number_of(&out))
}

#[test]
fn a_queue_of_long_messages_survives_a_death_at_each_step() {
    let _alone = ONE_AT_A_TIME.lock();
    let family = Family::current().unwrap();
    let notes = shared_words();
    let (sent, received) = (&notes[0], &notes[1]);
    for point in [KillPoint::PayloadFilled, KillPoint::PayloadTaken] {
        for round in 0..rounds() {
            let queue = Queue::create(family, 0).unwrap();
            sent.store(0, Ordering::SeqCst);
            received.store(0, Ordering::SeqCst);
            die_at(point, 1 + round % 7, || {
                loop {
                    for _ in 0..3 {
                        let number = sent.load(Ordering::Relaxed);
                        queue.send(&[&bytes_of(number)], Locking::Wait).unwrap();
                        sent.store(number + 1, Ordering::Relaxed);
                    }
                    let number = receive(&queue).unwrap();
                    assert_eq!(number, received.load(Ordering::Relaxed));
                    received.store(number + 1, Ordering::Relaxed);
                }
            });
            // What was sent and not taken is there, in order, and nothing else; the one taken went with its taker.
            let taken = u32::from(point == KillPoint::PayloadTaken);
            let there: Vec<u32> = std::iter::from_fn(|| receive(&queue)).collect();
            let expected: Vec<u32> =
                (received.load(Ordering::Relaxed) + taken..sent.load(Ordering::Relaxed)).collect();
            assert_eq!(there, expected);
            queue.send(&[&bytes_of(1)], Locking::Wait).unwrap();
            assert_eq!(receive(&queue), Some(1));
            drop(queue);
        }
        print_deaths(point, "");
    }
}

const TASKS: u32 = 60;

/// A thread, as `/proc` names it.
#[derive(Clone, Copy)]
struct Thread(u32, i64);

impl Thread {
    fn own() -> Self {
        // SAFETY: no memory is involved.
        Self(std::process::id(), unsafe { libc::syscall(libc::SYS_gettid) })
    }

    fn sleeps(self) -> bool {
        let line = std::fs::read_to_string(format!("/proc/{}/task/{}/stat", self.0, self.1)).unwrap();
        line.rsplit_once(')').unwrap().1.trim_start().starts_with('S')
    }
}

/// A worker: answers each task with its own arguments; where a thread is given, when that one is asleep.
fn work(family: &Family, pool: &Pool, seat: usize, sleeper: Option<Thread>) {
    let bell = manyhands::adopt_descriptor(pool.bell().unwrap().number()).unwrap();
    let mut worker = Worker::sit(family, pool.handle(), seat, bell).unwrap();
    worker.enter(Phase::Ready);
    let mut arguments = Vec::new();
    loop {
        arguments.clear();
        match worker.next(&mut arguments).unwrap() {
            Next::Task(task, block) => {
                if let Some(block) = block {
                    arguments.resize(block.len(), 0);
                    block.copy_to(&mut arguments);
                }
                assert_eq!(number_of(&arguments), task.index);
                while sleeper.is_some_and(|sleeper| !sleeper.sleeps()) {
                    std::thread::yield_now();
                }
                let Task { job, index, items, .. } = task;
                let answer = Answer { job, index, items, status: Status::Returned, nanoseconds: 0 };
                worker.answer(answer, &[&arguments]).unwrap();
                worker.finish();
            }
            Next::Nothing => _ = worker.wait(),
            Next::Leave => return,
        }
    }
}

fn submit_all(pool: &Pool) {
    let function = Function::none(0);
    let mut batch = TaskBatch::default();
    for index in 0..TASKS {
        let task = Task { job: 1, index, items: 1, kind: 0, function };
        pool.batch(&mut batch, task, &bytes_of(index)).unwrap();
    }
    pool.submit(&mut batch).unwrap();
}

fn collect(pool: &Pool, answers: &mut [u32]) {
    let mut batch = AnswerBatch::default();
    while pool.collect(&mut batch).unwrap() {
        let read = |payload: Payload<'_>| match payload {
            Payload::Bytes(bytes) => number_of(bytes),
            Payload::Block(block) => {
                let mut bytes = vec![0; block.len()];
                block.copy_to(&mut bytes);
                number_of(&bytes)
            }
        };
        while let Some((answer, number)) = batch.pop(read) {
            assert_eq!(number, answer.index);
            answers[answer.index as usize] += 1;
        }
    }
}

/// Collects until the process behind `pid` has ended, as a pool's side does; its end.
fn lead_until_exit(pool: &Pool, pid: i32, answers: &mut [u32]) -> i32 {
    // SAFETY: no memory is involved; the child is not reaped yet.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    assert!(pidfd >= 0, "pidfd_open");
    // SAFETY: a new descriptor that nobody else knows.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd as i32) };
    let sentinel = Sentinel::new(pid as u32, pidfd).unwrap();
    let mut waiting = Waiting::new(WaitKind::Answers);
    let (mut answered, mut deadline) = (0, Deadline::after(Duration::from_secs(10)));
    loop {
        collect(pool, answers);
        let now_answered = answers.iter().sum::<u32>();
        if now_answered > answered {
            (answered, deadline) = (now_answered, Deadline::after(Duration::from_secs(10)));
        }
        match pool.wait(&[&sentinel], &mut waiting, deadline).unwrap() {
            Woken::Exited(0) => break,
            Woken::TimedOut => panic!("neither answers nor an exit for ten seconds"),
            _ => {}
        }
    }
    let end = reap(pid);
    pool.settle_answers();
    collect(pool, answers);
    end
}

#[test]
fn a_pool_loses_the_item_in_progress_and_nothing_else_at_each_step() {
    use KillPoint::*;
    let _alone = ONE_AT_A_TIME.lock();
    let family = Family::current().unwrap();
    // At these the worker has begun an item and its answer is not in the ring.
    let in_progress = [SeatItemStarted, PayloadTaken, PayloadFilled, RingPutLocked, RingPutCopied];
    let others = [
        SeatInboxWritten,
        SeatBatchTaken,
        SeatItemAnswered,
        BellTaken,
        RingTakeLocked,
        RingTakeCopied,
        RingTakeCommitted,
        RingTakeCounted,
        RingTakeNoted,
        RingTakeUnlocked,
        RingPutCommitted,
        RingPutCounted,
        RingPutUnlocked,
    ];
    for point in in_progress.into_iter().chain(others) {
        let mut returned = 0;
        for round in 0..rounds() {
            let pool = Pool::create(family, 2).unwrap();
            submit_all(&pool);
            let mut answers = [0; TASKS as usize];
            let leader = Thread::own();
            let victim = fork(|| {
                arm(point, 1 + round % 9);
                // The bell is rung for a leader that is asleep: on a busy machine that one seldom is by itself.
                work(family, &pool, 0, (point == BellTaken).then_some(leader));
            });
            assert_eq!(lead_until_exit(&pool, victim, &mut answers), libc::SIGKILL, "{point:?}");
            let estate = pool.bury(0).unwrap();
            assert_eq!(estate.phase, Phase::Ready);
            let lost = estate.in_progress.filter(|(task, _)| answers[task.index as usize] == 0);
            assert_eq!(lost.is_some(), in_progress.contains(&point), "{point:?} {round}: {lost:?}");
            returned += estate.returned;

            // Another worker, on another seat, does what is left.
            pool.dismiss();
            let survivor = fork(|| work(family, &pool, 1, None));
            assert_eq!(lead_until_exit(&pool, survivor, &mut answers), 0);
            let expected = |index: u32| u32::from(lost.is_none_or(|(task, _)| task.index != index));
            for index in 0..TASKS {
                assert_eq!(answers[index as usize], expected(index), "{point:?} {round}: task {index}");
            }
            pool.destroy();
        }
        print_deaths(point, &format!(", {returned} tasks went back"));
    }
}

#[test]
fn dismissed_workers_leave_though_nobody_lived_to_wake_them() {
    let _alone = ONE_AT_A_TIME.lock();
    let family = Family::current().unwrap();
    let pools: Vec<Pool> = (0..rounds()).map(|_| Pool::create(family, 1).unwrap()).collect();
    let workers: Vec<i32> = pools.iter().map(|pool| fork(|| work(family, pool, 0, None))).collect();
    std::thread::sleep(Duration::from_millis(100));
    for pool in &pools {
        die_at(KillPoint::PoolDismissed, 1, || pool.dismiss());
    }
    let start = Instant::now();
    for worker in workers {
        assert_eq!(reap(worker), 0);
    }
    print_deaths(KillPoint::PoolDismissed, &format!(", all workers gone within {:?}", start.elapsed()));
    for pool in pools {
        pool.destroy();
    }
}

#[test]
fn a_half_made_pool_is_in_nobodys_way() {
    let _alone = ONE_AT_A_TIME.lock();
    let family = Family::current().unwrap();
    for round in 0..rounds() {
        die_at(KillPoint::PoolSeatPlaced, 1 + round % 3, || drop(Pool::create(family, 3)));
        let pool = Pool::create(family, 3).unwrap();
        submit_all(&pool);
        assert_eq!(pool.discard_tasks(), TASKS as usize);
        pool.destroy();
    }
    print_deaths(KillPoint::PoolSeatPlaced, "");
}

#[test]
fn a_place_for_a_child_outlives_who_reserved_it_and_who_took_it() {
    let _alone = ONE_AT_A_TIME.lock();
    let family = Family::current().unwrap();
    for _ in 0..rounds() {
        family.sweep();
        let before = Start::prepare().unwrap();
        die_at(KillPoint::SlotReserved, 1, || drop(Start::prepare()));
        let place = Place::from_number(before.place()).unwrap();
        die_at(KillPoint::SlotRegistered, 1, || family.take_slot(place).unwrap());
        // Both are gone, and so are their parents as far as anybody knows: the slots are there for the next ones.
        drop(before);
        family.sweep();
        let after = [Start::prepare().unwrap(), Start::prepare().unwrap()];
        let index = |number: u64| number as u32;
        assert_eq!(index(after[0].place()), index(place.to_number()));
        assert_eq!(index(after[1].place()), index(place.to_number()) + 1);
        // Who comes late to a place that was given away is told so.
        assert!(family.take_slot(place).is_err());
    }
    print_deaths(KillPoint::SlotReserved, "");
    print_deaths(KillPoint::SlotRegistered, "");
}

/// What `os.fork` and the hooks around it do, with `announce` before them.
fn start_forked(queue: &Queue, use_it: impl Fn(&Queue)) {
    let start = Start::prepare().unwrap();
    start.announce(1).unwrap();
    family::before_fork(1);
    let pid = fork(|| {
        Family::current().unwrap().after_fork_in_child();
        use_it(queue);
    });
    family::after_fork_in_parent();
    reap(pid);
    // Whoever clears up shall find it.
    std::mem::forget(start);
}

#[test]
fn references_for_a_child_outlive_neither_its_parent_nor_itself() {
    let _alone = ONE_AT_A_TIME.lock();
    let family = Family::current().unwrap();
    for point in [KillPoint::ForkAnnounced, KillPoint::ForkPlaced] {
        for _ in 0..rounds() {
            let queue = Queue::create(family, 0).unwrap();
            let holders = || family.arena().holders(queue.handle()).unwrap();
            die_at(point, 1, || {
                // A parent of its own: what it forks or was about to fork dies with it, or on its own.
                family.after_fork_in_child();
                start_forked(&queue, |queue| queue.send(&[b"from the child"], Locking::Wait).unwrap());
                // The child has died there; this process ends the same way.
                kill_oneself();
            });
            family.sweep();
            assert_eq!(holders(), 1, "{point:?}");
            assert_eq!(receive_short(&queue), None, "{point:?}");
        }
        print_deaths(point, "");
    }
}

fn receive_short(queue: &Queue) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    queue.receive(&mut out, Locking::Wait).ok().map(|_| out)
}

fn kill_oneself() {
    // SAFETY: ends this process at once.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

#[test]
fn a_dead_members_slot_is_released_once_though_its_finder_dies() {
    let _alone = ONE_AT_A_TIME.lock();
    let family = Family::current().unwrap();
    // SAFETY: only places of members that have ended, or that this test made up, are given back.
    let table = unsafe { family.arena().process_table() };
    for _ in 0..rounds() {
        family.sweep();
        let known: Vec<_> = table.members().collect();
        // A member that no process waits for, and that has ended.
        assert_eq!(reap(fork(|| _ = family.own_slot().unwrap())), 0);
        let (seen, _) = table.members().find(|member| !known.contains(member)).unwrap();
        die_at(KillPoint::SlotJudged, 1, || _ = family.sweep());
        assert!(table.lives(seen.place()), "found, and not released");
        family.sweep();
        assert!(!table.lives(seen.place()));
        // Another process has the slot: who saw the dead one there does nothing to it.
        let next = Start::prepare().unwrap();
        let place = Place::from_number(next.place()).unwrap();
        assert_eq!((place.index, place.life), (seen.place().index, seen.place().life + 1));
        assert!(!table.release(seen) && table.lives(place));
    }
    print_deaths(KillPoint::SlotJudged, "");
}

#[test]
fn a_parent_that_dies_before_it_names_its_child_leaves_it_known_by_its_own_name() {
    let _alone = ONE_AT_A_TIME.lock();
    let family = Family::current().unwrap();
    // SAFETY: nothing is given back that is not this test's, and dead.
    let table = unsafe { family.arena().process_table() };
    for _ in 0..rounds() {
        family.sweep();
        let before = table.members().count();
        die_at(KillPoint::ChildForked, 1, || {
            // A parent of its own.
            family.after_fork_in_child();
            let start = Start::prepare().unwrap();
            let place = Place::from_number(start.place()).unwrap();
            let child = fork(|| {
                family.take_slot(place).unwrap();
                kill_oneself();
            });
            drop(start.forked(child as u32));
        });
        // The child may end a moment after its parent.
        let deadline = Instant::now() + Duration::from_secs(20);
        while table.members().count() > before {
            assert!(Instant::now() < deadline, "a dead member stays");
            family.sweep();
        }
    }
    print_deaths(KillPoint::ChildForked, "");
}
