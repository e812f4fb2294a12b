//! The Rust face: what becomes of items that fail, panic, abort or leave, and what is refused. Children are this test
//! program started again, so it has a `main` of its own instead of the usual harness.
#![allow(unsafe_code)] // ignores a signal
#![allow(clippy::unwrap_used)]

use manyhands::{Child, Deadline, Entry, ProcessPool, ProcessPoolError, SpawnError, TaskError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::time::Duration;

/// Does as the item says.
fn obey(item: &[u8]) -> Result<Vec<u8>, String> {
    match item {
        b"fail" => Err("as told".into()),
        b"panic" => panic!("as told, loudly"),
        b"abort" => std::process::abort(),
        b"leave" => std::process::exit(3),
        other => Ok(other.repeat(2)),
    }
}

fn end_as_told(arguments: &[u8]) {
    match arguments {
        b"panic" => panic!("as told"),
        b"sleep" => std::thread::sleep(Duration::from_secs(3600)),
        [status] => std::process::exit(i32::from(*status)),
        _ => {}
    }
}

const ENTRIES: &[Entry] = &[Entry::task("obey", obey), Entry::child("end_as_told", end_as_told)];

fn main() {
    nothing_starts_before_init();
    manyhands::init(ENTRIES);
    children_end_as_they_end();
    what_is_not_listed_is_refused();
    each_item_has_its_own_outcome(false);
    a_pool_outlives_every_one_of_its_workers();
    a_worker_that_cannot_be_replaced_at_once_is_replaced_later();
    long_items_and_long_results_travel();
    ends_are_known_where_the_kernel_reaps();
    println!("the Rust face: all as it should be");
}

/// Runs in children too, before they know what they are: it must not start anything.
fn nothing_starts_before_init() {
    assert_eq!(Child::spawn("end_as_told", b"").err(), Some(SpawnError::NotInitialised));
    let refused = ProcessPool::start(1).err();
    assert_eq!(refused, Some(ProcessPoolError::Spawn(SpawnError::NotInitialised)));
}

fn children_end_as_they_end() {
    let end = |how: &[u8]| Child::spawn("end_as_told", how).unwrap().wait(Deadline::NEVER).unwrap();
    assert_eq!(end(b""), Some(0));
    assert_eq!(end(&[7]), Some(7));
    assert_eq!(end(b"panic"), Some(101));
    let mut child = Child::spawn("end_as_told", b"sleep").unwrap();
    assert_eq!(child.wait(Deadline::after(Duration::from_millis(20))).unwrap(), None);
    child.kill().unwrap();
    assert_eq!(child.wait(Deadline::NEVER).unwrap(), Some(-9));
    // Dropped while it runs: killed and collected.
    let dropped = Child::spawn("end_as_told", b"sleep").unwrap();
    let folder = format!("/proc/{}", dropped.pid());
    drop(dropped);
    assert!(!std::path::Path::new(&folder).exists());
}

/// Where SIGCHLD is ignored there is no status to be had from `wait`: what a child noted counts, or what the kernel knows.
fn ends_are_known_where_the_kernel_reaps() {
    // SAFETY: no handler is installed, and this program has none.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let end = |how: &[u8]| Child::spawn("end_as_told", how).unwrap().wait(Deadline::NEVER).unwrap();
    for _ in 0..20 {
        assert_eq!(end(b""), Some(0));
        assert_eq!(end(b"panic"), Some(101));
        // It leaves without a note.
        assert!(matches!(end(&[7]), Some(7 | 255)));
    }
    each_item_has_its_own_outcome(true);
    a_pool_outlives_every_one_of_its_workers();
    drop(Child::spawn("end_as_told", b"sleep").unwrap());
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

fn what_is_not_listed_is_refused() {
    let unknown = |name: &str| Some(SpawnError::UnknownEntry(name.to_owned()));
    assert_eq!(Child::spawn("nobody", b"").err(), unknown("nobody"));
    // A task is no child.
    assert_eq!(Child::spawn("obey", b"").err(), unknown("obey"));
    let mut pool = ProcessPool::start(1).unwrap();
    let refused = pool.map("end_as_told", &[b"x"]).unwrap_err();
    assert_eq!(refused, ProcessPoolError::UnknownTask("end_as_told".into()));
    assert_eq!(pool.map("obey", &[b"ab"]).unwrap(), [Ok(b"abab".to_vec())]);
}

/// Where the kernel reaps, the status of a worker that was gone before it was watched is known to nobody: 255.
fn each_item_has_its_own_outcome(reaped: bool) {
    let ended = |status: i32, told: i32| status == told || reaped && status == 255;
    let mut pool = ProcessPool::start(2).unwrap();
    let items: [&[u8]; 7] = [b"a", b"fail", b"b", b"panic", b"abort", b"leave", b"c"];
    let outcomes = pool.map("obey", &items).unwrap();
    assert_eq!(outcomes[0], Ok(b"aa".to_vec()));
    assert_eq!(outcomes[1], Err(TaskError::Failed { item: 1, message: "as told".into() }));
    assert_eq!(outcomes[2], Ok(b"bb".to_vec()));
    assert_eq!(outcomes[3], Err(TaskError::Panicked { item: 3, message: "as told, loudly".into() }));
    let died = |item: usize, told| matches!(outcomes[item], Err(TaskError::WorkerDied { status, item: of, .. }) if of == item && ended(status, told));
    assert!(died(4, -6), "{outcomes:?}");
    assert!(died(5, 3), "{outcomes:?}");
    assert_eq!(outcomes[6], Ok(b"cc".to_vec()));
    assert_eq!(pool.map("obey", &[] as &[&[u8]]).unwrap(), []);
    pool.close().unwrap();
}

fn a_pool_outlives_every_one_of_its_workers() {
    let mut pool = ProcessPool::start(2).unwrap();
    for round in 0..5 {
        let items: Vec<&[u8]> = (0..40).map(|n| if n % 10 == round { &b"abort"[..] } else { b"x" }).collect();
        let outcomes = pool.map("obey", &items).unwrap();
        for (item, outcome) in outcomes.iter().enumerate() {
            match outcome {
                Err(TaskError::WorkerDied { item: named, .. }) => {
                    assert!(*named == item && item % 10 == round, "{outcome:?} in place {item}");
                }
                other => assert_eq!(other, &Ok(b"xx".to_vec())),
            }
        }
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 4);
    }
}

/// No descriptor is free for the replacements of both workers.
fn a_worker_that_cannot_be_replaced_at_once_is_replaced_later() {
    let mut pool = ProcessPool::start(2).unwrap();
    assert!(pool.map("obey", &[b"a"; 10]).unwrap().iter().all(Result::is_ok));
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..limit }).unwrap();
    let later = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        setrlimit(Resource::Nofile, limit).unwrap();
    });
    let items: Vec<&[u8]> = (0..40).map(|n| if n == 5 || n == 6 { &b"abort"[..] } else { b"x" }).collect();
    let outcomes = pool.map("obey", &items).unwrap();
    later.join().unwrap();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 2, "{outcomes:?}");
    assert!(pool.map("obey", &[b"a"; 10]).unwrap().iter().all(Result::is_ok));
    pool.close().unwrap();
}

fn long_items_and_long_results_travel() {
    let mut pool = ProcessPool::start(1).unwrap();
    let long = vec![7; 300_000];
    assert_eq!(pool.map("obey", std::slice::from_ref(&long)).unwrap(), [Ok(long.repeat(2))]);
}
