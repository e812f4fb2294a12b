//! Objects to bytes, without a call of Python code.
//!
//! That no Python code runs is what the whole file rests on: the thread keeps the GIL from the first object to the last,
//! so nobody changes a list or a dict meanwhile, and what a container holds needs no reference of our own. Whoever adds
//! a step here adds none that can run code: no comparison, no hash, no attribute, no freeing of an object, and of the
//! calls that can raise only one whose error ends the encoding.
//!
//! **Reference counts.** An object that is met for the second time has two references in containers of this message.
//! Containers own what they hold, in every version: the references that 3.14 leaves out are those of running frames. So
//! an object that we come to through a container and whose count is exactly 1 has no second place, here or anywhere, and
//! is not looked for. Every other count (the interpreter's mark of an immortal object, from 3.12 on; flags that 3.14
//! keeps in the upper half of the word) says nothing, and costs no more than the looking. The word is read as the stable
//! ABI of 3.11 has it, at the beginning of the object; a build of the interpreter without a GIL, where that would not
//! do, does not load modules of this ABI.
#![allow(unsafe_code)] // objects that are not owned meanwhile

use super::Encoded;
use super::memo::Memo;
use manyhands::codec::{MOST_NESTED, Place, TooLong, Writer};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use pyo3::{Borrowed, PyTypeInfo};
use std::cell::Cell;
use std::ffi::c_int;

thread_local! {
    /// This thread's, for one message after the other.
    static MEMO: Cell<Memo> = const { Cell::new(Memo::new()) };
}

/// The object as a message; `None` if it is not plain, or not small.
pub(crate) fn encode(object: &Bound<'_, PyAny>) -> Option<Encoded> {
    let mut encoded = Encoded::empty();
    let mut encoder = Encoder { writer: Writer::new(&mut encoded.0), memo: None };
    // Of the outermost object the count says nothing, and need not: were it in the message again, it would contain itself.
    let done = encoder.object(object.as_borrowed(), 0);
    if let Some(mut memo) = encoder.memo {
        memo.clear();
        MEMO.set(memo);
    }
    done.ok().map(|()| encoded)
}

/// Why there is no message. Not what to do about it: that is always the same.
struct Refused;

impl From<TooLong> for Refused {
    fn from(_: TooLong) -> Self {
        Self
    }
}

struct Encoder<'w> {
    writer: Writer<'w>,
    /// This thread's, from when it is needed.
    memo: Option<Memo>,
}

