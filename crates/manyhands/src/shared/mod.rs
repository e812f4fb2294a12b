//! Memory that several processes of a family read and write: a [`SharedBlock`] of bytes, and [`Shared`] and
//! [`SharedSlice`], which say what lies in it.
//!
//! A block is held like a queue: it is there as long as a process has it open, or a message carries its handle, and is
//! freed with the last of them, however that one ended.
//!
//! A [`Parcel`] is the opposite: long bytes that come with a message and are its receiver's alone, used where they lie.
//!
//! Nothing here waits or locks. One number of up to eight bytes is read and written whole; whatever is longer may be seen
//! half old and half new while somebody else writes it. Who needs more puts a lock around it, or uses the atomic
//! operations of the integers.

mod block;
mod manifest;
mod parcel;
mod typed;

pub use crate::sys::plain::{Integer, Plain};
pub use block::{SharedBlock, SharedError, UnheldBlock};
pub use manifest::{MANIFEST, Manifest, Part};
pub use parcel::{Parcel, UnheldParcel};
pub use typed::{Shared, SharedSlice};
