//! The user's lock and semaphore under loom: never two holders, no wake-up lost, and exactly one who is told of a death,
//! in every order of steps within the preemption bound.
//!
//! A member dies by its thread's unwinding at a kill point; only then is it known as gone (as the kernel knows), and only
//! then does time pass for those who sleep. A model in which nobody dies has no time: there a lost wake-up is a deadlock,
//! which loom reports. Limits: as for the wait word.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // counts the orders, and remembers outcomes, outside the model

mod model;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use manyhands_sync::deadline::Deadline;
use manyhands_sync::kill_point::KillPoint;
use manyhands_sync::lock::{Look, Nature, OnOwnerDeath, OwnerName, Taken, Taker, UserLock, Waiting};
use manyhands_sync::notes::WaitKind;
use manyhands_sync::primitive::end_sleeps;
use manyhands_sync::process_table::SlotIndex;
use manyhands_sync::semaphore::UserSemaphore;
use manyhands_sync::wait_word::Waited;
use model::killed_at;
// Not the model's: a thread that is killed must pass no step of the model while it unwinds.
use std::sync::Arc;

/// A lock, what it guards, and who is gone.
struct Guarded {
    lock: UserLock,
    value: UnsafeCell<u32>,
    /// One bit for each member that is gone.
    gone: AtomicU32,
}

// SAFETY: the value is touched by who holds the lock; that this is so is what is checked.
#[allow(unsafe_code)]
unsafe impl Sync for Guarded {}

fn guarded(recursive: bool, on_owner_death: OnOwnerDeath) -> Arc<Guarded> {
    let lock = UserLock::new(Nature { recursive, on_owner_death });
    Arc::new(Guarded { lock, value: UnsafeCell::new(0), gone: AtomicU32::new(0) })
}

fn member(number: u32) -> Taker {
    Taker::new(OwnerName::new(SlotIndex::new(number % 2).unwrap(), number), number, number)
}

impl Guarded {
    fn recursive(&self) -> bool {
        self.lock.nature().recursive
    }

    fn is_gone(&self, name: OwnerName) -> bool {
        let gone = self.gone.load(Ordering::SeqCst);
        (1..8).any(|number| gone & 1 << number != 0 && member(number).owner == name)
    }

    /// Waits for the lock; who was told of a death has not got it.
    fn take(&self, number: u32) -> Taken {
        let mut waiting = Waiting::new(WaitKind::Lock);
        if self.lock.try_take(self.recursive(), member(number)) {
            return Taken::Yes;
        }
        loop {
            let gone = |name, _: Look| self.is_gone(name);
            match self.lock.take(member(number), &mut waiting, Deadline::NEVER, gone, |_| ()) {
                Taken::Interrupted => thread::yield_now(),
                taken => return taken,
            }
        }
    }

    /// Under the lock: loom sees to it that nobody else does this at the same time.
    fn change(&self) {
        self.value.with_mut(|value| {
            // SAFETY: the caller holds the lock.
            #[allow(unsafe_code)]
            unsafe {
                *value += 1;
            }
        });
    }

    fn release(&self, number: u32) {
        self.lock.release(self.recursive(), member(number)).unwrap();
    }

    /// Takes the lock, changes what it guards, and gives it back; how often it was told of a death meanwhile.
    fn visit(&self, number: u32) -> u32 {
        let mut told = 0;
        while matches!(self.take(number), Taken::OwnerDied(_)) {
            told += 1;
        }
        self.change();
        self.release(number);
        told
    }

    /// The kernel knows that the member is gone, and time passes.
    fn bury(&self, number: u32) {
        self.gone.fetch_or(1 << number, Ordering::SeqCst);
        end_sleeps();
    }
}

/// In how many orders of the models of turns somebody came to the step at which it dies.
static REACHED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

static REACHED_AT_SEMAPHORES: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

fn note_reached(reached: &std::sync::atomic::AtomicU64, died: bool) {
    reached.fetch_add(died.into(), std::sync::atomic::Ordering::Relaxed);
}

fn model(name: &'static str, check: impl Fn() + Sync + Send + 'static) {
    let orders = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = orders.clone();
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    builder.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        check();
    });
    println!("{name}: {orders:?} orders");
}

