//! Signals kept away from a thread for a moment: while a child is made of it, say, of which an interrupted caller would
//! never hear.
#![allow(unsafe_code)] // pthread_sigmask, which rustix lacks

use super::OsError;
use std::cell::Cell;
use std::mem::MaybeUninit;

/// Which signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signals {
    /// SIGINT alone.
    Interrupt,
    /// All that may come at any moment: not those by which the processor reports what an instruction did.
    Asynchronous,
}

/// Raised by the very instruction that is to blame: blocked, they would end the process without a word.
const SYNCHRONOUS: [i32; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS, libc::SIGABRT];

thread_local! {
    /// The mask that a child forked from this thread takes on.
    static OF_CHILD: Cell<Option<libc::sigset_t>> = const { Cell::new(None) };
}

/// These signals are blocked in this thread, until this is dropped.
///
/// A child that is forked meanwhile takes the mask from before by [`take_on_in_child`], with SIGINT blocked if asked for.
pub struct BlockedSignals {
    before: libc::sigset_t,
    /// The mask of a child, where signals are blocked around this.
    around: Option<libc::sigset_t>,
    /// It belongs to the thread.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl std::fmt::Debug for BlockedSignals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockedSignals").field("let_sigint_in", &self.let_sigint_in()).finish_non_exhaustive()
    }
}

impl BlockedSignals {
    /// Blocks them. `child_without_sigint`: in a child that is forked meanwhile SIGINT stays blocked.
    ///
    /// # Errors
    /// Never, as long as the C library means what it says.
    pub fn new(signals: Signals, child_without_sigint: bool) -> Result<Self, OsError> {
        let set = match signals {
            Signals::Interrupt => with(empty(), libc::SIGINT),
            Signals::Asynchronous => asynchronous(),
        };
        let before = change(libc::SIG_BLOCK, &set)?;
        let of_child = if child_without_sigint { with(before, libc::SIGINT) } else { before };
        let around = OF_CHILD.replace(Some(of_child));
        Ok(Self { before, around, _not_send: std::marker::PhantomData })
    }

    /// Whether this thread has one of these.
    #[must_use]
    pub fn are_held() -> bool {
        OF_CHILD.get().is_some()
    }

    /// Whether SIGINT was not blocked before.
    #[must_use]
    pub fn let_sigint_in(&self) -> bool {
        // SAFETY: the set was filled by `pthread_sigmask`, and the signal exists.
        unsafe { libc::sigismember(&raw const self.before, libc::SIGINT) == 0 }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        OF_CHILD.set(self.around.take());
        // A mask that was in force a moment ago can be set again.
        let _ = change(libc::SIG_SETMASK, &self.before);
    }
}

/// In a forked child that is not ready for signals yet: they are kept away, until [`take_on_in_child`].
///
/// # Errors
/// Never, as long as the C library means what it says.
pub fn keep_away_in_child() -> Result<(), OsError> {
    OF_CHILD.set(Some(change(libc::SIG_BLOCK, &asynchronous())?));
    Ok(())
}

/// In a child that was forked, by the thread that forked: signals that were kept from it, or from its parent, come in.
pub fn take_on_in_child() {
    if let Some(mask) = OF_CHILD.take() {
        let _ = change(libc::SIG_SETMASK, &mask);
    }
}

/// Changes the mask of this thread; the one from before.
fn change(how: i32, set: &libc::sigset_t) -> Result<libc::sigset_t, OsError> {
    let mut before = empty();
    // SAFETY: both sets are live values of this function's or its caller's, of which the second is written.
    let result = unsafe { libc::pthread_sigmask(how, set, &raw mut before) };
    if result == 0 { Ok(before) } else { Err(OsError { call: "pthread_sigmask", errno: result }) }
}

fn asynchronous() -> libc::sigset_t {
    SYNCHRONOUS.into_iter().fold(full(), without)
}

fn empty() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the call writes the whole set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: written by the call above.
    unsafe { set.assume_init() }
}

fn full() -> libc::sigset_t {
    let mut set = empty();
    // SAFETY: the set is a live value of this function's.
    unsafe { libc::sigfillset(&raw mut set) };
    set
}

fn with(mut set: libc::sigset_t, signal: i32) -> libc::sigset_t {
    // SAFETY: the set is a live value of this function's, made by the C library.
    unsafe { libc::sigaddset(&raw mut set, signal) };
    set
}

fn without(mut set: libc::sigset_t, signal: i32) -> libc::sigset_t {
    // SAFETY: the set is a live value of this function's, made by the C library.
    unsafe { libc::sigdelset(&raw mut set, signal) };
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocked(signal: i32) -> bool {
        let now = change(libc::SIG_BLOCK, &empty()).expect("a mask");
        // SAFETY: the set was filled by `pthread_sigmask`, and the signal exists.
        unsafe { libc::sigismember(&raw const now, signal) == 1 }
    }

    #[test]
    fn signals_are_blocked_for_as_long_as_asked_and_a_child_takes_on_what_was_before() {
        assert!(!blocked(libc::SIGTERM) && !blocked(libc::SIGINT));
        let away = BlockedSignals::new(Signals::Asynchronous, true).expect("a mask");
        assert!(away.let_sigint_in());
        assert!(blocked(libc::SIGTERM) && blocked(libc::SIGALRM) && !blocked(libc::SIGSEGV));
        // What a child does first.
        take_on_in_child();
        assert!(!blocked(libc::SIGTERM) && blocked(libc::SIGINT));
        drop(away);
        assert!(!blocked(libc::SIGTERM) && !blocked(libc::SIGINT));
        let away = BlockedSignals::new(Signals::Interrupt, false).expect("a mask");
        assert!(blocked(libc::SIGINT) && !blocked(libc::SIGTERM));
        drop(away);
        take_on_in_child();
        assert!(!blocked(libc::SIGINT));
    }
}
