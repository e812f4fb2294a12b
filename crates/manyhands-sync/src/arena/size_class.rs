//! The sizes in which blocks come: powers of two and the halves between them, from 1 MiB up the quarters; in whole units
//! from one unit up.

use super::units::UNIT_BYTES;

/// The arena grows in units of this many bytes.
pub const CHUNK_BYTES: u64 = if cfg!(loom) { 64 << 10 } else { 64 << 20 };
/// The smallest block, its header included.
const SMALLEST_BYTES: u64 = if cfg!(loom) { 512 } else { 128 };
/// How many size classes there are.
pub const CLASS_COUNT: usize = if cfg!(loom) { 8 } else { QUARTERS_FROM + 4 * 18 + 1 };
/// From here on there are four classes to a doubling: an eighth of the memory is wasted, instead of a quarter.
const QUARTERED_BYTES: u64 = 1 << 20;
const QUARTERS_FROM: usize =
    2 * (QUARTERED_BYTES.trailing_zeros() - SMALLEST_BYTES.trailing_zeros()) as usize;

/// How many bytes the blocks of each class take.
const BLOCK_BYTES: [u64; CLASS_COUNT] = {
    let mut bytes = [0; CLASS_COUNT];
    let mut index = 0;
    while index < CLASS_COUNT {
        bytes[index] = block_bytes_of(index);
        index += 1;
    }
    bytes
};

const fn block_bytes_of(index: usize) -> u64 {
    if index >= QUARTERS_FROM {
        let quarters = index - QUARTERS_FROM;
        return (QUARTERED_BYTES / 4 * (4 + quarters as u64 % 4)) << (quarters / 4);
    }
    let whole = SMALLEST_BYTES << (index / 2);
    let bytes = if index.is_multiple_of(2) { whole } else { whole + whole / 2 };
    if bytes > UNIT_BYTES { bytes.next_multiple_of(UNIT_BYTES) } else { bytes }
}

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
        let (below, steps) = (1u64 << power, if bytes < QUARTERED_BYTES { 2 } else { 4 });
        let from = match steps {
            2 => 2 * (power - SMALLEST_BYTES.trailing_zeros()) as usize,
            _ => QUARTERS_FROM + 4 * (power - QUARTERED_BYTES.trailing_zeros()) as usize,
        };
        let over = (bytes - below).div_ceil(below / steps);
        Self::from_index(from + over as usize)
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

    /// How many bytes its blocks take in the arena: whole units from one unit up.
    #[must_use]
    #[inline]
    pub fn block_bytes(self) -> u64 {
        BLOCK_BYTES[usize::from(self.0)]
    }

    /// Whether a block of this class, of less than a unit, may begin so far behind the start of a unit.
    pub(super) fn divides(self, within: u64) -> bool {
        // Three or two halves make a block; divisions by numbers known beforehand are multiplications.
        let half = (SMALLEST_BYTES / 2).trailing_zeros() + u32::from(self.0 / 2);
        let halves = within >> half;
        let whole =
            if self.0.is_multiple_of(2) { halves.is_multiple_of(2) } else { halves.is_multiple_of(3) };
        whole && within.trailing_zeros() >= half
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_gets_a_block_that_holds_it_and_wastes_at_most_half() {
        let mut sizes: Vec<u64> = (1..5_000).collect();
        sizes.extend((12..38).flat_map(|p| {
            let quarters = (4u64..8).map(move |quarters| quarters << (p - 2));
            quarters.flat_map(|size| [size - 1, size, size + 1])
        }));
        for size in sizes {
            let class = SizeClass::holding(size).expect("small enough");
            assert!(class.index() < CLASS_COUNT);
            assert!(class.block_bytes() >= size, "{size} in {class:?}");
            if size > SMALLEST_BYTES {
                let part = if size < QUARTERED_BYTES { 2 } else { 4 };
                let most =
                    (size + size / part).next_multiple_of(if size > UNIT_BYTES { UNIT_BYTES } else { 1 });
                assert!(class.block_bytes() <= most, "{size} in {class:?}");
            }
            if class.index() > 0 {
                let smaller = SizeClass::from_index(class.index() - 1).expect("below");
                assert!(smaller.block_bytes() < size || class.block_bytes() == smaller.block_bytes());
            }
        }
    }

    #[test]
    fn blocks_begin_at_multiples_of_their_size() {
        for class in (0..CLASS_COUNT).filter_map(SizeClass::from_index) {
            let bytes = class.block_bytes();
            for within in (0..UNIT_BYTES).step_by(64).take_while(|_| bytes < UNIT_BYTES) {
                assert_eq!(class.divides(within), within.is_multiple_of(bytes), "{within} in {class:?}");
            }
        }
    }

    #[test]
    fn absurd_sizes_have_no_class() {
        assert_eq!(SizeClass::holding(u64::MAX), None);
        assert_eq!(SizeClass::holding((1 << 38) + 1), None);
        assert_eq!(SizeClass::holding(1 << 38).map(SizeClass::block_bytes), Some(1 << 38));
    }
}
