//! Which free blocks keep their pages.
//!
//! A page that was used before is copied to twenty times faster than a fresh one, so a freed large block keeps its pages
//! for whoever is next, up to a cap for all of them together; what is above goes back to the system at once. What is
//! below goes back when nobody has wanted a large block for a while: [`Arena::trim`], called by whoever has nothing else
//! to do. A block on its list without pages is as good as any other, only slower to fill.

use super::block::{BLOCK_HEADER_BYTES, BlockHeader, Handle};
use super::{Arena, Backing, CLASS_COUNT, PAGE_BYTES, SHARDS, SizeClass};
use crate::kill_point;
use crate::primitive::Ordering;

/// Blocks of at least this many bytes are committed before they are handed out, and count against the cap on what is
/// kept when they are freed.
pub(super) const LARGE_BYTES: u64 = if cfg!(loom) { 1 << 10 } else { 64 << 10 };
/// How many bytes of freed large blocks keep their pages, at most.
const MOST_KEPT_BYTES: u64 = 256 << 20;
/// And at most this part of the arena's limit.
const KEPT_PART: u64 = 4;

impl<B: Backing> Arena<B> {
    /// Lazily: pages stay with a freed block until the freed blocks hold too many.
    pub(super) fn keep_or_give_back(&self, list: usize, payload: u64, block: &BlockHeader) {
        let Some(class) = SizeClass::from_index(list) else { return };
        let bytes = class.block_bytes();
        if bytes < LARGE_BYTES {
            return;
        }
        if self.header.kept_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes)
            <= self.most_kept_bytes()
        {
            block.kept.store(1, Ordering::Relaxed);
            return;
        }
        self.header.kept_bytes.fetch_sub(bytes, Ordering::Relaxed);
        block.kept.store(0, Ordering::Relaxed);
        self.give_back(payload, bytes);
    }

    /// All pages of a large block but the one with its header.
    pub(super) fn give_back(&self, payload: u64, bytes: u64) {
        let first_page = payload.next_multiple_of(PAGE_BYTES);
        self.backing.give_back(first_page, payload - BLOCK_HEADER_BYTES + bytes - first_page);
    }

    /// A block that was taken off its list no longer counts among the kept ones; how many of its bytes may have pages,
    /// and something in them.
    pub(super) fn unkeep(&self, handle: Handle, bytes: u64) -> u64 {
        if bytes < LARGE_BYTES {
            return bytes;
        }
        let kept = self.stop_keeping(handle, bytes);
        let block = self.backing.place::<BlockHeader>(handle.offset - BLOCK_HEADER_BYTES);
        match block {
            Some(block) if kept => (u64::from(block.committed_mib.load(Ordering::Relaxed)) << 20).min(bytes),
            _ => 0,
        }
    }

    /// Notes that somebody wants a large block now.
    pub(super) fn note_use(&self, list: usize, bytes: u64) {
        if list < CLASS_COUNT && bytes >= LARGE_BYTES {
            self.header.large_used.store(self.backing.milliseconds(), Ordering::Relaxed);
        }
    }

    fn most_kept_bytes(&self) -> u64 {
        MOST_KEPT_BYTES.min(self.header.limit_bytes.load(Ordering::Relaxed) / KEPT_PART)
    }

    /// How many bytes of freed large blocks still hold pages.
    pub fn kept_bytes(&self) -> u64 {
        self.header.kept_bytes.load(Ordering::Relaxed)
    }

    /// Gives back the pages of all free large blocks, if nobody has wanted one for so many milliseconds; how many bytes
    /// that were.
    pub fn trim(&self, quiet_milliseconds: u64) -> u64 {
        if self.kept_bytes() == 0 {
            return 0;
        }
        let quiet =
            self.backing.milliseconds().saturating_sub(self.header.large_used.load(Ordering::Relaxed));
        if quiet < quiet_milliseconds {
            return 0;
        }
        let large = (0..CLASS_COUNT)
            .filter_map(|list| SizeClass::from_index(list).map(|class| (list, class.block_bytes())))
            .filter(|&(_, bytes)| bytes >= LARGE_BYTES);
        let mut given = 0;
        for (list, bytes) in large {
            for shard in 0..SHARDS {
                given += self.trim_list(list, shard, bytes);
            }
        }
        given
    }

    /// One list: its blocks are taken off, one by one, as if to be used, and put back without their pages.
    fn trim_list(&self, list: usize, shard: usize, bytes: u64) -> u64 {
        let (shelf, me) = (&self.header.lists[list * SHARDS + shard], self.backing.me());
        let mut taken = Vec::new();
        let mut given = 0;
        while let Ok(Some(handle)) = shelf.pop(&self.backing, list as u32, bytes, me) {
            if self.stop_keeping(handle, bytes) {
                self.give_back(handle.offset, bytes);
                given += bytes;
            }
            kill_point!(ArenaTrimmed);
            taken.push(handle);
        }
        for handle in taken {
            // Stale is impossible: nobody else has this handle.
            let _ = self.release(handle, false);
        }
        given
    }

    /// A block off its list counts among the kept ones no more; whether it did.
    fn stop_keeping(&self, handle: Handle, bytes: u64) -> bool {
        let block = self.backing.place::<BlockHeader>(handle.offset - BLOCK_HEADER_BYTES);
        let kept = block.is_some_and(|block| block.kept.swap(0, Ordering::Relaxed) == 1);
        if kept {
            self.header.kept_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        kept
    }
}
