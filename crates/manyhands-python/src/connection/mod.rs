//! The connection that Python sees.

mod memory;
mod range;
mod room;
mod transfer;
mod waiting;

use crate::arguments::{Given, Limit};
use crate::blocking::look_for_signals;
use crate::error;
use crate::pickling;
use manyhands::OsError;
use manyhands::connection::{self, Connection, Watch};
use memory::View;
pub(crate) use memory::{copied, joined};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use std::sync::atomic::{AtomicBool, Ordering};
pub(crate) use waiting::wait;

/// One end of a connection; `manyhands.connection` gives it the standard library's face.
#[pyclass(name = "Connection", module = "manyhands._manyhands", subclass, frozen)]
#[derive(Debug)]
pub(crate) struct PyConnection {
    end: Connection,
    readable: AtomicBool,
    writable: AtomicBool,
}

#[pymethods]
impl PyConnection {
    /// Closed, whatever a subclass is made with: `_open` gives it its descriptor.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { end: Connection::new(-1), readable: AtomicBool::new(false), writable: AtomicBool::new(false) }
    }

    /// Becomes the end with that descriptor.
    fn _open(&self, number: i32, readable: bool, writable: bool) -> PyResult<()> {
        if number < 0 {
            return Err(PyValueError::new_err("invalid handle"));
        }
        if !readable && !writable {
            let text = "at least one of `readable` and `writable` must be True";
            return Err(PyValueError::new_err(text));
        }
        self.end.become_number(Some(number));
        self.readable.store(readable, Ordering::Relaxed);
        self.writable.store(writable, Ordering::Relaxed);
        Ok(())
    }

    #[getter(_handle)]
    fn handle(&self) -> Option<i32> {
        self.end.number()
    }

    #[setter(_handle)]
    fn set_handle(&self, number: Option<i32>) {
        self.end.become_number(number);
    }

    #[getter(_readable)]
    fn may_read(&self) -> bool {
        self.readable.load(Ordering::Relaxed)
    }

    #[setter(_readable)]
    fn set_readable(&self, readable: &Bound<'_, PyAny>) -> PyResult<()> {
        self.readable.store(readable.is_truthy()?, Ordering::Relaxed);
        Ok(())
    }

    #[getter(_writable)]
    fn may_write(&self) -> bool {
        self.writable.load(Ordering::Relaxed)
    }

    #[setter(_writable)]
    fn set_writable(&self, writable: &Bound<'_, PyAny>) -> PyResult<()> {
        self.writable.store(writable.is_truthy()?, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the connection is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.end.number().is_none()
    }

    /// Whether it can be read from.
    #[getter]
    fn readable(&self) -> bool {
        self.may_read()
    }

    /// Whether it can be written to.
    #[getter]
    fn writable(&self) -> bool {
        self.may_write()
    }

    /// The number of its descriptor.
    fn fileno(&self) -> PyResult<i32> {
        self.end.number().ok_or_else(closed)
    }

    /// Close it; again does nothing.
    fn close(&self) -> PyResult<()> {
        self.end.close().map_err(error::transfer)
    }

    /// What the standard library's finalizer calls.
    fn _close(&self) -> PyResult<()> {
        self.close()
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(slf: &Bound<'_, Self>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        slf.call_method0("close").map(drop)
    }

    /// Send an object. See `manyhands.connection.Connection`.
    fn send(&self, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        look_for_signals(obj.py())?;
        self.check_writable()?;
        let (pieces, offers) = pickling::standard_pickle(obj)?;
        // Pickling runs the user's code, which may have closed it.
        self.check_writable()?;
        self.write_pieces(obj.py(), &pieces)?;
        offers.sent();
        Ok(())
    }

    /// Send a message of plain bytes. See `manyhands.connection.Connection`.
    #[pyo3(signature = (buf, offset=Given(None), size=None), text_signature = "($self, buf, offset=0, size=None)")]
    fn send_bytes(
        &self,
        buf: &Bound<'_, PyAny>,
        offset: Given<'_>,
        size: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = buf.py();
        look_for_signals(py)?;
        self.check_writable()?;
        if let Ok(bytes) = buf.cast_exact::<PyBytes>() {
            let bytes = bytes.as_bytes();
            return self.write_frame(py, &bytes[range::part(py, bytes.len(), offset.0, size)?]);
        }
        let view = View::of(buf)?;
        let part = range::part(py, view.len(), offset.0, size)?;
        view.check_part(&part)?;
        self.write_frame(py, &view.as_slice()[part])
    }

    /// Receive an object. See `manyhands.connection.Connection`.
    fn recv<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        look_for_signals(py)?;
        self.check_readable()?;
        let len = self.read_len(py)?.ok_or_else(|| self.give_up())?;
        self.read_object(py, len)
    }

    /// Receive a message as bytes. See `manyhands.connection.Connection`.
    #[pyo3(signature = (maxlength=None))]
    fn recv_bytes<'py>(
        &self,
        py: Python<'py>,
        maxlength: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        look_for_signals(py)?;
        self.check_readable()?;
        if let Some(most) = maxlength
            && most.lt(0)?
        {
            return Err(PyValueError::new_err("negative maxlength"));
        }
        let len = self.read_len(py)?.ok_or_else(|| self.give_up())?;
        // Compared as Python compares: whatever number it is.
        if let Some(most) = maxlength
            && most.lt(len)?
        {
            return Err(self.give_up());
        }
        self.read_payload(py, len)
    }

    /// Receive a message into a buffer. See `manyhands.connection.Connection`.
    #[pyo3(signature = (buf, offset=Given(None)), text_signature = "($self, buf, offset=0)")]
    fn recv_bytes_into(&self, buf: &Bound<'_, PyAny>, offset: Given<'_>) -> PyResult<usize> {
        let py = buf.py();
        look_for_signals(py)?;
        self.check_readable()?;
        let mut view = View::to_fill(buf)?;
        let at = range::start(view.len(), offset.0)?;
        view.check_writable(buf)?;
        let room = view.len() - at;
        let len = self.read_len(py)?.ok_or_else(|| self.give_up())?;
        if len > room {
            return Err(error::buffer_too_short(&self.read_payload(py, len)?));
        }
        self.read_payload_into(py, len, &mut view, at)?;
        Ok(len)
    }

    /// Whether there is something to receive, or the other end is gone; waits for that at most `timeout` seconds.
    #[pyo3(signature = (timeout=Given(None)), text_signature = "($self, timeout=0.0)")]
    fn poll(&self, py: Python<'_>, timeout: Given<'_>) -> PyResult<bool> {
        look_for_signals(py)?;
        self.check_readable()?;
        let limit = match &timeout.0 {
            None => Limit::NoWait,
            Some(timeout) => Limit::of_poll(Some(timeout).filter(|timeout| !timeout.is_none()))?,
        };
        let mut watch = Watch::new(&[self.fileno()?]).map_err(error::transfer)?;
        waiting::any(py, &mut watch, limit)
    }
}

impl PyConnection {
    fn check_writable(&self) -> PyResult<()> {
        self.fileno()?;
        if self.may_write() { Ok(()) } else { Err(PyOSError::new_err("connection is read-only")) }
    }

    fn check_readable(&self) -> PyResult<()> {
        self.fileno()?;
        if self.may_read() { Ok(()) } else { Err(PyOSError::new_err("connection is write-only")) }
    }

    /// A frame's head was read that is not followed by what is wanted: where the next one begins is not known.
    #[cold]
    fn give_up(&self) -> PyErr {
        if self.may_write() {
            self.readable.store(false, Ordering::Relaxed);
        } else if let Err(error) = self.close() {
            return error;
        }
        PyOSError::new_err("bad message length")
    }
}

fn closed() -> PyErr {
    PyOSError::new_err("handle is closed")
}

/// The descriptors of a new connection; of one that is not duplex the first is to read from.
#[pyfunction]
pub(crate) fn pipe(duplex: bool) -> PyResult<(i32, i32)> {
    let made: Result<_, OsError> = if duplex { connection::duplex() } else { connection::one_way() };
    made.map_err(error::transfer)
}
