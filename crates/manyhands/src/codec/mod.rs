//! Small plain values as bytes: numbers, texts, and tuples, lists and dicts of them.
//!
//! [`Writer`] appends a message to a buffer, [`Reader`] makes values of one; what a value is, the caller says by
//! [`Build`]. Nothing here knows who holds the values. The reader trusts no byte of what it reads.
//!
//! A message is the byte [`FIRST`] and one value. A value is a tag and what the tag says; numbers are little-endian:
//!
//! | tag | behind it |
//! |---|---|
//! | `NONE`, `FALSE`, `TRUE` | nothing |
//! | `0x80` to `0xff` | nothing: the integers from -32 to 95 |
//! | `INT8` to `INT64` | an integer of so many bits |
//! | `FLOAT` | the bits of a float, whatever they are |
//! | `TEXT`, `BYTES` | a count, and so many bytes |
//! | `TUPLE`, `LIST` | a count, and so many values |
//! | `DICT` | a count, and so many pairs of values, in order |
//! | `AGAIN` | the place of a tag: the value that began there, once more |
//!
//! A count is one byte, or two if the tag has the bit `LONG`. A place is the number of bytes before the tag, in two
//! bytes. Only what has the bit `KEPT` is meant by an `AGAIN`, and only behind its end, so that no value holds itself. The
//! writer sets the bit when it meets a value for the second time; of a message in which nothing is met twice, no value
//! is kept by the reader.

mod reader;
mod writer;

pub use reader::{Build, Damaged, Reader, Scratch, is_of_one};
pub use writer::{Place, TooLong, Writer};

/// What every message begins with.
pub const FIRST: u8 = 0x01;
/// No message is longer, nor one that is read: places fit into two bytes.
pub const MOST_BYTES: usize = u16::MAX as usize;
/// Tuples, lists and dicts within each other; more are neither written nor read.
pub const MOST_NESTED: u8 = 32;

/// Whether these bytes claim to be such a message.
#[inline]
#[must_use]
pub fn is_compact(message: &[u8]) -> bool {
    message.first() == Some(&FIRST)
}

mod tag {
    pub(super) const NONE: u8 = 0x00;
    pub(super) const FALSE: u8 = 0x01;
    pub(super) const TRUE: u8 = 0x02;
    pub(super) const INT8: u8 = 0x03;
    pub(super) const INT16: u8 = 0x04;
    pub(super) const INT32: u8 = 0x05;
    pub(super) const INT64: u8 = 0x06;
    pub(super) const FLOAT: u8 = 0x07;
    pub(super) const AGAIN: u8 = 0x08;
    pub(super) const TEXT: u8 = 0x10;
    pub(super) const BYTES: u8 = 0x14;
    pub(super) const TUPLE: u8 = 0x18;
    pub(super) const LIST: u8 = 0x1c;
    pub(super) const DICT: u8 = 0x20;
    /// In the tags that have a count: the count has two bytes.
    pub(super) const LONG: u8 = 0x01;
    /// In the tags that have a count: the value is needed again.
    pub(super) const KEPT: u8 = 0x02;
    /// From here on, the tag is the integer.
    pub(super) const SMALL: u8 = 0x80;
    /// The integer that the tag `SMALL` is.
    pub(super) const LEAST_SMALL: i64 = -32;
    /// The integer that the tag 255 is.
    pub(super) const MOST_SMALL: i64 = 95;
}
