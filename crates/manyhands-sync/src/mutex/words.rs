//! The words of glibc's robust mutex that glibc believes, and what is done when they are damaged.
//!
//! | word | what glibc does with it | damaged |
//! |---|---|---|
//! | `kind` | chooses the algorithm; some of them assert | looked at before each call: `Corrupted` |
//! | `lock` | the holder's thread | names nobody: `Corrupted`, at once or after five seconds of waiting for it |
//! | `owner` | two values of its own mean that a death was not repaired | `Corrupted`, or no difference |
//! | `count`, `nusers`, `spins` | nothing, for this kind | no difference |
//! | `prev`, `next` | unlocking writes through both, in this process | compared with what locking wrote; when they differ, glibc is not asked |
//!
//! The guard keeps the two pointers, as they were when the lock was taken. What this cannot see is a word that is written
//! between the look and glibc's own, some ten nanoseconds: members trust each other that far (`SECURITY.md`).
//!
//! glibc 2.30 to 2.42, `sysdeps/nptl/bits/struct_mutex.h` and the ABI of `pthread_mutex_t`, which cannot change: mutexes of
//! processes that were linked years apart meet in shared memory. The tests check the layout against glibc's own mutex.
#![allow(unsafe_code)] // reads a mutex's words, and takes one off this thread's list

use super::RobustMutex;
use crate::primitive::{AtomicU32, Ordering};
use core::ptr::NonNull;

/// `PTHREAD_MUTEX_ROBUST_NORMAL_NP`, shared between processes: what `RobustMutex::new` makes.
const KIND: u32 = 0x90;
/// `PTHREAD_MUTEX_NOTRECOVERABLE`: nobody gets the lock any more.
const NOT_RECOVERABLE: u32 = i32::MAX as u32 - 1;
/// The bits of the futex word that name its owner. The kernel clears them when it dies, and sets the next one; the third
/// says that somebody waits.
pub(super) const THREAD: u32 = 0x3fff_ffff;
pub(super) const OWNER_DIED: u32 = 0x4000_0000;
/// No kernel numbers threads higher (`PID_MAX_LIMIT`).
const MOST_THREADS: u32 = 1 << 22;

const LOCK_AT: usize = 0;
const OWNER_AT: usize = 8;
const KIND_AT: usize = 16;
const LIST_AT: usize = 24;

const _: () =
    assert!(cfg!(target_pointer_width = "64") && size_of::<libc::pthread_mutex_t>() >= LIST_AT + 16);

/// A mutex's place in its holder's robust list, as locking wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Links {
    prev: usize,
    next: usize,
}

