//! One number in shared memory, as `ctypes` would read and write it.
//!
//! Only what is ordinary is done here: a value of exactly the type that is expected, in range. Everything else is left to
//! `ctypes` itself, whose conversions and errors then hold to the letter.

use manyhands::shared::{Plain, SharedBlock};
use pyo3::IntoPyObjectExt;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyList, PyTuple};

/// What lies in a block: one of the simple types of `ctypes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F32,
    F64,
    Bool,
    Char,
}

/// Items of an array: so many, each `step` behind the one before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Items {
    pub(super) first: isize,
    pub(super) step: isize,
    pub(super) count: usize,
}

impl Items {
    /// Where the items are.
    fn places(self) -> impl ExactSizeIterator<Item = isize> {
        let Self { first, step, count } = self;
        (0..count).map(move |at| first + step * at.cast_signed())
    }
}

/// Calls the macro with the type and the way to Python and back of each number.
macro_rules! for_number {
    ($element:expr, $do:ident, $otherwise:expr) => {
        match $element {
            Element::I8 => $do!(i8),
            Element::U8 => $do!(u8),
            Element::I16 => $do!(i16),
            Element::U16 => $do!(u16),
            Element::I32 => $do!(i32),
            Element::U32 => $do!(u32),
            Element::I64 => $do!(i64),
            Element::U64 => $do!(u64),
            Element::F32 => $do!(f32),
            Element::F64 => $do!(f64),
            Element::Bool | Element::Char => $otherwise,
        }
    };
}

impl Element {
    /// By the code that `ctypes` has for the type.
    pub(super) fn of_code(code: &str) -> Option<Self> {
        Some(match code {
            "b" => Self::I8,
            "B" => Self::U8,
            "h" => Self::I16,
            "H" => Self::U16,
            "i" => Self::I32,
            "I" => Self::U32,
            "l" | "q" => Self::I64,
            "L" | "Q" => Self::U64,
            "f" => Self::F32,
            "d" => Self::F64,
            "?" => Self::Bool,
            "c" => Self::Char,
            _ => return None,
        })
    }

