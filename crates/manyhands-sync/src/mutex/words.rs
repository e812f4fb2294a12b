//! The words of glibc's robust mutex that glibc believes, and what is done when they are damaged.
//!
//! | word | what glibc does with it | damaged |
//! |---|---|---|
//! | `kind` | chooses the algorithm; some of them assert | looked at before each call: `Corrupted` |
//! | `lock` | the holder's thread | names nobody: `Corrupted`, at once or after five seconds of waiting for it; waited for while its holder may be unseen |
//! | `owner` | two values of its own mean that a death was not repaired | `Corrupted`, or no difference |
//! | `count`, `nusers`, `spins` | nothing, for this kind | no difference |
//! | `prev`, `next` | unlocking writes through both, in this process | not believed: we unlock ourselves |
//!
//! The list of a thread's held robust mutexes leads through them; the kernel walks it when the thread ends. Its head is the
//! thread's own, and locking writes both pointers, so whoever knows what the head was before can unlock without a look at
//! them. Locking is glibc's. A kind that changes between our look at it and glibc's own, some nanoseconds later, is the one
//! word that can still make glibc assert: members trust each other that far (`SECURITY.md`).
//!
//! glibc 2.30 to 2.42, `sysdeps/nptl/bits/struct_mutex.h` and the ABI of `pthread_mutex_t`, which cannot change: mutexes of
//! processes that were linked years apart meet in shared memory. The tests check the layout against glibc's own mutex.
#![allow(unsafe_code)] // reads a mutex's words, and takes one off this thread's list

use super::RobustMutex;
use crate::primitive::{AtomicU32, Ordering};
use core::cell::Cell;
use core::ptr::NonNull;
use core::sync::atomic::compiler_fence;

/// `PTHREAD_MUTEX_ROBUST_NORMAL_NP`, shared between processes: what `RobustMutex::new` makes.
const KIND: u32 = 0x90;
/// `PTHREAD_MUTEX_INCONSISTENT`: the last holder died, and the one who has it now has not repaired.
const INCONSISTENT: u32 = i32::MAX as u32;
/// `PTHREAD_MUTEX_NOTRECOVERABLE`: nobody gets the lock any more.
const NOT_RECOVERABLE: u32 = i32::MAX as u32 - 1;
/// The bits of the futex word that name its owner. The kernel clears them when it dies, and sets the next one; the third
/// says that somebody waits.
pub(super) const THREAD: u32 = 0x3fff_ffff;
pub(super) const OWNER_DIED: u32 = 0x4000_0000;
const SOMEBODY_WAITS: u32 = 0x8000_0000;
/// No kernel numbers threads higher (`PID_MAX_LIMIT`).
const MOST_THREADS: u32 = 1 << 22;

const LOCK_AT: usize = 0;
const OWNER_AT: usize = 8;
const USERS_AT: usize = 12;
const KIND_AT: usize = 16;
const NEXT_AT: usize = 32;

const _: () = assert!(cfg!(target_pointer_width = "64") && size_of::<libc::pthread_mutex_t>() >= NEXT_AT + 8);

thread_local! {
    /// Where this thread's list of held robust mutexes begins, once that was asked for. A fork keeps it.
    static HEAD: Cell<*mut usize> = const { Cell::new(core::ptr::null_mut()) };
}

/// The place of a mutex in the robust list of the thread that is about to lock it. Both words are the thread's own: what lies
/// in the mutex is never believed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    /// The kernel's `struct robust_list_head`: the address of the first entry, the way from an entry to its futex word, the
    /// entry that is being locked or unlocked. glibc has a word in front of it, as in front of an entry: the way back.
    head: *mut usize,
    /// The first entry so far.
    next: usize,
}

impl Links {
    /// Before locking.
    #[inline]
    pub(super) fn now() -> Self {
        let head = match HEAD.get() {
            head if head.is_null() => ask_for_head(),
            head => head,
        };
        // SAFETY: the head lies in this thread's own memory, as the kernel was told.
        let next = if head.is_null() { 0 } else { unsafe { head.read() } };
        Self { head, next }
    }

    /// Whether the system did not say.
    pub(super) fn is_unknown(self) -> bool {
        self.head.is_null()
    }
}

