//! The bytes of an object of Python's, for as long as it takes to copy them.
#![allow(unsafe_code)] // asks the interpreter for the place of the bytes

use manyhands::Changing;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// A view of bytes that lie one behind the other, in whichever order of their dimensions.
pub(super) struct View(Box<ffi::Py_buffer>);

// SAFETY: the view keeps its bytes at their place for whichever thread copies them.
unsafe impl Sync for View {}
// SAFETY: the view keeps its bytes at their place for whichever thread copies them; it is dropped, and so released, where
// it was made: under the GIL.
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

    /// How many bytes it has.
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.0.len).unwrap_or(0)
    }

    /// The bytes, to be copied. Other processes may change them meanwhile, when they are those of a shared array, and other
    /// threads, through objects of their own: they decide what is copied. So nobody makes a slice of them.
    pub(super) fn bytes(&self) -> Changing<'_> {
        let start = NonNull::new(self.0.buf.cast::<u8>()).unwrap_or(NonNull::dangling());
        // SAFETY: the view's bytes are at this place until it is released, and were asked for as one piece; an exporter may
        // say null only for none. Who writes them meanwhile is the interpreter's code or another process's.
        unsafe { Changing::new(start, self.len()) }
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "View of {} bytes", self.len())
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: filled by PyObject_GetBuffer, released once; whoever has a view is attached to the interpreter when it
        // is dropped.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.0) }
    }
}
