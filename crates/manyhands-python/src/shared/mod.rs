//! Shared memory as Python sees it: bytes, arrays of numbers, and `ctypes` objects behind a lock.

mod array;
mod block;
pub(crate) mod buffer;
mod element;
pub(crate) mod fast_value;
mod synchronized;

pub(crate) use array::PySharedArray;
pub(crate) use block::PyBlock;
pub(crate) use synchronized::{PySynchronizedArray, PySynchronizedBase};
