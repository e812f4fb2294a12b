//! `ctypes` objects in shared memory behind a lock: what `Value` and `Array` give.
//!
//! Taking the lock, the access and giving the lock back are one call, when the lock is one of ours, the object one of
//! ours of a simple type, and the value an ordinary one. All else is done by the lock's methods and by `ctypes`.

use super::block::PyBlock;
use super::element::{Element, Items};
use super::fast_value::is_answered_for;
use crate::lock::PyLock;
use crate::once::{class_name, interned};
use manyhands::shared::{Integer, SharedBlock};
use pyo3::exceptions::{PyAttributeError, PyRuntimeError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PySlice, PyTuple};
use std::sync::OnceLock;

/// What all have: the object and its lock. `manyhands.sharedctypes` gives it the standard library's face.
#[pyclass(name = "SynchronizedBase", module = "manyhands._manyhands", subclass, frozen)]
#[derive(Debug, Default)]
pub(crate) struct PySynchronizedBase {
    own: OnceLock<Own>,
}

#[derive(Debug)]
struct Own {
    object: Py<PyAny>,
    lock: Py<PyAny>,
    /// The lock, if it is exactly ours.
    native: Option<Py<PyLock>>,
    acquire: Py<PyAny>,
    release: Py<PyAny>,
    memory: Option<(SharedBlock, Element)>,
    /// Whether `value` is what this class makes of it, and not a subclass.
    value_is_ours: bool,
}

#[pymethods]
impl PySynchronizedBase {
    /// Whatever a subclass is made with: `_wrap` gives the object what it is about.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    /// What it wraps. `block` and `code` are given for an object of a simple type, or an array of one, that begins where
    /// the block does; `plain` says that the lock is exactly ours.
    fn _wrap(
        slf: &Bound<'_, Self>,
        object: Bound<'_, PyAny>,
        lock: Bound<'_, PyAny>,
        plain: bool,
        block: Option<&PyBlock>,
        code: &str,
    ) -> PyResult<()> {
        let own = Own {
            native: if plain { lock.cast::<PyLock>().ok().map(|lock| lock.clone().unbind()) } else { None },
            acquire: lock.getattr("acquire")?.unbind(),
            release: lock.getattr("release")?.unbind(),
            object: object.unbind(),
            lock: lock.unbind(),
            memory: block.and_then(|block| Some((block.block().clone(), Element::of_code(code)?))),
            value_is_ours: is_answered_for(&slf.get_type()),
        };
        slf.get().own.set(own).map_err(|_| PyRuntimeError::new_err("__init__() called twice"))
    }

    #[getter]
    fn _obj(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.own()?.object.clone_ref(py))
    }

    #[getter]
    fn _lock(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.own()?.lock.clone_ref(py))
    }

    /// The lock's method.
    #[getter]
    fn acquire(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.own()?.acquire.clone_ref(py))
    }

    /// The lock's method.
    #[getter]
    fn release(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.own()?.release.clone_ref(py))
    }

    /// The `ctypes` object, to be used without the lock.
    fn get_obj(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self._obj(py)
    }

    /// The lock that every access takes.
    fn get_lock(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self._lock(py)
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.own()?.lock.call_method0(py, interned!(py, "__enter__"))
    }

    #[pyo3(signature = (*args))]
    fn __exit__(&self, py: Python<'_>, args: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        self.own()?.lock.call_method1(py, interned!(py, "__exit__"), args)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(own) = self.own.get() else { return Ok(()) };
        visit.call(&own.object)?;
        visit.call(&own.lock)?;
        visit.call(&own.acquire)?;
        visit.call(&own.release)
    }
}

impl PySynchronizedBase {
    #[inline]
    fn own(&self) -> PyResult<&Own> {
        self.own.get().ok_or_else(|| PyRuntimeError::new_err("__init__() not called"))
    }

    /// The value, if the lock is ours and free; `None`, and nothing done, if it takes more than that.
    #[inline]
    pub(super) fn load_at_once<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let own = self.own.get()?;
        let ((block, element), lock) = (own.memory.as_ref()?, own.native.as_ref()?.get());
        lock.holding_at_once(|| element.load(py, block, 0)).flatten()
    }

    /// As [`PySynchronizedBase::load_at_once`], if the object has no other attribute `value`.
    #[inline]
    pub(super) fn answer_at_once<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.own.get().filter(|own| own.value_is_ours)?;
        self.load_at_once(py)
    }

    /// Writes the value; `false`, and nothing done, as [`PySynchronizedBase::load_at_once`].
    #[inline]
    pub(super) fn store_at_once(&self, _py: Python<'_>, value: &Bound<'_, PyAny>) -> bool {
        let Some(Own { memory: Some((block, element)), native: Some(lock), .. }) = self.own.get() else {
            return false;
        };
        lock.get().holding_at_once(|| element.store(block, 0, value)) == Some(true)
    }
}