/// Runs `others` members beside this one, which is member 7, each visiting once; how often they were told of a death.
fn visits(guarded: &Arc<Guarded>, others: u32) -> u32 {
    let others: Vec<_> = (1..=others)
        .map(|number| {
            let guarded = guarded.clone();
            thread::spawn(move || guarded.visit(number))
        })
        .collect();
    let mine = guarded.visit(7);
    others.into_iter().map(|other| other.join().unwrap()).sum::<u32>() + mine
}

#[test]
fn three_who_wait_for_each_other_hold_it_one_by_one() {
    for recursive in [false, true] {
        model("three holders", move || {
            let guarded = guarded(recursive, OnOwnerDeath::Raise);
            assert_eq!(visits(&guarded, 2), 0);
            assert!(!guarded.lock.is_locked());
        });
    }
}

#[test]
fn one_that_has_slept_gets_its_turn_before_one_that_comes() {
    for recursive in [false, true] {
        model("a turn", move || {
            let guarded = guarded(recursive, OnOwnerDeath::Raise);
            let other = {
                let guarded = guarded.clone();
                thread::spawn(move || guarded.visit(1) + guarded.visit(1))
            };
            // The other one's second visit, and ours, come while somebody else has the turn.
            assert_eq!(guarded.visit(2) + guarded.visit(2) + other.join().unwrap(), 0);
            assert!(!guarded.lock.is_locked());
        });
    }
}

#[test]
fn a_death_in_the_middle_of_a_turn_keeps_nobody_waiting_and_is_told_to_nobody() {
    for point in [KillPoint::LockStamped, KillPoint::LockReserved, KillPoint::LockWoken] {
        let reached = REACHED.load(std::sync::atomic::Ordering::Relaxed);
        model("a death in a turn", move || {
            let guarded = guarded(false, OnOwnerDeath::Raise);
            let dying = guarded.clone();
            // Who releases twice, or waits twice, is there when somebody is given a turn, or is given one.
            let dead = killed_at(point, move || {
                dying.visit(1);
                dying.visit(1);
            });
            let living = guarded.clone();
            let living = thread::spawn(move || living.visit(2) + living.visit(2));
            note_reached(&REACHED, dead.join().unwrap());
            guarded.bury(1);
            assert_eq!(guarded.visit(3) + living.join().unwrap(), 0);
            assert!(!guarded.lock.is_locked());
        });
        assert!(REACHED.load(std::sync::atomic::Ordering::Relaxed) > reached, "{point:?}");
    }
}

#[test]
fn a_holder_taken_again_is_released_as_often() {
    model("recursion", || {
        let guarded = guarded(true, OnOwnerDeath::Raise);
        let other = {
            let guarded = guarded.clone();
            thread::spawn(move || guarded.visit(1))
        };
        assert_eq!(guarded.take(2), Taken::Yes);
        assert!(guarded.lock.try_take(true, member(2)));
        guarded.release(2);
        guarded.change();
        guarded.release(2);
        assert!(guarded.lock.release(true, member(2)).is_err());
        other.join().unwrap();
    });
}

/// A member dies at that step of a visit, beside one who lives and visits too, while a third waits for its end.
fn a_death_at(
    point: KillPoint,
    recursive: bool,
    on_owner_death: OnOwnerDeath,
    told: std::ops::RangeInclusive<u32>,
) {
    model("a death", move || {
        let guarded = guarded(recursive, on_owner_death);
        let dying = guarded.clone();
        let dead = killed_at(point, move || {
            dying.visit(1);
        });
        let living = guarded.clone();
        let living = thread::spawn(move || living.visit(2));
        let died = dead.join().unwrap();
        guarded.bury(1);
        let all = guarded.visit(3) + living.join().unwrap();
        assert!(told.contains(&all) || !died && all == 0, "{all} were told");
        assert!(!guarded.lock.is_locked());
        assert_eq!(guarded.visit(4), 0);
    });
}

#[test]
fn one_is_told_of_a_holder_that_died() {
    for point in [KillPoint::LockTaken, KillPoint::LockNoted] {
        a_death_at(point, false, OnOwnerDeath::Raise, 1..=1);
        a_death_at(point, true, OnOwnerDeath::Raise, 1..=1);
    }
    a_death_at(KillPoint::LockCleared, true, OnOwnerDeath::Raise, 1..=1);
}

#[test]
fn one_gets_the_lock_of_a_holder_that_died_where_it_is_recovered() {
    a_death_at(KillPoint::LockNoted, false, OnOwnerDeath::Recover, 0..=0);
    a_death_at(KillPoint::LockNoted, true, OnOwnerDeath::Recover, 0..=0);
}

