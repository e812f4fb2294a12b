//! Damage in each word of a robust mutex: those who lock get an error or the lock; nobody is aborted, crashed or kept
//! waiting for ever, and the thread's list of held locks, which glibc and the kernel follow, stays whole.
#![cfg(not(loom))]
#![allow(unsafe_code)] // forks, damages a mutex
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // not part of the structures that loom checks

mod support;

use manyhands_sync::mutex::RobustMutex;
use std::sync::atomic::{AtomicU32, Ordering};
use support::{Mapping, arena, fork, placed, reap};

/// What a word may become: zero, all ones, glibc's and the kernel's own special values, other kinds of mutex, an address of
/// nobody's, and a thread's number that nobody has.
const VALUES: [u32; 15] = [
    0,
    u32::MAX,
    0x8000_0000,
    0x4000_0000,
    0xc000_0000,
    i32::MAX as u32,
    i32::MAX as u32 - 1,
    2,
    0x10,
    0x80,
    0x91,
    0xa0,
    0xc0,
    0x003f_fff0,
    0xdead_bee8,
];
const WORDS: usize = size_of::<RobustMutex>() / 4;

/// When the word is damaged.
#[derive(Clone, Copy, Debug)]
enum When {
    Free,
    /// While a thread holds the lock, which then lets go of it.
    Held,
    /// While a thread holds the lock and another one below it.
    HeldAboveAnother,
    /// After a holder's death.
    OwnerDead,
}

fn damage(mutex: &'static RobustMutex, word: usize, value: u32) {
    support::atomic_at(std::ptr::from_ref(mutex).cast::<AtomicU32>(), word).store(value, Ordering::SeqCst);
}

/// In the child: everything that may be done with a lock.
fn use_damaged(
    mutex: &'static RobustMutex,
    sound: &'static RobustMutex,
    when: When,
    word: usize,
    value: u32,
) {
    // SAFETY: only this process, if it hangs.
    unsafe { libc::alarm(60) };
    match when {
        When::Free | When::OwnerDead => damage(mutex, word, value),
        When::Held => {
            let guard = mutex.lock_placed(|| {}).unwrap();
            damage(mutex, word, value);
            drop(guard);
        }
        When::HeldAboveAnother => {
            let below = sound.lock_placed(|| {}).unwrap();
            let guard = mutex.lock_placed(|| {}).unwrap();
            damage(mutex, word, value);
            drop(guard);
            drop(below);
        }
    }
    list_is_empty();
    drop(mutex.try_lock_placed(|| {}));
    list_is_empty();
    drop(mutex.lock_placed(|| {}));
    list_is_empty();
    // What was damaged has not spread to others.
    for _ in 0..3 {
        let outer = sound.lock_placed(|| panic!("nobody died")).unwrap();
        drop(mutex.try_lock_placed(|| {}));
        drop(outer);
    }
    list_is_empty();
    std::thread::spawn(|| drop(mutex.try_lock_placed(|| {}))).join().unwrap();
}

/// This thread holds nothing, and its list says so.
fn list_is_empty() {
    let (mut head, mut len) = (std::ptr::null::<usize>(), 0usize);
    // SAFETY: both live across the call.
    let result = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
    assert_eq!(result, 0);
    // SAFETY: the kernel was given this address by glibc: the head lies in this thread's own memory.
    let first = unsafe { head.read() };
    assert_eq!(first, head.addr(), "a lock that is not held is on the list of those that are");
}

fn each_damage(when: When) {
    let arena = arena(1);
    let mut children = Vec::new();
    for word in 0..WORDS {
        // The number of a thread that lives, if not of one that holds the lock, is waited for.
        for value in VALUES.into_iter().filter(|&value| word != 0 || value == 0 || value > 0x1000) {
            let (_, mutex) = placed(&arena, RobustMutex::new());
            let (_, sound) = placed(&arena, RobustMutex::new());
            if matches!(when, When::OwnerDead) {
                reap(fork(|| std::mem::forget(mutex.lock_placed(|| {}))));
            }
            children.push((word, value, fork(move || use_damaged(mutex, sound, when, word, value))));
            if children.len() == 256 {
                all_end_well(when, &mut children);
            }
        }
    }
    all_end_well(when, &mut children);
}

fn all_end_well(when: When, children: &mut Vec<(usize, u32, i32)>) {
    for (word, value, child) in children.drain(..) {
        assert_eq!(reap(child), 0, "{when:?}: word {word} damaged to {value:#x}");
    }
}

#[test]
fn a_free_mutex_that_is_damaged_gives_errors() {
    each_damage(When::Free);
}

#[test]
fn a_held_mutex_that_is_damaged_is_let_go_of() {
    each_damage(When::Held);
    each_damage(When::HeldAboveAnother);
}

#[test]
fn a_mutex_of_a_dead_holder_that_is_damaged_gives_errors() {
    each_damage(When::OwnerDead);
}

#[test]
fn zeroes_are_no_lock() {
    let arena = arena(1);
    let memory: &Mapping = arena.backing();
    let (at, mutex) = placed(&arena, RobustMutex::new());
    memory.stomp(at, &[0; size_of::<RobustMutex>()]);
    assert_eq!(mutex.try_lock_placed(|| {}).err(), Some(manyhands_sync::mutex::LockError::Corrupted));
    assert_eq!(mutex.lock_placed(|| {}).err(), Some(manyhands_sync::mutex::LockError::Corrupted));
}
