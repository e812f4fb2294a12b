//! What somebody who only looks may learn of a ring: nothing here writes, takes a lock or trusts what it reads.

use super::Ring;
use super::segment::Segment;
use crate::arena::Backing;
#[cfg(not(loom))]
use crate::mutex::Holder;
use crate::primitive::Ordering;

/// More segments than any ring of this many messages needs: a chain that goes on beyond them is damaged.
const MOST_SEGMENTS: usize = 1 << 16;

impl<B: Backing> Ring<B> {
    /// How many bytes its frames take, at about this moment; `None` when its words make no sense.
    pub fn bytes(&self) -> Option<u64> {
        let memory = self.arena.backing();
        let mut segment = Segment::open(memory, self.header.consumers.segment.load(Ordering::Acquire))?;
        let mut bytes = 0;
        for _ in 0..MOST_SEGMENTS {
            // The head first: what is put in between makes the difference larger, never negative.
            let head = segment.head();
            let lying = segment.tail().bytes.wrapping_sub(head.bytes);
            if lying > segment.capacity() {
                return None;
            }
            bytes += u64::from(lying);
            let next = segment.header.next.load(Ordering::Acquire);
            if next == 0 {
                return Some(bytes);
            }
            segment = segment.successor(memory, next)?;
        }
        None
    }

    /// Which threads hold its locks at this moment: the producers', the consumers'.
    #[cfg(not(loom))]
    pub fn holders(&self) -> [Option<Holder>; 2] {
        [self.header.producers.lock.holder(), self.header.consumers.lock.holder()]
    }
}
