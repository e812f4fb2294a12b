//! What is done around every `fork` of this process, whoever calls it: at the last moment before it, and first after it.
#![allow(unsafe_code)] // calls the C library

use super::OsError;
use std::sync::OnceLock;

/// The three moments. None of them may panic, or fork.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handlers {
    /// Just before the fork, in the thread that forks.
    pub(crate) prepare: fn(),
    /// Just after it, in the same thread of the parent; `true` when it looks as if there were no child. (A C library other
    /// than GNU's does not say so, and another's handler may have made it look so.)
    pub(crate) parent: fn(bool),
    /// Just after it, in the child's only thread.
    pub(crate) child: fn(),
}

static HANDLERS: OnceLock<Handlers> = OnceLock::new();

extern "C" fn prepare() {
    if let Some(handlers) = HANDLERS.get() {
        (handlers.prepare)();
    }
    // SAFETY: no memory is involved.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the C library's own word of this thread, always there.
    unsafe { errno.write(0) };
}

extern "C" fn parent() {
    if let Some(handlers) = HANDLERS.get() {
        let errno = std::io::Error::last_os_error().raw_os_error();
        (handlers.parent)(matches!(errno, Some(libc::EAGAIN | libc::ENOMEM)));
    }
}

extern "C" fn child() {
    if let Some(handlers) = HANDLERS.get() {
        (handlers.child)();
    }
}

/// `pthread_atfork`, once in a process and its forked children: later calls change nothing.
///
/// # Errors
/// When the C library has no memory for it.
pub(crate) fn register(handlers: Handlers) -> Result<(), OsError> {
    if HANDLERS.set(handlers).is_err() {
        return Ok(());
    }
    // SAFETY: the functions take nothing and live as long as the program: nobody unloads an extension module.
    let errno = unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    if errno == 0 { Ok(()) } else { Err(OsError { call: "pthread_atfork", errno }) }
}
