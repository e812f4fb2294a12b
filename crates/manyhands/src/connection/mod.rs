//! A connection: a descriptor over which frames go, to whoever is at its other end.
//!
//! The other end need not be of this family, nor speak through this crate, and both ends may be held by several
//! processes: so nothing is read beyond the frame that is asked for, nothing is kept between two calls, and what
//! [`frame`] describes is all that is on the wire. A peer that dies is seen as the end of what there is to read, or as
//! `EPIPE`.
//!
//! A try does not wait: `MSG_DONTWAIT` on a socket, `RWF_NOWAIT` on a pipe, where one call does it. Of anything else it is
//! not known what waits, so a try only says that it could not. Callers that hold something while they try, let go of it to
//! wait, by `waits.rs`: that sleeps only where it can be told of signals in time, and never within a transfer.

pub mod frame;
mod waits;
mod watch;

use crate::sys::{OsError, descriptor};
pub use manyhands_sync::spin::Learnt;
use rustix::io::Errno;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};
pub use watch::Watch;

/// Why nothing was read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// It would have to wait.
    MustWait,
    /// A signal arrived in this thread.
    Interrupted,
    /// The kernel refused.
    Os(OsError),
}

fn os(call: &'static str, errno: Errno) -> TransferError {
    match errno {
        Errno::INTR => TransferError::Interrupted,
        errno => TransferError::Os(OsError::new(call)(errno)),
    }
}

/// One end, by the number of its descriptor.
///
/// The number may be closed or given to another file behind its back: a call then fails, or concerns that file.
#[derive(Debug)]
pub struct Connection {
    /// Negative when it is closed.
    number: AtomicI32,
    kind: AtomicU8,
    /// Of this process's waits to read from it.
    learnt: Learnt,
}

/// Nobody has asked yet.
const UNKNOWN: u8 = 0;
const SOCKET: u8 = 1;
/// A pipe of which the kernel lets one ask without waiting (from Linux 6.4 on).
const PIPE: u8 = 2;
/// A terminal, a pipe of an older kernel, what may be.
const OTHER: u8 = 3;

/// Longer payloads are better written by a call of their own, see [`Connection::longest_behind_its_head`]. Of a pipe this is
/// the standard library's limit: up to there a message is written by one call, which those who share an end may rely on.
const LONGEST_BEHIND_HEAD_IN_PIPE: usize = 16 << 10;
const LONGEST_BEHIND_HEAD_IN_SOCKET: usize = (128 << 10) - 1;
/// The kernel takes no more parts at once (`IOV_MAX`).
const MOST_PARTS: usize = 1024;

impl Connection {
    /// The end with that number; a negative one is closed.
    #[must_use]
    pub fn new(number: i32) -> Self {
        Self { number: AtomicI32::new(number), kind: AtomicU8::new(UNKNOWN), learnt: Learnt::new() }
    }

    /// Its descriptor; `None` when it is closed.
    #[must_use]
    pub fn number(&self) -> Option<i32> {
        let number = self.raw();
        (number >= 0).then_some(number)
    }

    fn raw(&self) -> i32 {
        self.number.load(Ordering::Relaxed)
    }

    /// Takes another number, or with `None` lets go of it without closing it.
    pub fn become_number(&self, number: Option<i32>) {
        self.kind.store(UNKNOWN, Ordering::Relaxed);
        self.number.store(number.unwrap_or(-1), Ordering::Relaxed);
    }

    /// Closes the descriptor; of several threads that do, one does.
    ///
    /// # Errors
    /// What the kernel says; it counts as closed all the same.
    pub fn close(&self) -> Result<(), OsError> {
        let number = self.number.swap(-1, Ordering::Relaxed);
        if number < 0 { Ok(()) } else { descriptor::close(number).map_err(OsError::new("close")) }
    }

    fn kind(&self) -> u8 {
        match self.kind.load(Ordering::Relaxed) {
            UNKNOWN => {
                let number = self.raw();
                let kind = match () {
                    () if descriptor::is_socket(number) => SOCKET,
                    () if descriptor::is_pipe(number) => PIPE,
                    () => OTHER,
                };
                self.kind.store(kind, Ordering::Relaxed);
                kind
            }
            kind => kind,
        }
    }

    /// Whether a try tells what there is.
    fn can_be_tried(&self) -> bool {
        self.kind() != OTHER
    }

