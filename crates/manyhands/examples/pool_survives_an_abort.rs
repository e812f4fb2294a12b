//! A pool of processes runs a function over many inputs, and one of the inputs brings its worker down.
//!
//! Exactly that item is lost, and is named; every other result arrives in its place, and the pool goes on with a new
//! worker.

use manyhands::{Entry, ProcessPool, TaskError};

const ITEMS: u32 = 500;
const DEADLY: u32 = 137;
/// SIGABRT, as `std::process::abort` sends it.
const ABORTED: i32 = -6;

/// Stands for a call into a library that one of the inputs crashes.
fn collatz_steps(item: &[u8]) -> Result<Vec<u8>, String> {
    let mut number = u64::from(number_of(item)?);
    if number == u64::from(DEADLY) {
        std::process::abort();
    }
    let mut steps = 0u32;
    while number > 1 {
        number = if number.is_multiple_of(2) { number / 2 } else { 3 * number + 1 };
        steps += 1;
    }
    Ok(steps.to_le_bytes().to_vec())
}

fn number_of(bytes: &[u8]) -> Result<u32, String> {
    Ok(u32::from_le_bytes(bytes.try_into().map_err(|_| "an item is four bytes")?))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    manyhands::init(const { &[Entry::task("collatz_steps", collatz_steps)] });

    let items: Vec<_> = (1..=ITEMS).map(u32::to_le_bytes).collect();
    let mut pool = ProcessPool::start(3)?;
    let before: Vec<u32> = pool.pids().collect();
    let outcomes = pool.map("collatz_steps", &items)?;

    let (mut total, mut lost) = (0, Vec::new());
    for (item, outcome) in items.iter().zip(&outcomes) {
        match outcome {
            Ok(steps) => {
                // What a worker answered is what the function gives here.
                assert_eq!(collatz_steps(item)?, *steps, "a result in another item's place");
                total += number_of(steps)?;
            }
            Err(error) => {
                println!("{error}");
                lost.push(error.clone());
            }
        }
    }
    println!("{} of {ITEMS} numbers take {total} steps together", outcomes.len() - lost.len());

    let [TaskError::WorkerDied { pid, status: ABORTED, item }] = lost[..] else {
        return Err(format!("not exactly one item was lost to an abort: {lost:?}").into());
    };
    assert_eq!(item, DEADLY as usize - 1, "the item that aborted is the one that is lost");
    assert!(before.contains(&pid), "the process that died was one of the pool's");
    let after: Vec<u32> = pool.pids().collect();
    assert!(after.len() == before.len() && !after.contains(&pid), "the worker was replaced: {after:?}");

    // The pool is as good as before.
    let again = pool.map("collatz_steps", &[6u32.to_le_bytes(), 7u32.to_le_bytes()])?;
    assert_eq!(again, [Ok(8u32.to_le_bytes().to_vec()), Ok(16u32.to_le_bytes().to_vec())]);
    pool.close()?;
    Ok(())
}
