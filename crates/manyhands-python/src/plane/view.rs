//! The bytes of an object of Python's, for as long as it takes to copy them.
#![allow(unsafe_code)] // asks the interpreter for the place of the bytes

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::mem::MaybeUninit;

/// A view of bytes that lie one behind the other, in whichever order of their dimensions.
pub(super) struct View(Box<ffi::Py_buffer>);

// SAFETY: the view keeps its bytes at their place for whichever thread reads them; it is released under the GIL.
unsafe impl Sync for View {}
// SAFETY: as above; it is never dropped while the GIL is released.
unsafe impl Send for View {}

impl View {
    /// The object's bytes; `None` when they do not lie one behind the other.
    pub(super) fn of(object: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let mut view = Box::new(MaybeUninit::<ffi::Py_buffer>::zeroed());
        // SAFETY: the interpreter fills the view it is given, or says that it has not.
        let got =
            unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), ffi::PyBUF_ANY_CONTIGUOUS) };
        if got == -1 {
            let error = PyErr::fetch(object.py());
            return if error.is_instance_of::<PyBufferError>(object.py()) { Ok(None) } else { Err(error) };
        }
        // SAFETY: filled, as the interpreter has said.
        Ok(Some(Self(unsafe { view.assume_init() })))
    }

    /// The bytes. Whoever changes them meanwhile decides what is copied of them.
    pub(super) fn bytes(&self) -> &[u8] {
        let len = usize::try_from(self.0.len).unwrap_or(0);
        if len == 0 {
            return &[];
        }
        // SAFETY: the view's bytes are at this place until it is released, and were asked for as one piece.
        unsafe { std::slice::from_raw_parts(self.0.buf.cast::<u8>(), len) }
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "View of {} bytes", self.bytes().len())
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: filled by PyObject_GetBuffer, released once; whoever has a view is attached to the interpreter when it
        // is dropped.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.0) }
    }
}
