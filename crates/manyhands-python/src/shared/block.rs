//! A block of shared memory, which `ctypes` objects are laid over.

use super::buffer;
use crate::error;
use crate::pickling;
use manyhands::Handle;
use manyhands::family::Family;
use manyhands::shared::{SharedBlock, UnheldBlock};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;
use std::ffi::c_int;

/// Below so many bytes a block is made without letting other threads run.
const LONG_BYTES: usize = 256 << 10;

/// Bytes in shared memory, all zero at first; a writable buffer. It pickles as what it is: the same bytes.
#[pyclass(name = "Block", module = "manyhands._manyhands", frozen)]
#[derive(Debug)]
pub(crate) struct PyBlock {
    block: SharedBlock,
}

#[pymethods]
impl PyBlock {
    /// A new block, or with `offset` and `generation` the one that a process of the family made.
    #[new]
    #[pyo3(signature = (size, offset=None, generation=0))]
    fn new(py: Python<'_>, size: usize, offset: Option<u64>, generation: u32) -> PyResult<Self> {
        let handle = offset.map(|offset| Handle { offset, generation });
        Ok(Self { block: open_or_make(py, size, handle)? })
    }

    /// A new block, whatever is in it.
    #[classmethod]
    fn unset<'py>(class: &Bound<'py, PyType>, size: usize) -> PyResult<Bound<'py, PyAny>> {
        let py = class.py();
        let family = Family::current().map_err(error::family)?;
        let block = py.detach(|| UnheldBlock::unset(family, size)).and_then(UnheldBlock::hold);
        Ok(Bound::new(py, Self { block: block.map_err(error::shared)? })?.into_any())
    }

    /// Where it begins in this process.
    #[getter]
    fn _address(&self) -> usize {
        self.block.as_ptr().addr().get()
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyType>, (usize, u64, u32))> {
        if !pickling::is_sending() {
            // As in the standard library, where the memory's map refuses.
            return Err(PyTypeError::new_err("cannot pickle 'Block' object"));
        }
        let block = &slf.get().block;
        let handle = named(block);
        Ok((slf.get_type(), (block.len(), handle.offset, handle.generation)))
    }

    fn __len__(&self) -> usize {
        self.block.len()
    }

    fn __repr__(&self) -> String {
        let handle = self.block.handle();
        format!("<Block of {} bytes at {:#x}>", self.block.len(), handle.offset)
    }

    #[allow(unsafe_code)] // the buffer protocol is made of raw pointers
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let block = slf.get().block.clone();
        block.ensure_held().map_err(error::family)?;
        // SAFETY: the interpreter passes a view to be filled; the block is the object's own.
        unsafe { buffer::fill_with_bytes(slf.into_any(), block.as_ptr(), block.len(), view, flags) }
    }
}

impl PyBlock {
    pub(super) fn block(&self) -> &SharedBlock {
        &self.block
    }
}

/// A new block, or the one with that handle.
pub(super) fn open_or_make(py: Python<'_>, len: usize, handle: Option<Handle>) -> PyResult<SharedBlock> {
    let family = Family::current().map_err(error::family)?;
    let block = match handle {
        Some(handle) => SharedBlock::open(family, handle, len),
        None if len < LONG_BYTES => SharedBlock::create(family, len),
        // Held under the GIL, so that a fork by another thread finds the list of what is held unlocked.
        None => py.detach(|| UnheldBlock::new(family, len)).and_then(UnheldBlock::hold),
    };
    block.map_err(error::shared)
}

/// The block's handle, for a pickle.
pub(super) fn named(block: &SharedBlock) -> Handle {
    let handle = block.handle();
    pickling::note_carried(handle);
    handle
}
