//! The sizes in which blocks come: powers of two and the halves between them, whole extents above.

/// The arena grows in units of this many bytes.
pub const CHUNK_BYTES: u64 = if cfg!(loom) { 64 << 10 } else { 64 << 20 };
/// The smallest block, its header included.
const SMALLEST_BYTES: u64 = if cfg!(loom) { 512 } else { 128 };
/// How many size classes there are.
pub const CLASS_COUNT: usize = if cfg!(loom) { 8 } else { 64 };

/// A size class, by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeClass(u8);

impl SizeClass {
    /// The smallest class whose blocks hold `bytes`; `None` when there is no such size.
    #[must_use]
    pub fn holding(bytes: u64) -> Option<Self> {
        if bytes > 1 << 38 {
            return None;
        }
        let bytes = bytes.max(SMALLEST_BYTES);
        let power = 63 - u64::from(bytes.leading_zeros()) as u32;
        let below = 1u64 << power;
        let index = 2 * (power - SMALLEST_BYTES.trailing_zeros())
            + u32::from(bytes > below)
            + u32::from(bytes > below + below / 2);
        Self::from_index(index as usize)
    }

    /// The class with the largest blocks that fit into `bytes`.
    #[must_use]
    pub fn largest_within(bytes: u64) -> Option<Self> {
        (0..CLASS_COUNT).rev().filter_map(Self::from_index).find(|class| class.block_bytes() <= bytes)
    }

    /// The class with that index, if there is one.
    #[must_use]
    pub fn from_index(index: usize) -> Option<Self> {
        (index < CLASS_COUNT).then_some(Self(index as u8))
    }

    /// Its place among the lists.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// How many bytes its blocks take in the arena: whole chunks from one chunk up.
    #[must_use]
    pub fn block_bytes(self) -> u64 {
        let whole = SMALLEST_BYTES << (self.0 / 2);
        let bytes = if self.0.is_multiple_of(2) { whole } else { whole + whole / 2 };
        if bytes > CHUNK_BYTES { bytes.next_multiple_of(CHUNK_BYTES) } else { bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_gets_a_block_that_holds_it_and_wastes_at_most_half() {
        let mut sizes: Vec<u64> = (1..5_000).collect();
        sizes.extend(
            (12..38).flat_map(|p| [(1u64 << p) - 1, 1 << p, (1 << p) + 1, (3 << p) / 2, (3 << p) / 2 + 1]),
        );
        for size in sizes {
            let class = SizeClass::holding(size).expect("small enough");
            assert!(class.index() < CLASS_COUNT);
            assert!(class.block_bytes() >= size, "{size} in {class:?}");
            if size > SMALLEST_BYTES && size < CHUNK_BYTES / 2 {
                assert!(class.block_bytes() <= size + size / 2, "{size} in {class:?}");
            }
            if class.index() > 0 {
                let smaller = SizeClass::from_index(class.index() - 1).expect("below");
                assert!(smaller.block_bytes() < size || class.block_bytes() == smaller.block_bytes());
            }
        }
    }

    #[test]
    fn absurd_sizes_have_no_class() {
        assert_eq!(SizeClass::holding(u64::MAX), None);
        assert_eq!(SizeClass::holding((1 << 38) + 1), None);
    }
}
