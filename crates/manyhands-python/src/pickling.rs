//! Objects to bytes and back: the interpreter's C pickler, called as cheaply as it can be.

use crate::plane::{self, LONG_BYTES, Packed, PySink, Way};
use manyhands::Handle;
use manyhands::shared::{MANIFEST, Parcel};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyString, PyTuple};
use std::cell::RefCell;
use std::ops::Deref;

/// The callables used for every message; looked up once.
#[derive(Debug)]
struct Pickling {
    /// `_pickle.dumps`, for objects on which no reducer can have a say.
    plain_dumps: Py<PyAny>,
    /// `manyhands._pickler.dumps`, which knows the reducers registered with the standard library's
    /// `ForkingPickler`.
    dumps: Py<PyAny>,
    /// `manyhands._pickler.dump_into`, which does the same into a [`PySink`].
    dump_into: Py<PyAny>,
    /// `_pickle.loads`.
    loads: Py<PyAny>,
}

static PICKLING: PyOnceLock<Pickling> = PyOnceLock::new();

fn pickling(py: Python<'_>) -> PyResult<&Pickling> {
    PICKLING.get_or_try_init(py, || {
        let (pickle, ours) = (py.import("_pickle")?, py.import("manyhands._pickler")?);
        Ok(Pickling {
            plain_dumps: pickle.getattr("dumps")?.unbind(),
            dumps: ours.getattr("dumps")?.unbind(),
            dump_into: ours.getattr("dump_into")?.unbind(),
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

/// What a message carries: queues and the like that the object names, and the parcels that its long parts lie in.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    handles: Vec<Handle>,
    /// There until the message has references of its own.
    parcels: Vec<Parcel>,
}

impl Carried {
    /// How many bytes lie in parcels.
    pub(crate) fn long_bytes(&self) -> usize {
        self.parcels.iter().map(Parcel::len).sum()
    }
}

impl Deref for Carried {
    type Target = [Handle];

    fn deref(&self) -> &[Handle] {
        &self.handles
    }
}

/// As [`dumps`], for a message that one process receives, with what it carries: long parts of the object lie beside it.
pub(crate) fn dumps_carrying<'py>(object: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyBytes>, Carried)> {
    dumps_into(object, Way::Copying)
}

/// As [`dumps_carrying`]; what this process has received itself, and alone uses, goes to the receiver as it is. Whoever
/// asks for that must not use it any more.
#[allow(dead_code, reason = "for the queues' move=True")]
pub(crate) fn dumps_moving<'py>(object: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyBytes>, Carried)> {
    dumps_into(object, Way::Moving)
}

fn dumps_into<'py>(object: &Bound<'py, PyAny>, way: Way) -> PyResult<(Bound<'py, PyBytes>, Carried)> {
    let py = object.py();
    if is_plain(object) {
        return Ok((dumps(object)?, Carried::default()));
    }
    let dump = pickling(py)?.dump_into.bind(py);
    let sink = Bound::new(py, PySink::new(way))?;
    let ((), mut handles) = carrying(|| dump.call1((object, &sink)).map(drop))?;
    let Packed { bytes, parcels } = sink.borrow_mut().pack(py)?;
    handles.extend(parcels.iter().map(Parcel::handle));
    Ok((bytes, Carried { handles, parcels }))
}

/// As [`dumps`], for bytes that several processes may read: all of the object is in them. With what it names.
pub(crate) fn dumps_for_many<'py>(
    object: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyBytes>, Vec<Handle>)> {
    carrying(|| dumps(object))
}

/// As [`loads_bytes`], for bytes that Python has not yet.
pub(crate) fn loads<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    loads_bytes(&PyBytes::new(py, bytes))
}

/// WAYPOINT message 8/8: bytes become an object, with no lock held.
pub(crate) fn loads_bytes<'py>(bytes: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    let py = bytes.py();
    let loads = pickling(py)?.loads.bind(py);
    match bytes.as_bytes() {
        [MANIFEST, ..] => plane::loads(bytes, loads),
        _ => loads.call1((bytes,)),
    }
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
        || (object.is_exact_instance_of::<PyString>() || object.is_exact_instance_of::<PyBytes>())
            && object.len().is_ok_and(|len| len < LONG_BYTES)
        || object.is_exact_instance_of::<PyFloat>()
        || object.is_none()
        || object.is_exact_instance_of::<PyBool>()
}
