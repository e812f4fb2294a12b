//! What lies in the arena, for somebody who only looks. Blocks are being handed out meanwhile, so counts are of about this
//! moment.

use super::block::{BLOCK_HEADER_BYTES, BlockHeader, FREE, HELD, Handle};
use super::owner::Owner;
use super::{Arena, Backing, Kind};
use crate::primitive::Ordering;

/// What lies in an arena.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The most bytes the arena may have.
    pub limit_bytes: u64,
    /// The bytes of its extents.
    pub extent_bytes: u64,
    /// Blocks that somebody holds.
    pub held_blocks: u64,
    /// Their bytes.
    pub held_bytes: u64,
    /// Those of them whose owner is gone: the next sweep frees them, and what only they kept.
    pub left_blocks: u64,
    /// Their bytes.
    pub left_bytes: u64,
    /// Freed blocks, to be used again.
    pub free_blocks: u64,
    /// Their bytes.
    pub free_bytes: u64,
    /// The placed structures that are held; references are not among them.
    pub structures: Vec<(Kind, Handle)>,
    /// What is referred to, and who holds the reference.
    pub references: Vec<(Handle, Owner)>,
    /// Whether every extent was walked to its end. It was not when there are more blocks than the walk may take, or when a
    /// header is damaged.
    pub complete: bool,
}

impl<B: Backing> Arena<B> {
    /// Walks over at most `most` blocks.
    pub fn survey(&self, most: usize) -> Survey {
        let mut survey = Survey {
            limit_bytes: self.header.limit_bytes.load(Ordering::Relaxed),
            extent_bytes: self.extent_bytes(),
            ..Survey::default()
        };
        let (mut left, mut sound) = (most, true);
        let census = self.process_table().census();
        let complete = self.walk(|start, block, bytes| {
            if left == 0 {
                return false;
            }
            left -= 1;
            sound &= survey.count(start, block, bytes);
            if block.state.load(Ordering::Acquire) == HELD && self.garbage(start, block, &census).is_some() {
                survey.left_blocks += 1;
                survey.left_bytes += bytes;
            }
            survey.references.extend(self.reference(start, block));
            true
        });
        survey.complete = complete && sound;
        survey
    }
}

impl Survey {
    /// Whether the block's state makes sense.
    fn count(&mut self, start: u64, block: &BlockHeader, bytes: u64) -> bool {
        match block.state.load(Ordering::Acquire) {
            FREE => {
                self.free_blocks += 1;
                self.free_bytes += bytes;
            }
            HELD => {
                self.held_blocks += 1;
                self.held_bytes += bytes;
                let kind = Kind::of_list(block.list.load(Ordering::Relaxed));
                if let Some(kind) = kind.filter(|&kind| kind != Kind::Reference) {
                    let generation = block.generation();
                    self.structures.push((kind, Handle { offset: start + BLOCK_HEADER_BYTES, generation }));
                }
            }
            _ => return false,
        }
        true
    }
}
