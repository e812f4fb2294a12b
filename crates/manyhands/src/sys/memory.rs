//! Anonymous shared memory: a sealed, sparse memfd, mapped piece by piece and never unmapped.
#![allow(unsafe_code)] // maps memory

use super::{OsError, huge_pages};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// `memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL)`, without the last flag where the kernel
/// does not know it; then sized to `bytes` and sealed against any other size. Sparse: it takes no memory yet.
pub(crate) fn create_sealed(name: &str, bytes: u64) -> Result<OwnedFd, OsError> {
    let fd = create_memfd(name, MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&fd, bytes).map_err(OsError::new("ftruncate"))?;
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

/// The largest file this process may make: growing one beyond it is answered with a signal that kills.
pub(crate) fn largest_file() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current.unwrap_or(u64::MAX)
}

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

/// `mmap(place, len, protection, MAP_SHARED | MAP_NORESERVE, fd, offset)`, left out of core dumps, at a place where huge
/// pages fit if there is one. Never unmapped: what it returns is valid until the process ends.
pub(crate) fn map_forever(
    fd: BorrowedFd<'_>,
    offset: u64,
    len: usize,
    access: Access,
) -> Result<NonNull<u8>, OsError> {
    let protection = match access {
        Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        Access::Read => ProtFlags::READ,
    };
    let flags = MapFlags::SHARED | MapFlags::NORESERVE;
    let (hint, fixed) = match huge_pages::room_for(len) {
        Some(room) => (room.as_ptr().cast(), MapFlags::FIXED),
        None => (std::ptr::null_mut(), MapFlags::empty()),
    };
    // SAFETY: a new mapping at an address of the kernel's choice, or over room that was reserved for it just now and that
    // nobody else knows, disturbs nothing; the file is sealed against shrinking, so no access can be beyond its end.
    let place = unsafe { rustix::mm::mmap(hint, len, protection, flags | fixed, fd, offset) }
        .map_err(OsError::new("mmap"))?;
    // SAFETY: the range was mapped just now by the call above.
    unsafe { rustix::mm::madvise(place, len, Advice::LinuxDontDump) }.map_err(OsError::new("madvise"))?;
    NonNull::new(place.cast()).ok_or(OsError { call: "mmap", errno: libc::ENOMEM })
}

/// Unmaps what nobody knows of yet: the loser of two threads that mapped the same extent.
///
/// # Safety
/// `place` came from [`map_forever`] with `len`, and was not published.
pub(crate) unsafe fn unmap_unpublished(place: NonNull<u8>, len: usize) {
    // SAFETY: the caller vouches that nobody uses the range.
    let _ = unsafe { rustix::mm::munmap(place.as_ptr().cast(), len) };
}

/// `fallocate(fd, 0, offset, len)`: the pages exist afterwards, or the error says that there is no memory.
pub(crate) fn commit(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<(), OsError> {
    rustix::fs::fallocate(fd, FallocateFlags::empty(), offset, len).map_err(OsError::new("fallocate"))
}

/// `fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, len)`: the pages go back to the system.
pub(crate) fn give_back(fd: BorrowedFd<'_>, offset: u64, len: u64) {
    // Best effort: pages that stay are only memory used a little longer.
    let _ = rustix::fs::fallocate(fd, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len);
}

/// Four words of this process that read as zero in every forked child, whoever forked it (`MADV_WIPEONFORK`).
pub(crate) fn wiped_on_fork_words() -> Result<&'static [AtomicU64; 4], OsError> {
    const LEN: usize = 4096;
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
    Ok(unsafe { &*place.cast::<[AtomicU64; 4]>() })
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

/// When a process was started, in clock ticks since the machine was: tells a reused pid apart.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// `gettid()`.
pub(crate) fn own_thread() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()
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

/// Copies from the arena to a slice of this process.
pub(crate) fn copy_out<M: manyhands_sync::memory::Memory>(
    memory: &M,
    offset: u64,
    to: NonNull<[u8]>,
) -> bool {
    // SAFETY: the only caller passes a slice it borrows mutably, which cannot lie in the arena: no slice into
    // the arena is ever made.
    unsafe { memory.copy_out_to(offset, to.len(), to.cast()) }
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
    write_all(fd.as_fd(), bytes)?;
    rustix::fs::seek(&fd, rustix::fs::SeekFrom::Start(0)).map_err(OsError::new("lseek"))?;
    Ok(fd)
}
