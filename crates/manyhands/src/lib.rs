//! The manyhands engine: run work in other processes and connect them, in crash-safe shared memory.
//!
//! It knows nothing of Python: messages and tasks are bytes. Whatever a process was doing when it was killed,
//! the others go on.
//!
//! A Rust program begins with [`init`], starts a [`Child`] for each of its own functions that shall run beside it, sends
//! messages through a [`Queue`], and has a function run over many inputs by a [`ProcessPool`]. What several processes use
//! is a [`Shared`] value, a [`SharedSlice`] or a [`Mutex`] with a [`Condvar`]; they wait for each other by a [`Semaphore`],
//! an [`Event`] or a [`Barrier`]. All of these are opened in another process by their handles. `examples/` shows them.
//! The modules hold what these are made of; the Python face is made of the same.

pub mod barrier;
pub mod codec;
pub mod condition;
mod condvar;
pub mod connection;
pub mod event;
pub mod family;
pub mod launch;
pub mod lock;
mod mutex;
mod news;
pub mod observe;
mod opening;
mod payload;
pub mod pool;
pub mod process;
pub mod process_pool;
pub mod program;
pub mod queue;
mod queue_blocking;
pub mod queue_many;
pub mod queue_tasks;
pub mod queue_watch;
#[cfg(test)]
mod random_bytes;
pub mod semaphore;
pub mod shared;
mod sys;
mod waiting;

pub use barrier::Barrier;
pub use condition::{Condition, WaitError};
pub use condvar::Condvar;
pub use event::Event;
pub use lock::{Lock, LockError};
pub use manyhands_sync::arena::{AllocateError, Handle};
pub use manyhands_sync::deadline::Deadline;
pub use manyhands_sync::notes::WaitKind;
pub use manyhands_sync::park::{Waited, Waiting};
pub use manyhands_sync::ring::{Locking, Slices};
pub use mutex::{Mutex, MutexGuard, MutexHandle};
pub use news::News;
pub use opening::Opening;
pub use payload::{Block, Message};
pub use process_pool::{ProcessPool, ProcessPoolError, TaskError};
pub use program::{Child, Entry, SpawnError, init};
pub use queue::Queue;
pub use semaphore::Semaphore;
pub use shared::{Parcel, Shared, SharedBlock, SharedSlice, UnheldParcel};
pub use sys::changing::Changing;
pub use sys::limits::MoreDescriptors;
pub use sys::memory::adopt as adopt_descriptor;
pub use sys::signal_mask::{BlockedSignals, Signals, keep_away_in_child, take_on_in_child};
pub use sys::{OsError, Remembered, is_file};

/// How many bytes the system has just refused to map, if that is what an error of damaged memory means.
#[must_use]
pub fn refused_bytes() -> Option<u64> {
    sys::refusals::take().map(|refusal| refusal.wanted_bytes)
}
