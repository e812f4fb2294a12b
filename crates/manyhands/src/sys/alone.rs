//! Memory of the arena that one process alone uses, over its forks.
//!
//! What a process has received is mapped like all of the arena, shared, because nobody else uses it. A fork would change
//! that: parent and child would write into the same bytes, where each has a copy of all its other memory. So before a
//! fork these ranges are mapped anew, privately: from then on the bytes in the arena stay what they are, and each of the
//! two processes gets a copy of a page when it writes to it, as with any memory. Before the bytes are given up, the range
//! is mapped as it was, so that whoever uses this part of the arena next finds it shared.
#![allow(unsafe_code)] // replaces mappings

use super::OsError;
use manyhands_sync::arena::Handle;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The kernel maps some 65,000 ranges for a process, and each of these may cost two.
const MOST_RANGES: usize = 8_192;

/// Whole pages that this process uses alone.
#[derive(Clone, Copy, Debug)]
struct Range {
    /// The block they are of.
    handle: Handle,
    /// Where they begin in the arena.
    offset: u64,
    bytes: usize,
    /// How many objects of this process use them.
    users: u32,
    /// Whether a fork made them this process's in the kernel's eyes too.
    private: bool,
    /// Whether this process has given them to another one, though it has objects of them still.
    given: bool,
}

/// By their address.
static RANGES: Mutex<BTreeMap<usize, Range>> = Mutex::new(BTreeMap::new());

fn ranges() -> MutexGuard<'static, BTreeMap<usize, Range>> {
    RANGES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether no more ranges can be used alone: whoever receives more must copy them.
pub(crate) fn is_full() -> bool {
    ranges().len() >= MOST_RANGES
}

/// From now on this process uses these bytes alone; `place` and `bytes` are those of whole pages.
pub(crate) fn enter(place: NonNull<u8>, handle: Handle, offset: u64, bytes: usize) {
    let mut ranges = ranges();
    let fresh = Range { handle, offset, bytes, users: 0, private: false, given: false };
    let range = ranges.entry(place.addr().get()).or_insert(fresh);
    range.users += 1;
    range.bytes = range.bytes.max(bytes);
}

/// Nobody uses them any more, if this was the last object: whether they may be given up.
pub(crate) fn leave(place: NonNull<u8>, fd: BorrowedFd<'_>) -> bool {
    let mut ranges = ranges();
    let Some(range) = ranges.get_mut(&place.addr().get()) else { return true };
    range.users -= 1;
    if range.users > 0 {
        return true;
    }
    let range = *range;
    ranges.remove(&place.addr().get());
    // What cannot be mapped as it was is kept by this process until it ends.
    !range.private || remap(place.addr().get(), &range, MapFlags::SHARED, fd).is_ok()
}

/// The block in which `len` bytes at `address` lie and how far behind its range's beginning, if this process uses them
/// alone: it has neither forked since it got them nor given them away. Given away they are from now on.
pub(crate) fn give(address: usize, len: usize) -> Option<(Handle, usize)> {
    let mut ranges = ranges();
    let (&start, range) = ranges.range_mut(..=address).next_back()?;
    let inside = address.checked_add(len)? <= start + range.bytes;
    if !inside || range.private || range.given {
        return None;
    }
    range.given = true;
    Some((range.handle, address - start))
}

/// What was given has not gone, or has come back: this process has it as before.
pub(crate) fn take_back(place: NonNull<u8>) {
    if let Some(range) = ranges().get_mut(&place.addr().get()) {
        range.given = false;
    }
}

/// The list of ranges, locked over a fork: the child must not find it in the hands of a thread that it does not have.
#[derive(Debug)]
pub(crate) struct Locked(MutexGuard<'static, BTreeMap<usize, Range>>);

/// Locks it.
pub(crate) fn lock_for_fork() -> Locked {
    Locked(ranges())
}

/// Before a fork: what this process uses alone, its child will have a copy of.
pub(crate) fn before_fork(locked: &mut Locked, fd: BorrowedFd<'_>) {
    for (&address, range) in locked.0.iter_mut().filter(|(_, range)| !range.private) {
        // Where the system refuses, parent and child share the bytes.
        range.private = remap(address, range, MapFlags::PRIVATE, fd).is_ok();
    }
}

fn remap(address: usize, range: &Range, sharing: MapFlags, fd: BorrowedFd<'_>) -> Result<(), OsError> {
    let place = std::ptr::with_exposed_provenance_mut(address);
    let flags = sharing | MapFlags::FIXED | MapFlags::NORESERVE;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the range is whole pages of the arena's mapping, which stays at this place until the process ends; the same
    // bytes of the same memory are mapped there again, in one step, so that no access meets a gap.
    unsafe { rustix::mm::mmap(place, range.bytes, protection, flags, fd, range.offset) }
        .map_err(OsError::new("mmap"))?;
    // SAFETY: the range was mapped just now by the call above.
    let _ = unsafe { rustix::mm::madvise(place, range.bytes, Advice::LinuxDontDump) };
    Ok(())
}

/// How many bytes the system's pages have.
pub(crate) fn page_bytes() -> u64 {
    // SAFETY: no memory is involved.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.unsigned_abs().max(4096)
}
