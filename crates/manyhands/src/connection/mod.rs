//! A connection: a descriptor over which frames go, to whoever is at its other end.
//!
//! The other end need not be of this family, nor speak through this crate, and both ends may be held by several
//! processes: so nothing is read beyond the frame that is asked for, nothing is kept between two calls, and what
//! [`frame`] describes is all that is on the wire. A peer that dies is seen as the end of what there is to read, or as
//! `EPIPE`.
//!
//! A try does not wait: `MSG_DONTWAIT` on a socket, `RWF_NOWAIT` where a pipe is read and the kernel knows that. Of anything
//! else it is not known what waits, so a try only says that it could not. Callers that hold something while they try, let
//! go of it to wait.

pub mod frame;
mod watch;

use crate::sys::{OsError, descriptor};
use crate::waiting::block;
use manyhands_sync::deadline::Deadline;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::park::{Parked, Waited};
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
    /// Of those in the middle of a frame.
    learnt_on_the_way: Learnt,
}

/// Nobody has asked yet.
const UNKNOWN: u8 = 0;
const SOCKET: u8 = 1;
/// No socket; it may be that it can be read from without waiting.
const PIPE: u8 = 2;
/// A terminal, what may be; or the kernel is too old.
const OTHER: u8 = 3;

/// Longer payloads are better written by a call of their own, see [`Connection::longest_behind_its_head`]. Of a pipe this is
/// the standard library's limit: up to there a message is written by one call, which those who share an end may rely on.
const LONGEST_BEHIND_HEAD_IN_PIPE: usize = 16 << 10;
const LONGEST_BEHIND_HEAD_IN_SOCKET: usize = (128 << 10) - 1;

