//! The one way to wait: without the GIL, until what is waited for, the deadline or a signal; after a signal its
//! Python handler runs, and the wait goes on unless it raised.

use manyhands::{Deadline, Patience, Waited};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::time::Duration;

/// Copies of at least this many bytes are made without the GIL.
pub(crate) const LONG_COPY_BYTES: usize = 64 << 10;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// What was waited for may have come.
    Ready,
    /// The deadline passed.
    TimedOut,
}

/// Waits by `wait`, which must release nothing of Python's.
pub(crate) fn wait(
    py: Python<'_>,
    patience: &mut Patience,
    wait: impl Fn(&mut Patience) -> Waited + Sync,
) -> PyResult<Wait> {
    loop {
        match py.detach(|| wait(patience)) {
            Waited::Ready => return Ok(Wait::Ready),
            Waited::TimedOut => return Ok(Wait::TimedOut),
            Waited::Interrupted => py.check_signals()?,
        }
    }
}

/// The deadline that `block` and `timeout` stand for; `None` when the caller does not want to wait.
pub(crate) fn deadline(block: bool, timeout: Option<f64>) -> PyResult<Option<Deadline>> {
    if !block {
        return Ok(None);
    }
    timeout.map_or(Ok(Some(Deadline::NEVER)), |seconds| after(seconds).map(Some))
}

/// As [`deadline`]; a timeout that is not positive is no wait either.
pub(crate) fn wanted(block: bool, timeout: Option<f64>) -> PyResult<Option<Deadline>> {
    match timeout {
        Some(seconds) if seconds <= 0.0 => Ok(None),
        timeout => deadline(block, timeout),
    }
}

/// The deadline so many seconds from now; negative is now.
pub(crate) fn after(seconds: f64) -> PyResult<Deadline> {
    if seconds.is_nan() {
        return Err(PyValueError::new_err("a timeout must be a number of seconds, not NaN"));
    }
    // Longer than the clock can name is never.
    Ok(Duration::try_from_secs_f64(seconds.max(0.0)).map_or(Deadline::NEVER, Deadline::after))
}
