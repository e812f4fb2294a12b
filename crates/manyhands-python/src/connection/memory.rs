//! Memory of Python objects, as the kernel reads and fills it: nothing is copied on the way.
#![allow(unsafe_code)] // a bytes object is filled after it was made; buffers are lent to the kernel

use crate::blocking;
use crate::once::class_name;
use manyhands::Changing;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Fills memory bit by bit: `read` says how many bytes it has put at the beginning of what it was given, as
/// [`manyhands::connection::Connection::read`] does, and never none.
pub(super) fn fill(
    mut rest: &mut [MaybeUninit<u8>],
    mut read: impl FnMut(&mut [MaybeUninit<u8>]) -> PyResult<usize>,
) -> PyResult<()> {
    while !rest.is_empty() {
        let count = read(rest)?;
        rest = &mut rest[count..];
    }
    Ok(())
}

/// A new bytes object that nobody else has, and whose bytes are not set. Nothing of it is touched before it is filled: a
/// length that a peer invents takes address space, and memory only as bytes come.
pub(super) struct Blank<'py> {
    bytes: Bound<'py, PyBytes>,
    len: usize,
}

impl<'py> Blank<'py> {
    /// Of that length, if the interpreter can have it.
    pub(super) fn new(py: Python<'py>, len: usize) -> PyResult<Self> {
        if len == 0 {
            return Ok(Self { bytes: PyBytes::new(py, b""), len });
        }
        let size = ffi::Py_ssize_t::try_from(len)?;
        // SAFETY: attached to the interpreter; a null pointer asks for an object whose bytes are not set.
        let made = unsafe { ffi::PyBytes_FromStringAndSize(std::ptr::null(), size) };
        // SAFETY: a new reference, or null with an exception set.
        let made = unsafe { Bound::from_owned_ptr_or_err(py, made) }?;
        // SAFETY: a bytes object.
        Ok(Self { bytes: unsafe { made.cast_into_unchecked::<PyBytes>() }, len })
    }

    /// With what `read` puts there.
    pub(super) fn filled(
        self,
        read: impl FnMut(&mut [MaybeUninit<u8>]) -> PyResult<usize>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        if self.len > 0 {
            // SAFETY: a bytes object.
            let start = unsafe { ffi::PyBytes_AsString(self.bytes.as_ptr()) }.cast::<MaybeUninit<u8>>();
            // SAFETY: `len` bytes from `start` are the object's, which is not the shared empty one and which nobody else
            // has.
            fill(unsafe { std::slice::from_raw_parts_mut(start, self.len) }, read)?;
        }
        Ok(self.bytes)
    }
}

/// A new bytes object of these pieces, copied without the GIL when they are long. An error where there is no memory.
pub(crate) fn joined<'py>(py: Python<'py>, pieces: &[&[u8]]) -> PyResult<Bound<'py, PyBytes>> {
    let mut rest = pieces.iter().filter(|piece| !piece.is_empty());
    let len = pieces.iter().map(|piece| piece.len()).sum();
    Blank::new(py, len)?.filled(|room| {
        let piece = *rest.next().unwrap_or(&&[][..]);
        let mut copy = || room.iter_mut().zip(piece).for_each(|(to, from)| _ = to.write(*from));
        if piece.len() < blocking::LONG_COPY_BYTES {
            copy()
        } else {
            py.detach(copy)
        }
        Ok(piece.len())
    })
}

/// A new bytes object with a copy of bytes that others may change meanwhile. An error where there is no memory.
pub(crate) fn copied<'py>(py: Python<'py>, bytes: Changing<'_>) -> PyResult<Bound<'py, PyBytes>> {
    Blank::new(py, bytes.len())?.filled(|room| Ok(bytes.copy_to(room)))
}

/// So many bytes that `read` fills.
pub(super) fn filled_array<const N: usize>(
    read: impl FnMut(&mut [MaybeUninit<u8>]) -> PyResult<usize>,
) -> PyResult<[u8; N]> {
    let mut bytes = [MaybeUninit::uninit(); N];
    fill(&mut bytes, read)?;
    // SAFETY: all were filled.
    Ok(bytes.map(|byte| unsafe { byte.assume_init() }))
}

