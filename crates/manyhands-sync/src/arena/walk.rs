//! A walk over every block. It writes nothing, takes no lock and trusts nothing that it reads; blocks come and go
//! meanwhile.

use super::block::{BLOCK_HEADER_BYTES, BlockHeader, MAGIC};
use super::{Arena, ArenaHeader, Backing, CHUNK_BYTES, MOST_CHUNKS};
use crate::memory::Placing;
use crate::primitive::Ordering;

/// How far a walk came in an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    ToItsEnd,
    /// Nothing was ever carved from it.
    Nowhere,
    /// To a header that makes no sense, or the visitor had enough.
    PartOfTheWay,
}

impl<B: Backing> Arena<B> {
    /// Shows every block, as (where its header begins, the header, its bytes), until `visit` says `false`. Extents in
    /// which no block was ever made are named to `unused`, by where they begin and how many bytes they have. Whether every
    /// extent was walked to its end.
    pub(super) fn walk(
        &self,
        mut visit: impl FnMut(u64, &BlockHeader, u64) -> bool,
        mut unused: impl FnMut(u64, u64),
    ) -> bool {
        let header = self.header;
        let chunks = (header.next_chunk.load(Ordering::Acquire) as usize).min(MOST_CHUNKS);
        let (mut chunk, mut complete) = (0, true);
        while chunk < chunks {
            let extent = (header.extents[chunk].load(Ordering::Relaxed) as usize).max(1);
            let start = chunk as u64 * CHUNK_BYTES;
            let end = (chunk + extent).min(chunks) as u64 * CHUNK_BYTES;
            match self.walk_extent(start, end, &mut visit) {
                Came::ToItsEnd => {}
                Came::Nowhere => unused(start, end - start),
                Came::PartOfTheWay => complete = false,
            }
            chunk += extent;
        }
        complete
    }

    fn walk_extent(
        &self,
        start: u64,
        end: u64,
        visit: &mut impl FnMut(u64, &BlockHeader, u64) -> bool,
    ) -> Came {
        let current = self.header.carve_end.load(Ordering::Relaxed) == end;
        let end = if current { self.header.carved.load(Ordering::Acquire).min(end) } else { end };
        // The arena's own header is at the beginning of the first extent.
        let mut at = if start == 0 { ArenaHeader::first_block() } else { start };
        while at < end {
            let Some(block) = self.backing.place::<BlockHeader>(at) else { return Came::PartOfTheWay };
            let magic = block.magic.load(Ordering::Relaxed);
            let bytes = block.bytes.load(Ordering::Relaxed);
            if magic == 0 && !current {
                // An older extent ends where the next block would not have fitted.
                return if at == start { Came::Nowhere } else { Came::ToItsEnd };
            }
            let sound =
                magic == MAGIC && bytes > BLOCK_HEADER_BYTES && bytes.is_multiple_of(BLOCK_HEADER_BYTES);
            if !sound || bytes > end - at || !visit(at, block, bytes) {
                return Came::PartOfTheWay;
            }
            at += bytes;
        }
        Came::ToItsEnd
    }
}
