//! Small plain objects to bytes and back, in place of pickle, for queues and pools.
//!
//! Plain are `None`, and objects whose class is exactly `bool`, `int`, `float`, `str`, `bytes`, `tuple`, `list` or `dict`,
//! of plain objects all the way down. What comes back is what pickle would make of it: equal, of the same classes, and
//! with the same identities. Where pickle keeps identities (one `str`, `bytes`, tuple, list or dict that is met twice is
//! one object again) they are kept; where it does not (a number that is met twice) they are not.
//!
//! No reducer is passed over by this: the C pickler, and with it `ForkingPickler`, writes objects of these very classes
//! itself and never looks for what was registered for them, be it in `copyreg` or with `ForkingPickler.register`.
//!
//! Everything else is refused, before anything has happened, and is then pickled: objects of any other class, integers
//! of more than 64 bits, texts with surrogates, what contains itself, what is nested deeper or takes more bytes than the
//! format allows ([`manyhands::codec`]).

mod decode;
mod encode;
mod memo;

pub(crate) use decode::decode;
pub(crate) use encode::encode;
pub(crate) use manyhands::codec::is_compact;

use std::cell::Cell;
use std::ops::Deref;

thread_local! {
    /// The buffer of this thread's last message, kept for the next one.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An encoded message, in a buffer that its thread uses again afterwards.
#[derive(Debug)]
pub(crate) struct Encoded(Vec<u8>);

impl Encoded {
    fn empty() -> Self {
        Self(BUFFER.take())
    }

    /// A message that lies somewhere else.
    pub(crate) fn copy_of(message: &[u8]) -> Self {
        let mut encoded = Self::empty();
        encoded.0.clear();
        encoded.0.extend_from_slice(message);
        encoded
    }
}

impl Deref for Encoded {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Encoded {
    fn drop(&mut self) {
        BUFFER.set(std::mem::take(&mut self.0));
    }
}
