//! Fresh memory of large blocks in pages of 2 MiB, where the system has them: filling it takes a fifth of the time.
//!
//! No setting of the administrator's is needed: `MADV_COLLAPSE` (Linux 6.1) makes huge pages of ordinary ones on demand.
//! It may take some milliseconds while other processors are busy, so it is only asked for memory that will be used again
//! and again, with no lock held. Where the system refuses, pages stay as they are.
#![allow(unsafe_code)] // maps room, advises the kernel

use super::memory;
use rustix::mm::{MapFlags, ProtFlags};
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

/// A huge page of x86-64, and of aarch64 with pages of 4 KiB.
pub(crate) const HUGE_BYTES: u64 = 2 << 20;
const MADV_COLLAPSE: i32 = 25;

/// The kernel said no: it will not be asked again.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Reserved addresses for a mapping of so many bytes, at a multiple of a huge page; `None` when it is too short for one,
/// or there is no room.
pub(super) fn room_for(len: usize) -> Option<NonNull<u8>> {
    let huge = HUGE_BYTES as usize;
    if len < huge {
        return None;
    }
    let wider = len.checked_add(huge)?;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing.
    let room =
        unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), wider, ProtFlags::empty(), flags) }.ok()?;
    let before = room.addr().next_multiple_of(huge) - room.addr();
    let start = room.wrapping_byte_add(before);
    for (place, bytes) in [(room, before), (start.wrapping_byte_add(len), huge - before)] {
        if bytes > 0 {
            // SAFETY: a part of what was mapped above, and nobody knows it yet.
            let _ = unsafe { rustix::mm::munmap(place, bytes) };
        }
    }
    NonNull::new(start.cast())
}

/// Makes huge pages of the `len` bytes at `offset` that are mapped at `place`, as far as whole ones lie inside: they have
/// pages afterwards, or are as they were.
pub(super) fn collapse(fd: BorrowedFd<'_>, offset: u64, len: u64, place: NonNull<u8>) {
    let (first, end) = (offset.next_multiple_of(HUGE_BYTES), (offset + len) / HUGE_BYTES * HUGE_BYTES);
    let start = place.as_ptr().wrapping_add((first - offset) as usize);
    let fits = first < end && start.addr().is_multiple_of(HUGE_BYTES as usize);
    if !fits || REFUSED.load(Ordering::Relaxed) {
        return;
    }
    // What has no page at all is not made a huge one.
    for unit in (first..end).step_by(HUGE_BYTES as usize) {
        if memory::commit(fd, unit, 1).is_err() {
            return;
        }
    }
    // SAFETY: the range is mapped until the process ends, and its contents stay what they are.
    let refused = unsafe { libc::madvise(start.cast(), (end - first) as usize, MADV_COLLAPSE) } != 0;
    if refused && std::io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
        REFUSED.store(true, Ordering::Relaxed);
    }
}
