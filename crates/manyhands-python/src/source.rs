//! Compiling a script's text.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyCode;
use pyo3::types::code::PyCodeInput;
use std::ffi::CString;

/// The code of a script whose file has this content and this name, without null bytes: as the interpreter compiles the
/// file it is started with. `compile()` does the same after it has prepared for syntax trees as its argument, which
/// takes a fresh interpreter one to two milliseconds.
#[pyfunction]
pub(crate) fn compile_source<'py>(
    py: Python<'py>,
    source: Vec<u8>,
    path: Vec<u8>,
) -> PyResult<Bound<'py, PyCode>> {
    PyCode::compile(py, &text(source)?, &text(path)?, PyCodeInput::File)
}

fn text(bytes: Vec<u8>) -> PyResult<CString> {
    CString::new(bytes).map_err(|_| PyValueError::new_err("embedded null byte"))
}