#[test]
fn a_releaser_or_a_waiter_that_died_keeps_nobody_waiting() {
    for recursive in [false, true] {
        a_death_at(KillPoint::LockReleased, recursive, OnOwnerDeath::Raise, 0..=0);
        a_death_at(KillPoint::LockFlagged, recursive, OnOwnerDeath::Raise, 0..=0);
        a_death_at(KillPoint::LockWoken, recursive, OnOwnerDeath::Raise, 0..=0);
    }
}

#[test]
fn who_slept_before_the_death_is_woken_by_the_finder() {
    for (recursive, on_owner_death) in [
        (false, OnOwnerDeath::Raise),
        (true, OnOwnerDeath::Raise),
        (false, OnOwnerDeath::Recover),
        (true, OnOwnerDeath::Recover),
    ] {
        model("a sleeper and a finder", move || {
            let guarded = guarded(recursive, on_owner_death);
            assert_eq!(guarded.take(5), Taken::Yes);
            let sleeper = guarded.clone();
            let sleeper = thread::spawn(move || sleeper.visit(1));
            guarded.gone.fetch_or(1 << 5, Ordering::SeqCst);
            // No time passes.
            let told = guarded.visit(3) + sleeper.join().unwrap();
            assert_eq!(told, u32::from(on_owner_death == OnOwnerDeath::Raise));
        });
    }
}

#[test]
fn a_finder_that_dies_is_found_itself() {
    for recursive in [false, true] {
        model("a finder's death", move || {
            let guarded = guarded(recursive, OnOwnerDeath::Raise);
            // Member 5 is dead, and the lock names it.
            assert_eq!(guarded.take(5), Taken::Yes);
            guarded.gone.fetch_or(1 << 5, Ordering::SeqCst);
            let dying = guarded.clone();
            let finder = killed_at(KillPoint::LockTakenOver, move || {
                dying.visit(1);
            });
            let living = guarded.clone();
            let living = thread::spawn(move || living.visit(2));
            let died = finder.join().unwrap();
            guarded.bury(1);
            let told = guarded.visit(3) + living.join().unwrap();
            // The finder took the news with it; if the lock named it meanwhile, its own death is told instead.
            assert_eq!(told, u32::from(!died || recursive), "died: {died}");
        });
    }
}

#[test]
fn a_member_that_ends_leaves_its_lock_locked_until_somebody_releases_it() {
    model("an orderly end", || {
        let guarded = guarded(false, OnOwnerDeath::Raise);
        assert_eq!(guarded.take(1), Taken::Yes);
        let waiter = guarded.clone();
        let waiter = thread::spawn(move || waiter.visit(2));
        guarded.lock.keep(member(1).owner);
        guarded.gone.fetch_or(1 << 1, Ordering::SeqCst);
        guarded.change();
        guarded.release(3);
        assert_eq!(waiter.join().unwrap(), 0);
    });
}

// --- semaphores ---

fn take(semaphore: &UserSemaphore) {
    let mut waiting = Waiting::new(WaitKind::Lock);
    if semaphore.try_take() {
        return;
    }
    while semaphore.take(&mut waiting, Deadline::NEVER, |_| ()) != Waited::Ready {
        thread::yield_now();
    }
}

#[test]
fn each_who_waits_for_one_gets_one() {
    model("two waiters, two given", || {
        let semaphore = Arc::new(UserSemaphore::new(0, 5));
        let waiters = [semaphore.clone(), semaphore.clone()].map(|s| thread::spawn(move || take(&s)));
        semaphore.give().unwrap();
        semaphore.give().unwrap();
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert_eq!(semaphore.count(), 0);
    });
}

#[test]
fn one_that_has_slept_is_served_before_one_that_comes() {
    for (count, first) in [(1, 1), (2, 2)] {
        model("a turn at a semaphore", move || {
            let semaphore = Arc::new(UserSemaphore::new(count, 5));
            let pass = |semaphore: Arc<UserSemaphore>, times| {
                for _ in 0..times {
                    take(&semaphore);
                    semaphore.give().unwrap();
                }
            };
            let other = semaphore.clone();
            let other = thread::spawn(move || pass(other, 2));
            let third = semaphore.clone();
            let third = thread::spawn(move || pass(third, 1));
            pass(semaphore.clone(), first);
            other.join().unwrap();
            third.join().unwrap();
            assert_eq!(semaphore.count(), count);
        });
    }
}

