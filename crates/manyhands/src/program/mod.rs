//! A Rust program that runs parts of itself in other processes.
//!
//! `fork` is sound in a process with one thread only, and a library cannot know that it is in one. So a Rust child is
//! the same executable started again: [`init`], called first in `main`, finds on the command line that this process is
//! a child, runs the function it was started for, and ends. In every other process it returns at once.
//!
//! A function that children run is a plain `fn`, listed under a name in the program's [`Entry`] table. Arguments and
//! results are bytes for now; the table is where a `#[task]` attribute will put what it generates, and [`TaskFunction`]
//! is the shape that typed tasks will be wrapped into.
//!
//! ```standalone_crate,rust
//! use manyhands::{Child, Deadline, Entry};
//!
//! fn greet(name: &[u8]) {
//!     println!("hello, {}", String::from_utf8_lossy(name));
//! }
//!
//! fn main() {
//!     manyhands::init(const { &[Entry::child("greet", greet)] });
//!     let mut child = Child::spawn("greet", b"world").expect("a process");
//!     let status = child.wait(Deadline::NEVER).expect("its end");
//!     assert_eq!(status, Some(0));
//! }
//! ```

mod child;
mod job;

pub(crate) use child::spawn_worker;
pub use child::{Child, SpawnError};

use crate::family::Family;
use crate::launch;
use crate::process_pool;
use crate::sys::inherited;
use job::{Job, Passed};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

/// What a child runs from beginning to end. The bytes are the arguments it was started with.
pub type ChildFunction = fn(&[u8]);

/// What a pool's worker runs for each item: the item's bytes to the result's, or to a text that says why not.
pub type TaskFunction = fn(&[u8]) -> Result<Vec<u8>, String>;

/// One function that other processes can be asked to run, by its name.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    name: &'static str,
    body: Body,
}

#[derive(Clone, Copy, Debug)]
enum Body {
    Child(ChildFunction),
    Task(TaskFunction),
}

impl Entry {
    /// A function for [`Child::spawn`].
    #[must_use]
    pub const fn child(name: &'static str, function: ChildFunction) -> Self {
        Self { name, body: Body::Child(function) }
    }

    /// A function for [`ProcessPool::map`](crate::ProcessPool::map).
    #[must_use]
    pub const fn task(name: &'static str, function: TaskFunction) -> Self {
        Self { name, body: Body::Task(function) }
    }
}

/// The exit status of a child whose function panicked: as that of a Rust program whose `main` does.
const PANICKED: i32 = 101;
/// The exit status of a child that could not begin.
const NOT_BEGUN: i32 = 1;

static ENTRIES: OnceLock<&'static [Entry]> = OnceLock::new();

/// Says what this program's children can be asked to run. Call it first in `main`, before anything is opened and before
/// there is a second thread.
///
/// In a child it does not return: it joins the parent's family, runs the function the child was started for and ends the
/// process, with status 0, or 101 when the function panicked. A child whose parent is gone ends at once. The first
/// table given counts.
pub fn init(entries: &'static [Entry]) {
    let entries = ENTRIES.get_or_init(|| entries);
    if let Some(passed) = Passed::from_arguments(std::env::args_os()) {
        let status = begin(passed, entries).unwrap_or_else(|why| {
            eprintln!("manyhands: this child cannot begin: {why}");
            NOT_BEGUN
        });
        std::process::exit(status);
    }
}

/// The task function with that name; `None` when the program lists none, or has not called [`init`].
pub(crate) fn task_function(name: &str) -> Option<TaskFunction> {
    ENTRIES.get()?.iter().find_map(|entry| match entry.body {
        Body::Task(function) if entry.name == name => Some(function),
        _ => None,
    })
}

/// Whether [`init`] was called.
pub(crate) fn is_initialised() -> bool {
    ENTRIES.get().is_some()
}

fn child_function(entries: &[Entry], name: &str) -> Option<ChildFunction> {
    entries.iter().find_map(|entry| match entry.body {
        Body::Child(function) if entry.name == name => Some(function),
        _ => None,
    })
}

/// The life of a child; its exit status.
fn begin(passed: Passed, entries: &[Entry]) -> Result<i32, Box<dyn std::error::Error>> {
    let family = Family::join(inherited::take(passed.family)?)?;
    family.take_slot(passed.slot)?;
    let life = inherited::take(passed.life)?;
    if !launch::die_with_parent(life.as_fd())? {
        return Ok(NOT_BEGUN);
    }
    let job = Job::read(inherited::take(passed.job)?).ok_or("its job makes no sense")?;
    let status = run(family, job, entries)?;
    family.note_exit(status);
    Ok(status)
}

fn run(family: &'static Family, job: Job, entries: &[Entry]) -> Result<i32, Box<dyn std::error::Error>> {
    match job {
        Job::Child { name, arguments } => {
            let function = child_function(entries, &name).ok_or("its program has no such entry")?;
            // The panic has written its message; unwinding must not go through the rest of `main`.
            let ran = catch_unwind(AssertUnwindSafe(|| function(&arguments)));
            Ok(if ran.is_ok() { 0 } else { PANICKED })
        }
        Job::Worker { pool, seat, bell } => {
            process_pool::work(family, pool, seat, inherited::take(bell)?)?;
            Ok(0)
        }
    }
}
