//! What is done to a future, a `manyhands.futures.Future`.
//!
//! A future that only its caller looks at has no lock yet: as long as `_shared` is false, nobody waits on it and it has
//! no callbacks, and its attributes are changed here directly. No Python code runs in between, so under the GIL the
//! changes are one. Any other future is changed by the methods that it has from the standard library.

use super::interrupts::MOST_TRIES;
use super::job::Outcome;
use crate::once::interned;
use pyo3::prelude::*;

fn is_shared(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    future.getattr(interned!(future.py(), "_shared"))?.is_truthy()
}

fn has_state(future: &Bound<'_, PyAny>, states: &[&Bound<'_, pyo3::types::PyString>]) -> PyResult<bool> {
    let state = future.getattr(interned!(future.py(), "_state"))?;
    if states.iter().any(|one| state.is(*one)) {
        return Ok(true);
    }
    for one in states {
        if state.eq(*one)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the future has its outcome or was cancelled.
pub(super) fn is_done(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = future.py();
    let states =
        [interned!(py, "FINISHED"), interned!(py, "CANCELLED"), interned!(py, "CANCELLED_AND_NOTIFIED")];
    has_state(future, &states)
}

/// As [`begin`], which was interrupted, perhaps when it had been done.
pub(super) fn begin_again(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = future.py();
    if has_state(future, &[interned!(py, "RUNNING")])? {
        return Ok(true);
    }
    if is_done(future)? { Ok(false) } else { begin(future) }
}

/// The call goes to a worker, unless it was cancelled; whether it does.
pub(super) fn begin(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = future.py();
    if !is_shared(future)? && has_state(future, &[interned!(py, "PENDING")])? {
        future.setattr(interned!(py, "_state"), interned!(py, "RUNNING"))?;
        return Ok(true);
    }
    future.call_method0(interned!(py, "set_running_or_notify_cancel"))?.is_truthy()
}

/// Cancels a call that waits, and tells whoever waits for it.
pub(super) fn cancel(future: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    future.call_method0(interned!(py, "cancel"))?;
    future.call_method0(interned!(py, "set_running_or_notify_cancel"))?;
    Ok(())
}

/// The future gets its outcome; callbacks run.
pub(super) fn settle(future: &Bound<'_, PyAny>, outcome: Outcome) -> PyResult<()> {
    let py = future.py();
    let plain = !is_shared(future)? && has_state(future, &[interned!(py, "RUNNING")])?;
    match (outcome, plain) {
        (Ok(result), true) => future.setattr(interned!(py, "_result"), result)?,
        (Err(exception), true) => future.setattr(interned!(py, "_exception"), exception)?,
        (outcome, false) => return settle_shared(future, outcome),
    }
    future.setattr(interned!(py, "_state"), interned!(py, "FINISHED"))
}

fn settle_shared(future: &Bound<'_, PyAny>, outcome: Outcome) -> PyResult<()> {
    let py = future.py();
    let (method, value) = match outcome {
        Ok(result) => (interned!(py, "set_result"), result),
        Err(exception) => (interned!(py, "set_exception"), exception),
    };
    let Err(error) = future.call_method1(method, (&value,)) else { return Ok(()) };
    for _ in 0..MOST_TRIES {
        // A signal's handler raised before the outcome was in: once more, and the signal's exception goes on.
        if is_done(future).unwrap_or(false) || future.call_method1(method, (&value,)).is_ok() {
            break;
        }
    }
    Err(error)
}
