//! The Python face of the manyhands engine: newtypes over it, and nothing else.

mod blocking;
mod error;
mod pickling;
mod pool;
mod queue;
mod worker;

use pyo3::prelude::*;

/// The list of what Python sees.
#[pymodule]
mod _manyhands {
    #[pymodule_export]
    use super::pool::{PyJob, PyPool};
    #[pymodule_export]
    use super::queue::PyQueue;
    #[pymodule_export]
    use super::worker::PyWorker;
}
