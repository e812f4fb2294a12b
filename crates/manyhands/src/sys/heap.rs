//! The C library's own memory, in a process whose children begin as copies of it.
#![allow(unsafe_code)] // calls the C library

/// `mallopt(M_MXFAST, 0)`: a small piece that is freed joins its free neighbours at once.
///
/// GNU's library would put it by, and join all of them when somebody asks for more than a kilobyte. In a forked child that
/// happens once more each time, in some thirty pages that all have to be copied for it. What comes and goes most has lists
/// of each thread's own in front of this, and keeps them. The children of this process have it so, too.
pub(crate) fn join_at_once() {
    // SAFETY: the call takes two numbers, and locks what it changes.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MXFAST, 0)
    };
}
