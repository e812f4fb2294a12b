//! Starts that are interrupted: a signal's handler may raise anywhere in the Python code that starts a process. When that
//! raises, nobody else may have heard of the process; what was started is ended here, without a step of Python code.

use manyhands::process::{self, Sentinel};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    /// What the innermost start under way in this thread has started. Nothing while there is none.
    static HEARD: RefCell<Option<Vec<Arc<Sentinel>>>> = const { RefCell::new(None) };
}

/// A process was started; by its sentinel.
pub(crate) fn note(sentinel: &Arc<Sentinel>) {
    HEARD.with_borrow_mut(|heard| {
        if let Some(heard) = heard {
            heard.push(Arc::clone(sentinel));
        }
    });
}

/// This thread listens from now on, until this is dropped: then a start around this one does again. (A handler that runs
/// in the middle of one may start processes itself, and so does a start that needs a fork server.)
#[derive(Debug)]
struct Listening {
    around: Option<Vec<Arc<Sentinel>>>,
}

impl Listening {
    fn new() -> Self {
        Self { around: HEARD.replace(Some(Vec::new())) }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        HEARD.set(self.around.take());
    }
}

/// Calls `start`, which starts a process. When it raises, there is no process, or it is ended, and reaped. The standard
/// library lets no daemon start one: meanwhile `config`, of the current process, does not say that it is one.
#[pyfunction]
#[pyo3(signature = (start, config=None))]
pub(crate) fn starting(
    py: Python<'_>,
    start: &Bound<'_, PyAny>,
    config: Option<&Bound<'_, PyDict>>,
) -> PyResult<()> {
    let daemon = config.map_or(Ok(None), |config| config.get_item(DAEMON))?;
    if let Some(config) = config.filter(|_| daemon.is_some()) {
        config.del_item(DAEMON)?;
    }
    let started = start_or_end(py, start);
    if let (Some(config), Some(daemon)) = (config, daemon) {
        config.set_item(DAEMON, daemon)?;
    }
    started
}

const DAEMON: &str = "daemon";

fn start_or_end(py: Python<'_>, start: &Bound<'_, PyAny>) -> PyResult<()> {
    let listening = Listening::new();
    let started = start.call0();
    let heard = HEARD.take().unwrap_or_default();
    drop(listening);
    started.map(drop).inspect_err(|_| {
        py.detach(|| {
            for sentinel in &heard {
                // One that cannot be signalled or reaped is gone, or somebody else's to reap.
                let _ = process::end(sentinel);
            }
        });
    })
}
