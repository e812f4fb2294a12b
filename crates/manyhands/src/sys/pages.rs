//! Pages of shared memory that is mapped: making sure of them, and giving them back. By address, never by descriptor: the
//! number of the memory's descriptor may be a user's file by now.
#![allow(unsafe_code)] // advises the kernel about ranges that are mapped

use super::remembered::Remembered;
use super::{OsError, memory};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use rustix::mm::Advice;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// How much is allocated in one call where the kernel begins again when a signal arrives.
const BYTES_A_CALL: u64 = 4 << 20;

/// Once the kernel has said that it does not know `MADV_POPULATE_WRITE` (before Linux 5.14).
static CANNOT_POPULATE: AtomicBool = AtomicBool::new(false);

/// How many bytes the system's pages have.
pub(crate) fn page_bytes() -> u64 {
    static PAGE: OnceLock<u64> = OnceLock::new();
    // SAFETY: no memory is involved.
    *PAGE.get_or_init(|| unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.unsigned_abs().max(4096))
}

/// A range of the memory, and where it is mapped: shared and writable, until the process ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    place: NonNull<u8>,
    offset: u64,
    bytes: usize,
}

impl Range {
    /// # Safety
    /// `place` is where `offset` is mapped, shared and writable, and `bytes` from there, in whole pages, until the process
    /// ends.
    pub(super) unsafe fn new(place: NonNull<u8>, offset: u64, bytes: usize) -> Self {
        Self { place, offset, bytes }
    }

    pub(super) fn place(self) -> NonNull<u8> {
        self.place
    }

    pub(super) fn offset(self) -> u64 {
        self.offset
    }

    pub(super) fn bytes(self) -> usize {
        self.bytes
    }

    /// With all of the pages that it is a part of.
    fn whole_pages(self) -> Self {
        let inside = self.place.addr().get() % page_bytes() as usize;
        let start = self.place.as_ptr().wrapping_sub(inside);
        Self {
            // No mapping begins at address 0.
            place: NonNull::new(start).unwrap_or(self.place),
            offset: self.offset - inside as u64,
            bytes: (inside + self.bytes).next_multiple_of(page_bytes() as usize),
        }
    }

    /// So many bytes of it, `at` so many from its start, as far as there are.
    pub(super) fn part(self, at: usize, bytes: usize) -> Self {
        let at = at.min(self.bytes);
        // SAFETY: `at` is inside the range, or its end.
        let place = unsafe { self.place.add(at) };
        Self { place, offset: self.offset + at as u64, bytes: bytes.min(self.bytes - at) }
    }

    /// In front of the first whole page, whole pages, and behind the last one.
    fn split(self) -> [Self; 3] {
        let page = page_bytes() as usize;
        let start = self.place.addr().get();
        let front = (start.next_multiple_of(page) - start).min(self.bytes);
        let middle = (self.bytes - front) / page * page;
        [self.part(0, front), self.part(front, middle), self.part(front + middle, self.bytes)]
    }
}

/// The pages exist afterwards and can be written to, or the error says that there is no memory. Nothing is killed.
///
/// # Errors
/// When the system has no memory for them.
pub(super) fn make_sure(range: Range, memory: Option<&Remembered>) -> Result<(), OsError> {
    let range = range.whole_pages();
    if !CANNOT_POPULATE.load(Ordering::Relaxed) {
        match populate(range) {
            // No other reason is there for it here: the range is whole pages of ordinary memory.
            Err(Errno::INVAL) => CANNOT_POPULATE.store(true, Ordering::Relaxed),
            done => return done.map_err(OsError::new("madvise(MADV_POPULATE_WRITE)")),
        }
    }
    match memory.filter(|memory| memory.is_ours()) {
        Some(memory) => allocate(range, memory),
        None => touch(range),
    }
}

/// `madvise(MADV_POPULATE_WRITE)`: where a touch would be answered with a signal, it is an error.
fn populate(range: Range) -> Result<(), Errno> {
    loop {
        let place = range.place.as_ptr().cast();
        // SAFETY: the range is mapped until the process ends, says its maker, and its contents stay what they are.
        match unsafe { rustix::mm::madvise(place, range.bytes, Advice::LinuxPopulateWrite) } {
            Err(Errno::INTR | Errno::AGAIN) => {}
            done => return done,
        }
    }
}

