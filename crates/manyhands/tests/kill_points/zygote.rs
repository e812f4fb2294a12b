//! A fork server, its child in reserve or its client dies at each step of a request. Each request is answered, or said to
//! be lost; of those that are lost no child runs, of the others one.

use super::{ONE_AT_A_TIME, fork, print_deaths, reap, rounds, shared_words};
use manyhands::family::{Family, Place};
use manyhands::launch::{LaunchError, Request, Start, Zygote, ZygoteClient, job_descriptor};
use manyhands::process::Process;
use manyhands::{Deadline, Remembered};
use manyhands_sync::kill_point::{KillPoint, arm};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const REQUESTS: usize = 4;
/// What a child ends with.
const STATUS: i32 = 3;

/// By slot: how often its child has run.
fn runs(words: &'static [AtomicU32; 1024], place: u64) -> &'static AtomicU32 {
    &words[place as u32 as usize % words.len()]
}

/// The child: takes its slot, runs, notes its status; nobody wants it when it cannot have the slot.
fn be_a_child(request: &Request, words: &'static [AtomicU32; 1024]) -> i32 {
    let family = Family::current().unwrap();
    if family.take_slot(Place::from_number(request.place).unwrap()).is_err() {
        return 0;
    }
    runs(words, request.place).fetch_add(1, Ordering::SeqCst);
    family.note_exit(STATUS);
    STATUS
}

fn raw_fork() -> i32 {
    // SAFETY: every caller's child has this one thread, and leaves by _exit; glibc keeps its allocator usable.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    pid
}

fn leave(status: i32) -> ! {
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(status) }
}

/// Longer than any test: a reserve stays.
const STAYS: Duration = Duration::from_secs(3600);

/// What `_zygote.py` does.
fn serve(socket: OwnedFd, kept_for: Duration, words: &'static [AtomicU32; 1024]) {
    let mut zygote = Zygote::new(socket, kept_for);
    while let Some(request) = zygote.next_request() {
        if let Some(request) = zygote.hand_over(request) {
            zygote.make_room().unwrap();
            let pid = raw_fork();
            if pid == 0 {
                zygote.let_go();
                leave(be_a_child(&request, words));
            }
            zygote.forked(request, pid.unsigned_abs());
        }
        if !zygote.wants_reserve() {
            continue;
        }
        let (ours, childs) = zygote.channel().unwrap();
        let pid = raw_fork();
        if pid == 0 {
            zygote.let_go();
            drop(ours);
            let request = Zygote::await_request(&childs).unwrap();
            leave(request.map_or(0, |request| be_a_child(&request, words)));
        }
        drop(childs);
        zygote.reserved(pid.unsigned_abs(), ours);
    }
}

fn start_server(
    armed: Option<(KillPoint, u32)>,
    kept_for: Duration,
    words: &'static [AtomicU32; 1024],
) -> ZygoteClient {
    let (client, servers) = ZygoteClient::new().unwrap();
    let pid = raw_fork();
    if pid == 0 {
        drop(client);
        if let Some((point, nth)) = armed {
            arm(point, nth);
        }
        serve(servers, kept_for, words);
        leave(0);
    }
    client
}

fn request(client: &ZygoteClient, start: Start) -> Result<Process, LaunchError> {
    let job = Remembered::new(job_descriptor(b"").unwrap()).unwrap();
    let mut asked = start.ask(client, &job)?;
    asked.send(&[])?;
    let deadline = Deadline::after(Duration::from_secs(20));
    while asked.wait(deadline)? != manyhands::Waited::Ready {
        asked.send(&[])?;
        assert!(!deadline.passed(), "neither an answer nor a death for twenty seconds");
    }
    asked.finish()
}

fn end_of(process: &mut Process) -> i32 {
    let deadline = Deadline::after(Duration::from_secs(20));
    loop {
        if let Some(status) = process.poll().unwrap() {
            return status;
        }
        assert!(!deadline.passed(), "a child does not end");
        process.wait(deadline).unwrap();
    }
}

/// Whether orphans come to this process from now on.
fn adopt_orphans(adopt: bool) {
    // SAFETY: no memory is involved.
    let set = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, libc::c_ulong::from(adopt), 0, 0, 0) };
    assert_eq!(set, 0);
}

