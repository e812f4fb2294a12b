//! The sender's side: what the pickler writes, and the buffers that it is offered.

use super::LONG_BYTES;
use super::names;
use super::view::View;
use crate::connection::{copied, joined};
use crate::error;
use manyhands::Changing;
use manyhands::family::Family;
use manyhands::shared::{Manifest, Parcel, Part, SharedError, UnheldParcel};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Room behind long bytes of a pickle for the few that follow.
const SLACK_BYTES: usize = 4 << 10;
/// What the main module's name ends with in a pickle: `__main__`, and in a child `__mp_main__`.
const MAIN: &[u8] = b"_main__";
/// A piece that is longer holds no names: it is somebody's bytes.
const LONGEST_SEARCHED: usize = 16 << 20;

/// Where the pickler writes to. Its pieces are kept as they come; what could change before the message is sent is copied
/// into a parcel at once.
#[pyclass(name = "Sink", module = "manyhands._manyhands")]
#[derive(Debug, Default)]
pub(crate) struct PySink {
    pieces: Vec<Py<PyBytes>>,
    /// How many bytes the pickle has so far.
    len: usize,
    /// The pickle so far, once it had to be copied.
    copied: Option<UnheldParcel>,
    parts: Vec<(Part, Parcel)>,
    /// Whether the main module's name is in a piece that was copied and not kept.
    has_named_main: bool,
    way: Way,
}

/// How the parts of an object travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Way {
    /// Long parts are copied into parcels, for one receiver.
    #[default]
    Copying,
    /// As above; what lies in parcels of this process's goes to the receiver as it is.
    Moving,
    /// Everything is in the pickle, for any number of receivers.
    InOne,
    /// As above, for receivers that may know nothing of this family, or of manyhands.
    Standard,
}

/// A pickle, and the parcels that go with it.
#[derive(Debug)]
pub(crate) struct Packed<'py> {
    /// What the message says: the pickle, or a manifest and what follows it.
    pub(crate) bytes: Bound<'py, PyBytes>,
    /// To be held until the message has references of its own.
    pub(crate) parcels: Vec<Parcel>,
}

#[pymethods]
impl PySink {
    /// With `in_one`, one that takes no buffers: everything is in the pickle. With `standard` it is for readers that may know
    /// nothing of manyhands.
    #[new]
    #[pyo3(signature = (in_one=false, standard=false))]
    fn made(in_one: bool, standard: bool) -> Self {
        Self::new(match (standard, in_one) {
            (true, _) => Way::Standard,
            (false, true) => Way::InOne,
            (false, false) => Way::Copying,
        })
    }

    /// Whether the pickle's reader may know nothing of manyhands.
    #[getter]
    fn is_standard(&self) -> bool {
        self.way == Way::Standard
    }

