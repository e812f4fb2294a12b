//! Forks beside full memory: what is pinned for a child is given back when the child has ended.
#![allow(unsafe_code)] // forks, and limits how large a file may be
#![allow(clippy::unwrap_used)]

use manyhands::family::{self, Family};
use manyhands::queue::Queue;
use manyhands::shared::SharedBlock;

/// The family's memory is as large as a file may be.
const LIMIT: u64 = 64 << 20;

fn limit_memory() {
    let limit = libc::rlimit { rlim_cur: LIMIT, rlim_max: LIMIT };
    // SAFETY: `limit` lives across the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
}

/// As `os.fork` and the hooks around it, in a program whose only other thread waits.
fn fork(child: impl FnOnce(&Family) -> bool) -> i32 {
    family::before_fork(1);
    // SAFETY: the child runs `child` alone and leaves by _exit; glibc keeps its allocator usable.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid == 0 {
        let family = Family::existing().unwrap();
        family.after_fork_in_child();
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(!child(family))) };
    }
    family::after_fork_in_parent();
    pid
}

fn ended_well(pid: i32) -> bool {
    let mut status = 0;
    // SAFETY: `status` lives across the call.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

#[test]
fn what_is_pinned_for_a_child_goes_with_it() {
    limit_memory();
    let family = Family::current().unwrap();
    let queue = Queue::create(family, 0).unwrap();
    let block = SharedBlock::create(family, 100).unwrap();
    let handle = block.handle();
    let arena = family.arena();
    assert!(block.ensure_held().is_ok(), "this process has its place from now on");
    family.sweep();
    let held = arena.survey(usize::MAX).held_blocks;

    // More blocks than there is room for references where references are made, which is theirs alone.
    let mut small: Vec<_> = (0..50_000).map(|_| arena.allocate(8).unwrap()).collect();
    let full: Vec<_> =
        (6..26).rev().flat_map(|bits| std::iter::from_fn(move || arena.allocate(1 << bits).ok())).collect();
    // What is left of memory for references.
    let mut referred: Vec<_> =
        std::iter::from_fn(|| SharedBlock::open(family, small.pop()?.share(), 8).ok()).collect();
    let not_referred = 1;
    let pid = fork(|_| block.ensure_held().is_err() && queue.ensure_held().is_err());
    assert_eq!(arena.holders(handle), Ok(2), "this process's reference, and the pin");
    assert!(ended_well(pid));
    drop(block);
    referred.clear();
    assert!(!small.is_empty(), "there was no room for one more");
    full.into_iter().chain(small).for_each(|block| arena.free(block));
    family.sweep();
    let held_now = arena.survey(usize::MAX).held_blocks - not_referred;
    assert_eq!(held_now, held - 2, "the block and the reference to it are gone");

    // With memory, a child has its references from the start; they go with it.
    let pid = fork(|_| queue.ensure_held().is_ok());
    assert!(ended_well(pid));
    family.sweep();
    assert_eq!(arena.holders(queue.handle()), Ok(1));
}
