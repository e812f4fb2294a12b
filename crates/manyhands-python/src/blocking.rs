//! The one way to wait: without the GIL, until what is waited for, the deadline or a signal; after a signal its
//! Python handler runs, and the wait goes on unless it raised.

use manyhands::{Deadline, Patience, Waited};
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

/// The deadline so many seconds from now; negative is now.
pub(crate) fn after(seconds: f64) -> Deadline {
    // Longer than the clock can name is never.
    Duration::try_from_secs_f64(seconds.max(0.0)).map_or(Deadline::NEVER, Deadline::after)
}