    /// Whether a buffer with that format, as of `struct`, has items of exactly this type, in this machine's byte order.
    fn is_spelt(self, format: &[u8]) -> bool {
        let (code, native) = match format {
            [code] | [b'@', code] => (*code, true),
            [b'=', code] => (*code, false),
            [b'<', code] if cfg!(target_endian = "little") => (*code, false),
            [b'>' | b'!', code] if cfg!(target_endian = "big") => (*code, false),
            _ => return false,
        };
        let spelt = match (code, native) {
            // Where the format names a byte order, a long has 4 bytes.
            (b'l', false) => Some(Self::I32),
            (b'L', false) => Some(Self::U32),
            (code, _) => std::str::from_utf8(&[code]).ok().and_then(Self::of_code),
        };
        spelt == Some(self)
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool | Self::Char => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    pub(super) fn is_integer(self) -> bool {
        !matches!(self, Self::F32 | Self::F64 | Self::Bool | Self::Char)
    }

    /// The item at that place; `None` when there is none.
    #[inline]
    pub(super) fn load<'py>(
        self,
        py: Python<'py>,
        block: &SharedBlock,
        at: usize,
    ) -> Option<Bound<'py, PyAny>> {
        macro_rules! load {
            ($type:ty) => {
                block.load::<$type>(at)?.into_bound_py_any(py).ok()
            };
        }
        for_number!(self, load, {
            let byte = block.load::<u8>(at)?;
            Some(match self {
                Self::Bool => PyBool::new(py, byte != 0).to_owned().into_any(),
                _ => PyBytes::new(py, &[byte]).into_any(),
            })
        })
    }

    /// Writes the item, if the value is an ordinary one; `false`, and nothing written, if not.
    #[inline]
    pub(super) fn store(self, block: &SharedBlock, at: usize, value: &Bound<'_, PyAny>) -> bool {
        match self {
            Self::F64 => exact_float(value).is_some_and(|number| block.store(at, number)),
            Self::F32 => exact_float(value).is_some_and(|number| block.store(at, number as f32)),
            Self::Bool => {
                value.cast_exact::<PyBool>().is_ok_and(|truth| block.store(at, u8::from(truth.is_true())))
            }
            Self::Char => value
                .cast_exact::<PyBytes>()
                .is_ok_and(|bytes| matches!(bytes.as_bytes(), &[byte] if block.store(at, byte))),
            _ => self.wrapped(value).is_some_and(|number| self.store_bits(block, at, number)),
        }
    }

    /// An integer's lower 64 bits, of one that has no more.
    #[inline]
    pub(super) fn wrapped(self, value: &Bound<'_, PyAny>) -> Option<i64> {
        let value = value.cast_exact::<PyInt>().ok()?;
        value.extract::<i64>().ok().or_else(|| value.extract::<u64>().ok().map(u64::cast_signed))
    }

    /// As `ctypes`: what does not fit wraps around.
    #[inline]
    fn store_bits(self, block: &SharedBlock, at: usize, number: i64) -> bool {
        match self.bytes() {
            1 => block.store(at, number as i8),
            2 => block.store(at, number as i16),
            4 => block.store(at, number as i32),
            _ => block.store(at, number),
        }
    }

    /// These items as `ctypes` gives them: a list, of characters a bytes object. `None` when they are not all there.
    pub(super) fn load_many<'py>(
        self,
        py: Python<'py>,
        block: &SharedBlock,
        items: Items,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let bytes = self.bytes();
        if !items.are_within(block.len() / bytes) {
            return Ok(None);
        }
        let at = |place: isize| place.cast_unsigned() * bytes;
        macro_rules! load_many {
            ($type:ty) => {{
                let loaded = items.places().map(|place| block.load::<$type>(at(place)).unwrap_or_default());
                PyList::new(py, loaded).map(|list| Some(list.into_any()))
            }};
        }
        let byte = |place| block.load::<u8>(at(place)).unwrap_or_default();
        for_number!(
            self,
            load_many,
            match self {
                Self::Bool =>
                    PyList::new(py, items.places().map(|place| byte(place) != 0)).map(|l| Some(l.into_any())),
                _ => PyBytes::new_with(py, items.count, |out| {
                    out.iter_mut().zip(items.places()).for_each(|(to, place)| *to = byte(place));
                    Ok(())
                })
                .map(|bytes| Some(bytes.into_any())),
            }
        )
    }

    /// Writes these items from a list or tuple of ordinary values, or from a buffer of the same numbers; `false` if it is
    /// something else, and then some may be written.
    pub(super) fn store_many(self, block: &SharedBlock, items: Items, values: &Bound<'_, PyAny>) -> bool {
        let bytes = self.bytes();
        if !items.are_within(block.len() / bytes) {
            return false;
        }
        let mut places = items.places().map(|place| place.cast_unsigned() * bytes);
        let mut store =
            |value: Bound<'_, PyAny>| places.next().is_some_and(|at| self.store(block, at, &value));
        if let Ok(list) = values.cast_exact::<PyList>() {
            return list.len() == items.count && list.iter().all(store);
        }
        if let Ok(tuple) = values.cast_exact::<PyTuple>() {
            return tuple.len() == items.count && tuple.iter_borrowed().all(|value| store(value.to_owned()));
        }
        macro_rules! copy {
            ($type:ty) => {
                copy_buffer::<$type>(self, block, items, values)
            };
        }
        for_number!(self, copy, false)
    }
}

impl Items {
    fn are_within(self, len: usize) -> bool {
        let Some(last) = self.count.checked_sub(1) else { return true };
        let last = isize::try_from(last).ok().and_then(|last| last.checked_mul(self.step));
        let last = last.and_then(|last| last.checked_add(self.first));
        let inside = |place: isize| usize::try_from(place).is_ok_and(|place| place < len);
        inside(self.first) && last.is_some_and(inside)
    }
}

#[inline]
fn exact_float(value: &Bound<'_, PyAny>) -> Option<f64> {
    value.cast_exact::<PyFloat>().ok().map(|float| float.value())
}

fn copy_buffer<T: Plain + pyo3::buffer::Element>(
    element: Element,
    block: &SharedBlock,
    items: Items,
    values: &Bound<'_, PyAny>,
) -> bool {
    let Ok(buffer) = PyBuffer::<T>::get(values) else { return false };
    if !element.is_spelt(buffer.format().to_bytes()) {
        return false;
    }
    // A view of this very block would change while it is read: that is done item by item.
    let (from, to) = (buffer.buf_ptr().addr(), block.as_ptr().addr().get());
    if from < to.saturating_add(block.len()) && to < from.saturating_add(buffer.len_bytes()) {
        return false;
    }
    if buffer.dimensions() != 1 || buffer.item_count() != items.count {
        return false;
    }
    let Ok(values) = buffer.to_vec(values.py()) else { return false };
    items
        .places()
        .zip(values)
        .all(|(place, value)| block.store(place.cast_unsigned() * size_of::<T>(), value))
}
