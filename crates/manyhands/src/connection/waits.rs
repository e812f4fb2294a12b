//! The waits of a connection: for bytes to come, and for room.
//!
//! Nothing here sleeps in the call that transfers: a signal that came just before such a call would be heard of when it
//! ends, and it may never end. So a wait parks on the descriptor (`polling::park`), tries, and parks again; between two parks
//! `on_signal` is called, and at least each [`BETWEEN_LOOKS`] while bytes flow without a park. What `on_signal` returns as an
//! error ends the transfer where it is: in the middle of a frame that is the end of the connection's use, as it is in the
//! standard library.
//!
//! | file | a try |
//! |---|---|
//! | a socket, a pipe | does not wait; what is written of a frame is what there is room for |
//! | anything else | is made after a look that found it ready, and for so little that it need not wait |

use super::{Connection, TransferError, UNKNOWN, Watch};
use crate::sys::descriptor;
use crate::waiting::block;
use manyhands_sync::deadline::Deadline;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::park::{Parked, Waited, Waiting};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long bytes may flow without a look for signals.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// A transfer's outcome, within what `on_signal` lets through.
type Transferred<E> = Result<Result<usize, TransferError>, E>;

impl Connection {
    /// Fills `to` with what comes: how many bytes were written, from the beginning; less than all at the end alone.
    /// `on_signal` is called whenever a signal may have come; what it returns as an error ends the wait, and bytes that came
    /// before are lost.
    ///
    /// # Errors
    /// What `on_signal` returned; inside, what the kernel says: a descriptor that was made not to wait refuses with `EAGAIN`.
    pub fn fill_interruptibly<E>(
        &self,
        to: &mut [MaybeUninit<u8>],
        mut on_signal: impl FnMut() -> Result<(), E>,
    ) -> Transferred<E> {
        let (mut filled, mut looks) = (0, Looks(None));
        while filled < to.len() {
            let rest = &mut to[filled..];
            let read = match self.try_read(rest) {
                Err(TransferError::MustWait) => self.read_interruptibly(rest, &mut on_signal)?,
                read => read,
            };
            match read {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(TransferError::Interrupted) => on_signal()?,
                refused => return Ok(refused),
            }
            if filled < to.len() && looks.are_due() {
                on_signal()?;
            }
        }
        Ok(Ok(filled))
    }

