//! Memory for the tests: a sparse anonymous mapping, shared with forked children, never unmapped.
#![allow(unsafe_code)] // maps memory and implements Memory
#![allow(dead_code)] // each test file uses its part
#![allow(clippy::disallowed_types)] // the tests are not part of the structures that loom checks

use manyhands_sync::arena::{Arena, Backing, CHUNK_BYTES, CommitError, OpenError, Owner};
use manyhands_sync::compaction;
use manyhands_sync::memory::{self, Memory, Shareable};
use manyhands_sync::process_table::{Member, Namespaces, Place};
use manyhands_sync::ring::{Ring, RingHeader};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What the fake system was asked for.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Bytes committed so far.
    pub(crate) committed: AtomicU64,
    /// Bytes given back so far.
    pub(crate) given_back: AtomicU64,
    /// Who this process is to the arena: the word of an [`Owner`]; 0 for somebody who never dies.
    pub(crate) me: AtomicU64,
    /// Whether the system refuses to commit more than a page.
    pub(crate) refuse: AtomicBool,
}

/// A mapping that stands in for a family's arena.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: u64,
    /// What was asked of it, by this process.
    pub(crate) account: &'static Account,
}

// SAFETY: the mapping belongs to nobody in particular and is never unmapped.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `chunks` chunks of zeroes that take no memory until they are touched.
    pub(crate) fn new(chunks: u64) -> Self {
        let len = chunks * CHUNK_BYTES;
        // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing.
        let place = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        assert_ne!(place, libc::MAP_FAILED);
        let base = NonNull::new(place.cast()).expect("mapped");
        Self { base, len, account: Box::leak(Box::default()) }
    }

    /// Overwrites bytes behind everyone's back.
    pub(crate) fn stomp(&self, offset: u64, bytes: &[u8]) {
        // SAFETY: the tests write where no thread of theirs is at work, or where they want damage.
        assert!(unsafe { self.copy_in(offset, bytes) }, "inside the mapping");
    }

    /// Gives every page back: for tests that make hundreds of arenas, once they are done with this one.
    pub(crate) fn wipe(&self) {
        // SAFETY: whole pages of our own mapping; structures in it become zeroes, which they must survive.
        let result =
            unsafe { libc::madvise(self.base.as_ptr().cast(), self.len as usize, libc::MADV_REMOVE) };
        assert_eq!(result, 0);
    }

    /// The word at an offset.
    pub(crate) fn word(&self, offset: u64) -> u64 {
        // SAFETY: as for stomp().
        unsafe { self.read_word(offset) }.expect("inside the mapping")
    }

    /// Appends the bytes at an offset.
    pub(crate) fn copy_out(&self, offset: u64, len: usize, out: &mut Vec<u8>) -> bool {
        // SAFETY: as for stomp().
        unsafe { Memory::copy_out(self, offset, len, out) }
    }

    /// What was placed there.
    pub(crate) fn place<T: Shareable>(&self, offset: u64) -> Option<&'static T> {
        // SAFETY: the tests look where they have placed a `T`.
        unsafe { memory::place(self, offset) }
    }

    /// Something placed there behind everyone's back.
    pub(crate) fn place_new<T: Shareable>(&self, offset: u64, value: T) -> Option<&'static T> {
        // SAFETY: the tests place where they have allocated.
        unsafe { memory::place_new(self, offset, value) }
    }
}

// SAFETY: bounds are checked, the mapping is page-aligned and never unmapped.
unsafe impl Memory for Mapping {
    fn resolve(&self, offset: u64, len: usize) -> Option<NonNull<u8>> {
        if offset.checked_add(len as u64)? > self.len {
            return None;
        }
        // SAFETY: inside the mapping, checked above.
        Some(unsafe { self.base.add(offset as usize) })
    }
}

impl Backing for Mapping {
    fn me(&self) -> Owner {
        match self.account.me.load(Ordering::Relaxed) {
            0 => Owner::Shared,
            word => Owner::from_word(word),
        }
    }

    fn compact(&self) -> bool {
        open(*self, 11).is_ok_and(compaction::compact)
    }

    fn milliseconds(&self) -> u64 {
        static BEGAN: OnceLock<Instant> = OnceLock::new();
        BEGAN.get_or_init(Instant::now).elapsed().as_millis() as u64
    }

    fn commit(&self, _offset: u64, len: u64) -> Result<(), CommitError> {
        if self.account.refuse.load(Ordering::Relaxed) && len > 4096 {
            return Err(CommitError);
        }
        self.account.committed.fetch_add(len, Ordering::Relaxed);
        Ok(())
    }

    fn give_back(&self, offset: u64, len: u64) {
        self.account.given_back.fetch_add(len, Ordering::Relaxed);
        let whole = len / 4096 * 4096;
        let place = self.resolve(offset, whole as usize).expect("inside the mapping");
        // SAFETY: whole pages of our own mapping.
        let result = unsafe { libc::madvise(place.as_ptr().cast(), whole as usize, libc::MADV_REMOVE) };
        assert_eq!(result, 0);
    }
}

/// An arena of `chunks` chunks.
pub(crate) fn arena(chunks: u64) -> Arena<Mapping> {
    create(Mapping::new(chunks), chunks * CHUNK_BYTES).expect("fresh memory")
}

