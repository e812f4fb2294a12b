//! Objects to bytes and back: the interpreter's C pickler, called as cheaply as it can be.

use manyhands::Handle;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyString, PyTuple};
use std::cell::RefCell;

/// The callables used for every message; looked up once.
#[derive(Debug)]
struct Pickling {
    /// `_pickle.dumps`, for objects on which no reducer can have a say.
    plain_dumps: Py<PyAny>,
    /// `manyhands._pickler.dumps`, which knows the reducers registered with the standard library's
    /// `ForkingPickler`.
    dumps: Py<PyAny>,
    /// `_pickle.loads`.
    loads: Py<PyAny>,
}

static PICKLING: PyOnceLock<Pickling> = PyOnceLock::new();

fn pickling(py: Python<'_>) -> PyResult<&Pickling> {
    PICKLING.get_or_try_init(py, || {
        let pickle = py.import("_pickle")?;
        Ok(Pickling {
            plain_dumps: pickle.getattr("dumps")?.unbind(),
            dumps: py.import("manyhands._pickler")?.getattr("dumps")?.unbind(),
            loads: pickle.getattr("loads")?.unbind(),
        })
    })
}

/// WAYPOINT message 2/8: an object becomes bytes, in the caller, so that an error is raised where it is made.
pub(crate) fn dumps<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = object.py();
    let pickling = pickling(py)?;
    let dumps = if is_plain(object) { &pickling.plain_dumps } else { &pickling.dumps };
    Ok(dumps.bind(py).call1((object,))?.cast_into::<PyBytes>()?)
}

thread_local! {
    /// The queues that this thread has pickled since somebody began to ask; `None` while nobody does.
    static CARRIED: RefCell<Option<Vec<Handle>>> = const { RefCell::new(None) };
}

/// Notes that what is being pickled names this queue: whoever sends it sees to it that the queue is there until the
/// receiver has opened it.
pub(crate) fn note_carried(queue: Handle) {
    CARRIED.with_borrow_mut(|carried| {
        if let Some(carried) = carried.as_mut().filter(|carried| !carried.contains(&queue)) {
            carried.push(queue);
        }
    });
}

/// Runs `pickle` and tells which queues it has named. Pickling runs the user's code, which may send something of its own
/// meanwhile.
pub(crate) fn carrying<T>(pickle: impl FnOnce() -> PyResult<T>) -> PyResult<(T, Vec<Handle>)> {
    let outer = CARRIED.replace(Some(Vec::new()));
    let pickled = pickle();
    let carried = CARRIED.replace(outer).unwrap_or_default();
    Ok((pickled?, carried))
}

/// As [`dumps`], with the queues that the object names.
pub(crate) fn dumps_carrying<'py>(
    object: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyBytes>, Vec<Handle>)> {
    if is_plain(object) {
        return Ok((dumps(object)?, Vec::new()));
    }
    carrying(|| dumps(object))
}

/// As [`loads_bytes`], for bytes that Python has not yet.
pub(crate) fn loads<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    loads_bytes(&PyBytes::new(py, bytes))
}

/// WAYPOINT message 8/8: bytes become an object, with no lock held.
pub(crate) fn loads_bytes<'py>(bytes: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    let py = bytes.py();
    pickling(py)?.loads.bind(py).call1((bytes,))
}

/// Exact built-in scalars, and small tuples and dicts of those: pickling them asks no reducer and runs no code.
fn is_plain(object: &Bound<'_, PyAny>) -> bool {
    is_plain_down_to(object, MOST_NESTED)
}

/// As deep as the arguments of a call, `((a, (b, c)), {})`, go.
const MOST_NESTED: u8 = 3;
/// Longer ones take the general way, whose cost then hardly counts.
const MOST_ELEMENTS: usize = 16;

fn is_plain_down_to(object: &Bound<'_, PyAny>, levels: u8) -> bool {
    if is_scalar(object) {
        return true;
    }
    if levels == 0 {
        return false;
    }
    if object.is_exact_instance_of::<PyTuple>()
        && let Ok(tuple) = object.cast::<PyTuple>()
    {
        return tuple.len() <= MOST_ELEMENTS && tuple.iter().all(|each| is_plain_down_to(&each, levels - 1));
    }
    if object.is_exact_instance_of::<PyDict>()
        && let Ok(dict) = object.cast::<PyDict>()
    {
        let plain = |(key, value): (Bound<'_, _>, Bound<'_, _>)| {
            is_scalar(&key) && is_plain_down_to(&value, levels - 1)
        };
        return dict.len() <= MOST_ELEMENTS && dict.iter().all(plain);
    }
    false
}

fn is_scalar(object: &Bound<'_, PyAny>) -> bool {
    object.is_exact_instance_of::<PyInt>()
        || object.is_exact_instance_of::<PyString>()
        || object.is_exact_instance_of::<PyBytes>()
        || object.is_exact_instance_of::<PyFloat>()
        || object.is_none()
        || object.is_exact_instance_of::<PyBool>()
}
