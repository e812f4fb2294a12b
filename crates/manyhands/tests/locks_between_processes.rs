//! Mutexes, conditions, semaphores, events and barriers between Rust processes, some of which are killed. Children are this
//! test program started again, so it has a `main` of its own instead of the usual harness.
#![allow(clippy::unwrap_used)]

use manyhands::family::Family;
use manyhands::queue::Received;
use manyhands::{
    Barrier, Child, Condvar, Deadline, Entry, Event, Handle, LockError, Locking, Message, Mutex, MutexHandle,
    Queue, Semaphore, Shared,
};
use std::time::{Duration, Instant};

/// Against hangs only.
const PATIENCE: Duration = Duration::from_secs(30);
const HANDLE: usize = 12;
const KILLS: u64 = 40;

/// What contenders change under the mutex: turns taken, deaths they were told of, the process that is inside.
type Board = [u64; 3];

/// Handles among a child's arguments, taken off from the front.
struct Arguments<'a>(&'a [u8]);

impl Arguments<'_> {
    fn take(&mut self, count: usize) -> &[u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn handle(&mut self) -> Handle {
        Handle::from_bytes(self.take(HANDLE)).unwrap()
    }

    fn mutex<T: manyhands::shared::Plain>(&mut self) -> Mutex<T> {
        let handle = MutexHandle::from_bytes(self.take(MutexHandle::BYTES)).unwrap();
        Mutex::open(family(), handle).unwrap()
    }
}

fn family() -> &'static Family {
    Family::current().unwrap()
}

fn soon() -> Deadline {
    Deadline::after(PATIENCE)
}

/// Takes turns until it is killed. Arguments: the mutex, and a place outside of it that says who is inside.
fn contend(arguments: &[u8]) {
    let mut arguments = Arguments(arguments);
    let board = arguments.mutex::<Board>();
    let inside = Shared::<u32>::open(family(), arguments.handle()).unwrap();
    let me = std::process::id();
    let mut told = 0;
    loop {
        match board.lock() {
            Err(LockError::OwnerDied(_)) => told += 1,
            locked => {
                let mut guard = locked.unwrap();
                let other = inside.exchange(me);
                assert!(other == 0 || !runs(other), "{other} is inside, too");
                guard[0] += 1;
                guard[1] += std::mem::take(&mut told);
                std::thread::yield_now();
                assert_eq!(inside.exchange(0), me);
            }
        }
    }
}

fn runs(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    stat.rsplit(") ").next().is_some_and(|fields| !fields.starts_with(['Z', 'X']))
}

/// Arguments: the mutex, the condition, and whose turn this one waits for.
fn play(arguments: &[u8]) {
    let mut arguments = Arguments(arguments);
    let ball = arguments.mutex::<u32>();
    let hit = Condvar::open(family(), arguments.handle()).unwrap();
    let mine = u32::from(arguments.take(1)[0]);
    for _ in 0..200 {
        let mut guard = hit.wait_while(ball.lock().unwrap(), |ball| ball % 2 != mine).unwrap();
        *guard += 1;
        hit.notify_all(&guard);
    }
}

/// Arguments: the barrier.
fn pass(arguments: &[u8]) {
    let barrier = Barrier::open(family(), Arguments(arguments).handle()).unwrap();
    for _ in 0..50 {
        barrier.wait_by(soon()).unwrap();
    }
}

/// Arguments: the semaphores of room and of what is there, the count of what was put.
fn produce(arguments: &[u8]) {
    let mut arguments = Arguments(arguments);
    let room = Semaphore::open(family(), arguments.handle()).unwrap();
    let filled = Semaphore::open(family(), arguments.handle()).unwrap();
    let there = Shared::<i32>::open(family(), arguments.handle()).unwrap();
    for _ in 0..200 {
        assert!(room.acquire_by(soon()));
        assert!(there.fetch_add(1) < 3);
        filled.release().unwrap();
    }
}

/// Takes one mutex out of a queue, adds to it, and says so. Arguments: the queue, the event.
fn add_to_what_comes(arguments: &[u8]) {
    let mut arguments = Arguments(arguments);
    let queue = Queue::open(family(), arguments.handle()).unwrap();
    let done = Event::open(family(), arguments.handle()).unwrap();
    assert!(done.wait_by(soon()), "the sender has let go of it");
    let Ok(Received::Block(block)) = queue.receive(&mut Vec::new(), Locking::Wait) else {
        panic!("a message that carries something has a block")
    };
    let mut bytes = vec![0; block.len()];
    block.copy_to(&mut bytes);
    let mutex = Arguments(&bytes).mutex::<u64>();
    // The block kept it until here.
    drop(block);
    *mutex.lock().unwrap() += 1;
    assert_eq!(*mutex.lock().unwrap(), 42);
}

/// Waits at a barrier until it is killed. Arguments: the barrier.
fn wait_at(arguments: &[u8]) {
    let barrier = Barrier::open(family(), Arguments(arguments).handle()).unwrap();
    let _ = barrier.wait_by(Deadline::NEVER);
}

const ENTRIES: &[Entry] = &[
    Entry::child("contend", contend),
    Entry::child("play", play),
    Entry::child("pass", pass),
    Entry::child("produce", produce),
    Entry::child("add_to_what_comes", add_to_what_comes),
    Entry::child("wait_at", wait_at),
];

