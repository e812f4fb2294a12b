//! Frames in and out. What can be done at once is done with the GIL held; only waiting, and long copies, release it.

use super::PyConnection;
use super::memory;
use super::room;
use crate::blocking::{LONG_COPY_BYTES, on_signal};
use crate::error;
use crate::pickling;
use manyhands::connection::TransferError;
use manyhands::connection::frame::{self, Head, Said};
use pyo3::exceptions::{PyEOFError, PyMemoryError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::io::IoSlice;
use std::iter;
use std::mem::MaybeUninit;

/// A part of at least so many bytes begins a call of its own.
const LONG_PART_BYTES: usize = 8 << 10;

impl PyConnection {
    /// Writes a frame, in one call if the kernel takes it; a long one's head by a call of its own.
    pub(super) fn write_frame(&self, py: Python<'_>, payload: &[u8]) -> PyResult<()> {
        let head = Head::of(payload.len());
        let mut parts = [IoSlice::new(head.as_bytes()), IoSlice::new(payload)];
        self.write_parts(py, &mut parts, payload.len())
    }

    /// As `write_frame`, of pieces that lie one behind the other for the receiver.
    pub(super) fn write_pieces(&self, py: Python<'_>, pieces: &[Bound<'_, PyBytes>]) -> PyResult<()> {
        if let [whole] = pieces {
            return self.write_frame(py, whole.as_bytes());
        }
        let payload = pieces.iter().map(|piece| piece.as_bytes().len()).sum();
        let head = Head::of(payload);
        let pieces = pieces.iter().map(|piece| IoSlice::new(piece.as_bytes()));
        let mut parts: Vec<_> = iter::once(IoSlice::new(head.as_bytes())).chain(pieces).collect();
        self.write_parts(py, &mut parts, payload)
    }

    /// Writes a head and the parts behind it, which have so many bytes.
    fn write_parts(&self, py: Python<'_>, parts: &mut [IoSlice<'_>], payload: usize) -> PyResult<()> {
        let mut apart = 0;
        if payload > self.end.longest_behind_its_head() {
            // What is short in front of what is long: the head, and what a pickle begins with.
            apart = parts.iter().take_while(|part| part.len() < LONG_PART_BYTES).count();
        }
        let (first, rest) = parts.split_at_mut(apart);
        self.write_all(py, first)?;
        self.write_all(py, rest)
    }

    fn write_all(&self, py: Python<'_>, mut parts: &mut [IoSlice<'_>]) -> PyResult<()> {
        if parts.iter().map(|part| part.len()).sum::<usize>() < LONG_COPY_BYTES {
            match self.end.try_write(parts) {
                Ok(count) => IoSlice::advance_slices(&mut parts, count),
                Err(TransferError::MustWait | TransferError::Interrupted) => {}
                Err(TransferError::Os(error)) => return Err(error::transfer(error)),
            }
        }
        if parts.is_empty() {
            return Ok(());
        }
        sent(py.detach(|| self.end.write_interruptibly(parts, on_signal))?)
    }

    /// Reads the head of the next frame: how many bytes follow. `None` when that is no length.
    pub(super) fn read_len(&self, py: Python<'_>) -> PyResult<Option<usize>> {
        let mut source = Source::new(self, py);
        match frame::read_head(memory::filled_array(|to| source.read(to))?) {
            Said::Len(len) => Ok(Some(len)),
            Said::Nonsense => Ok(None),
            Said::LongFollows => {
                let mut source = Source::new(self, py);
                Ok(frame::long_len(memory::filled_array(|to| source.read(to))?))
            }
        }
    }

    /// Reads a frame's bytes. When there is no room for them, they stay where they are, and nothing behind them is found.
    pub(super) fn read_payload<'py>(&self, py: Python<'py>, len: usize) -> PyResult<Bound<'py, PyBytes>> {
        let blank = memory::Blank::new(py, len).map_err(|error| {
            let given_up = self.give_up();
            if error.is_instance_of::<PyMemoryError>(py) { error } else { given_up }
        })?;
        let mut source = Source::new(self, py);
        blank.filled(|to| source.read(to))
    }

    /// Reads a frame's bytes, and makes an object of them.
    pub(super) fn read_object<'py>(&self, py: Python<'py>, len: usize) -> PyResult<Bound<'py, PyAny>> {
        if room::LENGTHS.contains(&len)
            && let Ok(mut room) = room::Room::new(py, len)
        {
            let mut source = Source::new(self, py);
            room.fill(|to| source.read(to))?;
            return room.read(pickling::standard_unpickle);
        }
        // Where there is no memory this says so.
        pickling::standard_unpickle(self.read_payload(py, len)?.as_any())
    }

    /// Reads a frame's bytes to where there is room for them.
    pub(super) fn read_payload_into(
        &self,
        py: Python<'_>,
        len: usize,
        view: &mut memory::View,
        at: usize,
    ) -> PyResult<()> {
        let mut source = Source::new(self, py);
        view.fill(at, len, |to| source.read(to))
    }
}

/// One part of a frame, on its way in.
struct Source<'a, 'py> {
    connection: &'a PyConnection,
    py: Python<'py>,
    begun: bool,
}

impl<'a, 'py> Source<'a, 'py> {
    fn new(connection: &'a PyConnection, py: Python<'py>) -> Self {
        Self { connection, py, begun: false }
    }

    /// How many bytes have come: all that there is room for, unless the end comes first; at least one.
    fn read(&mut self, to: &mut [MaybeUninit<u8>]) -> PyResult<usize> {
        match self.read_some(to)? {
            // As the standard library: an end within a part is another error than one between two.
            0 if self.begun => Err(PyOSError::new_err("got end of file during message")),
            0 => Err(PyEOFError::new_err(())),
            count => {
                self.begun = true;
                Ok(count)
            }
        }
    }

    fn read_some(&self, to: &mut [MaybeUninit<u8>]) -> PyResult<usize> {
        let Self { connection: PyConnection { end, .. }, py, .. } = *self;
        if to.len() < LONG_COPY_BYTES {
            match end.try_read(to) {
                Err(TransferError::MustWait | TransferError::Interrupted) => {}
                read => return sent(read),
            }
        }
        sent(py.detach(|| end.fill_interruptibly(to, on_signal))?)
    }
}

fn sent<T>(transferred: Result<T, TransferError>) -> PyResult<T> {
    transferred.map_err(|refused| match refused {
        TransferError::Os(error) => error::transfer(error),
        TransferError::MustWait | TransferError::Interrupted => {
            PyOSError::new_err("a transfer has ended neither done nor refused")
        }
    })
}
