//! The buffer protocol: who has a view of shared memory keeps the object, and so the memory.
#![allow(unsafe_code)] // fills the interpreter's structure with pointers

use manyhands::shared::SharedBlock;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{CStr, c_int};
use std::ptr::NonNull;

/// What lies in a block of an array: kept by the object that gives out views of it.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    pub(super) format: &'a CStr,
    pub(super) item_bytes: ffi::Py_ssize_t,
    pub(super) shape: &'a [ffi::Py_ssize_t],
    pub(super) strides: &'a [ffi::Py_ssize_t],
}

/// A writable view of plain bytes.
///
/// # Safety
/// `view` is what the interpreter passed to be filled; the `len` bytes at `start` are mapped until the process ends, and
/// are `owner`'s for as long as it lives.
pub(crate) unsafe fn fill_with_bytes(
    owner: Bound<'_, PyAny>,
    start: NonNull<u8>,
    len: usize,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    let py = owner.py();
    let len = ffi::Py_ssize_t::try_from(len)?;
    // SAFETY: by this function's contract the view is there to be filled, and the bytes are mapped; the view keeps the owner.
    let filled =
        unsafe { ffi::PyBuffer_FillInfo(view, owner.as_ptr(), start.as_ptr().cast(), len, 0, flags) };
    if filled == -1 { Err(PyErr::fetch(py)) } else { Ok(()) }
}

/// A writable view of an array in C order.
///
/// # Safety
/// As [`fill_with_bytes`], with the block's bytes; the layout is the owner's, fits into the block, and does not change while the owner lives.
pub(super) unsafe fn fill_with_array(
    owner: Bound<'_, PyAny>,
    block: &SharedBlock,
    layout: &Layout<'_>,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    let wants = |flag: c_int| flags & flag == flag;
    let flat = layout.shape.len() <= 1;
    if wants(ffi::PyBUF_F_CONTIGUOUS) && !flat {
        return Err(PyBufferError::new_err("a SharedArray is in C order"));
    }
    // Without a shape it is plain bytes to the one who asked.
    let shaped = wants(ffi::PyBUF_ND);
    let filled = ffi::Py_buffer {
        buf: block.as_ptr().as_ptr().cast(),
        obj: std::ptr::null_mut(),
        len: ffi::Py_ssize_t::try_from(block.len())?,
        itemsize: layout.item_bytes,
        readonly: 0,
        ndim: if shaped { c_int::try_from(layout.shape.len())? } else { 1 },
        format: if wants(ffi::PyBUF_FORMAT) {
            layout.format.as_ptr().cast_mut()
        } else {
            std::ptr::null_mut()
        },
        shape: if shaped { layout.shape.as_ptr().cast_mut() } else { std::ptr::null_mut() },
        strides: if wants(ffi::PyBUF_STRIDES) {
            layout.strides.as_ptr().cast_mut()
        } else {
            std::ptr::null_mut()
        },
        suboffsets: std::ptr::null_mut(),
        internal: std::ptr::null_mut(),
    };
    // SAFETY: by this function's contract the view is there to be written; the pointers in it are the owner's, which the
    // view keeps from the next line on.
    unsafe { view.write(filled) };
    // SAFETY: the view was written just now; it has a reference to the owner from here on.
    unsafe { (*view).obj = owner.into_ptr() };
    Ok(())
}
