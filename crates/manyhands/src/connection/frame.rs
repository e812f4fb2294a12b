//! The head of a frame: how many bytes follow.
//!
//! | length | head |
//! |---|---|
//! | up to 2,147,483,647 | 4 bytes: the length, signed, big-endian |
//! | more | 4 bytes that say -1, then 8 bytes: the length, unsigned, big-endian |
//!
//! This is the standard library's form; whoever speaks it can be at the other end. Nothing else is negative, and a
//! length that no object of this process could have is refused.

/// Bytes of the head of a frame that is not long.
const SHORT: usize = 4;
/// Bytes of the head of a long one.
const LONG: usize = 12;
const LONG_FOLLOWS: i32 = -1;

/// A head that is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    bytes: [u8; LONG],
    len: usize,
}

impl Head {
    /// The head of a frame with so many bytes.
    #[must_use]
    pub fn of(payload: usize) -> Self {
        let mut bytes = [0; LONG];
        let len = if let Ok(short) = i32::try_from(payload) {
            bytes[..SHORT].copy_from_slice(&short.to_be_bytes());
            SHORT
        } else {
            bytes[..SHORT].copy_from_slice(&LONG_FOLLOWS.to_be_bytes());
            bytes[SHORT..].copy_from_slice(&(payload as u64).to_be_bytes());
            LONG
        };
        Self { bytes, len }
    }

    /// What stands in front of the frame's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What the first four bytes of a frame say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// So many bytes follow.
    Len(usize),
    /// Eight more bytes say it; see [`long_len`].
    LongFollows,
    /// Nothing that a sender would write.
    Nonsense,
}

/// Reads the first four bytes of a frame.
#[must_use]
pub fn read_head(bytes: [u8; SHORT]) -> Said {
    match i32::from_be_bytes(bytes) {
        LONG_FOLLOWS => Said::LongFollows,
        len => usize::try_from(len).map_or(Said::Nonsense, Said::Len),
    }
}

/// Reads the eight bytes of a long frame's length; `None` when nothing here could be so long.
#[must_use]
pub fn long_len(bytes: [u8; LONG - SHORT]) -> Option<usize> {
    let len = isize::try_from(u64::from_be_bytes(bytes)).ok()?;
    usize::try_from(len).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random_bytes::RandomBytes;

    fn read(bytes: &[u8]) -> Option<usize> {
        match read_head(bytes[..SHORT].try_into().expect("four bytes")) {
            Said::Len(len) => Some(len),
            Said::LongFollows => long_len(bytes[SHORT..].try_into().expect("eight more")),
            Said::Nonsense => None,
        }
    }

    #[test]
    fn every_length_comes_back() {
        let edge = i32::MAX as usize;
        for len in [0, 1, 255, 256, 65_536, edge - 1, edge, edge + 1, 1 << 40, isize::MAX as usize] {
            assert_eq!(read(Head::of(len).as_bytes()), Some(len));
        }
    }

    #[test]
    fn heads_are_the_standard_librarys() {
        assert_eq!(Head::of(5).as_bytes(), [0, 0, 0, 5]);
        assert_eq!(Head::of(0x7fff_ffff).as_bytes(), [0x7f, 0xff, 0xff, 0xff]);
        let long = Head::of(0x8000_0000);
        assert_eq!(long.as_bytes(), [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0x80, 0, 0, 0]);
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(read_head((-2i32).to_be_bytes()), Said::Nonsense);
        assert_eq!(read_head(i32::MIN.to_be_bytes()), Said::Nonsense);
        assert_eq!(long_len(u64::MAX.to_be_bytes()), None);
        assert_eq!(long_len((1u64 << 63).to_be_bytes()), None);
    }

    #[test]
    fn whatever_comes_is_a_length_or_refused() {
        let mut random = RandomBytes::new(5);
        for _ in 0..100_000 {
            let mut bytes = random.bytes(LONG);
            bytes.resize(LONG, 0xff);
            if let Some(len) = read(&bytes) {
                assert!(isize::try_from(len).is_ok());
            }
        }
    }
}
