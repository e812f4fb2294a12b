//! Forks while other threads have a limit raised for a moment: the child can raise it, too, and has it as it was.
#![allow(unsafe_code)] // forks, and asks for limits
#![allow(clippy::unwrap_used)]

use manyhands::MoreDescriptors;
use manyhands::family::{self, Family};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const FORKS: u32 = 300;
const LOWERED: u64 = 900;

fn limit() -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives across the call, which writes it.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    limit
}

/// As `os.fork` and the hooks around it.
fn fork(child: impl FnOnce() -> bool) -> i32 {
    family::before_fork(1);
    // SAFETY: the child runs `child` alone and leaves by _exit; glibc keeps its allocator usable.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid == 0 {
        Family::existing().unwrap().after_fork_in_child();
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(!child())) };
    }
    family::after_fork_in_parent();
    pid
}

/// Ends it where it hangs.
fn ended_well(pid: i32) -> bool {
    let (mut status, began) = (0, Instant::now());
    loop {
        // SAFETY: `status` lives across the call.
        let ended = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
        if ended == pid {
            return libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
        }
        if began.elapsed() > Duration::from_secs(20) {
            // SAFETY: our child, which nobody has reaped.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

#[test]
fn a_child_forked_meanwhile_has_the_limit_as_it_was_and_can_raise_it() {
    let lowered = libc::rlimit { rlim_cur: LOWERED, ..limit() };
    // SAFETY: `lowered` lives across the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const lowered) }, 0);
    Family::current().unwrap().own_slot().unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    drop(MoreDescriptors::for_now());
                }
            });
        }
        let well = (0..FORKS).all(|_| {
            ended_well(fork(|| {
                let before = limit().rlim_cur;
                let raised = MoreDescriptors::for_now();
                let meanwhile = limit();
                drop(raised);
                before == LOWERED && meanwhile.rlim_cur == meanwhile.rlim_max && limit().rlim_cur == LOWERED
            }))
        });
        over.store(true, Ordering::Relaxed);
        assert!(well);
    });
}
