//! Children that somebody else has reaped before their parent could look: they have ended, and whoever has their process id
//! now is left alone.
#![allow(clippy::unwrap_used)]

use manyhands::launch::Start;
use manyhands::process::{Process, UNKNOWN_EXIT};
use manyhands::{Deadline, Waited};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

fn has_ended(mut process: Process) {
    assert_eq!(process.wait(Deadline::NEVER), Ok(Waited::Ready));
    process.signal(libc::SIGKILL).unwrap();
    assert_eq!(process.poll(), Ok(Some(UNKNOWN_EXIT)));
    assert_eq!(manyhands::process::wait_for(process.sentinel(), Deadline::NEVER), Ok(Waited::Ready));
}

#[test]
fn a_child_that_is_gone_has_ended() {
    let start = Start::prepare().unwrap();
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    has_ended(start.forked(pid).unwrap());
}

#[test]
fn somebody_elses_process_is_not_taken_for_a_child() {
    let mut parent =
        Command::new("sh").args(["-c", "sleep 60 & echo $!; wait"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
    has_ended(Start::prepare().unwrap().forked(line.trim().parse().unwrap()).unwrap());
    // Nobody has signalled it: its parent still waits for it.
    std::thread::sleep(Duration::from_millis(50));
    assert!(parent.try_wait().unwrap().is_none());
    assert!(Command::new("kill").arg(line.trim()).status().unwrap().success());
    assert!(parent.wait().unwrap().success());
}
