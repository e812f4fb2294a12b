//! What this process does when it ends by `exit`, as late as it can.
#![allow(unsafe_code)] // calls the C library

/// `atexit`: `exit` calls the function; a signal, `_exit` and `exec` do not. Forked children inherit it.
pub(crate) fn register(function: extern "C" fn()) {
    // SAFETY: the function takes nothing and lives as long as the program: nobody unloads an extension module.
    // A refusal (no memory) costs no more than what the function would have done.
    let _ = unsafe { libc::atexit(function) };
}