    /// The pickle as bytes.
    fn pickle<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(self.pack(py)?.bytes)
    }

    /// What the pickler calls: a piece of the pickle.
    fn write(&mut self, py: Python<'_>, piece: &Bound<'_, PyAny>) -> PyResult<usize> {
        if let Ok(bytes) = piece.cast_exact::<PyBytes>() {
            return self.write_bytes(py, bytes);
        }
        // The text of a string, a bytearray: only now what it is.
        let view =
            View::of(piece)?.ok_or_else(|| PyTypeError::new_err("a piece of a pickle is contiguous"))?;
        if self.is_in_one() {
            return self.write_bytes(py, &copied(py, view.bytes())?);
        }
        self.copy(py, Piece::Changing(view.bytes()))?;
        Ok(view.len())
    }

    /// What the pickler calls for each buffer it is offered: whether it has to be written into the pickle.
    fn keep(&mut self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        if self.is_in_one() {
            return Ok(true);
        }
        let Some(view) = View::of(buffer)?.filter(|view| view.len() >= LONG_BYTES) else {
            return Ok(true);
        };
        let family = Family::current().map_err(error::family)?;
        let bytes = view.bytes();
        let moving = self.way == Way::Moving;
        let given = moving.then(|| Parcel::give(family, bytes.address(), bytes.len())).flatten();
        let (parcel, at) = match given {
            Some(given) => given,
            None => (parcel_of(py, family, &[Piece::Changing(bytes)])?, 0),
        };
        let part = Part { handle: parcel.handle(), at: at as u64, len: bytes.len() as u64 };
        self.parts.push((part, parcel));
        Ok(false)
    }

    /// Forgets what was written: the object is pickled in another way.
    fn clear(&mut self) {
        *self = Self::new(self.way);
    }

    /// Whether the main module is named in the pickle; perhaps also when its name is in somebody's bytes, or when there
    /// are more bytes than `searched`.
    #[pyo3(signature = (searched=usize::MAX))]
    fn names_main(&self, py: Python<'_>, searched: usize) -> PyResult<bool> {
        if self.has_named_main || self.len > searched {
            return Ok(true);
        }
        for piece in &self.pieces {
            if names_main(piece.bind(py))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The names of the main module's in the pickle, each as often as it is there, nested ones with their dots; `None` where
    /// that is not found out: of a long pickle, say, or when there is none though it may name the main module.
    fn main_names(&self, py: Python<'_>) -> Option<Vec<String>> {
        let [piece] = self.pieces.as_slice() else { return None };
        if self.copied.is_some() {
            return None;
        }
        let names = names::of_main(piece.as_bytes(py)).filter(|names| !names.is_empty())?;
        Some(names.into_iter().map(str::to_owned).collect())
    }
}

/// Bytes on their way into a parcel.
#[derive(Clone, Copy)]
enum Piece<'a> {
    /// Of a bytes object: nobody changes them.
    Fixed(&'a [u8]),
    /// Of an object that others may write to meanwhile; what becomes of that is their affair.
    Changing(Changing<'a>),
}

impl Piece<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Fixed(bytes) => bytes.len(),
            Self::Changing(bytes) => bytes.len(),
        }
    }

    /// Copies them into the parcel; `false` when they do not fit.
    fn put(&self, parcel: &mut UnheldParcel, at: usize) -> bool {
        match *self {
            Self::Fixed(bytes) => parcel.fill(at, bytes),
            Self::Changing(bytes) => parcel.fill_changing(at, bytes),
        }
    }
}

fn names_main(piece: &Bound<'_, PyBytes>) -> PyResult<bool> {
    Ok(piece.as_bytes().len() <= LONGEST_SEARCHED
        && piece.as_any().contains(PyBytes::new(piece.py(), MAIN))?)
}

impl PySink {
    pub(crate) fn new(way: Way) -> Self {
        Self { way, ..Self::default() }
    }

    fn is_in_one(&self) -> bool {
        matches!(self.way, Way::InOne | Way::Standard)
    }

    /// As `clear`, from outside; not while the pickler writes.
    pub(crate) fn forget(this: &Bound<'_, Self>) {
        if let Ok(mut sink) = this.try_borrow_mut() {
            sink.clear();
        }
    }

    fn write_bytes(&mut self, py: Python<'_>, piece: &Bound<'_, PyBytes>) -> PyResult<usize> {
        if self.copied.is_some() {
            self.copy(py, Piece::Fixed(piece.as_bytes()))?;
        } else {
            self.len += piece.as_bytes().len();
        }
        if self.copied.is_none() || piece.as_bytes().len() < LONG_BYTES {
            self.pieces.push(piece.clone().unbind());
        } else {
            // The pickler's own frames are of this size, too.
            self.has_named_main = self.has_named_main || names_main(piece)?;
        }
        Ok(piece.as_bytes().len())
    }

