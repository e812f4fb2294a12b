//! What a wait of the engine's needs of Python: it runs without the GIL, by `Python::detach` around the whole of it, and
//! takes the GIL after each sleep that brought nothing, to run the handlers of signals that have come. A handler that returns
//! does not disturb the wait; one that raises ends it, with nothing taken.
//!
//! What need not wait looks, too ([`look_for_signals`]): `list(iter(queue.get, None))` and its like run no Python code between
//! two calls, and nobody else would look.

use crate::error;
use manyhands::Deadline;
use manyhands::family::FamilyError;
use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use std::time::Duration;

/// Copies of at least this many bytes are made without the GIL.
pub(crate) const LONG_COPY_BYTES: usize = 64 << 10;

/// The `on_signal` of the engine's waits: runs the handlers of signals that have come, in the thread whose business they are.
///
/// # Errors
/// What a handler raised.
pub(crate) fn on_signal() -> PyResult<()> {
    attached(|py| py.check_signals())
}

/// As [`on_signal`], for a wait on an object of the family: a handler may have forked, and the child, which waits on, may not
/// hold it.
pub(crate) fn on_signal_holding(held: impl Fn() -> Result<(), FamilyError>) -> impl FnMut() -> PyResult<()> {
    move || attached(|py| py.check_signals().and_then(|()| held().map_err(error::family)))
}

/// At the beginning of a call, before anything is taken, and between the items of one: runs the handlers of signals that have
/// come. With the interpreter, that is two loads when none has.
///
/// # Errors
/// What a handler raised.
#[inline]
pub(crate) fn look_for_signals(py: Python<'_>) -> PyResult<()> {
    py.check_signals()
}

fn attached(look: impl FnOnce(Python<'_>) -> PyResult<()>) -> PyResult<()> {
    // An interpreter that is being finalized takes no thread back in: it ends this one when the wait is over.
    Python::try_attach(look).unwrap_or_else(|| Err(PySystemExit::new_err(())))
}

/// The deadline so many seconds from now; negative is now.
pub(crate) fn after(seconds: f64) -> Deadline {
    // Longer than the clock can name is never.
    Duration::try_from_secs_f64(seconds.max(0.0)).map_or(Deadline::NEVER, Deadline::after)
}
