//! The manyhands engine: run work in other processes and connect them, in crash-safe shared memory.
//!
//! It knows nothing of Python: messages and tasks are bytes. Whatever a process was doing when it was killed,
//! the others go on.

pub mod family;
pub mod launch;
mod payload;
pub mod pool;
pub mod process;
pub mod queue;
#[cfg(test)]
mod random_bytes;
mod sys;

pub use manyhands_sync::arena::Handle;
pub use manyhands_sync::deadline::Deadline;
pub use manyhands_sync::ring::Locking;
pub use manyhands_sync::wait_word::{Patience, Waited};
pub use payload::Block;
pub use sys::OsError;
pub use sys::memory::adopt as adopt_descriptor;