/// Lays an arena out there.
pub(crate) fn create(memory: Mapping, bytes: u64) -> Result<Arena<Mapping>, OpenError> {
    // SAFETY: the memory is the test's own, and so is the arena.
    unsafe { Arena::create(memory, 7, 11, bytes) }
}

/// Opens the arena that lies there.
pub(crate) fn open(memory: Mapping, build: u64) -> Result<Arena<Mapping>, OpenError> {
    // SAFETY: as for create().
    unsafe { Arena::open(memory, build) }
}

/// What a process with that pid is known by.
pub(crate) fn known(pid: u32, registered_at: u64) -> Member {
    let namespaces = Namespaces { pids: 1, clock: 1 };
    Member { pid, namespaces, registered_at: Some(registered_at), image: u64::from(pid) << 12 }
}

/// From now on this process is the member in that slot, and so are those it forks until they say otherwise.
pub(crate) fn be(arena: &Arena<Mapping>, place: Place) {
    assert!(arena.process_table().register(place, known(std::process::id(), 1)));
    arena.backing().account.me.store(Owner::Member(place.index, place.life).to_word(), Ordering::Relaxed);
}

/// A ring in a block of that arena.
pub(crate) fn ring(arena: Arena<Mapping>, bound: u32) -> Ring<Mapping> {
    let handle = arena
        .allocate_kind(manyhands_sync::arena::Kind::Ring, size_of::<RingHeader>() as u64)
        .expect("room")
        .share();
    let header = Ring::new_header(&arena, bound).expect("room");
    Ring::found(arena, arena.backing().place_new(handle.offset, header).expect("inside"), handle)
}

/// Something placed in fresh memory of that arena.
pub(crate) fn placed<T: Shareable>(arena: &Arena<Mapping>, value: T) -> (u64, &'static T) {
    let handle = arena.allocate(size_of::<T>() as u64).expect("room").share();
    (handle.offset, arena.backing().place_new(handle.offset, value).expect("inside"))
}

/// Small, seeded random numbers (xorshift).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence with that seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The next number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }
}

/// How often a long loop runs: `count` times, or that divided by `MANYHANDS_TEST_SHARE` where a tool makes every step
/// fifty times slower.
pub(crate) fn times(count: u64) -> u64 {
    let share = std::env::var("MANYHANDS_TEST_SHARE").map_or(1, |text| text.parse().expect("a number"));
    (count / share).max(1)
}

/// A message of `len` bytes (at least 24) that knows its sender, its number, its length and its sum.
pub(crate) fn message(sender: u32, number: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    bytes.extend_from_slice(&sender.to_le_bytes());
    bytes.extend_from_slice(&(len as u32).to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    let mut random = Random::new(number ^ u64::from(sender) << 40);
    bytes.resize_with(len.max(24), || random.next() as u8);
    let sum = sum(&bytes);
    bytes[16..24].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// The sender and number of a message; panics when a byte of it is wrong.
pub(crate) fn checked(bytes: &[u8]) -> (u32, u64) {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let (sender, len) = (word(0) as u32, (word(0) >> 32) as usize);
    assert_eq!(len, bytes.len(), "a message of another length");
    assert_eq!(sum(bytes), word(16), "a corrupt message");
    (sender, word(8))
}

fn sum(bytes: &[u8]) -> u64 {
    // FNV-1a over everything but the sum itself.
    let counted = bytes[..16].iter().chain(&bytes[24..]);
    counted.fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// Ends the test when the thing waited for does not come for ten seconds.
#[derive(Debug)]
pub(crate) struct Stall {
    since: Instant,
}

impl Stall {
    /// The clock starts.
    pub(crate) fn new() -> Self {
        Self { since: Instant::now() }
    }

    /// Something moved.
    pub(crate) fn progress(&mut self) {
        self.since = Instant::now();
    }

    /// Panics after ten seconds without progress.
    pub(crate) fn check(&self, state: impl Fn() -> String) {
        assert!(self.since.elapsed() < Duration::from_secs(10), "stalled: {}", state());
    }
}

/// The `index`-th word from there.
pub(crate) fn atomic_at(
    start: *const std::sync::atomic::AtomicU32,
    index: usize,
) -> &'static std::sync::atomic::AtomicU32 {
    // SAFETY: the callers pass structures in a mapping that is never unmapped, and indices inside them.
    let place = unsafe { start.add(index) };
    // SAFETY: as above; atomics may be shared.
    unsafe { &*place }
}

/// Runs `work` in a forked child, which then ends without running anything of its parent's; the child's pid.
pub(crate) fn fork(work: impl FnOnce()) -> i32 {
    // SAFETY: the child runs `work` alone and leaves by _exit; what it uses of the parent's memory are shared
    // structures made for that, and an allocator that glibc makes usable after fork.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid == 0 {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(if done.is_ok() { 0 } else { 101 }) };
    }
    pid
}

/// `kill(pid, SIGKILL)`.
pub(crate) fn kill(pid: i32) {
    // SAFETY: only children of this test, or the caller itself.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Waits for a child; the signal that killed it, or minus its exit code.
pub(crate) fn reap(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: `status` lives across the call.
    let reaped = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(reaped, pid);
    if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { -libc::WEXITSTATUS(status) }
}
