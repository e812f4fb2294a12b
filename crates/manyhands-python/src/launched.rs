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

/// Around a start of a process, as a context manager: when it raises, there is no process, or it is ended, and reaped. The
/// standard library lets no daemon start one: meanwhile `config`, of the current process, does not say that it is one.
///
/// A start around this one listens again when this is over: a handler that runs in the middle of one may start processes
/// itself, and so does a start that needs a fork server. (No function that calls the start: a forked child lives in the
/// middle of it, and the frames that it has inherited must be the interpreter's alone, for a thread that is ended there.)
#[pyclass(name = "Starting", module = "manyhands._manyhands")]
#[derive(Debug)]
pub(crate) struct PyStarting {
    config: Option<Py<PyDict>>,
    daemon: Option<Py<PyAny>>,
    around: Option<Vec<Arc<Sentinel>>>,
}

#[pymethods]
impl PyStarting {
    #[new]
    #[pyo3(signature = (config=None))]
    fn new(config: Option<Py<PyDict>>) -> Self {
        Self { config, daemon: None, around: None }
    }

    fn __enter__(&mut self, py: Python<'_>) -> PyResult<()> {
        if let Some(config) = &self.config {
            let config = config.bind(py);
            if let Some(daemon) = config.get_item(DAEMON)? {
                config.del_item(DAEMON)?;
                self.daemon = Some(daemon.unbind());
            }
        }
        self.around = HEARD.replace(Some(Vec::new()));
        Ok(())
    }

    #[pyo3(signature = (raised, _value, _traceback))]
    fn __exit__(
        &mut self,
        py: Python<'_>,
        raised: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let heard = HEARD.replace(self.around.take()).unwrap_or_default();
        if !raised.is_none() {
            py.detach(|| {
                for sentinel in &heard {
                    // One that cannot be signalled or reaped is gone, or somebody else's to reap.
                    let _ = process::end(sentinel);
                }
            });
        }
        match (&self.config, self.daemon.take()) {
            (Some(config), Some(daemon)) => config.bind(py).set_item(DAEMON, daemon),
            _ => Ok(()),
        }
    }
}

const DAEMON: &str = "daemon";
