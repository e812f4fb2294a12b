//! `Value.value`, called by the interpreter without anything in between.
//!
//! As in `fast_methods.rs`: these two functions do what is most often wanted, a lock of ours that is free and a value of
//! an ordinary kind, and leave everything else to the ordinary attribute that they stand in front of.
#![allow(unsafe_code)] // functions that the interpreter calls, with its raw pointers

use super::synchronized::{PySynchronizedBase, PySynchronizedValue};
use pyo3::Borrowed;
use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{c_int, c_void};

const DOC: &std::ffi::CStr = c"The value, read and written while the lock is held.";

/// Puts the fast attribute in front of the ordinary one.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<PySynchronizedValue>();
    let definition = ffi::PyGetSetDef {
        name: c"value".as_ptr(),
        get: Some(get),
        set: Some(set),
        doc: DOC.as_ptr(),
        closure: std::ptr::null_mut(),
    };
    // The interpreter keeps its address for as long as the class lives, which is until the process ends.
    let definition = Box::leak(Box::new(definition));
    // SAFETY: class and definition live until the process ends; the definition's functions have the form it wants.
    let attribute = unsafe { ffi::PyDescr_NewGetSet(class.as_type_ptr(), definition) };
    // SAFETY: a new reference, or null with an exception set.
    let attribute = unsafe { Bound::from_owned_ptr_or_err(py, attribute) }?;
    class.setattr("value", attribute)
}

/// The object whose attribute it is.
///
/// # Safety
/// The interpreter has called `get` or `set` with it.
#[inline]
unsafe fn this<'a, 'py>(
    py: Python<'py>,
    object: *mut ffi::PyObject,
) -> Borrowed<'a, 'py, PySynchronizedValue> {
    // SAFETY: not null, and alive for the call.
    let object = unsafe { Borrowed::from_ptr(py, object) };
    // SAFETY: attributes check that what they are asked of is an instance of their class.
    unsafe { object.cast_unchecked::<PySynchronizedValue>() }
}

#[inline]
fn base<'a>(this: &'a Borrowed<'_, '_, PySynchronizedValue>) -> &'a PySynchronizedBase {
    this.as_super().get()
}

unsafe extern "C" fn get(slf: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: attributes are asked for by attached threads only.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: the interpreter has just called this.
    let this = unsafe { this(py, slf) };
    match base(&this).load_at_once(py) {
        Some(value) => value.into_ptr(),
        None => ordinarily(py, PySynchronizedValue::get_value(&this))
            .map_or(std::ptr::null_mut(), Bound::into_ptr),
    }
}

unsafe extern "C" fn set(slf: *mut ffi::PyObject, value: *mut ffi::PyObject, _: *mut c_void) -> c_int {
    // SAFETY: attributes are set by attached threads only.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: the interpreter has just called this.
    let this = unsafe { this(py, slf) };
    if value.is_null() {
        let error = PyAttributeError::new_err("can't delete attribute");
        return ordinarily::<()>(py, Err(error)).map_or(-1, |()| 0);
    }
    // SAFETY: not null, and alive for the call.
    let value = unsafe { Borrowed::<PyAny>::from_ptr(py, value) };
    if base(&this).store_at_once(py, &value) {
        return 0;
    }
    ordinarily(py, PySynchronizedValue::put_value(&this, &value)).map_or(-1, |()| 0)
}

#[cold]
fn ordinarily<T>(py: Python<'_>, done: PyResult<T>) -> Option<T> {
    done.map_err(|error| error.restore(py)).ok()
}
