//! Which objects of a message have been written, and where.

use manyhands::codec::Place;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// As many are looked for one by one; from then on, a table is faster.
const FEW: usize = 16;
/// A larger table is not kept for the next message.
const MOST_KEPT: usize = 4096;

/// Objects by their addresses. Valid while nothing is freed: as long as one message is being encoded.
#[derive(Debug)]
pub(super) struct Memo {
    few: Vec<(usize, Place)>,
    many: HashMap<usize, Place, BuildHasherDefault<AddressHasher>>,
}

impl Memo {
    pub(super) const fn new() -> Self {
        Self { few: Vec::new(), many: HashMap::with_hasher(BuildHasherDefault::new()) }
    }

    #[inline]
    pub(super) fn find(&self, address: usize) -> Option<Place> {
        match self.few.iter().find(|(known, _)| *known == address) {
            Some((_, place)) => Some(*place),
            None if self.many.is_empty() => None,
            None => self.many.get(&address).copied(),
        }
    }

    #[inline]
    pub(super) fn note(&mut self, address: usize, place: Place) {
        if self.few.len() < FEW {
            self.few.push((address, place));
        } else {
            self.many.insert(address, place);
        }
    }

    pub(super) fn clear(&mut self) {
        self.few.clear();
        if self.many.capacity() > MOST_KEPT {
            *self = Self::new();
        } else {
            self.many.clear();
        }
    }
}

impl Default for Memo {
    fn default() -> Self {
        Self::new()
    }
}

/// Spreads addresses, which differ in their middle bits: nobody can choose them so that it does not.
#[derive(Debug, Default)]
pub(super) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, address: usize) {
        // An odd number with bits all over; the table takes its places from both ends of the product.
        let product = (self.0 ^ address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }
}