impl Connection {
    /// The end with that number; a negative one is closed.
    #[must_use]
    pub fn new(number: i32) -> Self {
        Self {
            number: AtomicI32::new(number),
            kind: AtomicU8::new(UNKNOWN),
            learnt: Learnt::new(),
            learnt_on_the_way: Learnt::new(),
        }
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

    fn is_socket(&self) -> bool {
        match self.kind.load(Ordering::Relaxed) {
            UNKNOWN => {
                let socket = descriptor::is_socket(self.raw());
                self.kind.store(if socket { SOCKET } else { PIPE }, Ordering::Relaxed);
                socket
            }
            kind => kind == SOCKET,
        }
    }

    /// What a try of a socket came to. One that is no socket any more is somebody else's by now, who is asked again.
    fn tried(&self, call: &'static str, done: Result<usize, Errno>) -> Result<usize, TransferError> {
        match done {
            Err(Errno::AGAIN) => Err(TransferError::MustWait),
            Err(Errno::NOTSOCK) => {
                self.kind.store(UNKNOWN, Ordering::Relaxed);
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
        if self.is_socket() {
            return self.tried("recv", descriptor::receive_now(self.raw(), to));
        }
        if self.kind.load(Ordering::Relaxed) == PIPE {
            match descriptor::read_now(self.raw(), to) {
                Ok(count) => return Ok(count),
                Err(Errno::AGAIN) => {}
                // Whatever it is, the call that waits is told, too.
                Err(_) => self.kind.store(OTHER, Ordering::Relaxed),
            }
        }
        Err(TransferError::MustWait)
    }

    /// As [`Connection::try_read`], for who has tried just now: looks again for a little while.
    fn read_soon(&self, to: &mut [MaybeUninit<u8>], watch: &mut Watch) -> Result<usize, TransferError> {
        if self.is_socket() {
            let read = self.learnt.spin_on_calls(|| match self.try_read(to) {
                Err(TransferError::MustWait) => None,
                read => Some(read),
            });
            return read.unwrap_or(Err(TransferError::MustWait));
        }
        let came = watch.look().map_err(TransferError::Os)? || watch.spin(&self.learnt);
        if came { self.read(to) } else { Err(TransferError::MustWait) }
    }

    /// Reads what comes next, after a try that found nothing: waits for the first byte. `on_signal` is called whenever a
    /// signal may have come; what it returns as an error ends the wait, and nothing was read then.
    ///
    /// # Errors
    /// What `on_signal` returned; inside, as [`Connection::read`].
    pub fn read_interruptibly<E>(
        &self,
        to: &mut [MaybeUninit<u8>],
        on_signal: impl FnMut() -> Result<(), E>,
    ) -> Result<Result<usize, TransferError>, E> {
        let mut watch = match Watch::new(&[self.raw()]) {
            Ok(watch) => watch,
            Err(refused) => return Ok(Err(TransferError::Os(refused))),
        };
        match self.read_soon(to, &mut watch) {
            Err(TransferError::MustWait | TransferError::Interrupted) => {}
            read => return Ok(read),
        }
        let deadline = Deadline::NEVER;
        let read = block(WaitKind::Connection, 0, deadline, on_signal, |waiting, _| {
            loop {
                match watch.park(waiting, deadline) {
                    Ok(Waited::Ready) => {}
                    // One that was made not to wait says so by itself; asked once, and not before a wait that is short.
                    Ok(_) if waiting.slices() == 1 && descriptor::does_not_wait(self.raw()) => {
                        return Parked::Done(self.read(to));
                    }
                    Ok(_) => return Parked::Interrupted,
                    Err(refused) => return Parked::Done(Err(TransferError::Os(refused))),
                }
                let read = if self.is_socket() { self.try_read(to) } else { self.read(to) };
                match read {
                    // Somebody else was faster, or it is another file by now.
                    Err(TransferError::MustWait) => {}
                    Err(TransferError::Interrupted) => return Parked::Interrupted,
                    read => return Parked::Done(read),
                }
            }
        })?;
        Ok(read.unwrap_or(Err(TransferError::MustWait)))
    }

    /// Reads, waiting for the first byte; of a socket for all of them.
    ///
    /// # Errors
    /// `MustWait` never: a descriptor that was made not to wait refuses with `EAGAIN`.
    pub fn read(&self, to: &mut [MaybeUninit<u8>]) -> Result<usize, TransferError> {
        if self.is_socket() {
            descriptor::receive_all(self.raw(), to).map_err(|errno| os("recv", errno))
        } else {
            descriptor::read(self.raw(), to).map_err(|errno| os("read", errno))
        }
    }

    /// The longest payload that is best written by the same call as its head. The kernel cuts what it copies at pages, and
    /// into pieces of its own: behind a head of four bytes each is copied across the processor's words, on both ways, and a
    /// pipe has no page left for the last four bytes of 64 KiB. For shorter ones a call more costs as much.
    #[must_use]
    pub fn longest_behind_its_head(&self) -> usize {
        if self.is_socket() { LONGEST_BEHIND_HEAD_IN_SOCKET } else { LONGEST_BEHIND_HEAD_IN_PIPE }
    }

    /// Reads more of a frame that is on its way, until all has come; less when a signal arrives. What is there is taken at
    /// once, and looked for again for a little while: a reader that slept whenever it was faster than the writer would have
    /// to be woken for each piece.
    ///
    /// # Errors
    /// As [`Connection::read`], when nothing was read.
    pub fn read_on(&self, to: &mut [MaybeUninit<u8>]) -> Result<usize, TransferError> {
        let mut count = 0;
        while count < to.len() {
            let rest = &mut to[count..];
            let read = match self.try_or_spin(rest) {
                Some(read) => read,
                None => self.read(rest),
            };
            match read {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(error) if count == 0 => return Err(error),
                // It comes again.
                Err(_) => break,
            }
        }
        Ok(count)
    }

    fn try_or_spin(&self, to: &mut [MaybeUninit<u8>]) -> Option<Result<usize, TransferError>> {
        let mut look = || match self.try_read(to) {
            Err(TransferError::MustWait) => None,
            read => Some(read),
        };
        let read = look();
        // Of other files a try says nothing.
        if read.is_some() || self.kind.load(Ordering::Relaxed) == OTHER {
            return read;
        }
        self.learnt_on_the_way.spin_on_calls(look)
    }

    /// Writes what there is room for, without waiting.
    ///
    /// # Errors
    /// As [`Connection::try_read`].
    pub fn try_write(&self, parts: &[IoSlice<'_>]) -> Result<usize, TransferError> {
        if self.is_socket() {
            self.tried("sendmsg", descriptor::send_now(self.raw(), parts))
        } else {
            Err(TransferError::MustWait)
        }
    }

    /// Writes, waiting until all is written; less when a signal arrives.
    ///
    /// # Errors
    /// As [`Connection::read`].
    pub fn write(&self, parts: &[IoSlice<'_>]) -> Result<usize, TransferError> {
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
            assert_eq!(writer.write(&[IoSlice::new(b"ab"), IoSlice::new(b"cd")]), Ok(4));
            assert_eq!(reader.read_interruptibly(&mut room[..3], || Err(())), Ok(Ok(3)));
            assert_eq!(reader.read(&mut room[..1]), Ok(1));
            close((reader, writer));
        }
    }

    #[test]
    fn a_full_socket_makes_a_try_wait() {
        let [(first, second), others] = pairs();
        let piece = [7; 4096];
        let mut written = 0;
        while let Ok(count) = first.try_write(&[IoSlice::new(&piece)]) {
            written += count;
        }
        assert!(written >= piece.len());
        assert_eq!(first.try_write(&[IoSlice::new(&piece)]), Err(TransferError::MustWait));
        close((first, second));
        close(others);
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
    fn a_frame_on_its_way_is_read_to_its_end() {
        for (reader, writer) in pairs() {
            let mut room = [MaybeUninit::uninit(); 300_000];
            let sent = std::thread::spawn(move || {
                // The first piece may be taken before the second is there; the third ends the frame too soon.
                for piece in [vec![1; 100_000], vec![2; 200_000], vec![3; 5]] {
                    let mut left = piece.as_slice();
                    while !left.is_empty() {
                        left = &left[writer.write(&[IoSlice::new(left)]).expect("somebody reads")..];
                    }
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
                writer.close().expect("open");
            });
            assert_eq!(reader.read_on(&mut room), Ok(room.len()));
            assert_eq!(reader.read_on(&mut room), Ok(5));
            assert_eq!(reader.read_on(&mut room), Ok(0));
            sent.join().expect("no panic");
            reader.close().expect("open");
            assert!(matches!(reader.read_on(&mut room), Err(TransferError::Os(_))));
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