    /// Puts a piece behind what is in the parcel; the first time, all that came before into it.
    fn copy(&mut self, py: Python<'_>, piece: Piece<'_>) -> PyResult<()> {
        let family = Family::current().map_err(error::family)?;
        let (filled, len) = (self.len, self.len + piece.len());
        let copied = match &mut self.copied {
            Some(copied) => copied,
            None => {
                let room = py.detach(|| UnheldParcel::new(family, len + SLACK_BYTES));
                let mut first = room.map_err(error::shared)?;
                let pieces: Vec<_> =
                    self.pieces.iter().map(|piece| Piece::Fixed(piece.as_bytes(py))).collect();
                fill(&mut first, &pieces).map_err(error::shared)?;
                self.copied.insert(first)
            }
        };
        if len > copied.len() {
            py.detach(|| grow(copied, filled, len)).map_err(error::shared)?;
        }
        if !piece.put(copied, filled) {
            return Err(error::shared(SharedError::Corrupted));
        }
        self.len = len;
        Ok(())
    }

    /// The pickle as the pieces that were written, none of which was copied; of a sink that takes no buffers.
    pub(crate) fn pieces<'py>(&mut self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        if self.copied.is_some() || !self.parts.is_empty() {
            return Ok(vec![self.pack(py)?.bytes]);
        }
        Ok(std::mem::take(self).pieces.into_iter().map(|piece| piece.into_bound(py)).collect())
    }

    /// The pickle, complete.
    pub(crate) fn pack<'py>(&mut self, py: Python<'py>) -> PyResult<Packed<'py>> {
        let this = std::mem::take(self);
        let body = match this.copied {
            Some(copied) => Some(copied.hold(this.len).map_err(error::shared)?),
            None if this.len >= LONG_BYTES && !this.is_in_one() => {
                let family = Family::current().map_err(error::family)?;
                let pieces: Vec<_> =
                    this.pieces.iter().map(|piece| Piece::Fixed(piece.as_bytes(py))).collect();
                Some(parcel_of(py, family, &pieces)?)
            }
            None => None,
        };
        if body.is_none()
            && this.parts.is_empty()
            && let [piece] = this.pieces.as_slice()
        {
            return Ok(Packed { bytes: piece.bind(py).clone(), parcels: Vec::new() });
        }
        let (mut parts, mut parcels): (Vec<_>, Vec<_>) = this.parts.into_iter().unzip();
        let body_is_last = body.is_some();
        if let Some(body) = body {
            parts.push(Part { handle: body.handle(), at: 0, len: body.len() as u64 });
            parcels.push(body);
        }
        let manifest = match parts.as_slice() {
            [] => Vec::new(),
            _ => Manifest { parts, body_is_last }.to_bytes(),
        };
        let mut pieces = vec![manifest.as_slice()];
        if !body_is_last {
            pieces.extend(this.pieces.iter().map(|piece| piece.as_bytes(py)));
        }
        Ok(Packed { bytes: joined(py, &pieces)?, parcels })
    }
}

/// A parcel of these bytes.
fn parcel_of(py: Python<'_>, family: &'static Family, pieces: &[Piece<'_>]) -> PyResult<Parcel> {
    let len = pieces.iter().map(|piece| piece.len()).sum();
    let filled = py.detach(|| {
        let mut parcel = UnheldParcel::new(family, len)?;
        fill(&mut parcel, pieces).map(|()| parcel)
    });
    // Held under the GIL, so that a fork by another thread finds the list of what is held unlocked.
    filled.and_then(|parcel| parcel.hold(len)).map_err(error::shared)
}

/// Room for `len` bytes at least. Many short pieces find room for as much again, so that they are copied again once at
/// most; a long one, which may be the last, for an eighth.
fn grow(parcel: &mut UnheldParcel, filled: usize, len: usize) -> Result<(), SharedError> {
    let is_long = (len - filled) >= len / 8;
    let spare = if is_long { (len / 8).max(SLACK_BYTES) } else { len };
    match parcel.grow(filled, len.saturating_add(spare)) {
        Err(SharedError::OutOfMemory { .. }) => parcel.grow(filled, len),
        grown => grown,
    }
}

fn fill(parcel: &mut UnheldParcel, pieces: &[Piece<'_>]) -> Result<(), SharedError> {
    let mut at = 0;
    for piece in pieces {
        if !piece.put(parcel, at) {
            return Err(SharedError::Corrupted);
        }
        at += piece.len();
    }
    Ok(())
}
