//! Objects to bytes and back: small plain ones by the codec, everything else by the interpreter's C pickler.
//!
//! A message's first byte says which it is: [`manyhands::codec::FIRST`]; [`MANIFEST`] for a pickle with long parts beside
//! it; or 0x80, with which every pickle of the protocols that we write begins.

use crate::codec;
use crate::connection::joined;
use crate::imports::import_at_need;
use crate::offers::Offers;
use crate::once::Once;
use crate::plane::{self, Packed, PySink, Way};
use manyhands::Handle;
use manyhands::shared::{MANIFEST, Parcel};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use std::cell::RefCell;
use std::ops::Deref;

/// The callables used for every pickle; looked up once.
#[derive(Debug)]
struct Pickling {
    /// `manyhands._pickler.dumps`, which knows the reducers registered with the standard library's
    /// `ForkingPickler`.
    dumps: Py<PyAny>,
    /// `manyhands._pickler.dump_into`, which does the same into a [`PySink`].
    dump_into: Py<PyAny>,
    /// `_pickle.dumps`, for objects on which no reducer can have a say.
    plain_dumps: Py<PyAny>,
    /// `_pickle.loads`.
    loads: Py<PyAny>,
}

static PICKLING: Once<Pickling> = Once::new();

fn pickling(py: Python<'_>) -> PyResult<&Pickling> {
    PICKLING.get_or_make(py, || {
        let (pickle, ours) = (py.import("_pickle")?, import_at_need(py, "manyhands._pickler")?);
        Ok(Pickling {
            dumps: ours.getattr("dumps")?.unbind(),
            dump_into: ours.getattr("dump_into")?.unbind(),
            plain_dumps: pickle.getattr("dumps")?.unbind(),
            loads: pickle.getattr("loads")?.unbind(),
        })
    })
}

/// An object as bytes.
#[derive(Debug)]
pub(crate) enum Dumped<'py> {
    /// By the codec.
    Compact(codec::Encoded),
    /// By the pickler.
    Pickle(Bound<'py, PyBytes>),
}

impl<'py> Dumped<'py> {
    /// What was received: in a `bytes` object only if the pickler is to have it.
    pub(crate) fn copy_of(py: Python<'py>, bytes: &[u8]) -> PyResult<Self> {
        Ok(if codec::is_compact(bytes) {
            Self::Compact(codec::Encoded::copy_of(bytes))
        } else {
            Self::Pickle(joined(py, &[bytes])?)
        })
    }

    /// The object again.
    pub(crate) fn loads(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Compact(encoded) => codec::decode(py, encoded),
            Self::Pickle(bytes) => loads_bytes(bytes),
        }
    }

    /// As `bytes`, for Python code that reads it.
    pub(crate) fn to_python(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        match self {
            Self::Compact(encoded) => PyBytes::new(py, encoded),
            Self::Pickle(bytes) => bytes.clone(),
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Compact(encoded) => encoded,
            Self::Pickle(bytes) => bytes.as_bytes(),
        }
    }
}

/// The pickle of an object, for somebody who knows nothing of the codec, as pieces that lie one behind the other, and what it
/// offers. What the codec would have encoded asks no reducer.
pub(crate) fn standard_pickle<'py>(
    object: &Bound<'py, PyAny>,
) -> PyResult<(Vec<Bound<'py, PyBytes>>, Offers)> {
    let py = object.py();
    if codec::encode(object).is_none() {
        let sink = Bound::new(py, PySink::new(Way::Standard))?;
        let dump = pickling(py)?.dump_into.bind(py);
        let (_, noted) = carrying(|| dump.call1((object, &sink)))?;
        return Ok((sink.borrow_mut().pieces(py)?, noted.offers));
    }
    let plain = pickling(py)?.plain_dumps.bind(py).call1((object,))?.cast_into::<PyBytes>()?;
    Ok((vec![plain], Offers::default()))
}

/// The object of a pickle that may come from somebody who knows nothing of the codec, or who means harm by naming what
/// only this family has.
pub(crate) fn standard_unpickle<'py>(bytes: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    pickling(bytes.py())?.loads.bind(bytes.py()).call1((bytes,))
}

/// The pickle of an object, whatever it is.
pub(crate) fn pickle<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = object.py();
    Ok(pickling(py)?.dumps.bind(py).call1((object,))?.cast_into::<PyBytes>()?)
}

/// What a thread has pickled since somebody began to ask.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    /// Queues and the like.
    pub(crate) handles: Vec<Handle>,
    pub(crate) offers: Offers,
}

thread_local! {
    /// Of this thread; `None` while nobody asks, which is while it pickles nothing that we are going to send.
    static CARRIED: RefCell<Option<Noted>> = const { RefCell::new(None) };
}

/// Notes that what is being pickled names this queue: whoever sends it sees to it that the queue is there until the
/// receiver has opened it.
pub(crate) fn note_carried(queue: Handle) {
    CARRIED.with_borrow_mut(|carried| {
        if let Some(carried) = carried.as_mut().filter(|carried| !carried.handles.contains(&queue)) {
            carried.handles.push(queue);
        }
    });
}

/// Runs `pickle` and tells what it has named and offered. Pickling runs the user's code, which may send something of its own
/// meanwhile. What was offered is withdrawn if it fails.
pub(crate) fn carrying<T>(pickle: impl FnOnce() -> PyResult<T>) -> PyResult<(T, Noted)> {
    let outer = CARRIED.replace(Some(Noted::default()));
    let pickled = pickle();
    let carried = CARRIED.replace(outer).unwrap_or_default();
    Ok((pickled?, carried))
}

/// Notes a descriptor that what is being pickled offers to its receiver: how `manyhands._descriptors` finds it.
#[pyfunction]
pub(crate) fn note_offer(offer: Py<PyAny>) {
    CARRIED.with_borrow_mut(|carried| {
        if let Some(carried) = carried {
            carried.offers.push(offer);
        }
    });
}

