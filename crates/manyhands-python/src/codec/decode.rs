//! Bytes to objects.

use manyhands::codec::{self, Build, Damaged, Reader, Scratch};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyList, PyString, PyTuple};
use std::cell::Cell;
use std::vec::Drain;

thread_local! {
    static SCRATCH: Cell<Scratch<Py<PyAny>>> = const { Cell::new(Scratch::new()) };
}

/// The object of a message; `pickle.UnpicklingError` if the message is damaged.
pub(crate) fn decode<'py>(py: Python<'py>, message: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    if codec::is_of_one(message) {
        return made(py, Reader::read(message, Objects { py }, &mut Scratch::new()));
    }
    let mut scratch = SCRATCH.take();
    let object = Reader::read(message, Objects { py }, &mut scratch);
    SCRATCH.set(scratch);
    made(py, object)
}

#[inline]
fn made(py: Python<'_>, object: Result<Py<PyAny>, Failed>) -> PyResult<Bound<'_, PyAny>> {
    match object {
        Ok(object) => Ok(object.into_bound(py)),
        Err(Failed::Damaged) => Err(damaged(py)),
        Err(Failed::Raised(error)) => Err(error),
    }
}

#[cold]
fn damaged(py: Python<'_>) -> PyErr {
    let class = py.import("_pickle").and_then(|pickle| pickle.getattr("UnpicklingError"));
    match class.and_then(|class| class.call1((Damaged.to_string(),))) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

enum Failed {
    Damaged,
    Raised(PyErr),
}

impl From<Damaged> for Failed {
    fn from(_: Damaged) -> Self {
        Self::Damaged
    }
}

impl From<PyErr> for Failed {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

struct Objects<'py> {
    py: Python<'py>,
}

/// Objects are complete when somebody else can first see them: only then they are put into the next one.
impl Build for Objects<'_> {
    type Object = Py<PyAny>;
    type Error = Failed;

    fn none(&mut self) -> Py<PyAny> {
        self.py.None()
    }

    fn boolean(&mut self, value: bool) -> Py<PyAny> {
        PyBool::new(self.py, value).to_owned().into_any().unbind()
    }

    fn integer(&mut self, value: i64) -> Result<Py<PyAny>, Failed> {
        Ok(value.into_pyobject(self.py).map_err(PyErr::from)?.into_any().unbind())
    }

    fn float(&mut self, value: f64) -> Result<Py<PyAny>, Failed> {
        Ok(PyFloat::new(self.py, value).into_any().unbind())
    }

    fn text(&mut self, utf8: &[u8]) -> Result<Py<PyAny>, Failed> {
        Ok(PyString::from_bytes(self.py, utf8)?.into_any().unbind())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<Py<PyAny>, Failed> {
        Ok(PyBytes::new(self.py, bytes).into_any().unbind())
    }

    fn tuple(&mut self, values: Drain<'_, Py<PyAny>>) -> Result<Py<PyAny>, Failed> {
        Ok(PyTuple::new(self.py, values)?.into_any().unbind())
    }

    fn list(&mut self, values: Drain<'_, Py<PyAny>>) -> Result<Py<PyAny>, Failed> {
        Ok(PyList::new(self.py, values)?.into_any().unbind())
    }

    fn dict(&mut self, mut values: Drain<'_, Py<PyAny>>) -> Result<Py<PyAny>, Failed> {
        let dict = PyDict::new(self.py);
        while let (Some(key), Some(value)) = (values.next(), values.next()) {
            // Of a key that cannot be one, an error comes back as of any other bad bytes.
            dict.set_item(key, value)?;
        }
        Ok(dict.into_any().unbind())
    }

    fn again(&mut self, value: &Py<PyAny>) -> Py<PyAny> {
        value.clone_ref(self.py)
    }
}
