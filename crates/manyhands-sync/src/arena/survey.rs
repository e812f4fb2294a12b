//! A walk over every block of the arena, for somebody who only looks: nothing here writes, takes a lock or trusts what it
//! reads. Blocks are being handed out meanwhile, so counts are of about this moment.

use super::block::{BLOCK_HEADER_BYTES, BlockHeader, FREE, HELD, Handle, MAGIC};
use super::{Arena, ArenaHeader, Backing, CHUNK_BYTES, CLASS_COUNT, Kind, MOST_CHUNKS};
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
    /// Freed blocks, to be used again.
    pub free_blocks: u64,
    /// Their bytes.
    pub free_bytes: u64,
    /// The placed structures that are held.
    pub structures: Vec<(Kind, Handle)>,
    /// Whether every extent was walked to its end. It was not when there are more blocks than the walk may take, when one
    /// is just being made, when its maker was killed at that, or when a header is damaged.
    pub complete: bool,
}

impl<B: Backing> Arena<B> {
    /// Walks over at most `most` blocks.
    pub fn survey(&self, most: usize) -> Survey {
        let header = self.header;
        let mut survey = Survey {
            limit_bytes: header.limit_bytes.load(Ordering::Relaxed),
            extent_bytes: self.extent_bytes(),
            complete: true,
            ..Survey::default()
        };
        let (mut chunk, mut left) = (0, most);
        let chunks = (header.next_chunk.load(Ordering::Acquire) as usize).min(MOST_CHUNKS);
        while chunk < chunks {
            let extent = (header.extents[chunk].load(Ordering::Relaxed) as usize).max(1);
            let end = (chunk + extent).min(chunks) as u64 * CHUNK_BYTES;
            self.survey_extent(chunk as u64 * CHUNK_BYTES, end, &mut left, &mut survey);
            chunk += extent;
        }
        survey
    }

    fn survey_extent(&self, start: u64, end: u64, left: &mut usize, survey: &mut Survey) {
        let current = self.header.carve_end.load(Ordering::Relaxed) == end;
        let end = if current { self.header.carved.load(Ordering::Relaxed).min(end) } else { end };
        // The arena's own header is at the beginning of the first extent.
        let mut at =
            if start == 0 { (size_of::<ArenaHeader>() as u64).next_multiple_of(4096) } else { start };
        while at < end {
            let Some(block) = self.backing.place::<BlockHeader>(at).filter(|_| *left > 0) else {
                survey.complete = false;
                return;
            };
            *left -= 1;
            let magic = block.magic.load(Ordering::Relaxed);
            let bytes = block.bytes.load(Ordering::Relaxed);
            if magic == 0 && !current {
                // An older extent ends where the next block would not have fitted.
                return;
            }
            let sound =
                magic == MAGIC && bytes > BLOCK_HEADER_BYTES && bytes.is_multiple_of(BLOCK_HEADER_BYTES);
            if !sound || bytes > end - at {
                survey.complete = false;
                return;
            }
            survey.count(at, block, bytes);
            at += bytes;
        }
    }
}

impl Survey {
    fn count(&mut self, start: u64, block: &BlockHeader, bytes: u64) {
        match block.state.load(Ordering::Acquire) {
            FREE => {
                self.free_blocks += 1;
                self.free_bytes += bytes;
            }
            HELD => {
                self.held_blocks += 1;
                self.held_bytes += bytes;
                let list = block.list.load(Ordering::Relaxed) as usize;
                let kind = [Kind::Ring, Kind::Pool, Kind::Seat]
                    .into_iter()
                    .find(|&kind| list == CLASS_COUNT + kind as usize);
                if let Some(kind) = kind {
                    let generation = block.generation.load(Ordering::Relaxed);
                    self.structures.push((kind, Handle { offset: start + BLOCK_HEADER_BYTES, generation }));
                }
            }
            _ => self.complete = false,
        }
    }
}
