//! Which extents of the arena this process has mapped, and where.
//!
//! The first one is mapped by the memory's descriptor, right after it was made or passed. Every other one is mapped again
//! from one that is mapped (`mremap` with an old size of 0): by then the descriptor's number may be a user's file. For that,
//! each mapping has a page more than its extent: the next one begins there.
//!
//! How long an extent is, its mapping says, not the arena's directory: what is read there was believed once, when the
//! extent was mapped, and others may have changed it since.
#![allow(unsafe_code)] // implements Memory, whose contract is the mapping's lifetime

use super::memory::{self, Access};
use super::pages::{self, Range};
use super::remembered::{FileIdentity, Remembered};
use super::wide::WideList;
use super::{OsError, clock, huge_pages, lost_memory, refusals};
use manyhands_sync::arena::{ArenaHeader, Backing, CHUNK_BYTES, CommitError, MOST_CHUNKS, Owner};
use manyhands_sync::memory::Memory;
use std::alloc::{Layout, alloc_zeroed};
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// What is known of a chunk in this process. All zeroes while it is not mapped.
#[derive(Debug, Default)]
struct Chunk {
    /// Where it begins; null while it is not mapped. Never goes back to null.
    place: AtomicPtr<u8>,
    /// If an extent begins here, how many chunks are mapped of it. Written before any of their places.
    extent: AtomicU32,
}

/// The table of mapped chunks. A forked child inherits it with the mappings.
#[derive(Debug)]
struct ExtentTable {
    /// What was mapped.
    file: FileIdentity,
    /// Its descriptor, to be passed to children; null in a process that only looks. Never freed.
    descriptor: AtomicPtr<Remembered>,
    size: u64,
    chunks: Box<[Chunk]>,
    /// What lies over the borders of extents.
    wide: WideList,
}

