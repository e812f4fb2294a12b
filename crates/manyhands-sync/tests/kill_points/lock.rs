//! The user's lock and semaphore: a member dies at each step, three that want the lock or the semaphore too go on, and
//! exactly one of them is told of a holder's death.

use super::support::{arena, placed};
use super::{die_at, print_deaths, rounds};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::kill_point::KillPoint;
use manyhands_sync::lock::{HeldBy, Look, Nature, OnOwnerDeath, OwnerName, Taken, Taker, UserLock, Waiting};
use manyhands_sync::notes::WaitKind;
use manyhands_sync::process_table::SlotIndex;
use manyhands_sync::semaphore::UserSemaphore;
use manyhands_sync::wait_word::Waited;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The lock's steps.
pub(super) const POINTS: &[KillPoint] = {
    use KillPoint::*;
    &[
        LockTaken,
        LockNoted,
        LockFlagged,
        LockCleared,
        LockReleased,
        LockTakenOver,
        LockKept,
        LockStamped,
        LockReserved,
        LockWoken,
    ]
};

/// The semaphore's steps.
pub(super) const SEMAPHORE: &[KillPoint] = {
    use KillPoint::*;
    &[
        SemaphoreTaken,
        SemaphoreFlagged,
        SemaphoreGiven,
        SemaphoreCleared,
        SemaphoreStamped,
        SemaphoreReserved,
        SemaphoreWoken,
    ]
};

/// The members that live are 1 to 9, those that die 10 and more.
fn member(number: u32) -> Taker {
    Taker::new(OwnerName::new(SlotIndex::new(number % 4).unwrap(), number), number, number)
}

fn is_dead(name: OwnerName, _: Look) -> bool {
    (1..10).all(|number| member(number).owner != name)
}

/// The steps of a turn, at which the word names nobody, or somebody who lives.
const TURN: [KillPoint; 3] = [KillPoint::LockStamped, KillPoint::LockReserved, KillPoint::LockWoken];

const DYING: u32 = 10;
const FINDER: u32 = 11;

/// Waits for the lock, at most so long that a test which fails does not hang.
fn take(lock: &UserLock, number: u32) -> Taken {
    let (mut waiting, recursive) = (Waiting::new(WaitKind::Lock), lock.nature().recursive);
    let deadline = Deadline::after(Duration::from_secs(20));
    if lock.try_take(recursive, member(number)) {
        return Taken::Yes;
    }
    loop {
        match lock.take(member(number), &mut waiting, deadline, is_dead, |_| ()) {
            Taken::Interrupted => {}
            Taken::No => panic!("nobody gave the lock back"),
            taken => return taken,
        }
    }
}

fn release(lock: &UserLock, number: u32) {
    lock.release(lock.nature().recursive, member(number)).unwrap();
}

/// Three members take and release the lock a few times each; how often they were told of a death.
fn contend(lock: &UserLock) -> u32 {
    let (told, inside) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for number in 1..=3 {
            let (told, inside) = (&told, &inside);
            scope.spawn(move || {
                for _ in 0..20 {
                    match take(lock, number) {
                        Taken::OwnerDied(_) => {
                            told.fetch_add(1, Ordering::Relaxed);
                        }
                        _ => {
                            assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "two holders");
                            inside.fetch_sub(1, Ordering::Relaxed);
                            release(lock, number);
                        }
                    }
                }
            });
        }
    });
    told.into_inner()
}

/// What a member does that dies at that step.
fn dies(point: KillPoint, lock: &UserLock) {
    match point {
        KillPoint::LockFlagged => {
            // The lock is somebody's who lives: it is given back when this one is dead.
            assert_eq!(take(lock, 4), Taken::Yes);
            die_at(point, 1, || assert_ne!(take(lock, DYING), Taken::No));
            release(lock, 4);
        }
        KillPoint::LockTakenOver => {
            die_at(KillPoint::LockNoted, 1, || assert_ne!(take(lock, FINDER), Taken::No));
            die_at(point, 1, || assert_ne!(take(lock, DYING), Taken::No));
        }
        KillPoint::LockKept => {
            assert_eq!(take(lock, DYING), Taken::Yes);
            die_at(point, 1, || lock.keep(member(DYING).owner));
        }
        KillPoint::LockStamped => {
            assert_eq!(take(lock, 4), Taken::Yes);
            die_at(point, 1, || assert_ne!(take(lock, DYING), Taken::No));
            release(lock, 4);
        }
        KillPoint::LockReserved | KillPoint::LockWoken => die_at(point, 1, || give_a_turn(lock)),
        _ => die_at(point, 1, || {
            assert_eq!(take(lock, DYING), Taken::Yes);
            release(lock, DYING);
        }),
    }
}

