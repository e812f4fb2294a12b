//! What lives *inside* the shared memory of a family of processes: wait words, robust mutexes, rings, the
//! arena's lists and the process table.
//!
//! Nothing here opens or maps memory or starts a process; the crate `manyhands` does. Every structure is
//! written so that **any process may be killed at any instruction** and the others go on: beside each one
//! stands who may touch what, which single store commits a change, and what the next holder of its lock does
//! when the last one died. Everything read from shared memory is checked before it is used.

pub mod arena;
pub mod barrier;
pub mod compaction;
pub mod condition;
pub mod deadline;
pub mod event;
pub mod kill_point;
pub mod lock;
pub mod memory;
pub mod mutex;
pub mod notes;
pub mod park;
pub mod pool_header;
pub mod primitive;
pub mod process_table;
pub mod queue_header;
pub mod ring;
pub mod seat;
pub mod semaphore;
#[cfg(not(loom))]
pub mod spin;
pub mod taker;
mod turn;
pub mod wait_word;
