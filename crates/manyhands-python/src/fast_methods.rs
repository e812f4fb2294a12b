//! `acquire`, `release` and the `with` statement's two methods, called by the interpreter without anything in between.
//!
//! Taking a free lock is 5 ns, and reading a method's arguments in general is 15: the difference between a lock that is
//! faster than the standard library's and one that is not. So these four are functions of the interpreter's own form,
//! which do the one thing that is most often wanted, and leave everything else (arguments, waiting, errors) to the
//! ordinary methods that they stand in front of.
#![allow(unsafe_code)] // functions that the interpreter calls, with its raw pointers

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{Borrowed, PyClass};
use std::ffi::{CString, c_int};

/// A class that has them.
pub(crate) trait Fast: PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync {
    /// Takes it, if that needs no waiting and cannot fail; whether it did. If not, nothing has happened.
    fn take(&self) -> bool;

    /// Gives it back, if that cannot fail; whether it did. If not, nothing has happened.
    fn give(&self) -> bool;

    /// Where the ordinary methods are kept.
    fn ordinary() -> &'static PyOnceLock<[Py<PyAny>; 4]>;
}

const ACQUIRE: usize = 0;
const RELEASE: usize = 1;
const ENTER: usize = 2;
const EXIT: usize = 3;

const NAMES: [&str; 4] = ["acquire", "release", "__enter__", "__exit__"];
const SIGNATURES: [&str; 4] =
    ["($self, block=True, timeout=None)", "($self)", "($self)", "($self, /, *_exception)"];

/// Puts the fast methods of the class in front of its ordinary ones.
pub(crate) fn install<T: Fast>(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<T>();
    let mut ordinary = Vec::new();
    for name in NAMES {
        ordinary.push(class.getattr(name)?.unbind());
    }
    let ordinary: [_; 4] =
        ordinary.try_into().map_err(|_| PyRuntimeError::new_err("four methods have four names"))?;
    if T::ordinary().set(py, ordinary).is_err() {
        return Ok(());
    }
    let both = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
    let functions = [
        (ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: acquire::<T> }, both),
        (ffi::PyMethodDefPointer { PyCFunction: release::<T> }, ffi::METH_NOARGS),
        (ffi::PyMethodDefPointer { PyCFunction: enter::<T> }, ffi::METH_NOARGS),
        (ffi::PyMethodDefPointer { PyCFunctionFast: exit::<T> }, ffi::METH_FASTCALL),
    ];
    for (at, (function, flags)) in functions.into_iter().enumerate() {
        put(&class, at, function, flags)?;
    }
    Ok(())
}

fn put(
    class: &Bound<'_, PyType>,
    at: usize,
    function: ffi::PyMethodDefPointer,
    flags: c_int,
) -> PyResult<()> {
    let (py, name) = (class.py(), NAMES[at]);
    // As a string, without `str`, which looks for signals: Ctrl-C would be lost in the text.
    let text: Option<String> = class.getattr(name)?.getattr("__doc__")?.extract()?;
    let doc = format!("{name}{}\n--\n\n{}", SIGNATURES[at], text.unwrap_or_default());
    // The interpreter keeps these addresses for as long as the class lives, which is until the process ends.
    let doc = Box::leak(CString::new(doc)?.into_boxed_c_str());
    let name = Box::leak(CString::new(name)?.into_boxed_c_str());
    let definition =
        ffi::PyMethodDef { ml_name: name.as_ptr(), ml_meth: function, ml_flags: flags, ml_doc: doc.as_ptr() };
    let definition = Box::leak(Box::new(definition));
    // SAFETY: class and definition live until the process ends; the definition's function has the form its flags say.
    let method = unsafe { ffi::PyDescr_NewMethod(class.as_type_ptr(), definition) };
    // SAFETY: a new reference, or null with an exception set.
    let method = unsafe { Bound::from_owned_ptr_or_err(py, method) }?;
    class.setattr(NAMES[at], method)
}

/// The object that a method was called on.
///
/// # Safety
/// The thread is attached to the interpreter, `object` is an instance of `T`, and the caller of the method keeps it for
/// the call.
#[inline]
unsafe fn this<'a, T: Fast>(object: *mut ffi::PyObject) -> &'a T {
    // SAFETY: the interpreter calls methods of an attached thread only.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: not null, and alive for the call, as the caller says.
    let object = unsafe { Borrowed::from_ptr(py, object) };
    // SAFETY: method descriptors check that what they are called on is an instance of their class.
    let object = unsafe { object.cast_unchecked::<T>() };
    // SAFETY: the object outlives the call; a frozen class gives out shared references only.
    unsafe { &*std::ptr::from_ref(object.get()) }
}