fn main() {
    manyhands::init(ENTRIES);
    contenders_killed_at_random();
    two_at_a_condition();
    parties_at_a_barrier();
    a_bounded_buffer();
    a_mutex_in_a_message();
    a_killed_party_breaks_the_barrier();
    println!("locks between processes: all as it should be");
}

fn ends_well(mut child: Child) {
    assert_eq!(child.wait(soon()).unwrap(), Some(0));
}

fn wait_until(what: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !what() {
        assert!(Instant::now() < deadline, "it does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn contenders_killed_at_random() {
    let board = Mutex::<Board>::create(family(), [0; 3]).unwrap();
    let inside = Shared::new(family(), 0u32).unwrap();
    let arguments = [&board.handle().to_bytes()[..], &inside.handle().to_bytes()].concat();
    let start = || Child::spawn("contend", &arguments).unwrap();
    // Locked by this process, which may be the one that is told.
    let mut told_here = 0;
    let mut look = || loop {
        match board.lock() {
            Err(LockError::OwnerDied(_)) => told_here += 1,
            locked => return *locked.unwrap(),
        }
    };
    let mut children: Vec<Child> = (0..4).map(|_| start()).collect();
    for number in 0..KILLS {
        let turns = look()[0];
        wait_until(|| inside.load() != 0);
        let holder = inside.load();
        let victim = children.iter().position(|child| child.pid() == holder).unwrap_or(number as usize % 4);
        children[victim].kill().unwrap();
        let mut killed = std::mem::replace(&mut children[victim], start());
        assert_eq!(killed.wait(soon()).unwrap(), Some(-9), "no contender fails by itself");
        let deadline = Instant::now() + PATIENCE;
        while look()[0] < turns + 4 {
            assert!(Instant::now() < deadline, "nobody gets on");
        }
    }
    // What is killed while it holds is told to one: those that were told and killed before they could write it down are
    // missing here.
    let (deaths, [turns, told, _]) = (u64::from(board.deaths()), look());
    println!("{KILLS} killed, {deaths} of them with the mutex, {} told; {turns} turns", told + told_here);
    assert!(deaths >= 1 && told + told_here <= deaths && deaths <= KILLS);
}

fn two_at_a_condition() {
    let ball = Mutex::create(family(), 0u32).unwrap();
    let hit = Condvar::create(family()).unwrap();
    let player = |mine: u8| {
        Child::spawn("play", &[&ball.handle().to_bytes()[..], &hit.handle().to_bytes(), &[mine]].concat())
    };
    let players = [player(0).unwrap(), player(1).unwrap()];
    players.into_iter().for_each(ends_well);
    assert_eq!(*ball.lock().unwrap(), 400);
}

fn parties_at_a_barrier() {
    let barrier = Barrier::create(family(), 3).unwrap();
    let others: Vec<_> =
        (0..2).map(|_| Child::spawn("pass", &barrier.handle().to_bytes()).unwrap()).collect();
    for _ in 0..50 {
        assert!(barrier.wait_by(soon()).unwrap() < 3);
    }
    others.into_iter().for_each(ends_well);
    assert_eq!((barrier.waiting(), barrier.is_broken()), (0, false));
}

fn a_killed_party_breaks_the_barrier() {
    let barrier = Barrier::create(family(), 3).unwrap();
    let victim = Child::spawn("wait_at", &barrier.handle().to_bytes()).unwrap();
    wait_until(|| barrier.waiting() == 1);
    drop(victim);
    assert!(barrier.wait_by(soon()).is_err());
    barrier.reset();
    assert!(!barrier.is_broken());
}

fn a_bounded_buffer() {
    let (room, filled) =
        (Semaphore::create(family(), 3, 3).unwrap(), Semaphore::create(family(), 0, 3).unwrap());
    let there = Shared::new(family(), 0i32).unwrap();
    let arguments = [room.handle(), filled.handle(), there.handle()].map(Handle::to_bytes).concat();
    let producers: Vec<_> = (0..2).map(|_| Child::spawn("produce", &arguments).unwrap()).collect();
    for _ in 0..400 {
        assert!(filled.acquire_by(soon()));
        assert!(there.fetch_add(-1) > 0);
        room.release().unwrap();
    }
    producers.into_iter().for_each(ends_well);
    assert_eq!((room.count(), filled.count(), there.load()), (3, 0, 0));
}

fn a_mutex_in_a_message() {
    let queue = Queue::create(family(), 0).unwrap();
    let sent = Event::create(family()).unwrap();
    let arguments = [queue.handle(), sent.handle()].map(Handle::to_bytes).concat();
    let child = Child::spawn("add_to_what_comes", &arguments).unwrap();
    let mutex = Mutex::create(family(), 41u64).unwrap();
    let handle = mutex.handle();
    let message = Message { parts: &[&handle.to_bytes()], carried: &handle.carried() };
    queue.send_message(message, Locking::Wait).unwrap();
    // From here on only the message keeps it.
    drop(mutex);
    sent.set();
    ends_well(child);
    assert!(Mutex::<u64>::open(family(), handle).is_err(), "it went with its last holder");
}
