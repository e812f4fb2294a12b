//! Modules that are imported when they are first needed, which may be when this process has no descriptor left.
//!
//! A module that is imported reads a file. Where that is refused for want of a descriptor, the import is made once more
//! while this process may have as many as its hard limit allows.

use manyhands::MoreDescriptors;
use pyo3::exceptions::{PyImportError, PyOSError};
use pyo3::prelude::*;

/// A module; one that is imported already costs no more than a look.
///
/// # Errors
/// What keeps it from being imported: no descriptor even so, say.
pub(crate) fn import_at_need<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyModule>> {
    py.import(name).or_else(|refused| {
        if !is_want_of_descriptors(py, &refused) {
            return Err(refused);
        }
        let _more = MoreDescriptors::for_now();
        py.import(name)
    })
}

/// `EMFILE`; an extension module's library says it in words.
fn is_want_of_descriptors(py: Python<'_>, error: &PyErr) -> bool {
    let number = || error.value(py).getattr("errno").and_then(|errno| errno.extract::<i32>());
    error.is_instance_of::<PyOSError>(py) && number().is_ok_and(|errno| errno == 24)
        || error.is_instance_of::<PyImportError>(py) && error.to_string().contains("Too many open files")
}
