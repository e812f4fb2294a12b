//! Engine errors become the standard library's exceptions, here and nowhere else.

use crate::imports::import_at_need;
use manyhands::family::FamilyError;
use manyhands::launch::LaunchError;
use manyhands::observe::ObserveError;
use manyhands::pool::PoolError;
use manyhands::queue::{OpenError, ReceiveError, SendError};
use manyhands::shared::SharedError;
use manyhands::{AllocateError, LockError, OsError};
use pyo3::exceptions::{PyAssertionError, PyMemoryError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// `OSError` with its errno, so that Python chooses the subclass.
pub(crate) fn os(error: OsError) -> PyErr {
    PyOSError::new_err((error.errno, format!("{} ({})", reason(error), error.call)))
}

/// As [`os`], in the words of Python's own functions: of a connection's descriptor.
pub(crate) fn transfer(error: OsError) -> PyErr {
    PyOSError::new_err((error.errno, reason(error)))
}

fn reason(error: OsError) -> String {
    let text = std::io::Error::from_raw_os_error(error.errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// `multiprocessing.BufferTooShort`, with the message that did not fit.
pub(crate) fn buffer_too_short(message: &Bound<'_, PyBytes>) -> PyErr {
    let class = message.py().import("multiprocessing.context").and_then(|m| m.getattr("BufferTooShort"));
    class.and_then(|class| class.call1((message,))).map_or_else(|error| error, PyErr::from_value)
}

pub(crate) fn family(error: FamilyError) -> PyErr {
    match error {
        FamilyError::Os(error) => os(error),
        FamilyError::BadLimit(_) => PyValueError::new_err(error.to_string()),
        FamilyError::NoReference | FamilyError::Memory(AllocateError::OutOfMemory { .. }) => {
            PyMemoryError::new_err(error.to_string())
        }
        // EAGAIN: Python makes it a BlockingIOError, as of a `fork` beyond the number of processes that a user may have.
        FamilyError::Full { .. } => PyOSError::new_err((11, error.to_string())),
        // As for one that cannot be opened any more.
        FamilyError::NotHeld => PyOSError::new_err((9, error.to_string())),
        FamilyError::Memory(AllocateError::Corrupted)
        | FamilyError::Unwanted
        | FamilyError::NotAFamily
        | FamilyError::OtherBuild
        | FamilyError::AlreadyInAFamily => PyRuntimeError::new_err(error.to_string()),
    }
}

pub(crate) fn launch(error: LaunchError) -> PyErr {
    match error {
        LaunchError::Os(error) => os(error),
        LaunchError::Family(error) => family(error),
        LaunchError::ZygoteRefused(error) => {
            let OsError { call, errno } = error;
            PyOSError::new_err((errno, format!("{} ({call} in the fork server)", reason(error))))
        }
        LaunchError::TooManyDescriptors => PyValueError::new_err(error.to_string()),
        // EPIPE: Python makes it a BrokenPipeError.
        LaunchError::ZygoteGone => PyOSError::new_err((32, error.to_string())),
    }
}

pub(crate) fn observe(error: ObserveError) -> PyErr {
    match error {
        ObserveError::Os(error) => os(error),
        // ESRCH, EACCES: Python makes them a ProcessLookupError and a PermissionError.
        ObserveError::NoSuchProcess(_) => PyOSError::new_err((3, error.to_string())),
        ObserveError::NotPermitted(_) => PyOSError::new_err((13, error.to_string())),
        ObserveError::NotAMember(_) => PyValueError::new_err(error.to_string()),
        ObserveError::OtherBuild => PyRuntimeError::new_err(error.to_string()),
    }
}

pub(crate) fn open(error: OpenError) -> PyErr {
    match error {
        OpenError::Stale => PyOSError::new_err((9, error.to_string())),
        OpenError::OutOfMemory { .. } => PyMemoryError::new_err(error.to_string()),
    }
}

/// `Full` needs no text and `Busy` never gets out of a wait; both are here to keep the match whole.
pub(crate) fn send(error: SendError) -> PyErr {
    match error {
        SendError::OutOfMemory { .. } => PyMemoryError::new_err(error.to_string()),
        SendError::Shut => Python::attach(shut),
        SendError::Full | SendError::Busy | SendError::Corrupted => {
            PyOSError::new_err((5, error.to_string()))
        }
    }
}

pub(crate) fn receive(error: ReceiveError) -> PyErr {
    match error {
        ReceiveError::Shut => Python::attach(shut),
        ReceiveError::OutOfMemory { .. } => PyMemoryError::new_err(error.to_string()),
        ReceiveError::Empty | ReceiveError::Busy | ReceiveError::Corrupted => {
            PyOSError::new_err((5, error.to_string()))
        }
    }
}

pub(crate) fn shared(error: SharedError) -> PyErr {
    match error {
        SharedError::OutOfMemory { .. } => PyMemoryError::new_err(error.to_string()),
        // As for a queue that is gone.
        SharedError::Stale => PyOSError::new_err((9, error.to_string())),
        SharedError::Corrupted => PyOSError::new_err((5, error.to_string())),
    }
}

pub(crate) fn pool(error: PoolError) -> PyErr {
    match error {
        PoolError::Os(error) => os(error),
        PoolError::Memory(error) => send(error),
    }
}

/// `ValueError`, as the standard library's locks and semaphores raise it.
pub(crate) fn released_too_often() -> PyErr {
    PyValueError::new_err("semaphore or lock released too many times")
}

/// `LockError::OwnerDied` wants the lock's name and is made where that is known; it is here to keep the match whole.
pub(crate) fn lock(error: LockError) -> PyErr {
    match error {
        LockError::Free => released_too_often(),
        LockError::NotOwner => {
            PyAssertionError::new_err("attempt to release recursive lock not owned by thread")
        }
        LockError::Family(error) => family(error),
        LockError::OwnerDied(_) => PyRuntimeError::new_err(error.to_string()),
    }
}

/// `queue.Full`. Where `queue` is not imported, and cannot be for want of descriptors, a class of the same name: no code of
/// this process can have named the other one.
pub(crate) fn full(py: Python<'_>) -> PyErr {
    made(py, "queue", "Full").unwrap_or_else(|refused| {
        let class = PyErr::new_type(py, c"queue.Full", None, None, None);
        let told = class.and_then(|class| class.call0(py)).map(|full| PyErr::from_value(full.into_bound(py)));
        told.inspect(|told| told.set_cause(py, Some(refused))).unwrap_or_else(|error| error)
    })
}

/// `queue.Empty`, which is the interpreter's own: `queue` may not be imported yet, and no descriptor be left for it.
pub(crate) fn empty(py: Python<'_>) -> PyErr {
    named(py, "_queue", "Empty")
}

/// `manyhands.queues.ShutDown`.
fn shut(py: Python<'_>) -> PyErr {
    named(py, "manyhands.queues", "ShutDown")
}

/// A new exception of a class that Python code defines, or what kept it from being made.
pub(crate) fn named(py: Python<'_>, module: &str, name: &str) -> PyErr {
    made(py, module, name).unwrap_or_else(|error| error)
}

fn made(py: Python<'_>, module: &str, name: &str) -> PyResult<PyErr> {
    import_at_need(py, module)?.getattr(name)?.call0().map(PyErr::from_value)
}
