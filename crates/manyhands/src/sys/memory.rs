//! Anonymous shared memory: a sealed, sparse memfd, mapped piece by piece and never unmapped.
//!
//! Its descriptor is used by number once, to map its beginning, right after it was made or passed. See `remembered.rs`.
#![allow(unsafe_code)] // maps memory

use super::limits::FileSize;
use super::{OsError, huge_pages};
use manyhands_sync::memory::Memory;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, MremapFlags, ProtFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

/// `memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL)`, without the last flag where the kernel
/// does not know it; then sized to `bytes` and sealed against any other size. Sparse: it takes no memory yet.
pub(crate) fn create_sealed(name: &str, bytes: u64) -> Result<OwnedFd, OsError> {
    let fd = create_memfd(name, MemfdFlags::ALLOW_SEALING)?;
    let allowed = FileSize::up_to(bytes).ok_or(OsError { call: TOO_LARGE, errno: libc::EFBIG })?;
    rustix::fs::ftruncate(&fd, bytes).map_err(OsError::new("ftruncate"))?;
    drop(allowed);
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
        .map_err(OsError::new("fcntl(F_ADD_SEALS)"))?;
    Ok(fd)
}

/// Some systems refuse a memfd that could be executed, older kernels do not know the flag that says it cannot.
fn create_memfd(name: &str, flags: MemfdFlags) -> Result<OwnedFd, OsError> {
    let flags = flags | MemfdFlags::CLOEXEC;
    rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL)
        .or_else(|_| rustix::fs::memfd_create(name, flags))
        .map_err(OsError::new("memfd_create"))
}

/// What a caller reads whose hard limit is lower than the least shared memory.
const TOO_LARGE: &str = "shared memory cannot be made: it counts as a file, and the hard limit of files' sizes, RLIMIT_FSIZE \
                         (ulimit -Hf), is too low: raise it to 65536 KiB at least";

/// How much memory the machine has.
pub(crate) fn physical_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit))
}

/// How many bytes the memory behind the descriptor has.
pub(crate) fn size_of(fd: BorrowedFd<'_>) -> Result<u64, OsError> {
    let stat = rustix::fs::fstat(fd).map_err(OsError::new("fstat"))?;
    Ok(u64::try_from(stat.st_size).unwrap_or(0))
}

/// What a mapping is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// A member's: `PROT_READ | PROT_WRITE`.
    ReadWrite,
    /// An observer's: `PROT_READ`. A write is answered with a signal that kills.
    Read,
}

impl Access {
    fn protection(self) -> ProtFlags {
        match self {
            Self::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
            Self::Read => ProtFlags::READ,
        }
    }
}

/// `mmap(place, len, protection, MAP_SHARED | MAP_NORESERVE, fd, offset)`, left out of core dumps, at a place where huge pages
/// fit if there is one: the beginning of the memory, of which everything else is mapped by [`map_again`]. Never unmapped:
/// what it returns is valid until the process ends. The descriptor is one that its caller has just made or been given.
pub(crate) fn map_forever(
    fd: BorrowedFd<'_>,
    offset: u64,
    len: usize,
    access: Access,
) -> Result<NonNull<u8>, OsError> {
    let flags = MapFlags::SHARED | MapFlags::NORESERVE;
    let (hint, fixed) = match huge_pages::room_for(0, len) {
        Some(room) => (room.as_ptr().cast(), MapFlags::FIXED),
        None => (std::ptr::null_mut(), MapFlags::empty()),
    };
    // SAFETY: a new mapping at an address of the kernel's choice, or over room that was reserved for it just now and that
    // nobody else knows, disturbs nothing; the file is sealed against shrinking, so no access can be beyond its end.
    let place = unsafe { rustix::mm::mmap(hint, len, access.protection(), flags | fixed, fd, offset) }
        .map_err(OsError::new("mmap"))?;
    published(place.cast(), len)
}

