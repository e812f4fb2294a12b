//! The receiver's side: bytes that objects lie in, and that are free again when the last view of them is gone.

use crate::error;
use crate::shared::buffer;
use manyhands::family::Family;
use manyhands::shared::{Manifest, Parcel, Part, SharedError};
use pyo3::exceptions::PyOSError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyMemoryView, PySlice, PyTuple};
use std::ffi::c_int;

/// Bytes that came with a message: a writable buffer, in shared memory that this process alone uses. It pickles as a
/// `bytearray` of the same bytes.
#[pyclass(name = "Parcel", module = "manyhands._manyhands", frozen)]
#[derive(Debug)]
pub(crate) struct PyParcel {
    parcel: Parcel,
    /// Which of the parcel's bytes are meant.
    at: usize,
}

#[pymethods]
impl PyParcel {
    fn __len__(&self) -> usize {
        self.parcel.len() - self.at
    }

    fn __repr__(&self) -> String {
        format!("<Parcel of {} bytes>", self.__len__())
    }

    fn __reduce_ex__<'py>(slf: &Bound<'py, Self>, protocol: i32) -> PyResult<Bound<'py, PyTuple>> {
        let py = slf.py();
        let bytes = if protocol < 5 {
            PyByteArray::from(slf.as_any())?.into_any()
        } else {
            py.import("_pickle")?.getattr("PickleBuffer")?.call1((slf,))?
        };
        (py.get_type::<PyByteArray>(), (bytes,)).into_pyobject(py)
    }

    #[allow(unsafe_code)] // the buffer protocol is made of raw pointers
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        // SAFETY: `at` is inside the parcel, checked when it was opened.
        let start = unsafe { this.parcel.as_ptr().add(this.at) };
        let len = this.__len__();
        // SAFETY: the interpreter passes a view to be filled; the bytes are the object's own.
        unsafe { buffer::fill_with_bytes(slf.into_any(), start, len, view, flags) }
    }
}

/// What a message with a manifest says. Its parcels are opened while the message is there.
pub(crate) fn loads<'py>(
    message: &Bound<'py, PyBytes>,
    loads: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = message.py();
    let damaged = || PyOSError::new_err((5, "a message's list of parcels is damaged"));
    let (manifest, start) = Manifest::read(message.as_bytes()).ok_or_else(damaged)?;
    let mut parts = manifest.parts;
    let body = if manifest.body_is_last { parts.pop() } else { None };
    let pickle = match body {
        Some(part) => open(py, part)?,
        None => {
            let end = isize::try_from(message.as_bytes().len())?;
            PyMemoryView::from(message)?.get_item(PySlice::new(py, isize::try_from(start)?, end, 1))?
        }
    };
    if parts.is_empty() {
        return loads.call1((pickle,));
    }
    let buffers = parts.into_iter().map(|part| buffer_of(py, part)).collect::<PyResult<Vec<_>>>()?;
    let keywords = PyDict::new(py);
    keywords.set_item("buffers", PyList::new(py, buffers)?)?;
    loads.call((pickle,), Some(&keywords))
}

/// The part, to be used where it lies; a copy of it when this process uses too many so.
fn buffer_of<'py>(py: Python<'py>, part: Part) -> PyResult<Bound<'py, PyAny>> {
    let parcel = open(py, part)?;
    if Parcel::are_too_many() { Ok(PyByteArray::from(&parcel)?.into_any()) } else { Ok(parcel) }
}

fn open(py: Python<'_>, part: Part) -> PyResult<Bound<'_, PyAny>> {
    let family = Family::current().map_err(error::family)?;
    let (at, len) = (usize::try_from(part.at), usize::try_from(part.at.saturating_add(part.len)));
    let (Ok(at), Ok(len)) = (at, len) else { return Err(error::shared(SharedError::Stale)) };
    let parcel = Parcel::open(family, part.handle, len).map_err(error::shared)?;
    Ok(Bound::new(py, PyParcel { parcel, at })?.into_any())
}
