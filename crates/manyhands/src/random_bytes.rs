//! For tests of decoders: bytes that nobody meant, the same in every run.

/// A seeded sequence (xorshift).
pub(crate) struct RandomBytes(u64);

impl RandomBytes {
    /// The sequence with that seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }

    /// The next number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Up to `most` bytes; half of the time most of them are zeroes, as in real headers.
    pub(crate) fn bytes(&mut self, most: usize) -> Vec<u8> {
        let sparse = self.next().is_multiple_of(2);
        let len = self.below(most + 1);
        (0..len)
            .map(|_| if sparse && !self.next().is_multiple_of(4) { 0 } else { self.next() as u8 })
            .collect()
    }

    /// A copy with a few bytes or bits changed, or cut short.
    pub(crate) fn damaged(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut damaged = bytes.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(damaged.len());
            damaged[at] = match self.below(3) {
                0 => damaged[at] ^ 1 << self.below(8),
                1 => 0xff,
                _ => self.next() as u8,
            };
        }
        if self.below(8) == 0 {
            damaged.truncate(self.below(bytes.len()));
        }
        damaged
    }
}
