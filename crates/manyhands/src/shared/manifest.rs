//! What stands in front of a message whose long parts travel as parcels: a table of them, each checked when it is read.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | [`MANIFEST`] |
//! | 1 | 1 when the message itself is the last parcel, 0 when it follows the table |
//! | 2 | 0 |
//! | 4 | how many parcels |
//! | 32 each | the parcel's handle (12), 0 (4), where in it the part begins (8), how many bytes it has (8) |

use manyhands_sync::arena::{HANDLE_BYTES, Handle};

/// The first byte of a message that begins with a manifest.
pub const MANIFEST: u8 = 2;

const HEAD_BYTES: usize = 8;
const PART_BYTES: usize = 32;

/// A part of a message that lies in a parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The parcel.
    pub handle: Handle,
    /// Where the part begins in it.
    pub at: u64,
    /// How many bytes it has.
    pub len: u64,
}

/// The parcels that go with a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// In the order in which the message speaks of them.
    pub parts: Vec<Part>,
    /// Whether the message itself is the last of them.
    pub body_is_last: bool,
}

impl Manifest {
    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        HEAD_BYTES + self.parts.len() * PART_BYTES
    }

    /// Whether it names no parcel.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The table as bytes.
    ///
    /// # Panics
    /// When there are more parcels than any memory holds.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![MANIFEST, u8::from(self.body_is_last), 0, 0];
        let count = u32::try_from(self.parts.len()).expect("a parcel has some thousand bytes");
        bytes.extend_from_slice(&count.to_le_bytes());
        for part in &self.parts {
            bytes.extend_from_slice(&part.handle.to_bytes());
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&part.at.to_le_bytes());
            bytes.extend_from_slice(&part.len.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`Manifest::to_bytes`] wrote, and where the message behind it begins; `None` when it is not such.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let [MANIFEST, last @ (0 | 1), 0, 0, count @ ..] = *head else { return None };
        let count = usize::try_from(u32::from_le_bytes(count)).ok()?;
        let table = rest.get(..count.checked_mul(PART_BYTES)?)?;
        let parts = table.chunks_exact(PART_BYTES).map(Part::read).collect::<Option<Vec<_>>>()?;
        let manifest = Self { parts, body_is_last: last == 1 };
        (count > 0).then(|| (manifest, HEAD_BYTES + table.len()))
    }
}

impl Part {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (handle, rest) = bytes.split_at_checked(HANDLE_BYTES)?;
        let ([0, 0, 0, 0], rest) = rest.split_first_chunk::<4>()? else { return None };
        let (at, len) = rest.split_first_chunk::<8>()?;
        let at = u64::from_le_bytes(*at);
        let len = u64::from_le_bytes(len.try_into().ok()?);
        at.checked_add(len)?;
        Some(Self { handle: Handle::from_bytes(handle)?, at, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random_bytes::RandomBytes;

    fn manifest(parts: usize) -> Manifest {
        let part = |i: usize| Part {
            handle: Handle { offset: 64 * i as u64, generation: i as u32 },
            at: 4_096 * i as u64,
            len: 1 << 33,
        };
        Manifest { parts: (1..=parts).map(part).collect(), body_is_last: parts.is_multiple_of(2) }
    }

    #[test]
    fn a_table_comes_back_as_it_was_and_says_where_the_message_begins() {
        for parts in 1..5 {
            let manifest = manifest(parts);
            let bytes = [&manifest.to_bytes()[..], b"message"].concat();
            let (read, start) = Manifest::read(&bytes).expect("just written");
            assert_eq!((&read, &bytes[start..], start), (&manifest, &b"message"[..], manifest.len()));
        }
    }

    #[test]
    fn a_torn_table_is_refused_and_a_damaged_one_stays_inside_its_bytes() {
        let bytes = manifest(3).to_bytes();
        for end in 0..bytes.len() {
            assert_eq!(Manifest::read(&bytes[..end]), None);
        }
        let mut random = RandomBytes::new(6);
        for _ in 0..20_000 {
            let damaged = random.damaged(&bytes);
            if let Some((manifest, start)) = Manifest::read(&damaged) {
                assert!(start <= damaged.len());
                assert!(manifest.parts.iter().all(|part| part.at.checked_add(part.len).is_some()));
            }
        }
    }
}
