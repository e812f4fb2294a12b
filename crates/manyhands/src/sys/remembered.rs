//! Descriptors whose numbers this process remembers.
//!
//! A number is no property: other code of the program may close it (`os.closerange`, as daemons do) and open something of
//! its own, which then has this number. So whatever this process keeps for longer than a call is a [`Remembered`]: it knows
//! what it was given, looks whether the number still means that before each use, and closes nothing else.
//!
//! | what | known by | the look cannot tell it from |
//! |---|---|---|
//! | memory, pipes, sockets | device and inode: the kernel gives each its own | another end of the same pipe |
//! | eventfds, pidfds | the inode, which they may all share, and a mark on the open file (`F_SETSIG`, never armed) | another one of this kind that somebody passed to this process |
//! | all of them | the last of this process's owners of the number, see [`HOLDERS`] | |
//!
//! Between the look and the call another thread may close the number and open a file: that is a window of some hundred
//! nanoseconds, and no call of the kernel closes it. So the calls that could destroy something of a file are not made by
//! number at all (`extents.rs`, `alone.rs`); what is left is written in `docs/reliability.md`. A number that was lost does
//! not come back by itself: one that is this thing's *after* a call was so at the call.
#![allow(unsafe_code)] // fcntl commands that rustix lacks

use super::{OsError, memory};
use rustix::fs::Stat;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where remembered descriptors begin, if this process may have so many: what closes "the first 256" leaves them alone.
const FLOOR: RawFd = 512;
/// `select` takes no descriptor from here on.
const MOST_FOR_SELECT: RawFd = 1024;

/// The signal that marks a file of no inode of its own. Nobody is to receive it: the file is not asynchronous.
const MARK: libc::c_int = 61;
/// Not in the libc crate for every target.
const F_SETSIG: libc::c_int = 10;
const F_GETSIG: libc::c_int = 11;

/// Who was last given each number, so that a value whose number was closed and became another value's knows that. Numbers
/// beyond the table are told apart by their inodes alone. From [`FLOOR`] on, and those below it at the end: the first ones
/// are written at each start of a process, and lie in the same page as other words that are.
static HOLDERS: [AtomicU32; 4096] = [const { AtomicU32::new(0) }; 4096];
static LAST_HOLDER: AtomicU32 = AtomicU32::new(0);

/// What a call by a number says that is not this value's any more.
pub(crate) const CLOSED_BY_OTHERS: OsError = OsError {
    call: "other code of this program has closed a descriptor of manyhands, as os.closerange does",
    errno: libc::EBADF,
};

/// A descriptor, and what it is of.
#[derive(Debug)]
pub struct Remembered {
    /// There until this is dropped.
    fd: Option<OwnedFd>,
    number: RawFd,
    holder: u32,
    file: FileIdentity,
}

/// What tells one open file from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    device: u64,
    inode: u64,
    /// Its file type. With none, others may have its inode, and it is marked.
    kind: u32,
}

impl FileIdentity {
    /// `fstat`.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> Result<Self, OsError> {
        let Stat { st_dev, st_ino, st_mode, .. } = rustix::fs::fstat(fd).map_err(OsError::new("fstat"))?;
        Ok(Self { device: st_dev, inode: st_ino, kind: st_mode & libc::S_IFMT })
    }

    fn is_anonymous(self) -> bool {
        self.kind == 0
    }
}

/// Whether a number means the file of that device and inode at this moment: `fstat`, of a number of anybody's.
#[must_use]
pub fn is_file(number: RawFd, device: u64, inode: u64) -> bool {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the structure is there for the call, which writes it; what the number means is left alone.
    if unsafe { libc::fstat(number, stat.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: a call without an error has written all of it.
    let stat = unsafe { stat.assume_init() };
    (stat.st_dev, stat.st_ino) == (device, inode)
}

impl Remembered {
    /// Keeps a descriptor, under a number that is out of the way.
    ///
    /// # Errors
    /// When it is none any more.
    pub fn new(fd: OwnedFd) -> Result<Self, OsError> {
        Self::at(out_of_the_way(fd))
    }

    /// Keeps another descriptor of the same file.
    ///
    /// # Errors
    /// When the kernel refuses one.
    pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> Result<Self, OsError> {
        match rustix::io::fcntl_dupfd_cloexec(fd, FLOOR) {
            Ok(high) if high.as_raw_fd() < MOST_FOR_SELECT => Self::at(high),
            _ => Self::new(memory::duplicate(fd)?),
        }
    }

    fn at(fd: OwnedFd) -> Result<Self, OsError> {
        let file = FileIdentity::of(fd.as_fd())?;
        if file.is_anonymous() {
            mark(fd.as_fd())?;
        }
        let number = fd.as_raw_fd();
        // Zero is nobody.
        let holder = LAST_HOLDER.fetch_add(1, Ordering::Relaxed).wrapping_add(1).max(1);
        if let Some(place) = holder_of(number) {
            place.store(holder, Ordering::Release);
        }
        Ok(Self { fd: Some(fd), number, holder, file })
    }

    /// Its number, whatever it means by now: to be told to users.
    #[must_use]
    pub fn number(&self) -> RawFd {
        self.number
    }

    /// The descriptor, for one call.
    ///
    /// # Errors
    /// [`CLOSED_BY_OTHERS`] when the number does not mean it any more.
    pub fn get(&self) -> Result<BorrowedFd<'_>, OsError> {
        self.fd.as_ref().filter(|fd| self.is_meant_by(fd)).map(AsFd::as_fd).ok_or(CLOSED_BY_OTHERS)
    }

    /// The descriptor, without a look: for `poll`, which does nothing to a file. Whoever believes what it says must look
    /// afterwards.
    pub(crate) fn unlooked(&self) -> BorrowedFd<'_> {
        let Some(fd) = &self.fd else { unreachable!("there until this is dropped") };
        fd.as_fd()
    }

    /// Whether the number still means it: nobody else has closed it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.get().is_ok()
    }

    /// Whether it is a socket, whatever its number means by now.
    pub(super) fn is_socket(&self) -> bool {
        self.file.kind == libc::S_IFSOCK
    }

    fn is_meant_by(&self, fd: &OwnedFd) -> bool {
        holder_of(self.number).is_none_or(|place| place.load(Ordering::Acquire) == self.holder)
            && FileIdentity::of(fd.as_fd()) == Ok(self.file)
            && (!self.file.is_anonymous() || is_marked(fd.as_fd()))
    }
}

