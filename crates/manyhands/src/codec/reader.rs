//! Bytes to values. The bytes come from memory that any process of the family can write to: whatever they are, the end
//! is a value or an error, after as many steps as there are bytes.

use super::{FIRST, MOST_BYTES, MOST_NESTED, tag};
use std::fmt;
use std::vec::Drain;

/// Room for so many values is kept for the next message.
const MOST_ROOM: usize = 4096;

/// The bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

impl fmt::Display for Damaged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the message is damaged")
    }
}

impl std::error::Error for Damaged {}

/// Makes the values that a reader reads.
pub trait Build {
    /// A value.
    type Object;
    /// Why one cannot be made.
    type Error: From<Damaged>;

    /// Nothing.
    fn none(&mut self) -> Self::Object;
    /// A truth value.
    fn boolean(&mut self, value: bool) -> Self::Object;
    /// An integer.
    fn integer(&mut self, value: i64) -> Result<Self::Object, Self::Error>;
    /// A float.
    fn float(&mut self, value: f64) -> Result<Self::Object, Self::Error>;
    /// A text. The bytes are to be UTF-8, which is for the builder to check.
    fn text(&mut self, utf8: &[u8]) -> Result<Self::Object, Self::Error>;
    /// Bytes.
    fn bytes(&mut self, bytes: &[u8]) -> Result<Self::Object, Self::Error>;
    /// A tuple of these values.
    fn tuple(&mut self, values: Drain<'_, Self::Object>) -> Result<Self::Object, Self::Error>;
    /// A list of these values.
    fn list(&mut self, values: Drain<'_, Self::Object>) -> Result<Self::Object, Self::Error>;
    /// A dict: a key, its value, the next key, and so on. That a key may be one is for the builder to check.
    fn dict(&mut self, values: Drain<'_, Self::Object>) -> Result<Self::Object, Self::Error>;
    /// The very same value, once more.
    fn again(&mut self, value: &Self::Object) -> Self::Object;
}

/// What a reader needs beside the message; may be used again for the next one.
#[derive(Debug)]
pub struct Scratch<O> {
    /// Values whose tuple, list or dict is not complete.
    open: Vec<O>,
    /// Values that are needed again, by where they begin; empty until they are complete.
    kept: Vec<(u16, Option<O>)>,
}

impl<O> Scratch<O> {
    /// Holds nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { open: Vec::new(), kept: Vec::new() }
    }

    #[inline]
    fn clear(&mut self) {
        if self.open.capacity() == 0 && self.kept.capacity() == 0 {
            return;
        }
        self.open.clear();
        self.open.shrink_to(MOST_ROOM);
        self.kept.clear();
        self.kept.shrink_to(MOST_ROOM);
    }
}

impl<O> Default for Scratch<O> {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads one message.
#[derive(Debug)]
pub struct Reader<'a, B: Build> {
    message: &'a [u8],
    at: usize,
    build: B,
    scratch: &'a mut Scratch<B::Object>,
}

/// Whether a message, if it is one, holds one value and no other in it: then nothing is needed beside it.
#[inline]
#[must_use]
pub fn is_of_one(message: &[u8]) -> bool {
    matches!(message, [FIRST, tag, ..] if *tag < tag::AGAIN || *tag >= tag::SMALL)
}

impl<'a, B: Build> Reader<'a, B> {
    /// The value of a message.
    ///
    /// # Errors
    /// When the bytes are not a whole message and nothing else, or the builder refuses a part of it.
    pub fn read(
        message: &'a [u8],
        build: B,
        scratch: &'a mut Scratch<B::Object>,
    ) -> Result<B::Object, B::Error> {
        if message.len() > MOST_BYTES || message.first() != Some(&FIRST) {
            return Err(Damaged.into());
        }
        let mut reader = Reader { message, at: 1, build, scratch };
        let value = reader.value(0);
        let whole = reader.at == message.len();
        // After an error something may be left; what was kept is left in any case.
        scratch.clear();
        let value = value?;
        if whole { Ok(value) } else { Err(Damaged.into()) }
    }

    fn value(&mut self, nested: u8) -> Result<B::Object, B::Error> {
        let place = self.at;
        let [tag] = self.array()?;
        match tag {
            tag::SMALL.. => self.build.integer(i64::from(tag - tag::SMALL) + tag::LEAST_SMALL),
            tag::TEXT.. => self.counted(place, tag, nested),
            tag::NONE => Ok(self.build.none()),
            tag::FALSE => Ok(self.build.boolean(false)),
            tag::TRUE => Ok(self.build.boolean(true)),
            tag::INT8 => {
                let value = i8::from_le_bytes(self.array()?);
                self.build.integer(value.into())
            }
            tag::INT16 => {
                let value = i16::from_le_bytes(self.array()?);
                self.build.integer(value.into())
            }
            tag::INT32 => {
                let value = i32::from_le_bytes(self.array()?);
                self.build.integer(value.into())
            }
            tag::INT64 => {
                let value = i64::from_le_bytes(self.array()?);
                self.build.integer(value)
            }
            tag::FLOAT => {
                let value = f64::from_bits(u64::from_le_bytes(self.array()?));
                self.build.float(value)
            }
            tag::AGAIN => self.again(),
            _ => Err(Damaged.into()),
        }
    }

    /// A value whose tag has a count behind it.
    fn counted(&mut self, place: usize, tag: u8, nested: u8) -> Result<B::Object, B::Error> {
        let count = if tag & tag::LONG == 0 {
            usize::from(u8::from_le_bytes(self.array()?))
        } else {
            usize::from(u16::from_le_bytes(self.array()?))
        };
        if tag & tag::KEPT == 0 {
            return self.body(tag & !tag::LONG, count, nested);
        }
        let slot = self.scratch.kept.len();
        // Messages are no longer than places reach.
        self.scratch.kept.push((place as u16, None));
        let value = self.body(tag & !(tag::LONG | tag::KEPT), count, nested)?;
        self.scratch.kept[slot].1 = Some(self.build.again(&value));
        Ok(value)
    }

    fn body(&mut self, tag: u8, count: usize, nested: u8) -> Result<B::Object, B::Error> {
        match tag {
            tag::TEXT => {
                let utf8 = self.take(count)?;
                self.build.text(utf8)
            }
            tag::BYTES => {
                let bytes = self.take(count)?;
                self.build.bytes(bytes)
            }
            tag::TUPLE => {
                let first = self.values(count, nested)?;
                self.build.tuple(self.scratch.open.drain(first..))
            }
            tag::LIST => {
                let first = self.values(count, nested)?;
                self.build.list(self.scratch.open.drain(first..))
            }
            tag::DICT => {
                let first = self.values(2 * count, nested)?;
                self.build.dict(self.scratch.open.drain(first..))
            }
            _ => Err(Damaged.into()),
        }
    }

    /// Reads so many values; where they begin among the open ones.
    fn values(&mut self, count: usize, nested: u8) -> Result<usize, B::Error> {
        // Each takes a byte at least: what cannot be there is not begun.
        if nested >= MOST_NESTED || count > self.message.len() - self.at {
            return Err(Damaged.into());
        }
        let first = self.scratch.open.len();
        for _ in 0..count {
            let value = self.value(nested + 1)?;
            self.scratch.open.push(value);
        }
        Ok(first)
    }

    fn again(&mut self) -> Result<B::Object, B::Error> {
        let place = u16::from_le_bytes(self.array()?);
        let kept = &self.scratch.kept;
        // They are noted as they begin, so in order.
        let found = kept.binary_search_by_key(&place, |(place, _)| *place);
        let value = found.ok().and_then(|slot| kept[slot].1.as_ref()).ok_or(Damaged)?;
        Ok(self.build.again(value))
    }

    #[inline]
    fn take(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        let (taken, _) = self.message[self.at..].split_at_checked(count).ok_or(Damaged)?;
        self.at += count;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (taken, _) = self.message[self.at..].split_first_chunk().ok_or(Damaged)?;
        self.at += N;
        Ok(*taken)
    }
}
