//! Which bytes of a buffer are meant: numbers of any kind, compared as the standard library compares them.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyInt;
use std::ops::Range;

/// The part of `len` bytes that is to be sent.
pub(super) fn part<'py>(
    py: Python<'py>,
    len: usize,
    offset: Option<Bound<'py, PyAny>>,
    size: Option<&Bound<'py, PyAny>>,
) -> PyResult<Range<usize>> {
    if offset.is_none() && size.is_none() {
        return Ok(0..len);
    }
    let offset = match offset {
        Some(offset) => offset,
        None => PyInt::new(py, 0).into_any(),
    };
    if offset.lt(0)? {
        return Err(PyValueError::new_err("offset is negative"));
    }
    if offset.gt(len)? {
        return Err(PyValueError::new_err("buffer length < offset"));
    }
    let Some(size) = size else { return Ok(index(&offset, len)?..len) };
    if size.lt(0)? {
        return Err(PyValueError::new_err("size is negative"));
    }
    let end = offset.add(size)?;
    if end.gt(len)? {
        return Err(PyValueError::new_err("buffer length < offset + size"));
    }
    let start = index(&offset, len)?;
    Ok(start..index(&end, len)?.max(start))
}

/// Where in `len` bytes a message is to be received.
pub(super) fn start(len: usize, offset: Option<Bound<'_, PyAny>>) -> PyResult<usize> {
    let Some(offset) = offset else { return Ok(0) };
    if offset.lt(0)? {
        return Err(PyValueError::new_err("negative offset"));
    }
    if offset.gt(len)? {
        return Err(PyValueError::new_err("offset too large"));
    }
    // There divided by the size of an item, rounded down.
    index(&offset.floor_div(1)?, len)
}

/// A number that was compared with `len`, as an index of a slice.
fn index(number: &Bound<'_, PyAny>, len: usize) -> PyResult<usize> {
    let refused = |error: PyErr| {
        if error.is_instance_of::<PyTypeError>(number.py()) {
            PyTypeError::new_err("slice indices must be integers or None or have an __index__ method")
        } else {
            error
        }
    };
    // Whatever an object says when it is compared, it names no place outside of the bytes.
    Ok(number.extract::<usize>().map_err(refused)?.min(len))
}
