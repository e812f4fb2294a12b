//! What the interpreter calls around every fork of this process, from Python or from C: one function for each moment.
//!
//! A forked child has a copy of the parent's memory, and each page that one of the two writes to is copied at that moment:
//! this is most of what a fork costs. Each object of Python's that is used is written to, by its reference count. So there
//! is one hook for each moment, in place of one for each concern, and none of them calls a function of Python's.
#![allow(unsafe_code)] // asks the interpreter for the frame that runs

use crate::once::Once;
use crate::{offers, pool};
use manyhands::family::{self, Family};
use manyhands::{launch, queue_watch};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PySet, PyString, PyType};

/// Has the interpreter call the next three at every fork from now on: no program may fork without them that has anything
/// of ours.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let hooks = PyDict::new(py);
    hooks.set_item("before", module.getattr("before_fork")?)?;
    hooks.set_item("after_in_parent", module.getattr("after_fork_in_parent")?)?;
    hooks.set_item("after_in_child", module.getattr("after_fork_in_child")?)?;
    py.import("os")?.getattr("register_at_fork")?.call((), Some(&hooks)).map(drop)
}

/// The frame of the Python code that runs now as a number, which no other has while it runs; 0 where C code runs alone.
pub(crate) fn caller(_py: Python<'_>) -> usize {
    // SAFETY: the caller is attached to the interpreter, as its token proves. The frame is borrowed, and only its address is
    // used; the code that runs keeps it for as long as it runs.
    unsafe { pyo3::ffi::PyEval_GetFrame() }.addr()
}

/// Before a fork.
#[pyfunction]
pub(crate) fn before_fork(py: Python<'_>) {
    pool::drivers_before_fork(py);
    queue_watch::before_fork();
    // The code that has called `os.fork`: nothing of Python's is between. There is none where C code forks.
    family::before_fork(caller(py));
}

/// After a fork, in the parent, whether there is a child or not.
#[pyfunction]
pub(crate) fn after_fork_in_parent(py: Python<'_>) {
    family::after_fork_in_parent();
    queue_watch::after_fork_in_parent();
    pool::drivers_after_fork_in_parent(py);
}

/// In a forked child.
#[pyfunction]
pub(crate) fn after_fork_in_child(py: Python<'_>) -> PyResult<()> {
    launch::after_fork_in_child();
    if let Some(family) = Family::existing() {
        family.after_fork_in_child();
    }
    queue_watch::after_fork_in_child();
    offers::forget_all();
    pool::drivers_after_fork_in_child();
    forget_children(py)
}

/// Where the standard library keeps the children of a process, and the class of what is in them when they are ours; with
/// the names by which they are asked for, which each child would make for itself otherwise.
struct Children {
    module: Py<PyDict>,
    children: Py<PyString>,
    popen: Py<PyString>,
    ours: Py<PyType>,
}

static CHILDREN: Once<Children> = Once::new();

/// From now on, a forked child forgets the processes in the set `_children` of `module`, the names of
/// `multiprocessing.process`, whose `_popen` is of the class `ours`: they are its parent's.
#[pyfunction]
pub(crate) fn forget_children_at_fork(py: Python<'_>, module: Py<PyDict>, ours: Py<PyType>) -> PyResult<()> {
    let name = |text| PyString::intern(py, text).unbind();
    let made = || Ok(Children { module, children: name("_children"), popen: name("_popen"), ours });
    CHILDREN.get_or_make(py, made).map(drop)
}

/// In a child of `os.fork`, the standard library's at-exit function would end the parent's daemonic processes.
fn forget_children(py: Python<'_>) -> PyResult<()> {
    let Some(known) = CHILDREN.get(py) else { return Ok(()) };
    let children = known.module.bind(py).get_item(&known.children)?;
    let Some(Ok(children)) = children.map(Bound::cast_into::<PySet>) else { return Ok(()) };
    if children.is_empty() {
        return Ok(());
    }
    for child in children.iter().collect::<Vec<_>>() {
        if child.getattr(&known.popen)?.is_instance(known.ours.bind(py))? {
            children.discard(child)?;
        }
    }
    Ok(())
}
