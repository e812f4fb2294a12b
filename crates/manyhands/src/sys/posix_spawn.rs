//! Starting a program without copying this process: the cost does not depend on how large it is.
#![allow(unsafe_code)] // posix_spawn takes raw pointers

use super::OsError;
use super::limits::Numbers;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

/// `posix_spawn(program, argv, envp)`: the child inherits the standard streams and `passed`, each under its own
/// number, and no other descriptor that is closed on exec. Its pid.
pub(crate) fn spawn(
    program: &CStr,
    arguments: &[CString],
    environment: &[CString],
    passed: &[RawFd],
) -> Result<u32, OsError> {
    let mut actions = FileActions::new()?;
    let highest = passed.iter().filter_map(|&fd| u64::try_from(fd).ok()).max();
    let nameable = highest.map(Numbers::up_to);
    for &fd in passed {
        actions.keep_open(fd)?;
    }
    drop(nameable);
    let (argv, envp) = (pointers(arguments), pointers(environment));
    let mut pid = 0;
    // SAFETY: every pointer is to a value of this function or its caller that outlives the call; both arrays end
    // with a null pointer; glibc takes a null attributes pointer for the defaults.
    let errno = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.as_ptr(),
            actions.0.as_ptr(),
            std::ptr::null(),
            argv.as_ptr(),
            envp.as_ptr(),
        )
    };
    if errno != 0 {
        return Err(OsError { call: "posix_spawn", errno });
    }
    Ok(pid.unsigned_abs())
}

/// A null-terminated array of the strings' addresses. posix_spawn does not write through them.
fn pointers(strings: &[CString]) -> Vec<*mut libc::c_char> {
    strings.iter().map(|s| s.as_ptr().cast_mut()).chain([std::ptr::null_mut()]).collect()
}

struct FileActions(MaybeUninit<libc::posix_spawn_file_actions_t>);

impl FileActions {
    fn new() -> Result<Self, OsError> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: initialises the object it is given.
        match unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) } {
            0 => Ok(Self(actions)),
            errno => Err(OsError { call: "posix_spawn_file_actions_init", errno }),
        }
    }

    /// A dup2 of a descriptor onto itself clears its close-on-exec flag in the child (glibc 2.29).
    fn keep_open(&mut self, fd: RawFd) -> Result<(), OsError> {
        // SAFETY: initialised in new(); a number that is no descriptor makes posix_spawn fail in the child.
        match unsafe { libc::posix_spawn_file_actions_adddup2(self.0.as_mut_ptr(), fd, fd) } {
            0 => Ok(()),
            errno => Err(OsError { call: "posix_spawn_file_actions_adddup2", errno }),
        }
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: initialised in new(), not used afterwards.
        unsafe { libc::posix_spawn_file_actions_destroy(self.0.as_mut_ptr()) };
    }
}