/// `fallocate(FALLOC_FL_KEEP_SIZE)`, where the kernel cannot do it by address. Should the number have become a user's file
/// since it was looked at, that file has more blocks, and is otherwise as it was.
fn allocate(range: Range, memory: &Remembered) -> Result<(), OsError> {
    let end = range.offset + range.bytes as u64;
    for start in (range.offset..end).step_by(BYTES_A_CALL as usize) {
        let bytes = BYTES_A_CALL.min(end - start);
        loop {
            match rustix::fs::fallocate(memory.get()?, FallocateFlags::KEEP_SIZE, start, bytes) {
                Err(Errno::INTR) => {}
                done => break done.map_err(OsError::new("fallocate"))?,
            }
        }
    }
    Ok(())
}

/// Touches each page, after a look at how much memory there is: the last way, on a kernel before 5.14 in a process whose
/// descriptor was closed. A system that becomes full meanwhile may answer with a signal that kills.
fn touch(range: Range) -> Result<(), OsError> {
    let none = OsError { call: "no memory is left to touch", errno: libc::ENOMEM };
    if is_counted_strictly() || available_bytes().is_none_or(|available| (range.bytes as u64) > available) {
        return Err(none);
    }
    for at in (0..range.bytes).step_by(page_bytes() as usize) {
        // SAFETY: inside the range.
        let byte = unsafe { range.place.add(at) };
        // SAFETY: mapped and writable until the process ends, says the range's maker; others access it by atomics or not
        // at all meanwhile, and this changes nothing.
        let byte = unsafe { AtomicU8::from_ptr(byte.as_ptr()) };
        // The compiler leaves out what could only write what is there; this it does not know.
        let _ = byte.compare_exchange(0, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
    Ok(())
}

/// Whether the system refuses memory that it has not set aside: then a touch may be refused, too.
fn is_counted_strictly() -> bool {
    std::fs::read_to_string("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.trim() == "2")
}

fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// `madvise(MADV_REMOVE)`: whole pages go back to the system, and all bytes read as zeroes afterwards. The page in front of
/// the first whole one is mapped shared, too.
pub(super) fn give_back(range: Range) {
    let [front, pages, rest] = range.split();
    if pages.bytes > 0 && remove(pages).is_err() && remove_unlocked(pages).is_err() {
        fill_with_zeroes(pages);
    }
    // Of these pages a neighbour has the other part.
    fill_with_zeroes(front);
    fill_with_zeroes(rest);
}

fn remove(range: Range) -> Result<(), Errno> {
    let place = range.place.as_ptr().cast();
    // SAFETY: the range is mapped until the process ends, says its maker; the caller gives its contents up.
    match unsafe { rustix::mm::madvise(place, range.bytes, Advice::LinuxRemove) } {
        Err(Errno::ACCESS) => remove_elsewhere(range),
        done => done,
    }
}

/// The program has locked its memory (`mlockall`): these pages need not stay.
fn remove_unlocked(range: Range) -> Result<(), Errno> {
    // SAFETY: the range is mapped, and its contents stay what they are.
    unsafe { rustix::mm::munlock(range.place.as_ptr().cast(), range.bytes) }?;
    remove(range)
}

/// This process has a part of the range as its own: a copy that a fork left it with (`alone.rs`), of a block that has been
/// freed since. That stays as it is; the memory is mapped once more, and given back there.
fn remove_elsewhere(range: Range) -> Result<(), Errno> {
    let page = page_bytes() as usize;
    let in_front = NonNull::new(range.place.as_ptr().wrapping_sub(page)).ok_or(Errno::FAULT)?;
    // SAFETY: the page in front is mapped until the process ends, and what is behind it is of the same memory.
    let place = unsafe { memory::map_again(in_front, page, range.bytes) }
        .map_err(|error| Errno::from_raw_os_error(error.errno))?;
    // SAFETY: mapped just now; the caller gives the contents up.
    let removed = unsafe { rustix::mm::madvise(place.as_ptr().cast(), range.bytes, Advice::LinuxRemove) };
    // SAFETY: known to nobody.
    unsafe { memory::unmap_unpublished(place, range.bytes) };
    removed
}

/// What has no page, and can have none, is zero.
fn fill_with_zeroes(range: Range) {
    if range.bytes > 0 && make_sure(range, None).is_ok() {
        // SAFETY: mapped and writable, says the range's maker, with pages since the call above; the caller gives its
        // contents up, so nobody else uses them.
        unsafe { range.place.write_bytes(0, range.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::Access;
    use super::*;
    use rustix::mm::{MapFlags, ProtFlags};
    use std::os::fd::AsFd;

    const BYTES: usize = 1 << 20;

    /// Memory of a test's own, and where it is mapped.
    fn memory() -> (Remembered, NonNull<u8>) {
        let fd = memory::create_sealed("manyhands-test", BYTES as u64).expect("memory");
        let place = memory::map_forever(fd.as_fd(), 0, BYTES, Access::ReadWrite).expect("memory");
        (Remembered::new(fd).expect("open"), place)
    }

    fn range((_, place): &(Remembered, NonNull<u8>), at: usize, bytes: usize) -> Range {
        assert!(at + bytes <= BYTES);
        // SAFETY: inside of what was mapped for ever.
        let place = unsafe { place.add(at) };
        // SAFETY: as above.
        unsafe { Range::new(place, at as u64, bytes) }
    }

    fn pages_of(memory: &Remembered) -> u64 {
        let stat = rustix::fs::fstat(memory.get().expect("open")).expect("open");
        stat.st_blocks.unsigned_abs() * 512 / page_bytes()
    }

    fn byte(range: Range, at: usize) -> u8 {
        // SAFETY: inside the range, which has pages in this test.
        let place = unsafe { range.place.add(at) };
        // SAFETY: as above.
        unsafe { place.read() }
    }

    fn fill(range: Range) {
        // SAFETY: the test's own memory.
        unsafe { range.place.write_bytes(7, range.bytes) };
    }

    #[test]
    fn each_way_makes_sure_of_whole_pages() {
        let page = page_bytes() as usize;
        type Way = fn(Range, &Remembered) -> bool;
        let ways: [Way; 4] = [
            |range, memory| make_sure(range, Some(memory)).is_ok(),
            |range, _| populate(range.whole_pages()).is_ok(),
            |range, memory| allocate(range.whole_pages(), memory).is_ok(),
            |range, _| touch(range.whole_pages()).is_ok(),
        ];
        for way in ways {
            let memory = memory();
            assert!(way(range(&memory, page + 100, 3 * page), &memory.0));
            assert_eq!(pages_of(&memory.0), 4);
            let all = range(&memory, 0, BYTES);
            fill(range(&memory, page, 4 * page));
            assert!(way(all, &memory.0));
            assert_eq!((byte(all, 0), byte(all, page), byte(all, 5 * page)), (0, 7, 0), "contents stay");
        }
    }

    #[test]
    fn what_is_given_back_reads_as_zeroes_and_neighbours_keep_theirs() {
        let page = page_bytes() as usize;
        for (at, bytes) in [(0, page), (100, 5 * page), (page, 2 * page + 64), (64, 128), (page - 1, 2)] {
            let memory = memory();
            let all = range(&memory, 0, 16 * page);
            fill(all);
            give_back(range(&memory, at, bytes));
            let wanted = |i: &usize| if (at..at + bytes).contains(i) { 0 } else { 7 };
            assert!((0..16 * page).all(|i| byte(all, i) == wanted(&i)), "{at} {bytes}");
        }
    }

    #[test]
    fn whole_pages_go_back_to_the_system_locked_ones_too() {
        let (memory, page) = (memory(), page_bytes() as usize);
        let all = range(&memory, 0, 16 * page);
        fill(all);
        give_back(range(&memory, 0, 8 * page));
        assert_eq!(pages_of(&memory.0), 8);
        // SAFETY: mapped for ever; a lock of pages changes nothing of them.
        if unsafe { rustix::mm::mlock(all.place.as_ptr().cast(), all.bytes) }.is_ok() {
            give_back(all);
            assert_eq!(pages_of(&memory.0), 0);
        }
    }

    #[test]
    fn what_a_process_has_as_its_own_stays_when_the_memory_goes_back() {
        let (memory, page) = (memory(), page_bytes() as usize);
        let all = range(&memory, 0, 16 * page);
        fill(all);
        let own = range(&memory, 4 * page, 2 * page);
        let (flags, fd) = (MapFlags::PRIVATE | MapFlags::FIXED, memory.0.get().expect("open"));
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: over a part of the test's own mapping.
        unsafe { rustix::mm::mmap(own.place.as_ptr().cast(), own.bytes, protection, flags, fd, own.offset) }
            .expect("room");
        // SAFETY: the test's own memory.
        unsafe { own.place.write_bytes(9, own.bytes) };
        if remove_elsewhere(own) == Err(Errno::INVAL) {
            // Valgrind refuses to map again.
            return;
        }
        give_back(range(&memory, page, 15 * page));
        assert_eq!((pages_of(&memory.0), byte(own, 0), byte(own, own.bytes - 1)), (1, 9, 9));
        assert_eq!((byte(all, page - 1), byte(all, page), byte(all, 3 * page)), (7, 0, 0));
    }
}
