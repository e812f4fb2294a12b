//! Which extents of the arena this process has mapped, and where.
#![allow(unsafe_code)] // implements Memory, whose contract is the mapping's lifetime

use super::memory::{self, Access};
use super::wide::WideList;
use super::{OsError, clock, huge_pages, refusals};
use manyhands_sync::arena::{ArenaHeader, Backing, CHUNK_BYTES, CommitError, MOST_CHUNKS, Owner};
use manyhands_sync::memory::Memory;
use std::alloc::{Layout, alloc_zeroed};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The table of mapped chunks. A forked child inherits it with the mappings.
#[derive(Debug)]
struct ExtentTable {
    fd: OwnedFd,
    size: u64,
    access: Access,
    /// Where each chunk begins in this process; null while it is not mapped. Never goes back to null.
    chunks: Box<[AtomicPtr<u8>]>,
    /// What lies over the borders of extents.
    wide: WideList,
}

/// The arena's memory, as this process sees it.
#[derive(Clone, Copy, Debug)]
pub struct Extents(&'static ExtentTable);

impl Extents {
    /// Maps the first extent. The table lives until the process ends, as the mappings do.
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, OsError> {
        Self::with(fd, Access::ReadWrite)
    }

    /// As [`Extents::new`], for somebody who only looks: whoever writes or locks through this is killed.
    pub(crate) fn read_only(fd: OwnedFd) -> Result<Self, OsError> {
        Self::with(fd, Access::Read)
    }

    fn with(fd: OwnedFd, access: Access) -> Result<Self, OsError> {
        let size = memory::size_of(fd.as_fd())?;
        let chunks = unmapped(MOST_CHUNKS)?;
        let extents =
            Self(Box::leak(Box::new(ExtentTable { fd, size, access, chunks, wide: WideList::default() })));
        extents.map(0, CHUNK_BYTES)?;
        Ok(extents)
    }

    /// How many bytes the memory may have.
    pub(crate) fn size(&self) -> u64 {
        self.0.size
    }

    /// The descriptor of the memory.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'static> {
        self.0.fd.as_fd()
    }

    fn map(&self, start: u64, len: u64) -> Result<(), OsError> {
        let too_large = OsError { call: "mmap", errno: libc::ENOMEM };
        if start.checked_add(len).is_none_or(|end| end > self.0.size) {
            return Err(too_large);
        }
        let bytes = usize::try_from(len).map_err(|_| too_large)?;
        let place = memory::map_forever(self.descriptor(), start, bytes, self.0.access)
            .inspect_err(|_| refusals::note(len, self.0.size))?;
        let first = (start / CHUNK_BYTES) as usize;
        let published = self.publish(first, place, bytes);
        if !published {
            // SAFETY: just mapped by us, and another thread's mapping was published instead.
            unsafe { memory::unmap_unpublished(place, bytes) };
        }
        Ok(())
    }

    /// Two threads may map the same extent at once: the one that publishes its first chunk wins.
    fn publish(&self, first: usize, place: NonNull<u8>, bytes: usize) -> bool {
        let table = &self.0.chunks;
        let won = table[first].compare_exchange(
            std::ptr::null_mut(),
            place.as_ptr(),
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        if won.is_err() {
            return false;
        }
        for (i, chunk) in table[first..].iter().take(bytes / CHUNK_BYTES as usize).enumerate().skip(1) {
            // SAFETY: the mapping is `bytes` long and the index stays inside it.
            chunk.store(unsafe { place.as_ptr().add(i * CHUNK_BYTES as usize) }, Ordering::Release);
        }
        true
    }

    /// The slow way: find the extent in the arena's directory, map it if need be, check the end.
    #[cold]
    fn resolve_slowly(&self, offset: u64, len: usize) -> Option<NonNull<u8>> {
        let header = NonNull::new(self.0.chunks[0].load(Ordering::Acquire))?.cast::<ArenaHeader>();
        // SAFETY: chunk 0 is mapped for ever and begins with the header, whose fields are atomics.
        let header = unsafe { header.as_ref() };
        let (start, bytes) = header.extent_of(offset)?;
        let end = offset.checked_add(len as u64)?;
        if end > start + bytes {
            header.extent_of(end - 1)?;
            return self.resolve_wide(offset, len);
        }
        let first = self.0.chunks.get((start / CHUNK_BYTES) as usize)?;
        if first.load(Ordering::Acquire).is_null() {
            self.map(start, bytes).ok()?;
        }
        let base = NonNull::new(first.load(Ordering::Acquire))?;
        // SAFETY: offset - start < bytes, the length of the mapping that begins at `base`.
        Some(unsafe { base.add((offset - start) as usize) })
    }

    /// What lies over the border of extents is mapped once more.
    fn resolve_wide(&self, offset: u64, len: usize) -> Option<NonNull<u8>> {
        // Beyond the memory's end an access would be answered with a signal that kills.
        offset
            .checked_add(len as u64)?
            .checked_next_multiple_of(CHUNK_BYTES)
            .filter(|&end| end <= self.0.size)?;
        let map = |start, bytes| memory::map_forever(self.descriptor(), start, bytes, self.0.access);
        // SAFETY: just mapped, and another thread's mapping was published instead.
        let unmap = |place, bytes| unsafe { memory::unmap_unpublished(place, bytes) };
        self.0.wide.resolve(offset, len, map, unmap).ok()
    }
}

/// A table of null pointers, in memory that stays untouched until a chunk is mapped: most processes map one.
fn unmapped(chunks: usize) -> Result<Box<[AtomicPtr<u8>]>, OsError> {
    let no_memory = OsError { call: "malloc", errno: libc::ENOMEM };
    let layout = Layout::array::<AtomicPtr<u8>>(chunks).map_err(|_| no_memory)?;
    // SAFETY: the layout is not empty, for there is always a chunk.
    let first = unsafe { alloc_zeroed(layout) }.cast::<AtomicPtr<u8>>();
    if first.is_null() {
        return Err(no_memory);
    }
    let table = std::ptr::slice_from_raw_parts_mut(first, chunks);
    // SAFETY: just allocated with the layout of this slice; zeroes are null pointers.
    Ok(unsafe { Box::from_raw(table) })
}

// SAFETY: what is mapped is never unmapped; a pointer is given out only for a range inside one mapped extent;
// mappings are page-aligned, so offsets keep their alignment.
unsafe impl Memory for Extents {
    #[inline]
    fn resolve(&self, offset: u64, len: usize) -> Option<NonNull<u8>> {
        let within = offset % CHUNK_BYTES;
        if within + len as u64 <= CHUNK_BYTES {
            let chunk = self.0.chunks.get((offset / CHUNK_BYTES) as usize)?.load(Ordering::Acquire);
            if let Some(base) = NonNull::new(chunk) {
                // SAFETY: `within + len` stays inside the chunk, which is mapped as a whole.
                return Some(unsafe { base.add(within as usize) });
            }
        }
        self.resolve_slowly(offset, len)
    }
}

impl Backing for Extents {
    fn commit(&self, offset: u64, len: u64) -> Result<(), CommitError> {
        if len >= huge_pages::HUGE_BYTES
            && let Some(place) = usize::try_from(len).ok().and_then(|len| self.resolve(offset, len))
        {
            huge_pages::collapse(self.descriptor(), offset, len, place);
        }
        memory::commit(self.descriptor(), offset, len).map_err(|_| CommitError)
    }

    fn give_back(&self, offset: u64, len: u64) {
        memory::give_back(self.descriptor(), offset, len);
    }

    fn me(&self) -> Owner {
        crate::family::me()
    }

    fn reclaim(&self) -> bool {
        crate::family::reclaim::instead_of_growing()
    }

    fn milliseconds(&self) -> u64 {
        clock::monotonic_nanoseconds() / 1_000_000
    }
}
