//! What is made once and stays until the process ends.
//!
//! **No lock is held while it is made.** Making it may run Python code, or wait for the interpreter; meanwhile another
//! thread may fork, and the child, which does not have the thread that would unlock, would wait for ever. (So pyo3's own
//! `get_or_init`, `get_or_try_init` and `intern!` are not for us: all of them are locked while they wait for the
//! interpreter.) Two threads may both make one; the first stays.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

/// A place for it.
pub(crate) struct Once<T>(PyOnceLock<T>);

impl<T> Once<T> {
    pub(crate) const fn new() -> Self {
        Self(PyOnceLock::new())
    }

    /// What is there; made now if nothing is.
    ///
    /// # Errors
    /// Those of `make`. Then nothing is there.
    pub(crate) fn get_or_make(&self, py: Python<'_>, make: impl FnOnce() -> PyResult<T>) -> PyResult<&T> {
        if let Some(known) = self.0.get(py) {
            return Ok(known);
        }
        let made = make()?;
        Ok(self.settle(py, made))
    }

    /// What is there, if anything is.
    pub(crate) fn get(&self, py: Python<'_>) -> Option<&T> {
        self.0.get(py)
    }

    /// Puts it there, unless another thread was faster; what is there. Like every fork of the interpreter's, this has the
    /// interpreter throughout.
    fn settle(&self, py: Python<'_>, made: T) -> &T {
        let mut made = Some(made);
        loop {
            match (self.0.get(py), made.take()) {
                (Some(known), _) => return known,
                (None, Some(fresh)) => made = self.0.set(py, fresh).err(),
                // One was set, so there is one.
                (None, None) => std::hint::spin_loop(),
            }
        }
    }
}

/// A string that the interpreter has once, for names of attributes: as [`interned!`] makes them.
pub(crate) struct Interned(&'static str, Once<Py<PyString>>);

impl Interned {
    pub(crate) const fn new(text: &'static str) -> Self {
        Self(text, Once::new())
    }

    #[inline]
    pub(crate) fn get<'a, 'py>(&'a self, py: Python<'py>) -> &'a Bound<'py, PyString> {
        match self.1.0.get(py) {
            Some(known) => known.bind(py),
            None => self.1.settle(py, PyString::intern(py, self.0).unbind()).bind(py),
        }
    }
}

/// The interned string of that text, made at the first use of this place in the program.
macro_rules! interned {
    ($py: expr, $text: expr) => {{
        static INTERNED: $crate::once::Interned = $crate::once::Interned::new($text);
        INTERNED.get($py)
    }};
}
pub(crate) use interned;

/// The name of an object's class, which pyo3 looks up by `intern!`.
pub(crate) fn class_name<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    Ok(object.get_type().getattr(interned!(object.py(), "__name__"))?.cast_into()?)
}
