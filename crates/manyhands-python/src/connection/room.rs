//! Where long pickles are received, to be unpickled from: one piece of memory, kept from one message to the next.
//!
//! A bytes object for each message is memory that the C library takes from the system and gives back, message by message,
//! and each of its pages is then had anew: that takes longer than all else that is done for a message. Only what is
//! unpickled at once is received here; what `recv_bytes` returns is the caller's.
#![allow(unsafe_code)] // a bytearray is filled after it was made

use super::memory::fill;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyMemoryView, PySlice};
use std::mem::MaybeUninit;
use std::ops::RangeInclusive;
use std::sync::Mutex;

const STEP: usize = 64 << 10;
/// Messages of so many bytes are received here. Shorter ones cost no pages.
pub(super) const LENGTHS: RangeInclusive<usize> = STEP..=(16 << 20);
/// The longest that is kept; a pickle of 1 MiB fits. Room for a longer message has twice its length, half of which nobody
/// ever touches: the C library gives memory back when it has twice as much as the longest that it ever freed, and the
/// message and its object are twice as much as the message.
const MOST_KEPT: usize = (1 << 20) + STEP;

/// What is kept, while nobody uses it. Locked under the GIL for a moment, so never by another thread while a process
/// forks.
static KEPT: Mutex<Option<Py<PyByteArray>>> = Mutex::new(None);

/// Room for one message, which nobody else knows of.
pub(super) struct Room<'py> {
    bytes: Bound<'py, PyByteArray>,
    len: usize,
}

impl<'py> Room<'py> {
    /// For a message of that length.
    pub(super) fn new(py: Python<'py>, len: usize) -> PyResult<Self> {
        if let Some(kept) = exchange(None).map(|kept| kept.into_bound(py))
            && kept.len() >= len
        {
            return Ok(Self { bytes: kept, len });
        }
        let room = if len > MOST_KEPT { len * 2 } else { len.next_multiple_of(STEP) };
        let size = ffi::Py_ssize_t::try_from(room)?;
        // SAFETY: attached to the interpreter; a null pointer asks for an object whose bytes are not set.
        let made = unsafe { ffi::PyByteArray_FromStringAndSize(std::ptr::null(), size) };
        // SAFETY: a new reference, or null with an exception set.
        let made = unsafe { Bound::from_owned_ptr_or_err(py, made) }?;
        // SAFETY: a bytearray.
        Ok(Self { bytes: unsafe { made.cast_into_unchecked() }, len })
    }

    /// Has `read` fill it; see [`fill`].
    pub(super) fn fill(
        &mut self,
        read: impl FnMut(&mut [MaybeUninit<u8>]) -> PyResult<usize>,
    ) -> PyResult<()> {
        assert!(self.len <= self.bytes.len(), "the message fits");
        let start = self.bytes.data().cast::<MaybeUninit<u8>>();
        // SAFETY: so many bytes from `start` are the object's, as was just checked, and stay there while nobody changes its
        // length: nobody else has it, not even the garbage collector.
        fill(unsafe { std::slice::from_raw_parts_mut(start, self.len) }, read)
    }

    /// What `look` makes of the message. The memory is kept for the next one, unless somebody still looks at it.
    pub(super) fn read<R>(self, look: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<R>) -> PyResult<R> {
        let py = self.bytes.py();
        let whole = PyMemoryView::from(&self.bytes)?;
        let message = whole.get_item(PySlice::new(py, 0, isize::try_from(self.len)?, 1))?;
        drop(whole);
        let made = look(&message);
        drop(message);
        // SAFETY: an object that is held here.
        let holders = unsafe { ffi::Py_REFCNT(self.bytes.as_ptr()) };
        if holders == 1 && self.bytes.len() <= MOST_KEPT {
            // Of two threads' one is kept.
            drop(exchange(Some(self.bytes.unbind())));
        }
        made
    }
}

/// Puts that there; what was there. When somebody else is at it, which cannot be under the GIL, nothing is kept.
fn exchange(kept: Option<Py<PyByteArray>>) -> Option<Py<PyByteArray>> {
    KEPT.try_lock().ok().and_then(|mut place| std::mem::replace(&mut place, kept))
}