    /// Writes all of some bytes, waiting for room. `on_signal` is called whenever a signal may have come; what it returns as an error ends
    /// the wait, with some of it written perhaps.
    ///
    /// # Errors
    /// As [`Connection::fill_interruptibly`].
    pub fn write_interruptibly<E>(
        &self,
        mut parts: &mut [IoSlice<'_>],
        mut on_signal: impl FnMut() -> Result<(), E>,
    ) -> Result<Result<(), TransferError>, E> {
        let mut looks = Looks(None);
        while !parts.is_empty() {
            let written = match self.try_write(parts) {
                Err(TransferError::MustWait) => self.write_when_there_is_room(parts, &mut on_signal)?,
                written => written,
            };
            match written {
                Ok(count) => IoSlice::advance_slices(&mut parts, count),
                Err(TransferError::Interrupted) => on_signal()?,
                Err(refused) => return Ok(Err(refused)),
            }
            if !parts.is_empty() && looks.are_due() {
                on_signal()?;
            }
        }
        Ok(Ok(()))
    }

    /// Reads what comes next, after a try that found nothing: waits for the first byte. Otherwise as
    /// [`Connection::fill_interruptibly`]; when `on_signal` ends the wait, nothing was read.
    ///
    /// # Errors
    /// As there.
    pub fn read_interruptibly<E>(
        &self,
        to: &mut [MaybeUninit<u8>],
        on_signal: impl FnMut() -> Result<(), E>,
    ) -> Transferred<E> {
        let mut watch = match Watch::new(&[self.raw()]) {
            Ok(watch) => watch,
            Err(refused) => return Ok(Err(TransferError::Os(refused))),
        };
        match self.read_soon(to, &mut watch) {
            Err(TransferError::MustWait | TransferError::Interrupted) => {}
            read => return Ok(read),
        }
        self.transfer_when_ready(
            &mut watch,
            on_signal,
            |to| if self.can_be_tried() { self.try_read(to) } else { self.read(to) },
            |to| self.read(to),
            to,
        )
    }

    /// As [`Connection::try_read`], for who has tried just now: looks again for a little while.
    pub(super) fn read_soon(
        &self,
        to: &mut [MaybeUninit<u8>],
        watch: &mut Watch,
    ) -> Result<usize, TransferError> {
        if self.can_be_tried() {
            let read = self.learnt.spin_on_calls(|| match self.try_read(to) {
                Err(TransferError::MustWait) => None,
                read => Some(read),
            });
            return read.unwrap_or(Err(TransferError::MustWait));
        }
        let came = watch.look().map_err(TransferError::Os)? || watch.spin(&self.learnt);
        if came { self.read(to) } else { Err(TransferError::MustWait) }
    }

    /// Writes what there is room for, after a try that found none: waits for some.
    fn write_when_there_is_room<E>(
        &self,
        parts: &mut [IoSlice<'_>],
        on_signal: impl FnMut() -> Result<(), E>,
    ) -> Transferred<E> {
        let mut watch = match Watch::for_room(self.raw()) {
            Ok(watch) => watch,
            Err(refused) => return Ok(Err(TransferError::Os(refused))),
        };
        self.transfer_when_ready(
            &mut watch,
            on_signal,
            |parts| if self.can_be_tried() { self.try_write(parts) } else { self.write_some(parts) },
            |parts| self.write(parts),
            parts,
        )
    }

    /// Writes no more than there is surely room for, to one that has some.
    fn write_some(&self, parts: &[IoSlice<'_>]) -> Result<usize, TransferError> {
        let mut room = descriptor::room(self.raw());
        let mut first = Vec::with_capacity(parts.len());
        for part in parts {
            let part = &part[..part.len().min(room)];
            room -= part.len();
            first.push(IoSlice::new(part));
        }
        self.write(&first)
    }

    /// Parks until the descriptor is ready, and transfers by `transfer`, again and again until that need not wait. One that
    /// was made not to wait says so by itself, by `refuse`: asked once, and not before a wait that is short.
    fn transfer_when_ready<E, T>(
        &self,
        watch: &mut Watch,
        on_signal: impl FnMut() -> Result<(), E>,
        mut transfer: impl FnMut(&mut T) -> Result<usize, TransferError>,
        mut refuse: impl FnMut(&mut T) -> Result<usize, TransferError>,
        what: &mut T,
    ) -> Transferred<E>
    where
        T: ?Sized,
    {
        let (deadline, mut asked) = (Deadline::NEVER, false);
        let done = block(WaitKind::Connection, 0, deadline, on_signal, |waiting: &mut Waiting, _| {
            loop {
                match watch.park(waiting, deadline) {
                    Ok(Waited::Ready) => {}
                    Ok(_)
                        if !std::mem::replace(&mut asked, true) && descriptor::does_not_wait(self.raw()) =>
                    {
                        return Parked::Done(refuse(what));
                    }
                    Ok(_) => return Parked::Interrupted,
                    Err(refused) => return Parked::Done(Err(TransferError::Os(refused))),
                }
                match transfer(what) {
                    // Somebody else was faster, or it is another file by now.
                    Err(TransferError::MustWait) if !self.can_be_tried() => {}
                    Err(TransferError::MustWait) => self.kind.store(UNKNOWN, Ordering::Relaxed),
                    Err(TransferError::Interrupted) => return Parked::Interrupted,
                    done => return Parked::Done(done),
                }
            }
        })?;
        Ok(done.unwrap_or(Err(TransferError::MustWait)))
    }
}

/// When a transfer that need not wait looks for signals: by the clock, from its first look on.
struct Looks(Option<Instant>);

impl Looks {
    fn are_due(&mut self) -> bool {
        let due = self.0.is_some_and(|last| last.elapsed() >= BETWEEN_LOOKS);
        if due || self.0.is_none() {
            self.0 = Some(Instant::now());
        }
        due
    }
}
