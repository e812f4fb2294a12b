//! Queues between a parent and four children, each of them this program started again: two produce numbers, two square
//! them, the parent adds up.
//!
//! A child finds the queues by the handles among its arguments. One of the producers' messages is longer than a ring's
//! frame, so it travels in a block of its own; nobody here can tell.

use manyhands::family::Family;
use manyhands::{Child, Deadline, Entry, Handle, Queue};
use std::time::Duration;

const PRODUCERS: u64 = 2;
const SQUARERS: u64 = 2;
const NUMBERS_EACH: u64 = 2_000;
/// A batch of so many numbers is longer than a frame can be.
const LONG_BATCH: usize = 1_500;
const HANDLE_BYTES: usize = 12;
/// Against hangs only.
const PATIENCE: Duration = Duration::from_secs(20);

/// Arguments: the numbers' queue, then which producer this is.
fn produce(arguments: &[u8]) {
    let (handle, which) = arguments.split_at(HANDLE_BYTES);
    let numbers = open(handle);
    let first = u64::from(which[0]) * NUMBERS_EACH;
    let all: Vec<u64> = (first..first + NUMBERS_EACH).collect();
    let (long, short) = all.split_at(LONG_BATCH);
    put(numbers, long);
    for number in short {
        put(numbers, &[*number]);
    }
}

/// Arguments: the numbers' queue, then the squares'. An empty message is the end.
fn square(arguments: &[u8]) {
    let (numbers, squares) = arguments.split_at(HANDLE_BYTES);
    let (numbers, squares) = (open(numbers), open(squares));
    loop {
        let batch = get(numbers);
        put(squares, &batch.iter().map(|number| number * number).collect::<Vec<_>>());
        if batch.is_empty() {
            return;
        }
    }
}

fn open(handle: &[u8]) -> Queue {
    let handle = Handle::from_bytes(handle).expect("a handle's bytes");
    Queue::open(Family::current().expect("the parent's family"), handle).expect("a queue of the parent's")
}

fn put(queue: Queue, numbers: &[u64]) {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    queue.send_by(&bytes, Deadline::after(PATIENCE)).expect("room");
}

fn get(queue: Queue) -> Vec<u64> {
    let bytes = queue.receive_by(Deadline::after(PATIENCE)).expect("a message");
    bytes.chunks_exact(8).map(|eight| u64::from_le_bytes(eight.try_into().expect("eight bytes"))).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    manyhands::init(const { &[Entry::child("produce", produce), Entry::child("square", square)] });

    let family = Family::current()?;
    // A bound makes the producers wait for the squarers.
    let (numbers, squares) = (Queue::create(family, 64)?, Queue::create(family, 0)?);
    let (to_numbers, to_squares) = (numbers.handle().to_bytes(), squares.handle().to_bytes());
    let squarer = || Child::spawn("square", &[to_numbers, to_squares].concat());
    let producer = |which: u64| Child::spawn("produce", &[&to_numbers[..], &[which as u8]].concat());
    let squarers = (0..SQUARERS).map(|_| squarer()).collect::<Result<Vec<_>, _>>()?;
    let producers = (0..PRODUCERS).map(producer).collect::<Result<Vec<_>, _>>()?;

    for child in producers {
        ended_well(child)?;
    }
    for _ in 0..SQUARERS {
        put(numbers, &[]);
    }
    let (mut sum, mut count, mut ends) = (0, 0, 0);
    while ends < SQUARERS {
        let batch = get(squares);
        ends += u64::from(batch.is_empty());
        count += batch.len() as u64;
        sum += batch.iter().sum::<u64>();
    }
    for child in squarers {
        ended_well(child)?;
    }

    println!("{count} squares, {sum} together");
    let all = PRODUCERS * NUMBERS_EACH;
    assert_eq!(count, all, "none lost, none twice");
    assert_eq!(sum, (all - 1) * all * (2 * all - 1) / 6, "the sum of the first squares");
    assert!(numbers.is_empty() && squares.is_empty());
    numbers.destroy();
    squares.destroy();
    Ok(())
}

fn ended_well(mut child: Child) -> Result<(), Box<dyn std::error::Error>> {
    match child.wait(Deadline::after(PATIENCE))? {
        Some(0) => Ok(()),
        status => Err(format!("process {} ended with {status:?}", child.pid()).into()),
    }
}