impl Own {
    /// Does it while the lock is held.
    #[inline]
    fn locked<R>(&self, py: Python<'_>, work: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
        match &self.native {
            Some(lock) => {
                let lock = lock.bind(py);
                PyLock::enter(lock)?;
                let done = work();
                lock.get().leave()?;
                done
            }
            None => {
                self.acquire.call0(py)?;
                let done = work();
                self.release.call0(py)?;
                done
            }
        }
    }

    /// The memory of an integer.
    fn integer(&self, py: Python<'_>, what: &str) -> PyResult<(&SharedBlock, Element)> {
        if let Some((block, element)) = self.memory.as_ref().filter(|(_, element)| element.is_integer()) {
            return Ok((block, *element));
        }
        let object = class_name(self.object.bind(py))?;
        let text = format!("{what} is for integer values in shared memory, not for {object}");
        Err(PyTypeError::new_err(text))
    }
}

/// One value of a simple type.
#[pyclass(name = "Synchronized", module = "manyhands._manyhands", extends = PySynchronizedBase, subclass, frozen)]
#[derive(Debug)]
pub(crate) struct PySynchronizedValue;

#[pymethods]
impl PySynchronizedValue {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyClassInitializer<Self> {
        PyClassInitializer::from(PySynchronizedBase::default()).add_subclass(Self)
    }

    /// Adds to an integer and returns what was there before, in one step and without the lock. A sum that does not fit
    /// wraps around.
    fn fetch_add<'py>(slf: &Bound<'py, Self>, number: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (py, own) = (slf.py(), slf.as_super().get().own()?);
        let (block, element) = own.integer(py, "fetch_add")?;
        let number = bits(number)?;
        on_integer(py, element, Change { block, with: number, how: How::Add })
    }

    /// Writes an integer and returns what was there before, in one step and without the lock.
    fn exchange<'py>(slf: &Bound<'py, Self>, number: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (py, own) = (slf.py(), slf.as_super().get().own()?);
        let (block, element) = own.integer(py, "exchange")?;
        let number = bits(number)?;
        on_integer(py, element, Change { block, with: number, how: How::Exchange })
    }

    /// Writes `new` if `expected` is there, in one step and without the lock; whether it was there.
    fn compare_exchange<'py>(
        slf: &Bound<'py, Self>,
        expected: &Bound<'py, PyAny>,
        new: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, own) = (slf.py(), slf.as_super().get().own()?);
        let (block, element) = own.integer(py, "compare_exchange")?;
        let (expected, new) = (bits(expected)?, bits(new)?);
        on_integer(py, element, Change { block, with: new, how: How::Compare(expected) })
    }
}

/// What `fast_value.rs` stands in front of.
impl PySynchronizedValue {
    #[cold]
    pub(super) fn get_value<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, own) = (slf.py(), slf.as_super().get().own()?);
        own.locked(py, || {
            let loaded = own.memory.as_ref().and_then(|(block, element)| element.load(py, block, 0));
            loaded.map_or_else(|| own.object.bind(py).getattr(interned!(py, "value")), Ok)
        })
    }

    #[cold]
    pub(super) fn put_value(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, own) = (slf.py(), slf.as_super().get().own()?);
        own.locked(py, || match &own.memory {
            Some((block, element)) if element.store(block, 0, value) => Ok(()),
            _ => own.object.bind(py).setattr(interned!(py, "value"), value),
        })
    }
}

#[derive(Clone, Copy, Debug)]
enum How {
    Add,
    Exchange,
    Compare(i64),
}

/// One atomic operation; numbers are given by their lower bits.
#[derive(Clone, Copy, Debug)]
struct Change<'a> {
    block: &'a SharedBlock,
    with: i64,
    how: How,
}

/// An integer's lower 64 bits, however large it is.
fn bits(number: &Bound<'_, PyAny>) -> PyResult<i64> {
    if !number.is_instance_of::<PyInt>() {
        let text = format!("int expected instead of {} instance", class_name(number)?);
        return Err(PyTypeError::new_err(text));
    }
    if let Ok(number) = number.extract() {
        return Ok(number);
    }
    let lower = number.bitand(u64::MAX)?;
    lower.extract::<u64>().map(u64::cast_signed)
}