/// `mremap(source, 0, before + len, MREMAP_MAYMOVE)`: maps a part of the same memory once more, which needs no descriptor.
/// `source` is a place of it that is mapped and shared; what begins `before` bytes behind it is wanted, `len` bytes of it, at
/// a place where huge pages fit if there is one. Protection and the like are those of the source. `before` and `len` are
/// whole pages.
///
/// # Safety
/// `source` is mapped until the process ends, and shared, by [`map_forever`] or this function; the wanted part lies in the
/// memory, which is sealed against shrinking.
pub(crate) unsafe fn map_again(
    source: NonNull<u8>,
    before: usize,
    len: usize,
) -> Result<NonNull<u8>, OsError> {
    let no_memory = OsError { call: "mremap", errno: libc::ENOMEM };
    let whole = before.checked_add(len).ok_or(no_memory)?;
    let source = source.as_ptr().cast();
    let room = huge_pages::room_for(before, len);
    let mapped = match room {
        // SAFETY: an old size of 0 takes nothing from the source, which is mapped, says the caller; the target is room
        // that was reserved for it just now and that nobody else knows.
        Some(room) => unsafe {
            rustix::mm::mremap_fixed(source, 0, whole, MremapFlags::MAYMOVE, room.as_ptr().cast())
        },
        // SAFETY: as above, at an address of the kernel's choice.
        None => unsafe { rustix::mm::mremap(source, 0, whole, MremapFlags::MAYMOVE) },
    };
    if let (Err(_), Some(room)) = (mapped, room) {
        // SAFETY: reserved just now, and nobody knows it.
        let _ = unsafe { rustix::mm::munmap(room.as_ptr().cast(), whole) };
    }
    let mapped = mapped.map_err(OsError::new("mremap"))?;
    if before > 0 {
        // SAFETY: the front of what was mapped just now, and nobody knows it yet.
        let _ = unsafe { rustix::mm::munmap(mapped, before) };
    }
    published(mapped.cast::<u8>().wrapping_add(before), len)
}

/// Leaves a new mapping out of core dumps.
fn published(place: *mut u8, len: usize) -> Result<NonNull<u8>, OsError> {
    // SAFETY: the caller has just mapped the range.
    unsafe { rustix::mm::madvise(place.cast(), len, Advice::LinuxDontDump) }
        .map_err(OsError::new("madvise"))?;
    NonNull::new(place).ok_or(OsError { call: "mmap", errno: libc::ENOMEM })
}

/// Unmaps what nobody knows of yet.
///
/// # Safety
/// The range was mapped by the caller, who has told nobody.
pub(crate) unsafe fn unmap_unpublished(place: NonNull<u8>, len: usize) {
    // SAFETY: by this function's contract the range is one whole mapping, and nobody else knows of it.
    let _ = unsafe { rustix::mm::munmap(place.as_ptr().cast(), len) };
}

/// Words of this process that read as zero in every forked child, whoever forked it (`MADV_WIPEONFORK`).
#[derive(Debug)]
struct WipedOnFork {
    own: [AtomicU64; 5],
    mapping: AtomicU64,
}

static WIPED_ON_FORK: OnceLock<&'static WipedOnFork> = OnceLock::new();

fn wiped_on_fork() -> Result<&'static WipedOnFork, OsError> {
    const LEN: usize = 4096;
    if let Some(words) = WIPED_ON_FORK.get() {
        return Ok(words);
    }
    // SAFETY: a new private mapping at an address of the kernel's choice disturbs nothing.
    let place = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            LEN,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    }
    .map_err(OsError::new("mmap"))?;
    // SAFETY: the range was mapped just now by the call above.
    unsafe { rustix::mm::madvise(place, LEN, Advice::LinuxWipeOnFork) }
        .map_err(OsError::new("madvise(MADV_WIPEONFORK)"))?;
    // SAFETY: the page is zeroed, aligned, never unmapped, and nobody else knows it.
    let words = unsafe { &*place.cast::<WipedOnFork>() };
    // Of two threads that come here at once, the second one's page is left unused.
    Ok(WIPED_ON_FORK.get_or_init(|| words))
}

/// Five of them, for what a process knows of itself.
pub(crate) fn wiped_on_fork_words() -> Result<&'static [AtomicU64; 5], OsError> {
    wiped_on_fork().map(|words| &words.own)
}

/// One of them, by which threads of this process keep each other from mapping at once: a lock that is free in a forked
/// child, though the thread that held it is not there.
pub(crate) fn mapping_word() -> Result<&'static AtomicU64, OsError> {
    wiped_on_fork().map(|words| &words.mapping)
}

