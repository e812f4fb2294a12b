//! The word of a barrier, taken apart.

const COUNT_BITS: u32 = 14;
/// How many parties a barrier may have.
pub const MOST_PARTIES: u32 = (1 << COUNT_BITS) - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Filling,
    Acting,
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) generation: u32,
    pub(super) outcomes: u16,
    pub(super) count: u32,
    pub(super) phase: Phase,
}

impl State {
    pub(super) fn of(word: u64) -> Self {
        let phase = match word & 3 {
            0 => Phase::Filling,
            1 => Phase::Acting,
            _ => Phase::Broken,
        };
        let count = (word >> 2) as u32 & MOST_PARTIES;
        Self { generation: (word >> 32) as u32, outcomes: (word >> 16) as u16, count, phase }
    }

    pub(super) fn word(self) -> u64 {
        u64::from(self.generation) << 32
            | u64::from(self.outcomes) << 16
            | u64::from(self.count) << 2
            | self.phase as u64
    }

    /// The next generation, with what became of this one.
    pub(super) fn next(self, was_reset: bool) -> Self {
        Self {
            generation: self.generation.wrapping_add(1),
            outcomes: self.outcomes << 1 | u16::from(was_reset),
            count: 0,
            phase: Phase::Filling,
        }
    }
}