fn on_integer<'py>(py: Python<'py>, element: Element, change: Change<'_>) -> PyResult<Bound<'py, PyAny>> {
    match element {
        Element::I8 => carry_out(py, change, |bits| bits as i8),
        Element::U8 => carry_out(py, change, |bits| bits as u8),
        Element::I16 => carry_out(py, change, |bits| bits as i16),
        Element::U16 => carry_out(py, change, |bits| bits as u16),
        Element::I32 => carry_out(py, change, |bits| bits as i32),
        Element::U32 => carry_out(py, change, |bits| bits as u32),
        Element::I64 => carry_out(py, change, |bits| bits),
        _ => carry_out(py, change, i64::cast_unsigned),
    }
}

fn carry_out<'py, T: Integer + IntoPyObject<'py>>(
    py: Python<'py>,
    change: Change<'_>,
    narrow: impl Fn(i64) -> T,
) -> PyResult<Bound<'py, PyAny>> {
    use pyo3::IntoPyObjectExt;
    let (block, with) = (change.block, narrow(change.with));
    let before = match change.how {
        How::Add => block.fetch_add(0, with),
        How::Exchange => block.exchange(0, with),
        How::Compare(expected) => {
            let was_there = block.compare_exchange(0, narrow(expected), with).is_some_and(|was| was.is_ok());
            return was_there.into_bound_py_any(py);
        }
    };
    before
        .ok_or_else(|| PyRuntimeError::new_err("the block is shorter than its value"))?
        .into_bound_py_any(py)
}

/// An array.
#[pyclass(name = "SynchronizedArray", module = "manyhands._manyhands", extends = PySynchronizedBase, subclass, frozen)]
#[derive(Debug)]
pub(crate) struct PySynchronizedArray;

#[pymethods]
impl PySynchronizedArray {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyClassInitializer<Self> {
        PyClassInitializer::from(PySynchronizedBase::default()).add_subclass(Self)
    }

    fn __len__(slf: &Bound<'_, Self>) -> PyResult<usize> {
        slf.as_super().get().own()?.object.bind(slf.py()).len()
    }

    fn __getitem__<'py>(slf: &Bound<'py, Self>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (py, own) = (slf.py(), slf.as_super().get().own()?);
        let memory = own.memory.as_ref();
        if let (Some((block, element)), Some(index)) = (memory, exact_index(key)) {
            let load = || place(index, block, *element).and_then(|at| element.load(py, block, at));
            if let Some(loaded) =
                own.native.as_ref().and_then(|lock| lock.get().holding_at_once(load)).flatten()
            {
                return Ok(loaded);
            }
            return own.locked(py, || load().map_or_else(|| own.object.bind(py).get_item(key), Ok));
        }
        own.locked(py, || {
            if let (Some((block, element)), Some(items)) = (memory, sliced(key, memory)?)
                && let Some(loaded) = element.load_many(py, block, items)?
            {
                return Ok(loaded);
            }
            own.object.bind(py).get_item(key)
        })
    }

    fn __setitem__(slf: &Bound<'_, Self>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, own) = (slf.py(), slf.as_super().get().own()?);
        let memory = own.memory.as_ref();
        own.locked(py, || {
            if let (Some((block, element)), Some(index)) = (memory, exact_index(key)) {
                if place(index, block, *element).is_some_and(|at| element.store(block, at, value)) {
                    return Ok(());
                }
            } else if let (Some((block, element)), Some(items)) = (memory, sliced(key, memory)?)
                && element.store_many(block, items, value)
            {
                return Ok(());
            }
            // What was written of an unordinary list is written again: nobody else saw it.
            own.object.bind(py).set_item(key, value)
        })
    }

    /// As there, where nobody has defined it.
    fn __delitem__(&self, _key: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyAttributeError::new_err("__delitem__"))
    }
}

#[inline]
fn exact_index(key: &Bound<'_, PyAny>) -> Option<isize> {
    key.cast_exact::<PyInt>().ok()?.extract().ok()
}

/// Where the item with that index lies; `None` when there is none.
#[inline]
fn place(index: isize, block: &SharedBlock, element: Element) -> Option<usize> {
    let bytes = element.bytes();
    let len = block.len() / bytes;
    let index = if index < 0 { index.checked_add_unsigned(len)? } else { index };
    usize::try_from(index).ok().filter(|&index| index < len).map(|index| index * bytes)
}

/// Which items a slice means; `None` when it is no slice.
fn sliced(key: &Bound<'_, PyAny>, memory: Option<&(SharedBlock, Element)>) -> PyResult<Option<Items>> {
    let (Ok(slice), Some((block, element))) = (key.cast::<PySlice>(), memory) else { return Ok(None) };
    let len = isize::try_from(block.len() / element.bytes())?;
    let indices = slice.indices(len)?;
    Ok(Some(Items { first: indices.start, step: indices.step, count: indices.slicelength }))
}
