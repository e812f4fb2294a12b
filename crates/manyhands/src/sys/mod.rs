//! Everything that calls the kernel or handles raw memory: the engine's one folder with unsafe code.

pub(crate) mod alone;
pub(crate) mod arena;
pub(crate) mod at_exit;
pub(crate) mod at_fork;
pub(crate) mod bell;
pub(crate) mod changing;
pub(crate) mod clock;
pub(crate) mod descriptor;
mod error;
mod extents;
pub(crate) mod heap;
mod huge_pages;
pub(crate) mod inherited;
pub(crate) mod life_pipe;
pub(crate) mod limits;
pub(crate) mod liveness;
pub(crate) mod lost_memory;
pub(crate) mod memory;
pub(crate) mod namespaces;
pub(crate) mod pages;
pub(crate) mod passing;
pub(crate) mod pidfd;
pub(crate) mod plain;
pub(crate) mod polling;
pub(crate) mod posix_spawn;
pub(crate) mod quiet_thread;
pub(crate) mod refusals;
pub(crate) mod remembered;
pub(crate) mod sentinel;
pub(crate) mod shared_bytes;
pub(crate) mod signal_mask;
pub(crate) mod stat;
mod wide;

pub use error::OsError;
pub(crate) use extents::Extents;
pub use remembered::{Remembered, is_file};