impl Drop for Remembered {
    fn drop(&mut self) {
        let Some(fd) = self.fd.take() else { return };
        if self.is_meant_by(&fd) {
            drop(fd);
        } else {
            // Somebody else's by now, or nobody's.
            let _ = fd.into_raw_fd();
        }
    }
}

fn holder_of(number: RawFd) -> Option<&'static AtomicU32> {
    let number = usize::try_from(number).ok().filter(|&number| number < HOLDERS.len())?;
    HOLDERS.get((number + HOLDERS.len() - FLOOR as usize) % HOLDERS.len())
}

/// `fcntl(F_DUPFD_CLOEXEC)` to a high number; as it is where there is none, or where `select` could not take it.
fn out_of_the_way(fd: OwnedFd) -> OwnedFd {
    if fd.as_raw_fd() >= FLOOR {
        return fd;
    }
    match rustix::io::fcntl_dupfd_cloexec(&fd, FLOOR) {
        Ok(high) if high.as_raw_fd() < MOST_FOR_SELECT => high,
        _ => fd,
    }
}

fn mark(fd: BorrowedFd<'_>) -> Result<(), OsError> {
    // SAFETY: fcntl on a descriptor that is borrowed for the call; no memory is involved.
    if unsafe { libc::fcntl(fd.as_raw_fd(), F_SETSIG, MARK) } == 0 {
        return Ok(());
    }
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
    Err(OsError { call: "fcntl(F_SETSIG)", errno })
}

/// Whether it is one that some process has marked as [`Remembered`] does.
pub(super) fn is_marked(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: fcntl on a descriptor that is borrowed for the call; no memory is involved.
    unsafe { libc::fcntl(fd.as_raw_fd(), F_GETSIG) == MARK }
}

/// Makes a number that of another file, behind the back of whoever remembers it: who does finds out, as is tested.
#[cfg(test)]
pub(super) fn lose(number: RawFd, to: BorrowedFd<'_>) {
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { libc::dup2(to.as_raw_fd(), number) }, number);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Seek, Write};
    use std::os::fd::FromRawFd;

    /// Closes a number behind its owner's back, and makes it that of another file.
    fn take_over(number: RawFd, file: &File) -> File {
        lose(number, file.as_fd());
        // SAFETY: opened just now, and whoever had the number does not use it: that is what is tested.
        unsafe { File::from_raw_fd(number) }
    }

    fn users_file() -> File {
        let mut file = File::from(memory::file_of("a user's", b"precious").expect("memory"));
        file.rewind().expect("a file");
        file
    }

    fn kinds() -> Vec<OwnedFd> {
        let (read, write) = rustix::pipe::pipe().expect("descriptors");
        let (one, other) = super::super::passing::pair().expect("descriptors");
        let eventfd = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("a descriptor");
        // Valgrind knows no pidfds.
        let pidfd = super::super::pidfd::open(std::process::id());
        assert!(pidfd.as_ref().err().is_none_or(|error| error.errno == libc::ENOSYS), "{pidfd:?}");
        [read, write, one, other, eventfd].into_iter().chain(pidfd.ok().flatten()).collect()
    }

    #[test]
    fn each_kind_is_known_and_nothing_else_is_closed() {
        for fd in kinds() {
            let kept = Remembered::new(fd).expect("open");
            assert!(kept.is_ours(), "{kept:?}");
            let original = users_file();
            let mut users = take_over(kept.number(), &original);
            assert_eq!(kept.get().err(), Some(CLOSED_BY_OTHERS), "{kept:?}");
            drop(kept);
            let mut text = String::new();
            users.read_to_string(&mut text).expect("it is open");
            users.write_all(b"!").expect("it is open");
            assert_eq!(text, "precious");
        }
    }

    #[test]
    fn one_that_took_the_number_of_another_is_not_taken_for_it() {
        let eventfd =
            || rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("a descriptor");
        let first = Remembered::new(eventfd()).expect("open");
        // SAFETY: the value finds out that it has lost its number: that is what is tested.
        assert_eq!(unsafe { libc::close(first.number()) }, 0);
        // Others may take the lowest number meanwhile: tests run in threads.
        let kept: Vec<_> = (0..8).map(|_| Remembered::new(eventfd()).expect("open")).collect();
        assert!(!first.is_ours());
        drop(first);
        assert!(kept.iter().all(Remembered::is_ours));
    }

    #[test]
    fn a_users_own_eventfd_is_not_taken_for_ours() {
        let kept =
            Remembered::new(rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("one"));
        let kept = kept.expect("open");
        let others =
            File::from(rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("one"));
        let _users = take_over(kept.number(), &others);
        assert!(!kept.is_ours());
    }

    #[test]
    fn numbers_are_out_of_the_way() {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let kept = Remembered::new(kinds().swap_remove(0)).expect("open");
        assert!(limit.is_some_and(|most| most <= FLOOR as u64) || kept.number() >= FLOOR, "{kept:?}");
    }
}