impl Encoder<'_> {
    fn object(&mut self, object: Borrowed<'_, '_, PyAny>, nested: u8) -> Result<(), Refused> {
        let (py, class) = (object.py(), object.get_type_ptr());
        if class == PyInt::type_object_raw(py) {
            return Ok(self.writer.integer(integer(object)?)?);
        }
        if class == PyString::type_object_raw(py) {
            // SAFETY: the class is `str`.
            let text = unsafe { object.cast_unchecked::<PyString>() };
            return self.once(object, |this| Ok(this.writer.text(text.to_str().map_err(|_| Refused)?)?));
        }
        if class == PyTuple::type_object_raw(py) {
            // SAFETY: the class is `tuple`.
            let tuple = unsafe { object.cast_unchecked::<PyTuple>() };
            return self.once(object, |this| this.tuple(tuple, nested));
        }
        if class == PyDict::type_object_raw(py) {
            // SAFETY: the class is `dict`.
            let dict = unsafe { object.cast_unchecked::<PyDict>() };
            return self.once(object, |this| this.dict(dict, nested));
        }
        if class == PyFloat::type_object_raw(py) {
            // SAFETY: the class is `float`.
            let float = unsafe { object.cast_unchecked::<PyFloat>() };
            return Ok(self.writer.float(float.value())?);
        }
        if class == PyList::type_object_raw(py) {
            // SAFETY: the class is `list`.
            let list = unsafe { object.cast_unchecked::<PyList>() };
            return self.once(object, |this| this.list(list, nested));
        }
        if object.is_none() {
            return Ok(self.writer.none()?);
        }
        if class == PyBool::type_object_raw(py) {
            return Ok(self.writer.boolean(object.is(PyBool::new(py, true)))?);
        }
        if class == PyBytes::type_object_raw(py) {
            // SAFETY: the class is `bytes`.
            let bytes = unsafe { object.cast_unchecked::<PyBytes>() };
            return self.once(object, |this| Ok(this.writer.bytes(bytes.as_bytes())?));
        }
        Err(Refused)
    }

    /// Writes an object, unless it was written before: then only that, and where.
    #[inline]
    fn once(
        &mut self,
        object: Borrowed<'_, '_, PyAny>,
        write: impl FnOnce(&mut Self) -> Result<Place, Refused>,
    ) -> Result<(), Refused> {
        if is_held_once(object) {
            return write(self).map(drop);
        }
        let address = object.as_ptr() as usize;
        if let Some(place) = self.memo.get_or_insert_with(|| MEMO.take()).find(address) {
            return Ok(self.writer.again(place)?);
        }
        let place = write(self)?;
        // Not before its end: an object that contains itself goes on until it is nested too deeply.
        if let Some(memo) = &mut self.memo {
            memo.note(address, place);
        }
        Ok(())
    }

    fn tuple(&mut self, tuple: Borrowed<'_, '_, PyTuple>, nested: u8) -> Result<Place, Refused> {
        let len = tuple.len();
        let place = self.writer.tuple(len)?;
        let nested = deeper(nested)?;
        for at in 0..len {
            self.object(tuple.get_borrowed_item(at).map_err(|_| Refused)?, nested)?;
        }
        Ok(place)
    }

    fn list(&mut self, list: Borrowed<'_, '_, PyList>, nested: u8) -> Result<Place, Refused> {
        let len = list.len();
        let place = self.writer.list(len)?;
        let nested = deeper(nested)?;
        for at in 0..len {
            // SAFETY: a list, and the thread is attached, as `list` shows.
            let item = unsafe { ffi::PyList_GetItem(list.as_ptr(), at as ffi::Py_ssize_t) };
            // SAFETY: the list holds it as long as no code runs, which is until we are done with it.
            let item = unsafe { Borrowed::from_ptr_or_err(list.py(), item) };
            self.object(item.map_err(|_| Refused)?, nested)?;
        }
        Ok(place)
    }

    fn dict(&mut self, dict: Borrowed<'_, '_, PyDict>, nested: u8) -> Result<Place, Refused> {
        let py = dict.py();
        let place = self.writer.dict(dict.len())?;
        let nested = deeper(nested)?;
        let (mut at, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: a dict that nobody changes, as no code runs; places for what it gives.
        while unsafe { ffi::PyDict_Next(dict.as_ptr(), &raw mut at, &raw mut key, &raw mut value) } != 0 {
            // SAFETY: the dict holds it as long as no code runs, which is until we are done with it.
            self.object(unsafe { Borrowed::from_ptr(py, key) }, nested)?;
            // SAFETY: the dict holds the value, too, as long as no code runs.
            self.object(unsafe { Borrowed::from_ptr(py, value) }, nested)?;
        }
        Ok(place)
    }
}

fn deeper(nested: u8) -> Result<u8, Refused> {
    if nested < MOST_NESTED { Ok(nested + 1) } else { Err(Refused) }
}

/// Whether no container but the one that we come from has this object; see the head of the file.
#[inline]
fn is_held_once(object: Borrowed<'_, '_, PyAny>) -> bool {
    // SAFETY: a living object.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) == 1 }
}

#[inline]
fn integer(object: Borrowed<'_, '_, PyAny>) -> Result<i64, Refused> {
    let mut overflow: c_int = 0;
    // SAFETY: an object whose class is `int`, which raises nothing here.
    let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(object.as_ptr(), &raw mut overflow) };
    if overflow == 0 { Ok(value) } else { Err(Refused) }
}
