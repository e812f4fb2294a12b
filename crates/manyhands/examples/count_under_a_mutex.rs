//! Four processes, each of them this program started again, count in one place under a mutex. One of them is killed while
//! it holds the mutex. Exactly one of the others is told so; then all of them go on.
//!
//! The children find the mutex and the event by the handles among their arguments.

use manyhands::family::Family;
use manyhands::{Child, Deadline, Entry, Event, Handle, LockError, Mutex, MutexHandle};
use std::time::Duration;

const COUNTERS: usize = 3;
const TIMES_EACH: u64 = 20_000;
/// Against hangs only.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the mutex guards.
const COUNT: usize = 0;
const DEATHS_SEEN: usize = 1;
type Counts = [u64; 2];

/// Arguments: the mutex.
fn count(arguments: &[u8]) {
    let counts = open(arguments);
    for _ in 0..TIMES_EACH {
        let mut guard = match counts.lock() {
            Err(LockError::OwnerDied(_)) => {
                // Nobody else is told. What the dead one had begun is gone with it, so there is nothing to put right.
                let mut guard = counts.lock().expect("one death at a time");
                guard[DEATHS_SEEN] += 1;
                guard
            }
            locked => locked.expect("a mutex of the parent's"),
        };
        guard[COUNT] += 1;
    }
}

/// Arguments: the mutex, then the event that says that it is held.
fn hold_for_ever(arguments: &[u8]) {
    let (counts, is_held) = arguments.split_at(MutexHandle::BYTES);
    let counts = open(counts);
    let is_held = Handle::from_bytes(is_held).expect("a handle's bytes");
    let is_held = Event::open(Family::current().expect("the parent's"), is_held).expect("an event");
    let mut guard = counts.lock().expect("nobody has died yet");
    // Never seen by anybody: it is written back when the guard is dropped.
    guard[COUNT] += 1_000_000;
    is_held.set();
    std::thread::sleep(PATIENCE);
}

fn open(handle: &[u8]) -> Mutex<Counts> {
    let handle = MutexHandle::from_bytes(handle).expect("a handle's bytes");
    Mutex::open(Family::current().expect("the parent's"), handle).expect("a mutex of the parent's")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    manyhands::init(const { &[Entry::child("count", count), Entry::child("hold_for_ever", hold_for_ever)] });

    let family = Family::current()?;
    let counts = Mutex::<Counts>::create(family, [0; 2])?;
    let is_held = Event::create(family)?;
    let to_counts = counts.handle().to_bytes();

    let mut children =
        (0..COUNTERS).map(|_| Child::spawn("count", &to_counts)).collect::<Result<Vec<_>, _>>()?;
    let victim = Child::spawn("hold_for_ever", &[&to_counts[..], &is_held.handle().to_bytes()].concat())?;
    assert!(is_held.wait_by(Deadline::after(PATIENCE)), "it has the mutex");
    // Late enough: somebody must be left to be told.
    children.push(Child::spawn("count", &to_counts)?);
    victim.kill()?;

    for child in &mut children {
        assert_eq!(child.wait(Deadline::after(PATIENCE))?, Some(0), "a counter's end");
    }
    let [count, deaths_seen] = *counts.lock()?;
    println!("{count} counted by {} processes; {deaths_seen} of them was told of the death", children.len());
    assert_eq!(count, children.len() as u64 * TIMES_EACH);
    assert_eq!((deaths_seen, counts.deaths()), (1, 1));
    Ok(())
}