#[test]
fn one_that_is_kept_off_is_not_forgotten() {
    model("a turn, and two given", || {
        let semaphore = Arc::new(UserSemaphore::new(0, 5));
        let takers = [(semaphore.clone(), 1), (semaphore.clone(), 2)]
            .map(|(s, times)| thread::spawn(move || (0..times).for_each(|_| take(&s))));
        for _ in 0..3 {
            semaphore.give().unwrap();
        }
        for taker in takers {
            taker.join().unwrap();
        }
        assert_eq!(semaphore.count(), 0);
    });
}

#[test]
fn a_bound_is_never_exceeded() {
    model("two givers, one bound", || {
        let semaphore = Arc::new(UserSemaphore::new(0, 1));
        let givers = [semaphore.clone(), semaphore.clone()].map(|s| thread::spawn(move || s.give().is_ok()));
        let given = givers.into_iter().map(|g| g.join().unwrap()).filter(|ok| *ok).count();
        assert_eq!((given, semaphore.count()), (1, 1));
    });
}

#[test]
fn one_waiter_hears_two_givers_while_the_flag_is_cleared() {
    model("one waiter, two givers", || {
        let semaphore = Arc::new(UserSemaphore::new(0, 5));
        let givers = [semaphore.clone(), semaphore.clone()].map(|s| thread::spawn(move || s.give().unwrap()));
        take(&semaphore);
        take(&semaphore);
        for giver in givers {
            giver.join().unwrap();
        }
    });
}

#[test]
fn a_giver_a_taker_or_a_waiter_that_died_costs_at_most_what_it_took() {
    for (point, cost) in [
        (KillPoint::SemaphoreGiven, 0),
        (KillPoint::SemaphoreCleared, 0),
        (KillPoint::SemaphoreFlagged, 0),
        (KillPoint::SemaphoreWoken, 0),
        (KillPoint::SemaphoreTaken, 1),
    ] {
        model("a death at a semaphore", move || {
            let semaphore = Arc::new(UserSemaphore::new(1, 5));
            let dying = semaphore.clone();
            let dead = killed_at(point, move || {
                take(&dying);
                dying.give().unwrap();
            });
            let living = semaphore.clone();
            let living = thread::spawn(move || {
                take(&living);
                living.give().unwrap();
            });
            let died = dead.join().unwrap();
            let lost = if died { cost } else { 0 };
            if lost > 0 {
                semaphore.give().unwrap();
            }
            end_sleeps();
            living.join().unwrap();
            assert_eq!(semaphore.count(), 1);
        });
    }
}

#[test]
fn a_death_in_the_middle_of_a_turn_at_a_semaphore_costs_nothing() {
    for (point, waiter_dies) in [
        (KillPoint::SemaphoreStamped, true),
        (KillPoint::SemaphoreReserved, false),
        (KillPoint::SemaphoreWoken, true),
    ] {
        let reached = REACHED_AT_SEMAPHORES.load(std::sync::atomic::Ordering::Relaxed);
        model("a death in a turn at a semaphore", move || {
            // One was taken before.
            let semaphore = Arc::new(UserSemaphore::new(0, 5));
            let give_twice = |semaphore: &UserSemaphore| {
                semaphore.give().unwrap();
                take(semaphore);
                semaphore.give().unwrap();
            };
            let wait = |semaphore: &UserSemaphore| {
                take(semaphore);
                semaphore.give().unwrap();
            };
            let dying = semaphore.clone();
            let dead = killed_at(point, move || if waiter_dies { wait(&dying) } else { give_twice(&dying) });
            // Time passes only then.
            let buried = thread::spawn(move || {
                note_reached(&REACHED_AT_SEMAPHORES, dead.join().unwrap());
                end_sleeps();
            });
            if waiter_dies {
                give_twice(&semaphore);
            } else {
                wait(&semaphore);
            }
            buried.join().unwrap();
            take(&semaphore);
            semaphore.give().unwrap();
            assert_eq!(semaphore.count(), 1);
        });
        assert!(REACHED_AT_SEMAPHORES.load(std::sync::atomic::Ordering::Relaxed) > reached, "{point:?}");
    }
}
