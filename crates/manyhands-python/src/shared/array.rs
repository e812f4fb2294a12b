//! An array of numbers in shared memory, for whoever understands the buffer protocol: `numpy`, `memoryview`.

use super::block::{named, open_or_make};
use super::buffer::{self, Layout};
use crate::error;
use manyhands::Handle;
use manyhands::shared::SharedBlock;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::ffi::{CString, c_int};
use std::sync::OnceLock;

/// An array in shared memory; `manyhands.SharedArray` gives it a face.
#[pyclass(name = "SharedArray", module = "manyhands._manyhands", subclass, frozen)]
#[derive(Debug)]
pub(crate) struct PySharedArray {
    own: OnceLock<Own>,
}

#[derive(Debug)]
struct Own {
    block: SharedBlock,
    format: CString,
    item_bytes: isize,
    shape: Vec<isize>,
    strides: Vec<isize>,
}

#[pymethods]
impl PySharedArray {
    /// Whatever a subclass is made with: `_create` gives the object its memory.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { own: OnceLock::new() }
    }

    /// Makes a new array, all zero, of items of `item_bytes`, or with a handle another object of one that a process of
    /// the family made. `format` is as in `struct`.
    #[pyo3(signature = (shape, format, item_bytes, offset=None, generation=0))]
    fn _create(
        &self,
        py: Python<'_>,
        shape: Vec<isize>,
        format: &str,
        item_bytes: isize,
        offset: Option<u64>,
        generation: u32,
    ) -> PyResult<()> {
        let too_large = || PyValueError::new_err("the array is larger than any memory");
        if item_bytes <= 0 || shape.iter().any(|&extent| extent < 0) {
            return Err(PyValueError::new_err("negative dimensions are not allowed"));
        }
        let mut strides = vec![item_bytes; shape.len()];
        let mut bytes = item_bytes;
        for (stride, &extent) in strides.iter_mut().zip(&shape).rev() {
            *stride = bytes;
            bytes = bytes.checked_mul(extent.max(1)).ok_or_else(too_large)?;
        }
        if shape.contains(&0) {
            bytes = 0;
        }
        let handle = offset.map(|offset| Handle { offset, generation });
        let block = open_or_make(py, bytes.unsigned_abs(), handle)?;
        let own = Own { block, format: CString::new(format)?, item_bytes, shape, strides };
        self.own.set(own).map_err(|_| PyRuntimeError::new_err("SharedArray.__init__() called twice"))
    }

    /// By what another process of the family opens the array; that one may know it from now on.
    fn _handle(&self) -> PyResult<(u64, u32)> {
        let handle = named(&self.own()?.block);
        Ok((handle.offset, handle.generation))
    }

    /// Where it begins in this process.
    #[getter]
    fn _address(&self) -> PyResult<usize> {
        Ok(self.own()?.block.as_ptr().addr().get())
    }

    /// How many items each dimension has.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.own()?.shape)
    }

    /// How many bytes all items have.
    #[getter]
    fn nbytes(&self) -> PyResult<usize> {
        Ok(self.own()?.block.len())
    }

    #[allow(unsafe_code)] // the buffer protocol is made of raw pointers
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let owner = slf.clone().into_any();
        let own = slf.get().own()?;
        let (shape, strides) = (&own.shape, &own.strides);
        let layout = Layout { format: &own.format, item_bytes: own.item_bytes, shape, strides };
        // SAFETY: the interpreter passes a view to be filled; layout and block are the object's own and never change.
        unsafe { buffer::fill_with_array(owner, &own.block, &layout, view, flags) }
    }
}

impl PySharedArray {
    fn own(&self) -> PyResult<&Own> {
        let own =
            self.own.get().ok_or_else(|| PyRuntimeError::new_err("SharedArray.__init__() not called"))?;
        own.block.ensure_held().map_err(error::family)?;
        Ok(own)
    }
}
