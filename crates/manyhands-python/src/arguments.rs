//! Arguments as the standard library takes them: a truth of any object, a time of any number.
//!
//! The standard library looks at a timeout in three ways, which differ in what they take and in how they refuse the rest.
//! Each method here goes the way of its namesake there.

use crate::blocking;
use manyhands::Deadline;
use pyo3::exceptions::{PyOSError, PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt};

/// Any object, by its truth: as an `if` takes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Truth(pub(crate) bool);

impl<'py> FromPyObject<'_, 'py> for Truth {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        object.is_truthy().map(Self)
    }
}

/// How long a caller wants to wait, as its arguments say: the clock is read, and a time that is no number is refused, when
/// it comes to waiting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Limit {
    /// Not at all.
    NoWait,
    /// So many seconds.
    Seconds(f64),
    /// As long as it takes.
    Never,
}

/// A timeout argument: nothing, or some object.
pub(crate) type Timeout<'a, 'py> = Option<&'a Bound<'py, PyAny>>;

impl Limit {
    /// As the standard library's semaphores, and so its locks, `Queue.put`, conditions and events: by `float()`, which is
    /// asked even if nobody will wait.
    #[inline]
    pub(crate) fn of_semaphore(block: bool, timeout: Timeout<'_, '_>) -> PyResult<Self> {
        let limit = match timeout {
            None => Self::Never,
            Some(timeout) => Self::Seconds(timeout.extract()?),
        };
        Ok(if block { limit } else { Self::NoWait })
    }

    /// As the standard library's `connection.wait`, and so `poll`, `Process.join` and a queue's `get`: added to the
    /// clock's time, compared with 0, and made an integer of milliseconds.
    pub(crate) fn of_poll(timeout: Timeout<'_, '_>) -> PyResult<Self> {
        let Some(timeout) = timeout else { return Ok(Self::Never) };
        if is_plain(timeout) {
            return Self::milliseconds(timeout.extract()?);
        }
        if added(timeout)?.le(0)? { Ok(Self::NoWait) } else { Self::milliseconds(timeout.extract()?) }
    }

    /// As the standard library's `Queue.get`: a semaphore is asked first, then the pipe.
    #[inline]
    pub(crate) fn of_get(block: bool, timeout: Timeout<'_, '_>) -> PyResult<Self> {
        match timeout.filter(|_| block) {
            Some(timeout) => Self::of_pipe(timeout),
            None => Self::of_semaphore(block, timeout),
        }
    }

    fn of_pipe(timeout: &Bound<'_, PyAny>) -> PyResult<Self> {
        if !is_plain(timeout) {
            added(timeout)?;
        }
        Self::milliseconds(timeout.extract()?)
    }

    /// As the standard library's conditions in `wait_for`: added to the clock's time and compared with 0, then as a
    /// semaphore's.
    pub(crate) fn of_wait_for(timeout: Timeout<'_, '_>) -> PyResult<Self> {
        match timeout {
            Some(timeout) if !is_plain(timeout) && added(timeout)?.le(0)? => Ok(Self::NoWait),
            timeout => Self::of_semaphore(true, timeout),
        }
    }

    fn milliseconds(seconds: f64) -> PyResult<Self> {
        if seconds.is_nan() {
            return Err(PyValueError::new_err("cannot convert float NaN to integer"));
        }
        if seconds * 1e3 > f64::from(i32::MAX) {
            return Err(PyOverflowError::new_err("timeout is too large"));
        }
        Ok(Self::Seconds(seconds))
    }

    /// As `threading`'s conditions, and so results of pools and futures: a positive time is a `float` or an integer.
    pub(crate) fn of_thread(timeout: Timeout<'_, '_>) -> PyResult<Self> {
        let Some(timeout) = timeout else { return Ok(Self::Never) };
        if let Ok(float) = timeout.cast::<PyFloat>() {
            // What is not a number is not positive.
            let seconds = float.value();
            return if seconds > 0.0 { Self::of_clock(seconds) } else { Ok(Self::NoWait) };
        }
        if !timeout.gt(0)? {
            return Ok(Self::NoWait);
        }
        match timeout.extract::<i64>() {
            Ok(seconds) => Self::of_clock(seconds as f64),
            Err(error) if error.is_instance_of::<PyOverflowError>(timeout.py()) => {
                Self::of_clock(f64::INFINITY)
            }
            Err(error) => Err(error),
        }
    }

    /// As the interpreter's own locks: a time that its clock of nanoseconds can name.
    fn of_clock(seconds: f64) -> PyResult<Self> {
        if seconds > i64::MAX as f64 / 1e9 {
            return Err(PyOverflowError::new_err("timestamp too large to convert to C PyTime_t"));
        }
        Ok(Self::Seconds(seconds))
    }

    /// Until when to wait; `None` is not at all, which any time up to 0 is, too.
    pub(crate) fn deadline(self) -> PyResult<Option<Deadline>> {
        match self {
            Self::NoWait => Ok(None),
            Self::Never => Ok(Some(Deadline::NEVER)),
            // What the system says to a semaphore's user, of a time that is no number or that it cannot name.
            Self::Seconds(seconds) if seconds.is_nan() || seconds >= TWO_TO_63 => {
                Err(PyOSError::new_err((22, "Invalid argument")))
            }
            Self::Seconds(seconds) if seconds <= 0.0 => Ok(None),
            Self::Seconds(seconds) => Ok(Some(blocking::after(seconds))),
        }
    }
}

const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;

fn is_plain(timeout: &Bound<'_, PyAny>) -> bool {
    timeout.is_exact_instance_of::<PyFloat>() || timeout.is_exact_instance_of::<PyInt>()
}

/// What `time.monotonic() + timeout` is, at time 0.
fn added<'py>(timeout: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    PyFloat::new(timeout.py(), 0.0).add(timeout)
}

/// An argument that may be left out, and for which `None` is an object as any other.
#[derive(Debug)]
pub(crate) struct Given<'py>(pub(crate) Option<Bound<'py, PyAny>>);

impl<'py> FromPyObject<'_, 'py> for Given<'py> {
    type Error = std::convert::Infallible;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> Result<Self, Self::Error> {
        Ok(Self(Some(object.to_owned())))
    }
}