/// One thread waits so long that it asks for its turn, and another one, whom nobody takes for dead, gives it that.
fn give_a_turn(lock: &UserLock) {
    let sleeps = AtomicU32::new(0);
    assert_eq!(take(lock, 4), Taken::Yes);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut waiting = Waiting::new(WaitKind::Lock);
            let about_to_sleep = |_: &mut _| sleeps.fetch_add(1, Ordering::Release);
            while lock.take(member(FINDER), &mut waiting, Deadline::NEVER, is_dead, about_to_sleep)
                == Taken::Interrupted
            {}
        });
        // Before the second sleep, which is a long one, it has asked.
        while sleeps.load(Ordering::Acquire) < 2 {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(5));
        release(lock, 4);
    });
}

fn try_point(point: KillPoint, nature: Nature, told: u32) {
    let arena = arena(1);
    for _ in 0..rounds() {
        let (_, lock) = placed(&arena, UserLock::new(nature));
        dies(point, lock);
        if point == KillPoint::LockKept {
            // Its holder has ended in an orderly way: nobody is told, and the lock stays locked.
            assert_eq!(lock.try_take_looking(member(1), Look::Close, is_dead), Taken::No);
            release(lock, 1);
        }
        if matches!(point, KillPoint::LockReserved | KillPoint::LockWoken) {
            // Nobody holds it, and it is locked for a while; then a try takes it.
            let began = Instant::now();
            assert!(matches!(lock.held_by(), HeldBy::Nobody));
            assert!(lock.release(nature.recursive, member(1)).is_err());
            while lock.is_locked() {
                assert!(
                    began.elapsed() < Duration::from_secs(10),
                    "it looks free as soon as anybody may take it"
                );
                std::thread::yield_now();
            }
            while lock.try_take_looking(member(1), Look::Close, is_dead) != Taken::Yes {
                assert!(began.elapsed() < Duration::from_secs(10), "a reservation has an end");
                std::thread::yield_now();
            }
            println!("{point:?}: taken after {:?}", began.elapsed());
            release(lock, 1);
        }
        assert_eq!(contend(lock), told, "{point:?} {nature:?}");
        assert!(!lock.is_locked());
    }
}

#[test]
fn a_lock_survives_a_death_at_each_step() {
    use KillPoint::{LockCleared, LockFlagged, LockKept, LockNoted, LockReleased, LockTaken, LockTakenOver};
    let nature = |recursive, on_owner_death| Nature { recursive, on_owner_death };
    for recursive in [false, true] {
        let raising = nature(recursive, OnOwnerDeath::Raise);
        for point in [LockTaken, LockNoted] {
            try_point(point, raising, 1);
            try_point(point, nature(recursive, OnOwnerDeath::Recover), 0);
        }
        for point in [LockFlagged, LockReleased].into_iter().chain(TURN) {
            try_point(point, raising, 0);
        }
        // A finder that dies takes the news with it; its own death is told where the word named it.
        try_point(LockTakenOver, raising, u32::from(recursive));
    }
    try_point(LockCleared, nature(true, OnOwnerDeath::Raise), 1);
    try_point(LockKept, nature(false, OnOwnerDeath::Raise), 0);
    print_deaths(POINTS);
}

