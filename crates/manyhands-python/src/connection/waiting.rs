//! Waiting for connections and whatever else has a descriptor.

use crate::arguments::Limit;
use crate::blocking::on_signal;
use crate::error;
use manyhands::connection::{Learnt, Watch};
use pyo3::exceptions::{PyAttributeError, PyKeyError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyList};
use std::collections::HashSet;

/// What spinning has taught the waits on several, and those of `poll`.
static LEARNT: Learnt = Learnt::new();

/// Waits until one of the descriptors is ready; whether one is. No timeout is for ever, one that is not positive is now.
pub(super) fn any(py: Python<'_>, watch: &mut Watch, limit: Limit) -> PyResult<bool> {
    if watch.look().map_err(error::transfer)? {
        return Ok(true);
    }
    let Some(deadline) = limit.deadline()? else { return Ok(false) };
    py.detach(|| watch.wait_interruptibly(&LEARNT, deadline, on_signal))?.map_err(error::transfer)
}

/// Waits until some of these can be read from; which. See `manyhands.connection.wait`.
#[pyfunction]
#[pyo3(signature = (object_list, timeout=None))]
pub(crate) fn wait<'py>(
    object_list: &Bound<'py, PyAny>,
    timeout: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyList>> {
    let py = object_list.py();
    let mut objects = Vec::new();
    let mut numbers = Vec::new();
    let mut known = HashSet::new();
    for object in object_list.try_iter()? {
        let object = object?;
        let number = number_of(&object)?;
        if !known.insert(number) {
            let text = format!("{} (FD {number}) is already registered", object.repr()?);
            return Err(PyKeyError::new_err(text));
        }
        objects.push(object);
        numbers.push(number);
    }
    let mut watch = Watch::new(&numbers).map_err(error::transfer)?;
    any(py, &mut watch, Limit::of_poll(timeout)?)?;
    PyList::new(py, watch.ready().map(|at| &objects[at]).collect::<Vec<_>>())
}

/// The descriptor that an object is or has.
fn number_of(object: &Bound<'_, PyAny>) -> PyResult<i32> {
    let number = if object.is_instance_of::<PyInt>() {
        // Also one that no descriptor could have.
        if object.lt(0)? { Ok(-1) } else { object.extract::<i32>() }
    } else {
        object.call_method0("fileno").and_then(|number| number.extract::<i32>())
    };
    let number = number.map_err(|error| {
        let py = object.py();
        let invalid = error.is_instance_of::<PyAttributeError>(py)
            || error.is_instance_of::<PyTypeError>(py)
            || error.is_instance_of::<PyValueError>(py);
        match object.repr() {
            Ok(name) if invalid => PyValueError::new_err(format!("Invalid file object: {name}")),
            _ => error,
        }
    })?;
    if number < 0 {
        return Err(PyValueError::new_err(format!("Invalid file descriptor: {number}")));
    }
    Ok(number)
}
