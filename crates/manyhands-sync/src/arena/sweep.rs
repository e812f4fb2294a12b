//! The sweep: what the dead have left becomes free again.
//!
//! # Protocol
//! Every block says who answers for it (`owner.rs`). A block whose owner is gone is garbage. The sweeper first settles all
//! locks of the arena, so that what a dead member had half done is done or undone; then it walks over all blocks, under
//! the `room` lock, so that regions stay what they are; then it *claims* each piece of garbage by exchanging the dead owner
//! for itself. Only one sweeper's exchange succeeds, so everything is released once; a sweeper that dies leaves its claims
//! to the next one. Freeing a block makes what it owned garbage, so the walk is repeated until it finds nothing.
//!
//! A member that is alive may free the same block meanwhile (who buries a worker, say): the block's generation decides who
//! of the two does it.

use super::block::{BLOCK_HEADER_BYTES, BlockHeader, FREE, HELD, Handle};
use super::owner::{Owner, same_generation};
use super::units::{UNIT_BYTES, Use};
use super::{Arena, Backing, Kind};
use crate::kill_point;
use crate::primitive::Ordering;
use crate::process_table::{Census, Place};

/// Walks of one sweep: each follows ownership one step further, from a message to the reference it carried, to the queue,
/// to that queue's messages.
const MOST_WALKS: usize = 16;

/// For the death of a member that held something, so many blocks may be looked at: a few milliseconds at most.
const BLOCKS_A_DEATH: u64 = 50_000;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Blocks that were looked at, in all walks.
    pub visited: u64,
    /// Blocks that were garbage.
    pub reclaimed: u64,
}

impl<B: Backing> Arena<B> {
    /// Says that a member may have left blocks behind.
    pub fn note_left_behind(&self) {
        self.header.left_behind.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether so many members may have left blocks behind that a sweep costs little for each of them.
    pub fn wants_sweep(&self) -> bool {
        let deaths = u64::from(self.header.left_behind.load(Ordering::Relaxed));
        deaths * BLOCKS_A_DEATH >= self.header.last_visited.load(Ordering::Relaxed).max(1)
    }

    /// Reclaims the blocks of members whose slots are free or in a later life, and all that those blocks own. `destroy`
    /// takes apart a shared structure that nobody refers to any more; freeing its block as well is its task.
    pub fn sweep(&self, mut destroy: impl FnMut(Kind, Handle)) -> Swept {
        self.header.left_behind.store(0, Ordering::Relaxed);
        let mut swept = Swept::default();
        for _ in 0..MOST_WALKS {
            // Before the locks are settled: who dies after that may have left one of them locked.
            let census = self.process_table().census();
            self.settle();
            let mut garbage = Vec::new();
            // Regions are not dissolved meanwhile. A lock that makes no sense says so to whoever wants to grow.
            let walking = self.header.room.lock(|| {});
            let (kept_before, mut kept) = (self.kept_bytes(), self.dirty_bytes());
            let complete = self.walk(|start, block, bytes| {
                swept.visited += 1;
                kept += if block.kept.load(Ordering::Relaxed) == 1 { bytes } else { 0 };
                if let Some(claim) = self.garbage(start, block, &census) {
                    garbage.push(claim);
                }
                true
            });
            if complete {
                self.recount(kept_before, kept);
            }
            drop(walking);
            let before = swept.reclaimed;
            for (handle, owner) in garbage {
                swept.reclaimed += u64::from(self.reclaim(handle, owner, &mut destroy));
            }
            if swept.reclaimed == before {
                // What is left is counted; some of it may keep only itself.
                let lost = self.claim_unreachable();
                if lost.is_empty() {
                    break;
                }
                swept.reclaimed += lost.len() as u64;
                lost.into_iter().for_each(|(kind, target)| destroy(kind, target));
            }
        }
        self.header.last_visited.store(swept.visited, Ordering::Relaxed);
        swept
    }

    /// Takes every lock once, so that whoever died in one of them is known about.
    fn settle(&self) {
        for list in &self.header.lists {
            list.settle(&self.backing);
        }
        self.header.settle_growth();
        self.header.references.settle(&self.backing);
    }

    /// How many bytes of free units may have pages.
    fn dirty_bytes(&self) -> u64 {
        let mut dirty = 0;
        self.walk_regions(|_, unit| dirty += u64::from(unit.using == Use::Free && unit.dirty));
        dirty * UNIT_BYTES
    }

    /// The block as its next life's handle and its dead owner, if it is garbage.
    pub(super) fn garbage(&self, start: u64, block: &BlockHeader, census: &Census) -> Option<(Handle, u64)> {
        // The generation first: whoever frees the block from here on changes it.
        let generation = block.generation();
        let word = block.owner.load(Ordering::Acquire);
        let dead = match Owner::from_word(word) {
            Owner::Nobody | Owner::Shared => false,
            Owner::Member(slot, life) => census.knows_dead(Place { index: slot, life }),
            Owner::Block(handle) => !self.stands(handle),
        };
        dead.then_some((Handle { offset: start + BLOCK_HEADER_BYTES, generation }, word))
    }

    /// Whether the block that owns another one is held, in that life.
    fn stands(&self, handle: Handle) -> bool {
        let start = handle.offset.checked_sub(BLOCK_HEADER_BYTES);
        start.and_then(|start| self.block_at(start).ok()).is_some_and(|block| {
            block.state.load(Ordering::Acquire) == HELD
                && same_generation(block.generation(), handle.generation)
        })
    }

    /// Frees a block of that dead owner's; `false` when somebody else was faster.
    fn reclaim(&self, handle: Handle, dead: u64, destroy: &mut impl FnMut(Kind, Handle)) -> bool {
        let Some(block) = self.claimed(handle, dead) else { return false };
        kill_point!(SweepClaimed);
        // Marked free, and its maker died before it was on a list.
        let _ = block.state.compare_exchange(FREE, HELD, Ordering::AcqRel, Ordering::Relaxed);
        if Kind::of_list(block.list.load(Ordering::Relaxed)) == Some(Kind::Reference) {
            return match self.release_reference(handle) {
                Ok(last) => {
                    kill_point!(SweepReleased);
                    if let Some((kind, target)) = last {
                        destroy(kind, target);
                    }
                    true
                }
                Err(_) => false,
            };
        }
        // A structure that its maker died with is garbage like any other: what it owns is found by the next walk.
        self.free(handle).is_ok()
    }

    /// Exchanges the dead owner of a block for this process, if it is still there: others sweep as well, and what they free
    /// may have become something else since the walk, of which not a byte must be touched.
    fn claimed(&self, handle: Handle, dead: u64) -> Option<&'static BlockHeader> {
        // Nobody dissolves a region meanwhile.
        let _growing = self.header.growth.lock(|| {}).ok()?;
        let block = self.block_at(handle.offset - BLOCK_HEADER_BYTES).ok()?;
        let me = self.backing.me().to_word();
        let won = block.generation() == handle.generation
            && block.owner.compare_exchange(dead, me, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        won.then_some(block)
    }
}
