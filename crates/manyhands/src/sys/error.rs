//! What a refused system call becomes.

use super::remembered::CLOSED_BY_OTHERS;

/// A system call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OsError {
    /// The call.
    pub call: &'static str,
    /// Why the kernel refused it.
    pub errno: i32,
}

impl OsError {
    /// The engine calls with descriptors that it has just made, or looked at: one that is none was closed in between.
    pub(crate) fn new(call: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| match errno.raw_os_error() {
            libc::EBADF => CLOSED_BY_OTHERS,
            errno => Self { call, errno },
        }
    }

    /// Whether there was no room for it: another time there may be.
    pub(crate) fn is_want_of_room(&self) -> bool {
        matches!(self.errno, libc::EMFILE | libc::ENFILE | libc::ENOMEM)
    }
}

impl std::fmt::Display for OsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.call, std::io::Error::from_raw_os_error(self.errno))
    }
}

impl std::error::Error for OsError {}
