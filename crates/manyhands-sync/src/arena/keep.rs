//! Which free blocks keep their pages.
//!
//! A page that was used before is copied to twenty times faster than a fresh one, so a freed large block keeps its pages
//! for whoever is next, up to a cap for all of them together; what is above goes back to the system at once. What is
//! below goes back when nobody has wanted a large block for a while: [`Arena::trim`], called by whoever has nothing else
//! to do. A block on its list without pages is as good as any other, only slower to fill.
//!
//! Of a free block, `kept` says whether it may have pages; `committed_mib`, how many it has for certain. What is in pages
//! that are not certain is not certain either: whoever gives pages back may die before, while or after the system takes
//! them, and so says first that none is certain, and last that there are none. Free units are dirty or not (`units.rs`);
//! dirty ones count like kept blocks.

use super::block::{BLOCK_HEADER_BYTES, BlockHeader, Handle};
use super::{Arena, Backing, CLASS_COUNT, PAGE_BYTES, SHARDS, SizeClass};
use crate::kill_point;
use crate::memory::Placing;
use crate::primitive::Ordering;

/// Blocks of at least this many bytes are committed before they are handed out, and count against the cap on what is
/// kept when they are freed.
pub(super) const LARGE_BYTES: u64 = if cfg!(loom) { 1 << 10 } else { 64 << 10 };
/// How many bytes of freed large blocks, and of units that belong to nobody, keep their pages, at most.
const MOST_KEPT_BYTES: u64 = 1 << 30;
/// And at most this part of the arena's limit.
const KEPT_PART: u64 = 4;

/// While so many bytes are given back, the list's blocks cannot be taken.
const BYTES_A_LOCK: u64 = if cfg!(loom) { 1 } else { 4 << 20 };

/// What a block that was taken off its list still has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pages {
    /// So many bytes from its start have pages.
    pub(super) certain_bytes: u64,
    /// Behind so many bytes from its start, nothing but zeroes.
    pub(super) dirty_bytes: u64,
}

impl Pages {
    /// Pages are given back whole: the one with the header stays as it is.
    const NONE: Self = Self { certain_bytes: 0, dirty_bytes: PAGE_BYTES };
}

impl<B: Backing> Arena<B> {
    /// Lazily: pages stay with a freed block until the freed blocks hold too many.
    pub(super) fn keep_or_give_back(&self, list: usize, payload: u64, block: &BlockHeader) {
        let Some(class) = SizeClass::from_index(list) else { return };
        let bytes = class.block_bytes();
        // Counted already: by somebody who died before he could put it on its list, or since he took it off.
        if bytes < LARGE_BYTES || block.kept.load(Ordering::Relaxed) == 1 {
            return;
        }
        let before = self.header.kept_bytes.fetch_add(bytes, Ordering::Relaxed);
        kill_point!(ArenaKeepCounted);
        if before.saturating_add(bytes) <= self.most_kept_bytes() {
            block.kept.store(1, Ordering::Relaxed);
            return;
        }
        self.discount(bytes);
        self.give_back(payload, bytes, block);
    }

    /// All pages of a large block but the one with its header.
    pub(super) fn give_back(&self, payload: u64, bytes: u64, block: &BlockHeader) {
        block.committed_mib.store(0, Ordering::Relaxed);
        kill_point!(ArenaGivingBack);
        let first_page = payload.next_multiple_of(PAGE_BYTES);
        self.backing.give_back(first_page, payload - BLOCK_HEADER_BYTES + bytes - first_page);
        kill_point!(ArenaGivenBack);
    }

    /// A block that was taken off its list no longer counts among the kept ones.
    pub(super) fn unkeep(&self, handle: Handle, bytes: u64) -> Pages {
        if bytes < LARGE_BYTES {
            return Pages { certain_bytes: bytes, dirty_bytes: bytes };
        }
        let block = self.backing.place::<BlockHeader>(handle.offset - BLOCK_HEADER_BYTES);
        let Some(block) = block.filter(|block| block.kept.swap(0, Ordering::Relaxed) == 1) else {
            return Pages::NONE;
        };
        self.discount(bytes);
        match (u64::from(block.committed_mib.load(Ordering::Relaxed)) << 20).min(bytes) {
            0 => Pages { certain_bytes: 0, dirty_bytes: bytes },
            certain => Pages { certain_bytes: certain, dirty_bytes: certain.max(PAGE_BYTES) },
        }
    }

