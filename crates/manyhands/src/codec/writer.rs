//! Values to bytes.

use super::{FIRST, MOST_BYTES, tag};

/// The message would have more than [`MOST_BYTES`]: what was written of it means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// Where a value begins in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u16);

/// Writes one message. The caller sees to it that a tuple, a list or a dict gets as many values as were announced.
#[derive(Debug)]
pub struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Begins a message in the buffer, in place of whatever it held.
    pub fn new(bytes: &'a mut Vec<u8>) -> Self {
        bytes.clear();
        bytes.push(FIRST);
        Self { bytes }
    }

    /// Nothing.
    pub fn none(&mut self) -> Result<(), TooLong> {
        self.append([tag::NONE])
    }

    /// A truth value.
    pub fn boolean(&mut self, value: bool) -> Result<(), TooLong> {
        self.append([if value { tag::TRUE } else { tag::FALSE }])
    }

    /// An integer.
    #[inline]
    pub fn integer(&mut self, value: i64) -> Result<(), TooLong> {
        if (tag::LEAST_SMALL..=tag::MOST_SMALL).contains(&value) {
            return self.append([tag::SMALL + (value - tag::LEAST_SMALL) as u8]);
        }
        if let Ok(value) = i8::try_from(value) {
            return self.append([tag::INT8, value as u8]);
        }
        if let Ok(value) = i16::try_from(value) {
            let [a, b] = value.to_le_bytes();
            return self.append([tag::INT16, a, b]);
        }
        if let Ok(value) = i32::try_from(value) {
            return self.tagged(tag::INT32, &value.to_le_bytes());
        }
        self.tagged(tag::INT64, &value.to_le_bytes())
    }

    /// A float: all of its bits.
    pub fn float(&mut self, value: f64) -> Result<(), TooLong> {
        self.tagged(tag::FLOAT, &value.to_bits().to_le_bytes())
    }

    /// A text in UTF-8.
    pub fn text(&mut self, text: &str) -> Result<Place, TooLong> {
        self.with_bytes(tag::TEXT, text.as_bytes())
    }

    /// Bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<Place, TooLong> {
        self.with_bytes(tag::BYTES, bytes)
    }

    /// The beginning of a tuple of so many values.
    pub fn tuple(&mut self, values: usize) -> Result<Place, TooLong> {
        self.counted(tag::TUPLE, values)
    }

    /// The beginning of a list of so many values.
    pub fn list(&mut self, values: usize) -> Result<Place, TooLong> {
        self.counted(tag::LIST, values)
    }

    /// The beginning of a dict of so many pairs, each a key and a value.
    pub fn dict(&mut self, pairs: usize) -> Result<Place, TooLong> {
        self.counted(tag::DICT, pairs)
    }

    /// The text, bytes, tuple, list or dict that began there and has ended, once more.
    pub fn again(&mut self, place: Place) -> Result<(), TooLong> {
        self.bytes[usize::from(place.0)] |= tag::KEPT;
        let [a, b] = place.0.to_le_bytes();
        self.append([tag::AGAIN, a, b])
    }

    fn room_for(&self, more: usize) -> Result<(), TooLong> {
        if more <= MOST_BYTES - self.bytes.len() { Ok(()) } else { Err(TooLong) }
    }

    #[inline]
    fn append<const N: usize>(&mut self, bytes: [u8; N]) -> Result<(), TooLong> {
        self.room_for(N)?;
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    #[inline]
    fn tagged(&mut self, tag: u8, value: &[u8]) -> Result<(), TooLong> {
        self.room_for(1 + value.len())?;
        self.bytes.push(tag);
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    #[inline]
    fn counted(&mut self, tag: u8, count: usize) -> Result<Place, TooLong> {
        // A message has room for fewer places than a `u16` has numbers.
        let place = Place(self.bytes.len() as u16);
        match u8::try_from(count) {
            Ok(count) => self.append([tag, count])?,
            Err(_) => {
                let [a, b] = u16::try_from(count).map_err(|_| TooLong)?.to_le_bytes();
                self.append([tag | tag::LONG, a, b])?;
            }
        }
        Ok(place)
    }

    #[inline]
    fn with_bytes(&mut self, tag: u8, bytes: &[u8]) -> Result<Place, TooLong> {
        let place = self.counted(tag, bytes.len())?;
        self.room_for(bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(place)
    }
}