/// The arena's memory, as this process sees it.
#[derive(Clone, Copy, Debug)]
pub struct Extents(&'static ExtentTable);

impl Extents {
    /// Maps the first extent of what the caller has just made or been given. The table lives until the process ends, as the
    /// mappings do.
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, OsError> {
        let extents = Self::over(&fd, Access::ReadWrite)?;
        extents.remember(Remembered::new(fd)?);
        Ok(extents)
    }

    /// As [`Extents::new`], for somebody who only looks: whoever writes or locks through this is killed.
    pub(crate) fn read_only(fd: &OwnedFd) -> Result<Self, OsError> {
        Self::over(fd, Access::Read)
    }

    fn over(fd: &OwnedFd, access: Access) -> Result<Self, OsError> {
        let (file, size) = (FileIdentity::of(fd.as_fd())?, memory::size_of(fd.as_fd())?);
        let (chunks, len) = (unmapped(MOST_CHUNKS)?, CHUNK_BYTES as usize + tail_bytes());
        let place = memory::map_forever(fd.as_fd(), 0, len, access)?;
        if FileIdentity::of(fd.as_fd()) != Ok(file) {
            // Another thread has closed it in between, and what is mapped is something else.
            // SAFETY: mapped just now, and nobody knows it.
            unsafe { memory::unmap_unpublished(place, len) };
            return Err(super::remembered::CLOSED_BY_OTHERS);
        }
        let descriptor = AtomicPtr::default();
        let extents = Self(Box::leak(Box::new(ExtentTable {
            file,
            descriptor,
            size,
            chunks,
            wide: WideList::default(),
        })));
        extents.publish(0, place, 1);
        Ok(extents)
    }

    /// How many bytes the memory may have.
    pub(crate) fn size(&self) -> u64 {
        self.0.size
    }

    /// The descriptor of the memory, to be passed to a child, had anew where it can be.
    ///
    /// # Errors
    /// [`lost_memory::CLOSED`] when other code has closed it.
    pub(crate) fn descriptor(&self) -> Result<&'static Remembered, OsError> {
        match self.known_descriptor() {
            Some(known) if known.is_ours() => Ok(known),
            Some(_) => {
                let place = self.0.chunks[0].place.load(Ordering::Acquire);
                self.adopt_again(lost_memory::behind_mapping(place.addr()))
            }
            None => Err(lost_memory::CLOSED),
        }
    }

    /// Takes one of these for the memory's descriptor, if it is one.
    pub(crate) fn adopt_again(
        &self,
        found: impl IntoIterator<Item = OwnedFd>,
    ) -> Result<&'static Remembered, OsError> {
        let same = |fd: &OwnedFd| FileIdentity::of(fd.as_fd()) == Ok(self.0.file);
        let fd = found.into_iter().find(same).ok_or(lost_memory::CLOSED)?;
        Ok(self.remember(Remembered::new(fd)?))
    }

    fn known_descriptor(&self) -> Option<&'static Remembered> {
        // SAFETY: null, or what remember() has leaked.
        unsafe { self.0.descriptor.load(Ordering::Acquire).as_ref() }
    }

    fn remember(&self, descriptor: Remembered) -> &'static Remembered {
        let leaked: &'static mut Remembered = Box::leak(Box::new(descriptor));
        self.0.descriptor.store(leaked, Ordering::Release);
        leaked
    }

    /// Makes an extent's mapping known: first how long it is, then where its chunks lie, from the first on.
    fn publish(&self, first: usize, place: NonNull<u8>, count: usize) {
        let chunks = &self.0.chunks[first..first + count];
        chunks[0].extent.store(count as u32, Ordering::Release);
        for (i, chunk) in chunks.iter().enumerate() {
            // SAFETY: the mapping has `count` chunks and a page, and the index stays inside it.
            let place = unsafe { place.add(i * CHUNK_BYTES as usize) };
            chunk.place.store(place.as_ptr(), Ordering::Release);
        }
    }

    /// The slow way: the range is longer than what is left of its chunk, or the chunk is not mapped yet.
    #[cold]
    fn resolve_slowly(&self, offset: u64, len: usize) -> Option<NonNull<u8>> {
        let chunk = usize::try_from(offset / CHUNK_BYTES).ok()?;
        if self.0.chunks.get(chunk)?.place.load(Ordering::Acquire).is_null() {
            self.map_extent_of(offset).ok()?;
        }
        let (first, place, count) = self.mapping_of(chunk)?;
        let within = offset - first as u64 * CHUNK_BYTES;
        if within.checked_add(len as u64)? > count as u64 * CHUNK_BYTES {
            return self.resolve_wide(offset, len);
        }
        // SAFETY: `within + len` stays inside the mapping, whose length this process has noted itself.
        Some(unsafe { place.add(within as usize) })
    }

    /// What lies over the border of extents is mapped once more.
    fn resolve_wide(&self, offset: u64, len: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(len as u64)?;
        // Beyond the memory's end an access would be answered with a signal that kills.
        end.checked_next_multiple_of(CHUNK_BYTES).filter(|&end| end <= self.0.size)?;
        let header = NonNull::new(self.0.chunks[0].place.load(Ordering::Acquire))?.cast::<ArenaHeader>();
        // SAFETY: chunk 0 is mapped for ever and begins with the header, whose fields are atomics.
        unsafe { header.as_ref() }.extent_of(end - 1)?;
        let map = |start: u64, bytes| {
            let mapped = self.map_behind_nearest((start / CHUNK_BYTES) as usize, bytes);
            mapped.inspect_err(|_| refusals::note(len as u64, self.0.size))
        };
        // SAFETY: just mapped, and another thread's mapping was published instead.
        let unmap = |place, bytes| unsafe { memory::unmap_unpublished(place, bytes) };
        self.0.wide.resolve(offset, len, map, unmap).ok()
    }

    /// The mapping in which a chunk lies: its first chunk, where that is, and how many it has.
    fn mapping_of(&self, chunk: usize) -> Option<(usize, NonNull<u8>, usize)> {
        let count = |chunk: usize| self.0.chunks[chunk].extent.load(Ordering::Acquire) as usize;
        let first = (0..=chunk).rev().find(|&first| count(first) != 0)?;
        let place = NonNull::new(self.0.chunks[first].place.load(Ordering::Acquire))?;
        (chunk < first + count(first)).then_some((first, place, count(first)))
    }

    /// Maps the extent in which `offset` lies, as the arena's directory has it; nothing when another thread has.
    fn map_extent_of(&self, offset: u64) -> Result<(), OsError> {
        let damaged = OsError { call: "the arena's directory", errno: libc::EUCLEAN };
        let _mapping = Mapping::begin()?;
        let (place, chunk) =
            (self.0.chunks[0].place.load(Ordering::Acquire), (offset / CHUNK_BYTES) as usize);
        if self.mapping_of(chunk).is_some() {
            return self.finish(chunk).ok_or(damaged);
        }
        let header = NonNull::new(place).ok_or(damaged)?.cast::<ArenaHeader>();
        // SAFETY: chunk 0 is mapped for ever and begins with the header, whose fields are atomics.
        let (start, bytes) = unsafe { header.as_ref() }.extent_of(offset).ok_or(damaged)?;
        let (first, count) = ((start / CHUNK_BYTES) as usize, (bytes / CHUNK_BYTES) as usize);
        let chunks = self.0.chunks.get(first..first + count).ok_or(damaged)?;
        // An entry that covers what is mapped by itself was changed since.
        let inside = start.checked_add(bytes).is_some_and(|end| end <= self.0.size);
        if !inside || chunks.iter().any(|chunk| !chunk.place.load(Ordering::Acquire).is_null()) {
            return Err(damaged);
        }
        let place = self
            .map_behind_nearest(first, bytes as usize + tail_bytes())
            .inspect_err(|_| refusals::note(bytes, self.0.size))?;
        self.publish(first, place, count);
        Ok(())
    }

    /// Another thread has mapped it; or had just begun to tell so when this process was forked.
    fn finish(&self, chunk: usize) -> Option<()> {
        let (first, place, count) = self.mapping_of(chunk)?;
        self.publish(first, place, count);
        Some(())
    }

    /// Maps `len` bytes from that chunk on: from the page behind the nearest mapping in front of it, or from the first page.
    fn map_behind_nearest(&self, chunk: usize, len: usize) -> Result<NonNull<u8>, OsError> {
        let nothing = OsError { call: "mremap", errno: libc::EFAULT };
        let in_front = |&(first, _, count): &(usize, _, usize)| first + count <= chunk;
        let nearest = (0..chunk).rev().filter_map(|chunk| self.mapping_of(chunk)).find(in_front);
        let (source, before) = match nearest {
            // SAFETY: a page behind the extent, and still of its mapping.
            Some((first, place, count)) => unsafe {
                (place.add(count * CHUNK_BYTES as usize), (chunk - first - count) * CHUNK_BYTES as usize)
            },
            None if chunk == 0 => (self.mapping_of(0).ok_or(nothing)?.1, 0),
            None => return Err(nothing),
        };
        // SAFETY: the source is mapped for ever, and shared: what one process uses alone (alone.rs) is inside an extent, never
        // the page behind it, nor the page of the arena's header. The range is inside the memory, which map_extent_of() has checked.
        let mapped = unsafe { memory::map_again(source, before, len) };
        match mapped {
            // The kernel does not say that; valgrind does, which refuses every such call.
            Err(OsError { errno: libc::EINVAL, .. }) => return self.map_by_descriptor(chunk, len),
            Err(_) if before > 0 => {}
            mapped => return mapped,
        }
        // SAFETY: as above.
        unsafe { Self::map_by_hops(source, before, len) }
    }

    /// Where there is no other way. A mapping of a wrong file does nothing to it, and is undone before anybody knows it: a
    /// number that means the memory afterwards has meant it before.
    fn map_by_descriptor(&self, chunk: usize, len: usize) -> Result<NonNull<u8>, OsError> {
        let known = self.known_descriptor().ok_or(lost_memory::CLOSED)?;
        let place = memory::map_forever(known.get()?, chunk as u64 * CHUNK_BYTES, len, Access::ReadWrite)?;
        if known.is_ours() {
            return Ok(place);
        }
        // SAFETY: mapped just now, and nobody knows it.
        unsafe { memory::unmap_unpublished(place, len) };
        Err(lost_memory::CLOSED)
    }

    /// As [`memory::map_again`], where all of that at once is too much for this process's limit: a chunk at a time, of which
    /// the last page stays until the next one is mapped from it.
    ///
    /// # Safety
    /// As for [`memory::map_again`].
    unsafe fn map_by_hops(source: NonNull<u8>, before: usize, len: usize) -> Result<NonNull<u8>, OsError> {
        let mut from = source;
        for hop in 0..before / CHUNK_BYTES as usize {
            // SAFETY: `from` is the caller's source, or a page of the same memory that was mapped from it.
            let next = unsafe { memory::map_again(from, CHUNK_BYTES as usize, tail_bytes()) };
            if hop > 0 {
                // SAFETY: the page of the hop before, known to nobody.
                unsafe { memory::unmap_unpublished(from, tail_bytes()) };
            }
            from = next?;
        }
        // SAFETY: as above.
        let mapped = unsafe { memory::map_again(from, before % CHUNK_BYTES as usize, len) };
        if from != source {
            // SAFETY: the page of the last hop, known to nobody.
            unsafe { memory::unmap_unpublished(from, tail_bytes()) };
        }
        mapped
    }

    /// Where the range is mapped; `None` when it is nowhere.
    fn range(&self, offset: u64, len: u64) -> Option<Range> {
        let bytes = usize::try_from(len).ok()?;
        let place = self.resolve(offset, bytes)?;
        // SAFETY: resolve() vouches for it; whole extents are mapped, so whole pages are.
        Some(unsafe { Range::new(place, offset, bytes) })
    }
}