    /// So many bytes are kept no more. Never below nothing: the dead may have miscounted.
    pub(super) fn discount(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let less = |kept: u64| Some(kept.saturating_sub(bytes));
        let _ = self.header.kept_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// What a walk over all blocks has counted is right, unless the count has changed meanwhile. Should blocks have come
    /// and gone so that it has not, it is off by those until the next walk.
    pub(super) fn recount(&self, before: u64, counted: u64) {
        if before != counted {
            let kept = &self.header.kept_bytes;
            let _ = kept.compare_exchange(before, counted, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Notes that somebody wants a large block now.
    pub(super) fn note_use(&self, list: usize, bytes: u64) {
        if list < CLASS_COUNT && bytes >= LARGE_BYTES {
            self.header.large_used.store(self.backing.milliseconds(), Ordering::Relaxed);
        }
    }

    fn is_quiet(&self, milliseconds: u64) -> bool {
        let used = self.header.large_used.load(Ordering::Relaxed);
        self.backing.milliseconds().saturating_sub(used) >= milliseconds
    }

    fn most_kept_bytes(&self) -> u64 {
        MOST_KEPT_BYTES.min(self.header.limit_bytes.load(Ordering::Relaxed) / KEPT_PART)
    }

    /// How many bytes of freed large blocks, and of memory that belongs to nobody again, still hold pages.
    pub fn kept_bytes(&self) -> u64 {
        self.header.kept_bytes.load(Ordering::Relaxed)
    }

    /// Gives back the pages of all free large blocks and of free units, if nobody has wanted one for so many milliseconds, and until
    /// somebody wants one; how many bytes that were.
    pub fn trim(&self, quiet_milliseconds: u64) -> u64 {
        let large = (0..CLASS_COUNT)
            .filter_map(|list| SizeClass::from_index(list).map(|class| (list, class.block_bytes())))
            .filter(|&(_, bytes)| bytes >= LARGE_BYTES);
        let mut given = 0;
        if self.kept_bytes() == 0 {
            return given;
        }
        for (list, bytes) in large {
            for shard in 0..SHARDS {
                if !self.header.lists[list * SHARDS + shard].has_kept() {
                    continue;
                }
                if !self.is_quiet(quiet_milliseconds) {
                    return given;
                }
                given += self.trim_list(list, shard, bytes, quiet_milliseconds);
            }
        }
        while self.header.dirty_units.load(Ordering::Relaxed) > 0 && self.is_quiet(quiet_milliseconds) {
            let Ok((now, more)) = self.strip_units(BYTES_A_LOCK) else { break };
            given += now;
            if !more {
                break;
            }
        }
        given
    }

    /// One list, a few blocks at a time. They stay where they are: who wants one waits for it, and is not told that there
    /// is none.
    fn trim_list(&self, list: usize, shard: usize, bytes: u64, quiet_milliseconds: u64) -> u64 {
        let shelf = &self.header.lists[list * SHARDS + shard];
        let most = self.extent_bytes() / bytes;
        let mut given = 0;
        loop {
            let mut now = 0;
            let looked = shelf.strip(&self.backing, list as u32, most, |start, block| {
                now += self.strip(start, bytes, block);
                now >= BYTES_A_LOCK
            });
            given += now;
            if looked.is_err() || now < BYTES_A_LOCK || !self.is_quiet(quiet_milliseconds) {
                return given;
            }
        }
    }

    /// After regions were dissolved: free units keep pages up to the cap as well, which blocks that are too small to be
    /// counted had beyond it.
    pub(super) fn give_back_excess(&self) {
        while self.kept_bytes() > self.most_kept_bytes() {
            let most = self.kept_bytes().saturating_sub(self.most_kept_bytes()).min(BYTES_A_LOCK);
            if !matches!(self.strip_units(most), Ok((_, true))) {
                return;
            }
        }
    }

    /// Gives back the pages of a block that is on its list, under the list's lock; how many bytes that were.
    fn strip(&self, start: u64, bytes: u64, block: &BlockHeader) -> u64 {
        self.give_back(start + BLOCK_HEADER_BYTES, bytes, block);
        block.kept.store(0, Ordering::Relaxed);
        kill_point!(ArenaStripped);
        self.discount(bytes);
        bytes
    }
}
