//! Everything that calls the kernel or handles raw memory: the engine's one folder with unsafe code.

pub(crate) mod bell;
mod error;
mod extents;
pub(crate) mod memory;

pub use error::OsError;
pub use extents::Extents;
