//! Long parts of a message: copied once, into shared memory, and used there by who receives the message.
//!
//! What a type offers to pickle as a buffer (protocol 5: numpy, pandas, pyarrow and others) becomes a parcel, and the
//! receiver's object lies in it. A pickle that is long itself, because long bytes or strings are in it, lies in a parcel
//! too, and is unpickled from there. `sink.rs` is the sender's side, `parcel.rs` the receiver's.

mod names;
mod parcel;
mod sink;
mod view;

pub(crate) use parcel::{PyParcel, loads};
pub(crate) use sink::{Packed, PySink, Way};

/// Parts of at least so many bytes travel as parcels. The C pickler, too, hands bytes and strings of this size on by
/// themselves instead of copying them into its frames.
pub(crate) const LONG_BYTES: usize = 64 << 10;