#[test]
fn a_sleeper_whose_releaser_died_looks_by_itself() {
    let arena = arena(1);
    let mut longest = Duration::ZERO;
    for _ in 0..rounds() {
        let (_, lock) = placed(&arena, UserLock::new(Nature::default()));
        let asleep = AtomicU32::new(0);
        // Taken here, released there: a lock that is not recursive may be.
        assert_eq!(take(lock, 1), Taken::Yes);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                let mut waiting = Waiting::new(WaitKind::Lock);
                let about_to_sleep = |_: &mut _| asleep.store(1, Ordering::Release);
                let first = lock.take(member(2), &mut waiting, Deadline::NEVER, is_dead, about_to_sleep);
                if first == Taken::Interrupted {
                    assert_eq!(take(lock, 2), Taken::Yes);
                }
                Instant::now()
            });
            while asleep.load(Ordering::Acquire) == 0 {
                std::thread::yield_now();
            }
            // With the sleepers' flag in the word, the release wakes after it.
            die_at(KillPoint::LockReleased, 1, || release(lock, DYING));
            let released = Instant::now();
            longest = longest.max(sleeper.join().unwrap().saturating_duration_since(released));
        });
    }
    println!("lock: sleepers whose releaser died looked within {longest:?}");
}

// --- the semaphore ---

fn take_one(semaphore: &UserSemaphore) {
    let mut waiting = Waiting::new(WaitKind::Lock);
    let deadline = Deadline::after(Duration::from_secs(20));
    while !semaphore.try_take() {
        match semaphore.take(&mut waiting, deadline, |_| ()) {
            Waited::Ready => return,
            Waited::TimedOut => panic!("nobody gave one back"),
            Waited::Interrupted => {}
        }
    }
}

/// One thread waits so long that it asks for its turn, and another one gives it that.
fn give_one_in_turn(semaphore: &UserSemaphore) {
    let sleeps = AtomicU32::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut waiting = Waiting::new(WaitKind::Semaphore);
            let about_to_sleep = |_: &mut _| sleeps.fetch_add(1, Ordering::Release);
            while semaphore.take(&mut waiting, Deadline::NEVER, about_to_sleep) != Waited::Ready {}
        });
        // Before the second sleep, which is a long one, it has asked.
        while sleeps.load(Ordering::Acquire) < 2 {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(5));
        semaphore.give().unwrap();
    });
}

fn pass_through(semaphore: &UserSemaphore) {
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..20 {
                    take_one(semaphore);
                    semaphore.give().unwrap();
                }
            });
        }
    });
}

#[test]
fn a_semaphore_survives_a_death_at_each_step() {
    let arena = arena(1);
    for &point in SEMAPHORE {
        for _ in 0..rounds() {
            let (_, semaphore) = placed(&arena, UserSemaphore::new(2, 5));
            let lost = match point {
                KillPoint::SemaphoreFlagged => {
                    take_one(semaphore);
                    take_one(semaphore);
                    die_at(point, 1, || take_one(semaphore));
                    semaphore.give().unwrap();
                    semaphore.give().unwrap();
                    0
                }
                KillPoint::SemaphoreCleared => {
                    // A waiter leaves its flag behind; who gives finds nobody asleep.
                    take_one(semaphore);
                    take_one(semaphore);
                    die_at(KillPoint::SemaphoreFlagged, 1, || take_one(semaphore));
                    die_at(point, 1, || semaphore.give().unwrap());
                    semaphore.give().unwrap();
                    0
                }
                KillPoint::SemaphoreStamped => {
                    take_one(semaphore);
                    take_one(semaphore);
                    die_at(point, 1, || take_one(semaphore));
                    semaphore.give().unwrap();
                    semaphore.give().unwrap();
                    0
                }
                KillPoint::SemaphoreReserved | KillPoint::SemaphoreWoken => {
                    take_one(semaphore);
                    take_one(semaphore);
                    die_at(point, 1, || give_one_in_turn(semaphore));
                    let began = Instant::now();
                    assert_eq!(semaphore.count(), 1);
                    while !semaphore.try_take() {
                        assert!(began.elapsed() < Duration::from_secs(10), "a reservation has an end");
                        std::thread::yield_now();
                    }
                    println!("{point:?}: taken after {:?}", began.elapsed());
                    semaphore.give().unwrap();
                    semaphore.give().unwrap();
                    0
                }
                _ => {
                    die_at(point, 1, || {
                        take_one(semaphore);
                        semaphore.give().unwrap();
                    });
                    u32::from(point == KillPoint::SemaphoreTaken)
                }
            };
            pass_through(semaphore);
            assert_eq!(semaphore.count(), 2 - lost, "{point:?}");
        }
    }
    print_deaths(SEMAPHORE);
}