/// How many descriptors what is being pickled offers so far.
#[pyfunction]
pub(crate) fn offers_so_far() -> usize {
    CARRIED.with_borrow(|carried| carried.as_ref().map_or(0, |carried| carried.offers.len()))
}

/// Withdraws all but the first `count` of these.
#[pyfunction]
pub(crate) fn withdraw_offers(count: usize) {
    // Withdrawn without the borrow, as that runs Python code.
    let withdrawn =
        CARRIED.with_borrow_mut(|carried| carried.as_mut().map(|carried| carried.offers.split_off(count)));
    drop(withdrawn);
}

/// Calls `pickle(*arguments)`, whose result is sent by us. What it names and offers is added to what is being pickled around
/// it, if anything is.
#[pyfunction]
#[pyo3(signature = (pickle, *arguments))]
pub(crate) fn sending<'py>(
    pickle: &Bound<'py, PyAny>,
    arguments: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let (pickled, noted) = carrying(|| pickle.call1(arguments))?;
    noted.handles.into_iter().for_each(note_carried);
    CARRIED.with_borrow_mut(|carried| match carried {
        Some(carried) => carried.offers.extend(noted.offers),
        None => noted.offers.sent(),
    });
    Ok(pickled)
}

/// Whether this thread pickles something that we are going to send.
pub(crate) fn is_sending() -> bool {
    CARRIED.with_borrow(Option::is_some)
}

/// Raises the standard library's error unless this thread pickles something that is sent by us, or by it to a child; that
/// child has to be one that we start.
#[pyfunction]
pub(crate) fn assert_sending(object: &Bound<'_, PyAny>) -> PyResult<()> {
    if is_sending() {
        return Ok(());
    }
    object.py().import("multiprocessing.context")?.call_method1("assert_spawning", (object,))?;
    object.py().import("manyhands.process")?.call_method1("assert_starting_ours", (object,)).map(drop)
}

/// What a message carries: queues and the like that the object names, and the parcels that its long parts lie in.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    handles: Vec<Handle>,
    /// There until the message has references of its own.
    parcels: Vec<Parcel>,
    /// Withdrawn with this value, unless the message is sent.
    offers: Offers,
}

impl Carried {
    /// How many bytes lie in parcels.
    pub(crate) fn long_bytes(&self) -> usize {
        self.parcels.iter().map(Parcel::len).sum()
    }
}

impl Carried {
    /// The message is sent, and lies in that queue: what was given away with it is not this process's any more.
    pub(crate) fn note_sent(&mut self, py: Python<'_>, home: Handle) {
        self.parcels.iter_mut().for_each(Parcel::note_sent);
        self.take_offers().sent_into(py, home);
    }

    /// The descriptors that the message offers, for who knows whether it is sent.
    pub(crate) fn take_offers(&mut self) -> Offers {
        std::mem::take(&mut self.offers)
    }
}

impl Deref for Carried {
    type Target = [Handle];

    fn deref(&self) -> &[Handle] {
        &self.handles
    }
}

/// WAYPOINT message 2/8: an object becomes bytes, in the caller, so that an error is raised where it is made. For a message
/// that one process receives, with what it carries: long parts of the object lie beside it.
pub(crate) fn dumps_carrying<'py>(object: &Bound<'py, PyAny>) -> PyResult<(Dumped<'py>, Carried)> {
    if let Some(encoded) = codec::encode(object) {
        return Ok((Dumped::Compact(encoded), Carried::default()));
    }
    let (bytes, carried) = pickle_into(object, Way::Copying)?;
    Ok((Dumped::Pickle(bytes), carried))
}

/// As [`dumps_carrying`], for what the codec has refused. With [`Way::Moving`] what this process has received itself, and
/// alone uses, goes to the receiver as it is: the caller must not use it any more.
pub(crate) fn pickle_into<'py>(
    object: &Bound<'py, PyAny>,
    way: Way,
) -> PyResult<(Bound<'py, PyBytes>, Carried)> {
    let py = object.py();
    let dump = pickling(py)?.dump_into.bind(py);
    let sink = Bound::new(py, PySink::new(way))?;
    let dumped = carrying(|| dump.call1((object, &sink)).map(drop));
    if dumped.is_err() {
        // Whoever keeps the error keeps its traceback and the sink with it, but not this memory.
        PySink::forget(&sink);
    }
    let ((), Noted { mut handles, offers }) = dumped?;
    let Packed { bytes, parcels } = sink.borrow_mut().pack(py)?;
    handles.extend(parcels.iter().map(Parcel::handle));
    Ok((bytes, Carried { handles, parcels, offers }))
}

/// As [`pickle`], for bytes that several processes may read: all of the object is in them. With what it names.
pub(crate) fn dumps_for_many<'py>(object: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyBytes>, Noted)> {
    carrying(|| pickle(object))
}

/// WAYPOINT message 8/8: bytes become an object, with no lock held.
pub(crate) fn loads<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    if codec::is_compact(bytes) {
        return codec::decode(py, bytes);
    }
    unpickle(&joined(py, &[bytes])?)
}

/// As [`loads`], for bytes that Python has.
pub(crate) fn loads_bytes<'py>(bytes: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    if codec::is_compact(bytes.as_bytes()) {
        return codec::decode(bytes.py(), bytes.as_bytes());
    }
    unpickle(bytes)
}

fn unpickle<'py>(bytes: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    let py = bytes.py();
    let loads = pickling(py)?.loads.bind(py);
    match bytes.as_bytes() {
        [MANIFEST, ..] => plane::loads(bytes, loads),
        _ => loads.call1((bytes,)),
    }
}
