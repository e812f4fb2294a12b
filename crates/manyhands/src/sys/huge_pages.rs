//! Fresh memory of large blocks in pages of 2 MiB, where the system has them: filling it takes a fifth of the time.
//!
//! No setting of the administrator's is needed: `MADV_COLLAPSE` (Linux 6.1) makes huge pages of ordinary ones on demand.
//! The kernel waits for every processor to give up pages it has set aside, which takes a moment on an idle machine and
//! 100 ms where others keep the processors: so no lock is held meanwhile, it is not asked while more threads want to run
//! than there are processors for, and a call that took longer than ordinary pages would have is not repeated for a while.
//! Where the system refuses, pages stay as they are.
#![allow(unsafe_code)] // maps room, advises the kernel

use super::clock;
use super::pages::{self, Range};
use rustix::mm::{MapFlags, ProtFlags};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// A huge page of x86-64, and of aarch64 with pages of 4 KiB.
pub(crate) const HUGE_BYTES: u64 = 2 << 20;
const MADV_COLLAPSE: i32 = 25;

/// Ordinary pages are filled at about this speed.
const ORDINARY_BYTES_A_MILLISECOND: u64 = 1 << 20;
/// How long the kernel is left alone after a call that took long: twice as long each time.
const SHORTEST_REST: u64 = 1_000;
const LONGEST_REST: u64 = 60_000;

/// When the kernel may be asked again, in milliseconds; never once it has said no.
static NOT_BEFORE: AtomicU64 = AtomicU64::new(0);
/// How long the last rest was.
static REST: AtomicU64 = AtomicU64::new(0);

/// Reserved addresses for `before` bytes and a mapping of `len` bytes behind them that begins at a multiple of a huge page;
/// `None` when it is too short for one, or there is no room.
pub(super) fn room_for(before: usize, len: usize) -> Option<NonNull<u8>> {
    let huge = HUGE_BYTES as usize;
    if len < huge {
        return None;
    }
    let whole = before.checked_add(len)?;
    let wider = whole.checked_add(huge)?;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing.
    let room =
        unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), wider, ProtFlags::empty(), flags) }.ok()?;
    let behind = room.addr() + before;
    let skipped = behind.next_multiple_of(huge) - behind;
    let start = room.wrapping_byte_add(skipped);
    for (place, bytes) in [(room, skipped), (start.wrapping_byte_add(whole), huge - skipped)] {
        if bytes > 0 {
            // SAFETY: a part of what was mapped above, and nobody knows it yet.
            let _ = unsafe { rustix::mm::munmap(place, bytes) };
        }
    }
    NonNull::new(start.cast())
}

/// Makes huge pages of the range, as far as whole ones lie inside: they have pages afterwards, or are as they were.
pub(super) fn collapse(range: Range) {
    let offset = range.offset();
    let (first, end) =
        (offset.next_multiple_of(HUGE_BYTES), (offset + range.bytes() as u64) / HUGE_BYTES * HUGE_BYTES);
    let start = range.place().as_ptr().wrapping_add((first - offset) as usize);
    let fits = first < end && start.addr().is_multiple_of(HUGE_BYTES as usize);
    let before = milliseconds();
    if !fits || before < NOT_BEFORE.load(Ordering::Relaxed) || is_crowded() {
        return;
    }
    // What has no page at all is not made a huge one.
    for unit in (first..end).step_by(HUGE_BYTES as usize) {
        if pages::make_sure(range.part((unit - offset) as usize, 1), None).is_err() {
            return;
        }
    }
    // SAFETY: the range is mapped until the process ends, and its contents stay what they are.
    let refused = unsafe { libc::madvise(start.cast(), (end - first) as usize, MADV_COLLAPSE) } != 0;
    if refused && std::io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
        return NOT_BEFORE.store(u64::MAX, Ordering::Relaxed);
    }
    let now = milliseconds();
    let slow = now - before > (end - first) / ORDINARY_BYTES_A_MILLISECOND + 1;
    let rest = if slow { (2 * REST.load(Ordering::Relaxed)).clamp(SHORTEST_REST, LONGEST_REST) } else { 0 };
    REST.store(rest, Ordering::Relaxed);
    NOT_BEFORE.store(now + rest, Ordering::Relaxed);
}

/// Whether more threads want to run than there are processors, and one: then the kernel's own may have to wait for long.
fn is_crowded() -> bool {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let running = load.split(' ').nth(3).and_then(|field| field.split('/').next()?.parse::<i64>().ok());
    // SAFETY: no memory is involved.
    let processors = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    running.is_some_and(|running| running > processors + 1)
}

fn milliseconds() -> u64 {
    clock::monotonic_nanoseconds() / 1_000_000
}
