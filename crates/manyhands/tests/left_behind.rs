//! What members have left that were found dead for their places' sake: it is known of, and a sweep to come frees it.
#![allow(unsafe_code)] // forks
#![allow(clippy::unwrap_used)]

use manyhands::family::{self, Family};
use manyhands::observe::Observer;
use manyhands_sync::process_table::MOST_MEMBERS;

/// More blocks than one death lets a sweep look at, and fewer than two do.
const BLOCKS: usize = 70_000;

/// As `os.fork` and the hooks around it: a child that ends with a block in its hands.
fn leave_a_block(family: &Family) {
    family::before_fork(1);
    // SAFETY: the child allocates a block of shared memory, and leaves by _exit; glibc keeps its allocator usable.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid == 0 {
        family.after_fork_in_child();
        let allocated = family.arena().allocate(1_000).map(std::mem::forget).is_ok();
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(!allocated)) };
    }
    family::after_fork_in_parent();
    let mut status = 0;
    // SAFETY: `status` lives across the call.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0);
}

#[test]
fn what_members_left_whose_places_were_needed_counts_for_the_next_sweep() {
    let family = Family::current().unwrap();
    family.own_slot().unwrap();
    let arena = family.arena();
    let blocks: Vec<_> = (0..BLOCKS).map(|_| arena.allocate(8).unwrap()).collect();
    family.sweep();
    leave_a_block(family);
    assert_eq!(arena.survey(usize::MAX).left_blocks, 0, "nobody has found it dead");

    // The last of them finds no free place, and gives back that of the dead one.
    let mut children: Vec<_> = (0..MOST_MEMBERS - 1).map(|_| family.reserve_slot().unwrap()).collect();
    let survey = arena.survey(usize::MAX);
    assert_eq!(survey.left_blocks, 1);
    let text = Observer::own().unwrap().report().to_string();
    assert!(text.contains("KiB in 1 of these were left by dead processes: the next sweep"), "{text}");
    assert!(text.contains("4095 places for processes that are about to start"), "{text}");

    // With this one, two members have left something.
    let mut second = children.pop().unwrap();
    // SAFETY: nothing is given back by hand.
    unsafe { arena.process_table() }.note_holds(second.place());
    second.note_end();
    let swept = arena.survey(usize::MAX);
    assert_eq!((swept.left_blocks, swept.held_blocks), (0, survey.held_blocks - 1));
    drop(children);
    blocks.into_iter().for_each(|block| arena.free(block));
    assert_eq!(arena.survey(usize::MAX).held_blocks, 0);
}