/// Collects all children and orphans, which all have to end.
fn collect_everybody() {
    let start = Instant::now();
    loop {
        // SAFETY: no status is asked for.
        match unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } {
            -1 => return,
            0 => std::thread::sleep(Duration::from_millis(1)),
            _ => {}
        }
        assert!(start.elapsed() < Duration::from_secs(20), "a stray child runs on");
    }
}

#[test]
fn each_request_is_answered_or_lost_whoever_dies_of_server_and_reserve() {
    use KillPoint::*;
    let _alone = ONE_AT_A_TIME.lock();
    adopt_orphans(true);
    Family::current().unwrap();
    let words = shared_words();
    for point in [ZygoteForked, ZygoteHandedOver, ZygoteTold, ZygoteReserved, ReserveAsked] {
        let (mut lost, mut ran) = (0, 0);
        for round in 0..rounds() {
            // A server forks for a request once, if nobody kills its reserves.
            let nth = if point == ZygoteForked { 1 } else { 1 + round % 3 };
            let client = start_server(Some((point, nth)), STAYS, words);
            let mut places = Vec::new();
            for _ in 0..REQUESTS {
                let start = Start::prepare().unwrap();
                let place = start.place();
                runs(words, place).store(0, Ordering::SeqCst);
                let outcome = request(&client, start).map(|mut process| end_of(&mut process));
                let gone = outcome == Err(LaunchError::ZygoteGone);
                places.push((place, outcome, runs(words, place).load(Ordering::SeqCst)));
                if gone {
                    break;
                }
            }
            drop(client);
            collect_everybody();
            for (place, outcome, then) in places {
                match outcome {
                    Ok(STATUS) => {
                        assert_eq!(then, 1, "{point:?} {round}");
                        ran += 1;
                    }
                    // The child in reserve, killed with the request in its hands.
                    Ok(status) => assert_eq!((status, point, then), (-libc::SIGKILL, ReserveAsked, 0)),
                    Err(error) => {
                        assert_eq!((error, then), (LaunchError::ZygoteGone, 0), "{point:?} {round}");
                        lost += 1;
                    }
                }
                assert!(runs(words, place).load(Ordering::SeqCst) <= 1, "{point:?} {round}: a stray child");
            }
        }
        print_deaths(point, &format!(", {ran} children ran, {lost} requests were lost"));
    }
    adopt_orphans(false);
}

/// A reserve of theirs is sent away soon.
const SHORT: Duration = Duration::from_millis(2);

#[test]
fn a_server_that_dies_as_it_sends_its_reserve_away_leaves_nobody() {
    let _alone = ONE_AT_A_TIME.lock();
    adopt_orphans(true);
    Family::current().unwrap();
    let words = shared_words();
    let point = KillPoint::ReserveSentAway;
    let mut ran = 0;
    for round in 0..rounds() {
        // After two reserves in vain it makes no more, unless requests come close together.
        let nth = 1 + round % 2;
        let client = start_server(Some((point, nth)), SHORT, words);
        let deadline = Deadline::after(Duration::from_secs(20));
        loop {
            let start = Start::prepare().unwrap();
            let place = start.place();
            runs(words, place).store(0, Ordering::SeqCst);
            let outcome = request(&client, start).map(|mut process| end_of(&mut process));
            let then = runs(words, place).load(Ordering::SeqCst);
            match outcome {
                Ok(status) => assert_eq!((status, then), (STATUS, 1), "{round}"),
                Err(error) => {
                    assert_eq!((error, then), (LaunchError::ZygoteGone, 0), "{round}");
                    break;
                }
            }
            ran += 1;
            assert!(!deadline.passed(), "{round}: no reserve is sent away");
            // Now before it is sent away, now after.
            std::thread::sleep(SHORT * (ran % 4));
        }
        drop(client);
        collect_everybody();
    }
    adopt_orphans(false);
    print_deaths(point, &format!(", {ran} children ran"));
}

#[test]
fn a_server_ends_when_its_client_dies_over_a_request() {
    let _alone = ONE_AT_A_TIME.lock();
    adopt_orphans(true);
    Family::current().unwrap();
    let words = shared_words();
    let point = KillPoint::ZygoteAsked;
    for round in 0..rounds() {
        let client = fork(|| {
            arm(point, 1 + round % 3);
            let client = start_server(None, STAYS, words);
            loop {
                drop(request(&client, Start::prepare().unwrap()));
            }
        });
        assert_eq!(reap(client), libc::SIGKILL);
        collect_everybody();
    }
    adopt_orphans(false);
    print_deaths(point, ", every server ended");
}
