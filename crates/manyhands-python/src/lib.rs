//! The Python face of the manyhands engine: newtypes over it, and nothing else.

use pyo3::prelude::*;

/// The list of what Python sees.
#[pymodule]
mod _manyhands {}
