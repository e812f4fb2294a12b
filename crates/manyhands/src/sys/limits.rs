//! What the system allows this process.
#![allow(unsafe_code)] // asks the kernel

use std::mem::MaybeUninit;

/// Whether this process may map only so much.
pub(crate) fn is_address_space_limited() -> bool {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: the kernel fills the structure, or says that it has not.
    if unsafe { libc::getrlimit(libc::RLIMIT_AS, limit.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: filled, as the kernel has said.
    unsafe { limit.assume_init() }.rlim_cur != libc::RLIM_INFINITY
}