/// What an object lends that has the buffer protocol: one piece of memory. It stays where it is while this lives; the
/// object's other users may write to it meanwhile, as they may while Python's own `os.write` reads it.
///
/// What cannot be used so is a view, too, until it is checked: the standard library looks at offsets first.
pub(super) struct View {
    /// Unless it has no dimension.
    buffer: Option<PyUntypedBuffer>,
    /// How many bytes it has.
    len: usize,
}

/// Above so many bytes the standard library has the kernel write a message by itself, and not behind its head.
const LONGEST_JOINED: usize = 16_384;

impl View {
    /// To read from. By way of a `memoryview`, as in the standard library: what that takes is taken, and what it refuses is
    /// refused with its errors.
    pub(super) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(buffer) = PyUntypedBuffer::get(object)
            && buffer.item_size() == 1
            && buffer.dimensions() == 1
        {
            return Ok(Self { len: buffer.len_bytes(), buffer: Some(buffer) });
        }
        let mut view = PyMemoryView::from(object)?.into_any();
        if view.getattr("itemsize")?.extract::<usize>()? > 1 {
            view = view.call_method1("cast", ("B",))?;
        }
        Self::whole(&view)
    }

    /// To write to.
    pub(super) fn to_fill(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let view = Self::whole(PyMemoryView::from(object)?.as_any())?;
        // Before 3.12 this has the length 1.
        if view.buffer.is_none() && object.py().version_info() >= (3, 12) {
            return Err(PyTypeError::new_err("0-dim memory has no length"));
        }
        Ok(view)
    }

    fn whole(view: &Bound<'_, PyAny>) -> PyResult<Self> {
        let len = view.getattr("nbytes")?.extract()?;
        let has_dimensions = view.getattr("ndim")?.extract::<usize>()? > 0;
        let buffer = if has_dimensions { Some(PyUntypedBuffer::get(view)?) } else { None };
        Ok(Self { buffer, len })
    }

    /// An error when these bytes of it cannot be sent.
    pub(super) fn check_part(&self, part: &Range<usize>) -> PyResult<()> {
        match &self.buffer {
            None => Err(PyTypeError::new_err("invalid indexing of 0-dim memory")),
            Some(buffer) if buffer.is_c_contiguous() => Ok(()),
            Some(_) if part.len() > LONGEST_JOINED => {
                Err(PyBufferError::new_err("memoryview: underlying buffer is not C-contiguous"))
            }
            Some(_) => Err(PyTypeError::new_err("can't concat memoryview to bytes")),
        }
    }

    /// An error when it cannot be written to.
    pub(super) fn check_writable(&self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        match &self.buffer {
            None => Err(PyTypeError::new_err("invalid indexing of 0-dim memory")),
            Some(buffer) if buffer.is_c_contiguous() && !buffer.readonly() => Ok(()),
            Some(_) => {
                let class = class_name(object)?.to_string();
                let text = format!("a read-write bytes-like object is required, not {class:?}");
                Err(PyTypeError::new_err(text))
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Its bytes, for the kernel to read; none when they do not lie one behind the other.
    pub(super) fn as_slice(&self) -> &[u8] {
        let Some(buffer) = self.buffer.as_ref().filter(|buffer| buffer.is_c_contiguous()) else { return &[] };
        if self.len == 0 {
            return &[];
        }
        // SAFETY: the object lends so many bytes from there, one behind the other as was just checked, until the view is
        // dropped. Only the kernel reads them, for whom it does not matter that others write.
        unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), self.len) }
    }

    /// Has `read` fill `len` bytes from `at` on; of a view to write to.
    ///
    /// # Panics
    /// When the view ends before.
    pub(super) fn fill(
        &mut self,
        at: usize,
        len: usize,
        read: impl FnMut(&mut [MaybeUninit<u8>]) -> PyResult<usize>,
    ) -> PyResult<()> {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len()), "the message fits");
        if len == 0 {
            return Ok(());
        }
        let buffer = self.buffer.as_ref().filter(|buffer| buffer.is_c_contiguous() && !buffer.readonly());
        let buffer = buffer.expect("checked by View::check_writable");
        // SAFETY: `at` is within what the object lends, one byte behind the other.
        let start = unsafe { buffer.buf_ptr().cast::<MaybeUninit<u8>>().add(at) };
        // SAFETY: so are the bytes behind it, as was checked above; only the kernel writes them, and no reference to
        // them is given out elsewhere.
        fill(unsafe { std::slice::from_raw_parts_mut(start, len) }, read)
    }
}