/// A second descriptor of the same thing, closed on exec.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, OsError> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(OsError::new("fcntl(F_DUPFD_CLOEXEC)"))
}

/// A random number that no other family has.
pub(crate) fn random_u64() -> Result<u64, OsError> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(OsError::new("getrandom"))?;
    Ok(u64::from_le_bytes(bytes))
}

/// `gettid()`.
pub(crate) fn own_thread() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()
}

/// `fcntl(F_GET_SEALS)`: whether it is memory as [`create_sealed`] makes it, and so no file of a user's.
pub(crate) fn is_sealed(fd: BorrowedFd<'_>) -> bool {
    let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(all))
}

/// `fcntl(F_GET_SEALS)`: whether the memory behind the descriptor cannot shrink, so that no read can be beyond its end.
pub(crate) fn is_sealed_against_shrinking(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(SealFlags::SHRINK))
}

/// A descriptor of one's own for what `number` names: one that a parent passed, or that somebody else will close.
///
/// # Errors
/// When the number is no descriptor.
pub fn adopt(number: i32) -> Result<OwnedFd, OsError> {
    if number < 0 {
        return Err(OsError { call: "fcntl(F_DUPFD_CLOEXEC)", errno: libc::EBADF });
    }
    // SAFETY: only borrowed for the next call, which fails cleanly when the number is no descriptor.
    let passed = unsafe { BorrowedFd::borrow_raw(number) };
    duplicate(passed)
}

/// Copies a part of a message's block to a slice that the caller borrows mutably. The block is the caller's: it was written
/// before its frame was, and whoever has taken the frame is its one owner.
pub(crate) fn copy_out<M: Memory>(memory: &M, offset: u64, to: &mut [u8]) -> bool {
    let len = to.len();
    // SAFETY: the slice is the caller's alone. It does not lie in the arena's free blocks or messages: the engine makes no
    // slices of the arena, and who makes one over shared or received bytes (`as_ptr`) vouches for its being alone. Nobody
    // writes a message's block, which no handle opens, while its owner has it.
    unsafe { memory.copy_out_to(offset, len, NonNull::from(to).cast()) }
}

/// As [`copy_out`], appending to `out`.
pub(crate) fn copy_out_of<M: Memory>(memory: &M, offset: u64, len: usize, out: &mut Vec<u8>) -> bool {
    // SAFETY: nobody writes a message's block while its owner has it.
    unsafe { memory.copy_out(offset, len, out) }
}

/// As [`copy_out_of`], from a block that its owner may give up meanwhile: what was copied counts only if it has not.
pub(crate) fn copy_out_racing<M: Memory>(memory: &M, offset: u64, len: usize, out: &mut Vec<u8>) -> bool {
    // SAFETY: copied word by word; the block is written before its handle is told to anybody. Once it is given up, its next
    // owner, in another process but for a pool's own worker threads, may write it; then the copy is thrown away.
    unsafe { memory.copy_out_racing(offset, len, out) }
}

/// `write(fd, bytes)`, all of them.
pub(crate) fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), OsError> {
    while !bytes.is_empty() {
        let written = rustix::io::write(fd, bytes).map_err(OsError::new("write"))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Bytes behind a descriptor that can be read from the start: what a child reads its job from. The kernel frees it
/// with the last descriptor.
pub(crate) fn file_of(name: &str, bytes: &[u8]) -> Result<OwnedFd, OsError> {
    let fd = create_memfd(name, MemfdFlags::empty())?;
    let allowed =
        FileSize::up_to(bytes.len() as u64).ok_or(OsError { call: TOO_LARGE, errno: libc::EFBIG })?;
    write_all(fd.as_fd(), bytes)?;
    drop(allowed);
    rustix::fs::seek(&fd, rustix::fs::SeekFrom::Start(0)).map_err(OsError::new("lseek"))?;
    Ok(fd)
}

/// Bytes behind a descriptor that several processes read and write, of any length. It is told apart from a user's file by
/// a seal: it cannot shrink.
pub(crate) fn notebook(name: &str) -> Result<OwnedFd, OsError> {
    let fd = create_memfd(name, MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::SEAL)
        .map_err(OsError::new("fcntl(F_ADD_SEALS)"))?;
    Ok(fd)
}
