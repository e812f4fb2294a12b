//! The Python face of the manyhands engine: newtypes over it, and nothing else.

mod arguments;
mod barrier;
mod blocking;
mod codec;
mod condition;
mod connection;
mod error;
mod event;
mod fast_methods;
mod forks;
mod imports;
mod launch;
mod launched;
mod lock;
mod observe;
mod offers;
mod once;
mod pickling;
mod plane;
mod pool;
mod queue;
mod queue_many;
mod semaphore;
mod shared;
mod source;
mod worker;

use pyo3::prelude::*;

/// The list of what Python sees.
#[pymodule]
mod _manyhands {
    #[pymodule_export]
    use super::barrier::PyBarrier;
    #[pymodule_export]
    use super::condition::PyCondition;
    #[pymodule_export]
    use super::connection::{PyConnection, pipe, wait};
    #[pymodule_export]
    use super::event::PyEvent;
    #[pymodule_export]
    use super::forks::{after_fork_in_child, after_fork_in_parent, before_fork, forget_children_at_fork};
    #[pymodule_export]
    use super::launch::{
        PyJobDescriptor, PyProcess, PyStart, PyZygote, PyZygoteClient, carrying, die_with_parent,
        family_descriptor, is_file, is_notebook, join_family, keep_locks, note_exit, notebook_descriptor,
        unpack,
    };
    #[pymodule_export]
    use super::launched::PyStarting;
    #[pymodule_export]
    use super::lock::PyLock;
    #[pymodule_export]
    use super::observe::{doctor, note_label};
    #[pymodule_export]
    use super::pickling::{assert_sending, note_offer, offers_so_far, sending, withdraw_offers};
    #[pymodule_export]
    use super::plane::{PyParcel, PySink};
    #[pymodule_export]
    use super::pool::{PyCalls, PyJob, PyPool};
    #[pymodule_export]
    use super::queue::PyQueue;
    #[pymodule_export]
    use super::semaphore::PySemaphore;
    #[pymodule_export]
    use super::shared::{PyBlock, PySharedArray, PySynchronizedArray, PySynchronizedBase};
    #[pymodule_export]
    use super::source::compile_source;
    #[pymodule_export]
    use super::worker::PyWorker;

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::fast_methods::install::<PyLock>(module.py())?;
        super::fast_methods::install::<PySemaphore>(module.py())?;
        super::shared::fast_value::install(module)?;
        super::forks::register(module)
    }
}
