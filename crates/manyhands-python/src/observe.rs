//! Looking into a family: what `manyhands.doctor` and `python -m manyhands doctor` show.

use crate::error;
use manyhands::family::Family;
use manyhands::observe::Observer;
use pyo3::prelude::*;

/// What there is to see in the family of that process, or of this one; `None` when this one has none.
#[pyfunction]
#[pyo3(signature = (pid=None))]
pub(crate) fn doctor(py: Python<'_>, pid: Option<u32>) -> PyResult<Option<String>> {
    py.detach(|| {
        let observer = match pid {
            Some(pid) => Some(Observer::attach(pid).map_err(error::observe)?),
            None => Observer::own(),
        };
        Ok(observer.map(|observer| observer.report().to_string()))
    })
}

/// Says what this process runs, for whoever looks.
#[pyfunction]
pub(crate) fn note_label(text: &str) {
    if let Some(family) = Family::existing() {
        family.note_label(text);
    }
}
