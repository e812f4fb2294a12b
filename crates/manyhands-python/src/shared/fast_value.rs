//! `Value.value`, called by the interpreter without anything in between.
//!
//! As in `fast_methods.rs`: these functions do what is most often wanted, a lock of ours that is free and a value of
//! an ordinary kind, and leave everything else to the ordinary methods that they stand in front of.
//!
//! Writing is an attribute of the class. Reading is too, but the interpreter takes 20 ns to find an attribute of a class,
//! as long as the whole of the reading: so the class that Python sees answers for `value` before it is looked for.
#![allow(unsafe_code)] // functions that the interpreter calls, with its raw pointers

use super::synchronized::{PySynchronizedBase, PySynchronizedValue};
use pyo3::Borrowed;
use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple, PyType};
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

const DOC: &std::ffi::CStr = c"The value, read and written while the lock is held.";

/// The interned string `value`, by which the interpreter asks for the attribute; null before [`install`].
static NAME: AtomicPtr<ffi::PyObject> = AtomicPtr::new(null_mut());

/// The attribute `value` of the class.
static ATTRIBUTE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Puts the fast attribute in front of the ordinary one, and into the module the class that answers for it.
pub(crate) fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let class = py.get_type::<PySynchronizedValue>();
    let definition = ffi::PyGetSetDef {
        name: c"value".as_ptr(),
        get: Some(get),
        set: Some(set),
        doc: DOC.as_ptr(),
        closure: null_mut(),
    };
    // The interpreter keeps its address for as long as the class lives, which is until the process ends.
    let definition = Box::leak(Box::new(definition));
    // SAFETY: class and definition live until the process ends; the definition's functions have the form it wants.
    let attribute = unsafe { ffi::PyDescr_NewGetSet(class.as_type_ptr(), definition) };
    // SAFETY: a new reference, or null with an exception set.
    let attribute = unsafe { Bound::from_owned_ptr_or_err(py, attribute) }?;
    class.setattr("value", &attribute)?;
    let _ = ATTRIBUTE.set(py, attribute.unbind());
    NAME.store(PyString::intern(py, "value").into_ptr(), Ordering::Relaxed);
    module.add("Synchronized", answering(module, &class)?)
}

/// A subclass that differs in how it looks up its attributes.
fn answering<'py>(module: &Bound<'py, PyModule>, class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    let doc = class.getattr("__doc__")?.extract::<String>()?;
    let doc = Box::leak(std::ffi::CString::new(doc)?.into_boxed_c_str());
    let mut slots = [
        ffi::PyType_Slot { slot: ffi::Py_tp_getattro, pfunc: getattro as *mut c_void },
        ffi::PyType_Slot { slot: ffi::Py_tp_doc, pfunc: doc.as_ptr().cast_mut().cast() },
        ffi::PyType_Slot { slot: 0, pfunc: null_mut() },
    ];
    let mut spec = ffi::PyType_Spec {
        name: c"manyhands._manyhands.Synchronized".as_ptr(),
        basicsize: 0,
        itemsize: 0,
        flags: u32::try_from(ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_BASETYPE)?,
        slots: slots.as_mut_ptr(),
    };
    let bases = PyTuple::new(module.py(), [class])?;
    // SAFETY: the interpreter copies what the specification says, all of which is alive for the call; the name is
    // static, and the documentation leaked.
    let made = unsafe { ffi::PyType_FromModuleAndSpec(module.as_ptr(), &raw mut spec, bases.as_ptr()) };
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(module.py(), made) }
}

/// Whether instances of the class have the attribute that is answered for: a subclass may have one of its own.
pub(super) fn is_answered_for(class: &Bound<'_, PyType>) -> bool {
    let py = class.py();
    let Some(ours) =
        ATTRIBUTE.get(py).filter(|_| class.is_subclass_of::<PySynchronizedValue>().unwrap_or(false))
    else {
        return false;
    };
    class.getattr("value").is_ok_and(|theirs| theirs.is(ours))
}

unsafe extern "C" fn getattro(slf: *mut ffi::PyObject, name: *mut ffi::PyObject) -> *mut ffi::PyObject {
    if name == NAME.load(Ordering::Relaxed) {
        // SAFETY: attributes are asked for by attached threads only.
        let py = unsafe { Python::assume_attached() };
        // SAFETY: the slot is that of a subclass of PySynchronizedValue, whose instances it is called with.
        let this = unsafe { this(py, slf) };
        if let Some(value) = base(&this).answer_at_once(py) {
            return value.into_ptr();
        }
    }
    // SAFETY: the arguments that the interpreter has just passed.
    unsafe { ffi::PyObject_GenericGetAttr(slf, name) }
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