/// How much more than an extent is mapped.
fn tail_bytes() -> usize {
    pages::page_bytes() as usize
}

/// How long a thread sleeps while another one maps.
const BETWEEN_TRIES: Duration = Duration::from_micros(20);

/// While it lives, no other thread of this process maps anything.
#[derive(Debug)]
struct Mapping(&'static AtomicU64);

impl Mapping {
    fn begin() -> Result<Self, OsError> {
        let word = memory::mapping_word()?;
        // Some microseconds, unless the kernel reads /proc for somebody meanwhile. Slept, not yielded: see `spin.rs` of
        // manyhands-sync.
        while word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            std::thread::sleep(BETWEEN_TRIES);
        }
        Ok(Self(word))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}

/// A table of zeroes, in memory that stays untouched until a chunk is mapped: most processes map one.
fn unmapped(chunks: usize) -> Result<Box<[Chunk]>, OsError> {
    let no_memory = OsError { call: "malloc", errno: libc::ENOMEM };
    let layout = Layout::array::<Chunk>(chunks).map_err(|_| no_memory)?;
    // SAFETY: the layout is not empty, for there is always a chunk.
    let first = unsafe { alloc_zeroed(layout) }.cast::<Chunk>();
    if first.is_null() {
        return Err(no_memory);
    }
    let table = std::ptr::slice_from_raw_parts_mut(first, chunks);
    // SAFETY: just allocated with the layout of this slice; zeroes are null pointers and zeroes.
    Ok(unsafe { Box::from_raw(table) })
}

// SAFETY: what is mapped is never unmapped; a pointer is given out only for a range inside one mapping, by what this
// process has noted of it; mappings are page-aligned, so offsets keep their alignment.
unsafe impl Memory for Extents {
    #[inline]
    fn resolve(&self, offset: u64, len: usize) -> Option<NonNull<u8>> {
        let within = offset % CHUNK_BYTES;
        if within + len as u64 <= CHUNK_BYTES {
            let chunk = self.0.chunks.get((offset / CHUNK_BYTES) as usize)?.place.load(Ordering::Acquire);
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
        let range = self.range(offset, len).ok_or(CommitError)?;
        if len >= huge_pages::HUGE_BYTES {
            huge_pages::collapse(range);
        }
        pages::make_sure(range, self.known_descriptor()).map_err(|_| CommitError)
    }

    fn give_back(&self, offset: u64, len: u64) {
        if let Some(range) = self.range(offset, len) {
            pages::give_back(range);
        }
    }

    fn me(&self) -> Owner {
        crate::family::me()
    }

    fn reclaim(&self) -> bool {
        crate::family::reclaim::instead_of_growing()
    }

    fn compact(&self) -> bool {
        crate::family::reclaim::compact()
    }

    fn milliseconds(&self) -> u64 {
        clock::monotonic_nanoseconds() / 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    const CHUNKS: u64 = 40;

    /// Memory of a test's own: not the family's of this process.
    fn memory() -> (Extents, std::fs::File) {
        let fd = memory::create_sealed("manyhands-test", CHUNKS * CHUNK_BYTES).expect("memory");
        let file = std::fs::File::from(memory::duplicate(fd.as_fd()).expect("a descriptor"));
        (Extents::new(fd).expect("memory"), file)
    }

    /// Under valgrind nothing can be mapped again.
    fn under_valgrind(extents: Extents) -> bool {
        let (_, place, _) = extents.mapping_of(0).expect("mapped");
        // SAFETY: the first page is mapped for ever, and shared.
        let again = unsafe { memory::map_again(place, 0, tail_bytes()) };
        again.err().is_some_and(|error| error.errno == libc::EINVAL)
    }

    #[test]
    fn what_is_far_away_is_mapped_at_once_or_by_hops() {
        let (extents, file) = memory();
        let (_, place, _) = extents.mapping_of(0).expect("mapped");
        let len = CHUNK_BYTES as usize + tail_bytes();
        for chunk in [1_u64, 2, 30] {
            file.write_all_at(&chunk.to_le_bytes(), chunk * CHUNK_BYTES + 100).expect("memory");
            // SAFETY: the page behind the first chunk, which is mapped.
            let source = unsafe { place.add(CHUNK_BYTES as usize) };
            let before = (chunk - 1) * CHUNK_BYTES;
            // SAFETY: shared, mapped for ever, and the memory has that many chunks.
            let hopped = unsafe { Extents::map_by_hops(source, before as usize, len) };
            let at_once = extents.map_behind_nearest(chunk as usize, len);
            let by_descriptor = extents.map_by_descriptor(chunk as usize, len);
            let hopped = if under_valgrind(extents) { at_once } else { hopped };
            for mapped in [at_once, by_descriptor, hopped] {
                // SAFETY: inside of what was mapped just now.
                let word = unsafe { mapped.expect("room").add(100) }.cast::<u64>();
                // SAFETY: as above.
                assert_eq!(unsafe { word.read_unaligned() }, chunk);
            }
        }
    }

    #[test]
    fn the_descriptor_may_be_closed_and_the_number_another_file() {
        let (extents, file) = memory();
        let arena = crate::sys::arena::create(extents, 1, 1, CHUNKS * CHUNK_BYTES).expect("memory");
        let number = extents.known_descriptor().expect("made above").number();
        let users = std::fs::File::from(memory::file_of("a user's", b"precious").expect("memory"));
        super::super::remembered::lose(number, users.as_fd());
        assert!(!extents.known_descriptor().expect("made above").is_ours());
        assert_eq!(
            extents.map_by_descriptor(1, 1 << 20).err(),
            Some(super::super::remembered::CLOSED_BY_OTHERS)
        );
        if under_valgrind(extents) {
            return assert!(arena.allocate(100 << 20).is_err());
        }
        let block = arena.allocate(100 << 20).expect("memory");
        let behind = block.offset + (90 << 20);
        file.write_all_at(&[8], behind).expect("memory");
        let pages = || rustix::fs::fstat(&file).expect("open").st_blocks;
        let before = pages();
        extents.give_back(block.offset.next_multiple_of(4096), 80 << 20);
        assert!(before - pages() >= (79 << 20) / 512);
        let place = extents.resolve(behind, 1).expect("mapped");
        // SAFETY: mapped for ever, and nobody writes to it meanwhile.
        assert_eq!(unsafe { place.read() }, 8);
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut std::fs::File::from(memory::adopt(number).expect("open")), &mut text)
            .expect("a file");
        assert_eq!(text, b"precious");
    }

    #[test]
    fn an_entry_of_the_directory_that_grew_is_not_believed() {
        let (extents, file) = memory();
        let arena = crate::sys::arena::create(extents, 1, 1, CHUNKS * CHUNK_BYTES).expect("memory");
        let block = arena.allocate(150 << 20).expect("memory");
        assert_eq!(block.offset / CHUNK_BYTES, 1);
        // The directory says that the extent at chunk 1 has three chunks, and next to be handed out is the fourth.
        let mut words = vec![0; 1 << 20];
        file.read_exact_at(&mut words, 0).expect("memory");
        let word = |at: usize| u32::from_le_bytes(words[4 * at..4 * at + 4].try_into().expect("four bytes"));
        let entry = (0..words.len() / 4 - 64)
            .find(|&at| word(at) == 1 && word(at + 1) == 3 && (2..60).all(|behind| word(at + behind) == 0))
            .expect("the directory");
        let next = (0..entry).filter(|&at| word(at) == 4).collect::<Vec<_>>();
        assert!(extents.resolve(4 * CHUNK_BYTES - 8, 8).is_some());
        for at in next {
            file.write_all_at(&30_u32.to_le_bytes(), 4 * at as u64).expect("memory");
        }
        file.write_all_at(&29_u32.to_le_bytes(), 4 * (entry as u64 + 1)).expect("memory");
        for chunk in 4..30 {
            assert_eq!(extents.resolve(chunk * CHUNK_BYTES + 64, 8), None, "{chunk}");
        }
        // What lies over a border is mapped by itself, if it lies in the memory.
        assert_eq!(extents.resolve(CHUNKS * CHUNK_BYTES - 8, 16), None);
        let over = extents.resolve(4 * CHUNK_BYTES - 8, 16).expect("in the memory");
        file.write_all_at(&7_u64.to_le_bytes(), 4 * CHUNK_BYTES).expect("memory");
        // SAFETY: inside of what was mapped for it.
        let behind = unsafe { over.add(8) }.cast::<u64>();
        // SAFETY: as above; nobody writes it any more.
        assert_eq!(unsafe { behind.read_unaligned() }, 7);
        assert!(extents.resolve(CHUNK_BYTES, 3 * CHUNK_BYTES as usize).is_some());
        // An entry of its own, inside of what is mapped.
        file.write_all_at(&1_u32.to_le_bytes(), 4 * (entry as u64 + 2)).expect("memory");
        assert!(extents.resolve(2 * CHUNK_BYTES, CHUNK_BYTES as usize + 1).is_some());
        assert!(
            arena
                .payload_bytes(manyhands_sync::arena::Handle { offset: 9 * CHUNK_BYTES + 64, generation: 1 })
                .is_err()
        );
    }
}
