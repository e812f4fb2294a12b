//! Memory of the arena that one process alone uses, over its forks.
//!
//! What a process has received is mapped like all of the arena, shared, because nobody else uses it. A fork would change
//! that: parent and child would write into the same bytes, where each has a copy of all its other memory. So before a
//! fork these ranges are mapped anew, privately: from then on the bytes in the arena stay what they are, and each of the
//! two processes gets a copy of a page when it writes to it, as with any memory. Before the bytes are given up, the range
//! is mapped as it was, so that whoever uses this part of the arena next finds it shared.
//!
//! Only a descriptor can be mapped privately, and the memory's number may be a user's file by now. So it is mapped at a
//! place of its own first, which touches no file, and is moved over the range only if the number meant the memory
//! afterwards: then it did before. Where the descriptor is gone, the range becomes a copy, which this process pays for at
//! once; what a thread writes to it just then (an extension module's, without the interpreter's lock) may be lost.
//!
//! Mapping as it was takes no descriptor: the page in front of a range is the arena's, shared, and of the same mapping.
#![allow(unsafe_code)] // replaces mappings

use super::OsError;
use super::pages::page_bytes;
use super::remembered::{CLOSED_BY_OTHERS, Remembered};
use manyhands_sync::arena::Handle;
use rustix::mm::{Advice, MapFlags, MremapFlags, ProtFlags};
use std::collections::BTreeMap;
use std::ffi::c_void;
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

/// From now on this process uses these bytes alone; `place` and `bytes` are those of whole pages, behind the page in which
/// the block's header lies.
pub(crate) fn enter(place: NonNull<u8>, handle: Handle, offset: u64, bytes: usize) {
    let mut ranges = ranges();
    let fresh = Range { handle, offset, bytes, users: 0, private: false, given: false };
    let range = ranges.entry(place.addr().get()).or_insert(fresh);
    range.users += 1;
    range.bytes = range.bytes.max(bytes);
}

/// Nobody uses them any more, if this was the last object: whether they may be given up.
pub(crate) fn leave(place: NonNull<u8>) -> bool {
    let mut ranges = ranges();
    let Some(range) = ranges.get_mut(&place.addr().get()) else { return true };
    range.users -= 1;
    if range.users > 0 {
        return true;
    }
    let range = *range;
    ranges.remove(&place.addr().get());
    // What cannot be mapped as it was is kept by this process until it ends.
    !range.private || share(place.addr().get(), range.bytes).is_ok()
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
pub(crate) fn before_fork(locked: &mut Locked, descriptor: impl FnOnce() -> Option<&'static Remembered>) {
    let mut shared = locked.0.iter_mut().filter(|(_, range)| !range.private).peekable();
    let memory = shared.peek().and_then(|_| descriptor());
    for (&address, range) in shared {
        let mapped = memory.ok_or(CLOSED_BY_OTHERS).and_then(|memory| map_privately(memory, range));
        let own = mapped
            .or_else(|error| if error == CLOSED_BY_OTHERS { copy(address, range.bytes) } else { Err(error) });
        // Where the system refuses, parent and child share the bytes.
        range.private = own.and_then(|own| move_over(own, range.bytes, address)).is_ok();
    }
}

const PROTECTION: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

/// The range's part of the memory, mapped privately somewhere.
fn map_privately(memory: &Remembered, range: &Range) -> Result<*mut c_void, OsError> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    let fd = memory.get()?;
    // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing, and no file: it is private.
    let own =
        unsafe { rustix::mm::mmap(std::ptr::null_mut(), range.bytes, PROTECTION, flags, fd, range.offset) }
            .map_err(OsError::new("mmap"))?;
    if memory.is_ours() {
        return Ok(own);
    }
    // SAFETY: mapped just now, and nobody knows it.
    let _ = unsafe { rustix::mm::munmap(own, range.bytes) };
    Err(CLOSED_BY_OTHERS)
}

/// The range's bytes, copied to memory of this process's own.
fn copy(address: usize, bytes: usize) -> Result<*mut c_void, OsError> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing.
    let own = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), bytes, PROTECTION, flags) }
        .map_err(OsError::new("mmap"))?;
    let from: *const u8 = std::ptr::with_exposed_provenance(address);
    // SAFETY: the range is mapped until the process ends, and has pages; the target was mapped just now, for so many bytes.
    unsafe { own.cast::<u8>().copy_from_nonoverlapping(from, bytes) };
    Ok(own)
}

/// Maps the range as it was: from the page in front of it.
fn share(address: usize, bytes: usize) -> Result<(), OsError> {
    let page = page_bytes() as usize;
    let front = std::ptr::with_exposed_provenance_mut(address - page);
    // SAFETY: an old size of 0 takes nothing from the page in front, which is mapped and shared, says enter(): the block's
    // header is in it, and so no other range.
    let both = unsafe { rustix::mm::mremap(front, 0, page + bytes, MremapFlags::MAYMOVE) }
        .map_err(OsError::new("mremap"))?;
    let moved = move_over(both.wrapping_byte_add(page), bytes, address);
    // SAFETY: mapped just now, and nobody knows it.
    let _ = unsafe { rustix::mm::munmap(both, page) };
    moved
}

/// Puts a new mapping in the range's place, in one step, so that no access meets a gap.
fn move_over(own: *mut c_void, bytes: usize, address: usize) -> Result<(), OsError> {
    // SAFETY: the range was mapped just now by the caller.
    let _ = unsafe { rustix::mm::madvise(own, bytes, Advice::LinuxDontDump) };
    let place = std::ptr::with_exposed_provenance_mut(address);
    // SAFETY: the range is whole pages of the arena's mapping, which stays at this place until the process ends; what is
    // moved there, known to nobody yet, has the same bytes.
    let moved = unsafe { rustix::mm::mremap_fixed(own, bytes, bytes, MremapFlags::MAYMOVE, place) };
    if moved.is_err() {
        // SAFETY: still where the caller has mapped it.
        let _ = unsafe { rustix::mm::munmap(own, bytes) };
    }
    moved.map(drop).map_err(OsError::new("mremap"))
}