/// Whether it is `True` or `False`.
///
/// # Safety
/// The thread is attached to the interpreter.
#[inline]
unsafe fn is_a_bool(object: *mut ffi::PyObject) -> bool {
    // SAFETY: the thread is attached, as the caller says; both live as long as the interpreter.
    let truth = unsafe { ffi::Py_True() };
    // SAFETY: as above.
    object == truth || object == unsafe { ffi::Py_False() }
}

#[inline]
fn new_true() -> *mut ffi::PyObject {
    // SAFETY: the caller is a method, whose thread is attached.
    let truth = unsafe { ffi::Py_True() };
    // SAFETY: the interpreter's own object, which always lives; the thread is attached.
    unsafe { ffi::Py_NewRef(truth) }
}

#[inline]
fn new_none() -> *mut ffi::PyObject {
    // SAFETY: the caller is a method, whose thread is attached.
    let none = unsafe { ffi::Py_None() };
    // SAFETY: the interpreter's own object, which always lives; the thread is attached.
    unsafe { ffi::Py_NewRef(none) }
}

unsafe extern "C" fn acquire<T: Fast>(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // Whether to wait does not matter for one that is free; what is asked for its truth, or is a timeout, is first looked
    // at by the ordinary method.
    let one_is_a_bool = || {
        // SAFETY: the interpreter passes so many arguments.
        let only = unsafe { *args };
        // SAFETY: the interpreter calls methods of an attached thread only.
        unsafe { is_a_bool(only) }
    };
    let plain = names.is_null() && (nargs == 0 || (nargs == 1 && one_is_a_bool()));
    // SAFETY: the interpreter calls this as a method of T.
    if plain && unsafe { this::<T>(slf) }.take() {
        return new_true();
    }
    // SAFETY: these are the arguments that the interpreter has just passed.
    unsafe { ordinarily::<T>(ACQUIRE, slf, args, nargs, names) }
}

unsafe extern "C" fn release<T: Fast>(slf: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this as a method of T.
    if unsafe { this::<T>(slf) }.give() {
        return new_none();
    }
    // SAFETY: no arguments were passed.
    unsafe { ordinarily::<T>(RELEASE, slf, std::ptr::null(), 0, std::ptr::null_mut()) }
}

unsafe extern "C" fn enter<T: Fast>(slf: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this as a method of T.
    if unsafe { this::<T>(slf) }.take() {
        return new_true();
    }
    // SAFETY: no arguments were passed.
    unsafe { ordinarily::<T>(ENTER, slf, std::ptr::null(), 0, std::ptr::null_mut()) }
}

unsafe extern "C" fn exit<T: Fast>(
    slf: *mut ffi::PyObject,
    args: *mut *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this as a method of T.
    if unsafe { this::<T>(slf) }.give() {
        return new_none();
    }
    // SAFETY: these are the arguments that the interpreter has just passed.
    unsafe { ordinarily::<T>(EXIT, slf, args, nargs, std::ptr::null_mut()) }
}

/// Calls the ordinary method with the same arguments.
///
/// # Safety
/// As for a method that is called with the flags `METH_FASTCALL | METH_KEYWORDS`.
#[cold]
unsafe fn ordinarily<T: Fast>(
    method: usize,
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    Python::attach(|py| {
        // SAFETY: an object that is alive for the call, as all below.
        let object = |pointer| unsafe { Borrowed::<PyAny>::from_ptr(py, pointer) }.to_owned();
        let positional = usize::try_from(nargs).unwrap_or(0);
        let given = |at: usize| {
            // SAFETY: the interpreter passes so many arguments, those by name behind the others.
            let place = unsafe { args.add(at) };
            // SAFETY: an argument's place, of as many as were passed.
            object(unsafe { *place })
        };
        let called = || -> PyResult<Bound<'_, PyAny>> {
            let ordinary = T::ordinary().get(py).ok_or_else(|| PyRuntimeError::new_err("not installed"))?;
            let all = std::iter::once(object(slf)).chain((0..positional).map(given));
            let all = PyTuple::new(py, all.collect::<Vec<_>>())?;
            let named = PyDict::new(py);
            if !names.is_null() {
                for (at, name) in object(names).try_iter()?.enumerate() {
                    named.set_item(name?, given(positional + at))?;
                }
            }
            ordinary[method].bind(py).call(all, Some(&named))
        };
        called().map_or_else(
            |error| {
                error.restore(py);
                std::ptr::null_mut()
            },
            Bound::into_ptr,
        )
    })
}