    /// What a try came to. One that is no socket any more is somebody else's by now, who is asked again.
    fn tried(&self, call: &'static str, done: Result<usize, Errno>) -> Result<usize, TransferError> {
        match done {
            Err(Errno::AGAIN) => Err(TransferError::MustWait),
            Err(Errno::NOTSOCK) => {
                self.kind.store(UNKNOWN, Ordering::Relaxed);
                Err(TransferError::MustWait)
            }
            // Not of this file, or not by this kernel.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) if self.kind() == PIPE => {
                self.kind.store(OTHER, Ordering::Relaxed);
                Err(TransferError::MustWait)
            }
            done => done.map_err(|errno| os(call, errno)),
        }
    }

    /// Reads what is there, without waiting: how many bytes of `to` were written to, from the beginning. None at the
    /// end.
    ///
    /// # Errors
    /// `MustWait` also when nobody can tell.
    pub fn try_read(&self, to: &mut [MaybeUninit<u8>]) -> Result<usize, TransferError> {
        match self.kind() {
            SOCKET => self.tried("recv", descriptor::receive_now(self.raw(), to)),
            PIPE => self.tried("read", descriptor::read_now(self.raw(), to)),
            _ => Err(TransferError::MustWait),
        }
    }

    /// Reads, waiting for the first byte in the kernel: for one of which it is known that it need not wait, or will not.
    fn read(&self, to: &mut [MaybeUninit<u8>]) -> Result<usize, TransferError> {
        descriptor::read(self.raw(), to).map_err(|errno| os("read", errno))
    }

    /// The longest payload that is best written by the same call as its head. The kernel cuts what it copies at pages, and
    /// into pieces of its own: behind a head of four bytes each is copied across the processor's words, on both ways, and a
    /// pipe has no page left for the last four bytes of 64 KiB. For shorter ones a call more costs as much.
    #[must_use]
    pub fn longest_behind_its_head(&self) -> usize {
        if self.kind() == SOCKET { LONGEST_BEHIND_HEAD_IN_SOCKET } else { LONGEST_BEHIND_HEAD_IN_PIPE }
    }

    /// Writes what there is room for, without waiting.
    ///
    /// # Errors
    /// As [`Connection::try_read`].
    pub fn try_write(&self, parts: &[IoSlice<'_>]) -> Result<usize, TransferError> {
        let parts = &parts[..parts.len().min(MOST_PARTS)];
        match self.kind() {
            SOCKET => self.tried("sendmsg", descriptor::send_now(self.raw(), parts)),
            PIPE => self.tried("writev", descriptor::write_now(self.raw(), parts)),
            _ => Err(TransferError::MustWait),
        }
    }

    /// Writes, waiting in the kernel until all is written: as [`Connection::read`].
    fn write(&self, parts: &[IoSlice<'_>]) -> Result<usize, TransferError> {
        let parts = &parts[..parts.len().min(MOST_PARTS)];
        descriptor::write(self.raw(), parts).map_err(|errno| os("writev", errno))
    }
}

/// Two ends of a new connection, both to read from and to write to: a pair of sockets.
///
/// # Errors
/// When there are no more descriptors.
pub fn duplex() -> Result<(i32, i32), OsError> {
    descriptor::socket_pair().map(numbers).map_err(OsError::new("socketpair"))
}

/// Two ends of a new connection, the first to read from, the second to write to: a pipe.
///
/// # Errors
/// When there are no more descriptors.
pub fn one_way() -> Result<(i32, i32), OsError> {
    descriptor::pipe().map(numbers).map_err(OsError::new("pipe2"))
}

fn numbers((first, second): (OwnedFd, OwnedFd)) -> (i32, i32) {
    (first.into_raw_fd(), second.into_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs() -> [(Connection, Connection); 2] {
        let (first, second) = duplex().expect("descriptors");
        let (reader, writer) = one_way().expect("descriptors");
        [
            (Connection::new(first), Connection::new(second)),
            (Connection::new(reader), Connection::new(writer)),
        ]
    }

    fn close(ends: (Connection, Connection)) {
        for end in [ends.0, ends.1] {
            end.close().expect("open until now");
            assert_eq!(end.number(), None);
            end.close().expect("closed already");
        }
    }

    #[test]
    fn a_try_does_not_wait() {
        for (reader, writer) in pairs() {
            let mut room = [MaybeUninit::uninit(); 8];
            assert_eq!(reader.try_read(&mut room), Err(TransferError::MustWait));
            let mut watch = Watch::new(&[reader.raw()]).expect("open");
            assert_eq!(reader.read_soon(&mut room, &mut watch), Err(TransferError::MustWait));
            assert_eq!(reader.read_interruptibly(&mut room, || Err("a signal")), Err("a signal"));
            let mut parts = [IoSlice::new(b"ab"), IoSlice::new(b"cd")];
            assert_eq!(writer.write_interruptibly(&mut parts, || Err(())), Ok(Ok(())));
            assert_eq!(reader.read_interruptibly(&mut room[..3], || Err(())), Ok(Ok(3)));
            assert_eq!(reader.try_read(&mut room[..1]), Ok(1));
            close((reader, writer));
        }
    }

    #[test]
    fn one_that_is_full_makes_a_try_wait_and_a_wait_ask_for_signals() {
        for (reader, writer) in pairs() {
            let piece = [7; 4096];
            let mut written = 0;
            while let Ok(count) = writer.try_write(&[IoSlice::new(&piece)]) {
                written += count;
            }
            assert!(written >= piece.len());
            assert_eq!(writer.try_write(&[IoSlice::new(&piece)]), Err(TransferError::MustWait));
            // As a kernel does it that knows no tries of pipes, too.
            for kind in [UNKNOWN, OTHER] {
                writer.kind.store(kind, Ordering::Relaxed);
                let mut asked = 0;
                let third_time = || {
                    asked += 1;
                    if asked < 3 { Ok(()) } else { Err("a signal") }
                };
                assert_eq!(
                    writer.write_interruptibly(&mut [IoSlice::new(&piece)], third_time),
                    Err("a signal")
                );
            }
            close((reader, writer));
        }
    }

    #[test]
    fn all_of_it_goes_through_whatever_is_known_of_the_file() {
        for kind in [UNKNOWN, OTHER] {
            for (reader, writer) in pairs() {
                reader.kind.store(kind, Ordering::Relaxed);
                writer.kind.store(kind, Ordering::Relaxed);
                let sent: Vec<u8> = (0..1_000_000u32).map(|at| (at % 251) as u8).collect();
                let mut room = vec![MaybeUninit::uninit(); sent.len() + 5];
                let filled = std::thread::scope(|scope| {
                    scope.spawn(|| {
                        let mut parts = [IoSlice::new(&sent[..7]), IoSlice::new(&sent[7..])];
                        assert_eq!(writer.write_interruptibly(&mut parts, || Ok::<_, ()>(())), Ok(Ok(())));
                        writer.close().expect("open");
                    });
                    reader.fill_interruptibly(&mut room, || Ok::<_, ()>(()))
                });
                assert_eq!(filled, Ok(Ok(sent.len())), "less at the end alone");
                // SAFETY: so many were filled.
                #[allow(unsafe_code)]
                let same = sent.iter().zip(&room).all(|(sent, came)| *sent == unsafe { came.assume_init() });
                assert!(same);
                reader.close().expect("open");
            }
        }
    }

    #[test]
    fn the_rest_of_a_message_that_does_not_come_asks_for_signals() {
        for (reader, writer) in pairs() {
            writer
                .write_interruptibly(&mut [IoSlice::new(b"half")], || Ok::<_, ()>(()))
                .expect("no signal")
                .expect("room");
            let mut room = [MaybeUninit::uninit(); 8];
            assert_eq!(reader.fill_interruptibly(&mut room, || Err("a signal")), Err("a signal"));
            close((reader, writer));
        }
    }

    #[test]
    fn the_end_is_seen_from_both_sides() {
        for (reader, writer) in pairs() {
            writer.write(&[IoSlice::new(b"last")]).expect("there is room");
            writer.close().expect("open");
            let mut room = [MaybeUninit::uninit(); 8];
            assert_eq!(reader.read_interruptibly(&mut room, || Err(())), Ok(Ok(4)));
            assert_eq!(reader.read(&mut room), Ok(0));
            reader.close().expect("open");
            assert!(
                matches!(reader.read(&mut room), Err(TransferError::Os(error)) if error.errno == libc::EBADF)
            );
        }
    }

    #[test]
    fn a_number_that_means_another_file() {
        let [(first, second), (reader, writer)] = pairs();
        let mut room = [MaybeUninit::uninit(); 8];
        assert_eq!(first.try_read(&mut room), Err(TransferError::MustWait));
        // Found to be a socket; the number it has now is a pipe's.
        let socket = first.number().expect("open");
        first.number.store(reader.number().expect("open"), Ordering::Relaxed);
        assert_eq!(first.try_read(&mut room), Err(TransferError::MustWait));
        writer.write(&[IoSlice::new(b"x")]).expect("there is room");
        assert_eq!(first.read(&mut room), Ok(1));
        first.become_number(Some(socket));
        close((first, second));
        close((reader, writer));
    }

    #[test]
    fn a_watch_says_which() {
        let [(first, second), (reader, writer)] = pairs();
        let numbers = [first.number().expect("open"), reader.number().expect("open")];
        let mut watch = Watch::new(&numbers).expect("no negative number");
        assert_eq!(watch.look(), Ok(false));
        writer.write(&[IoSlice::new(b"x")]).expect("there is room");
        assert_eq!(watch.look(), Ok(true));
        assert_eq!(watch.ready().collect::<Vec<_>>(), [1]);
        second.close().expect("open");
        assert_eq!(watch.look(), Ok(true));
        assert_eq!(watch.ready().collect::<Vec<_>>(), [0, 1]);
        close((first, writer));
        reader.close().expect("open");
        assert!(Watch::new(&[-1]).is_err());
    }
}