/// `get_robust_list(0, &head, &len)`: null where the system refuses.
#[cold]
fn ask_for_head() -> *mut usize {
    let (mut head, mut len) = (core::ptr::null_mut::<usize>(), 0usize);
    // SAFETY: both live across the call.
    let result = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
    let head = if result == 0 { head } else { core::ptr::null_mut() };
    HEAD.set(head);
    head
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

    /// Whether that futex word names a holder that cannot be. For certain by its number alone; with `closer`, also when no
    /// thread of this pid namespace has it, or this one, which does not hold the lock.
    pub(super) fn names_nobody(word: u32, closer: bool) -> bool {
        let thread = word & THREAD;
        if word == 0 || word & OWNER_DIED != 0 {
            return false;
        }
        thread > MOST_THREADS || closer && (thread == 0 || is_this_thread(thread) || !is_there(thread))
    }

    /// Whether the number in it may be that of a thread which has another one here, or none. Every word has a number but one
    /// that says only that somebody waits.
    pub(super) fn may_name_an_unseen(word: u32) -> bool {
        word & THREAD != 0 && super::MAY_BE_UNSEEN.get().is_some_and(|ask| ask())
    }

    /// Unlocks the mutex, which this thread has locked when its list was at `links`, as glibc does, but without following
    /// the pointers in it. `false`, and nothing done, when the thread's list is not known, or begins with another mutex: then
    /// this one was not entered, because its kind was damaged at that very moment.
    #[inline]
    pub(super) fn let_go(&self, links: Links) -> bool {
        // SAFETY: inside the mutex: the address by which the list knows it.
        let own = unsafe { self.start().add(NEXT_AT) }.as_ptr().expose_provenance();
        // SAFETY: the head lies in this thread's own memory.
        if links.head.is_null() || unsafe { links.head.read() } != own {
            return false;
        }
        // Should this thread be killed from here on, the kernel looks at this mutex, too.
        // SAFETY: the third word of the head.
        let pending = unsafe { links.head.add(2) };
        // SAFETY: the thread's own memory.
        unsafe { pending.write_volatile(own) };
        compiler_fence(Ordering::SeqCst);
        // SAFETY: the thread's own memory.
        unsafe { links.head.write_volatile(links.next) };
        let next = core::ptr::with_exposed_provenance_mut::<usize>(links.next & !1);
        // SAFETY: the next entry is the head itself or another mutex that this thread holds: each has a word in front.
        let back = unsafe { next.sub(1) };
        // SAFETY: that word is written by the thread that holds the entry alone.
        unsafe { back.write_volatile(links.head.expose_provenance()) };
        compiler_fence(Ordering::SeqCst);
        self.free_words();
        compiler_fence(Ordering::SeqCst);
        // SAFETY: the thread's own memory.
        unsafe { pending.write_volatile(0) };
        true
    }

    /// The mutex is free, or given up when its last holder's death was not repaired.
    fn free_words(&self) {
        let owner = self.word(OWNER_AT);
        let left = if owner.load(Ordering::Relaxed) == INCONSISTENT { NOT_RECOVERABLE } else { 0 };
        owner.store(left, Ordering::Relaxed);
        let users = self.word(USERS_AT);
        users.store(users.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Relaxed);
        let lock = self.word(LOCK_AT);
        if lock.swap(0, Ordering::Release) & SOMEBODY_WAITS != 0 {
            crate::primitive::futex_wake(lock, 1);
        }
    }

    /// Nobody gets the mutex any more; it was damaged while this thread took it.
    #[cold]
    pub(super) fn give_up(&self) {
        self.word(OWNER_AT).store(INCONSISTENT, Ordering::Relaxed);
        self.free_words();
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
        let links = Links::now();
        assert_eq!(
            links.next,
            NonNull::from(mutex).addr().get() + NEXT_AT,
            "the first of those that are held"
        );
        drop(guard);
        assert_eq!(Links::now().next, links.head.addr(), "none is held");
        assert_eq!(mutex.lock_word(), 0);
        assert_eq!(
            mutex.word(OWNER_AT).load(Ordering::Relaxed) | mutex.word(USERS_AT).load(Ordering::Relaxed),
            0
        );
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