impl RobustMutex {
    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: `at` is the offset of a word of the mutex.
        let place = unsafe { self.start().add(at) };
        // SAFETY: aligned, inside the mutex, mapped as long as it is; glibc and the kernel access it atomically or under
        // the lock.
        unsafe { place.cast::<AtomicU32>().as_ref() }
    }

    /// The futex word.
    pub(super) fn lock_word(&self) -> u32 {
        self.word(LOCK_AT).load(Ordering::Relaxed)
    }

    /// Whether it is a mutex of ours by its kind.
    #[inline]
    pub(super) fn has_its_kind(&self) -> bool {
        self.word(KIND_AT).load(Ordering::Relaxed) == KIND
    }

    /// Where the mutex is in the robust list of this thread, which holds it.
    #[inline]
    pub(super) fn links(&self) -> Links {
        // SAFETY: the offset of the two pointers in the mutex.
        let place = unsafe { self.start().add(LIST_AT) };
        // SAFETY: aligned and inside the mutex; only this thread, the holder, writes them. Another process's damage shows
        // as other bits, which is what this is read for.
        unsafe { place.cast::<Links>().read_volatile() }
    }

    /// Whether glibc may unlock the mutex, which was at `links` when it was locked.
    #[inline]
    pub(super) fn may_be_unlocked(&self, links: Links) -> bool {
        self.has_its_kind() && self.links() == links
    }

    /// Whether that futex word names a holder that cannot be. For certain by its number alone; with `closer`, also when no
    /// thread of this pid namespace has it, or this one, which does not hold the lock.
    pub(super) fn names_nobody(word: u32, closer: bool) -> bool {
        let thread = word & THREAD;
        if word == 0 || word & OWNER_DIED != 0 {
            return false;
        }
        thread > MOST_THREADS || closer && (thread == 0 || is_this_thread(thread) || !is_there(thread))
    }

    /// Lets go of a mutex that was damaged while this thread held it: takes it off this thread's robust list without a look
    /// at its words, and leaves it as one that nobody gets any more.
    #[cold]
    pub(super) fn abandon(&self, links: Links) {
        // SAFETY: locking wrote these two pointers, into the guard by way of the mutex.
        unsafe { self.leave_robust_list(links) };
        self.word(KIND_AT).store(KIND, Ordering::Relaxed);
        self.word(OWNER_AT).store(NOT_RECOVERABLE, Ordering::Relaxed);
        // It may say that another has it by now: that one finds out when it unlocks.
        let lock = self.word(LOCK_AT);
        if is_this_thread(lock.load(Ordering::Relaxed) & THREAD) {
            lock.store(0, Ordering::Release);
            crate::primitive::futex_wake(lock, u32::MAX >> 1);
        }
    }

    /// # Safety
    /// `links` are those that locking wrote.
    unsafe fn leave_robust_list(&self, links: Links) {
        // SAFETY: inside the mutex: the address by which the list knows it.
        let own = unsafe { self.start().add(LIST_AT + size_of::<usize>()) }.addr().get();
        let Some(head) = NonNull::new(core::ptr::with_exposed_provenance_mut::<usize>(links.prev)) else {
            return;
        };
        // Locks are let go in the reverse order, so this one is the first, and `prev` is this thread's list head.
        // SAFETY: the head lies in this thread's own memory, and begins with the address of the first mutex.
        if unsafe { head.read() } != own {
            return;
        }
        // SAFETY: the head lies in this thread's own memory; the kernel walks the list only when this thread ends.
        unsafe { head.write(links.next) };
        let next = core::ptr::with_exposed_provenance_mut::<usize>(links.next & !1);
        // The head itself is the end of the list; it has a `prev` like every entry, one word in front.
        // SAFETY: the next entry is the list's head or another mutex that this thread holds, both mapped.
        let before_next = unsafe { next.sub(1) };
        // SAFETY: the word in front of an entry's `next` is its `prev`, which only the thread that holds it writes.
        unsafe { before_next.write(links.prev) };
    }

    fn start(&self) -> NonNull<u8> {
        NonNull::from(&self.0).cast()
    }
}

fn is_this_thread(thread: u32) -> bool {
    u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()) == Ok(thread)
}

/// `tkill(thread, 0)`: whether there is such a thread. A refusal says yes.
fn is_there(thread: u32) -> bool {
    // SAFETY: the signal 0 is never sent.
    let result = unsafe { libc::syscall(libc::SYS_tkill, libc::c_long::from(thread), 0) };
    result == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_where_glibc_has_them() {
        let mutex: &'static RobustMutex = Box::leak(Box::new(RobustMutex::new()));
        assert!(mutex.has_its_kind());
        assert_eq!(mutex.lock_word(), 0);
        let guard = mutex.lock(|| {}).expect("new");
        assert!(is_this_thread(mutex.lock_word() & THREAD));
        assert!(is_this_thread(mutex.word(OWNER_AT).load(Ordering::Relaxed)));
        let (mut head, mut len) = (core::ptr::null::<usize>(), 0usize);
        // SAFETY: both live across the call.
        let result = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
        assert_eq!(result, 0);
        assert_eq!(mutex.links(), Links { prev: head.addr(), next: head.addr() });
        drop(guard);
        assert_eq!(mutex.links(), Links { prev: 0, next: 0 });
    }

    #[test]
    fn a_word_names_nobody_when_no_kernel_has_such_a_thread() {
        for word in [0, OWNER_DIED, 0xc000_0000, std::process::id(), std::process::id() | 0x8000_0000] {
            assert!(!RobustMutex::names_nobody(word, false), "{word:#x}");
        }
        for word in [MOST_THREADS + 1, 0xbfff_ffff, 0x3fff_ffff] {
            assert!(RobustMutex::names_nobody(word, false), "{word:#x}");
        }
        assert!(RobustMutex::names_nobody(0x8000_0000, true), "waiters, and nobody to wake them");
        assert!(!RobustMutex::names_nobody(OWNER_DIED, true));
        assert!(!RobustMutex::names_nobody(1, true), "init lives");
    }
}
