//! A list of free blocks, last in first out, under a robust mutex of its own.

use super::block::{BLOCK_HEADER_BYTES, BlockHeader, FREE, HELD, Handle};
use super::owner::Owner;
use super::units::Units;
use crate::kill_point;
use crate::memory::{Memory, Placing};
use crate::mutex::{LockError, RobustMutex};
use crate::primitive::{AtomicU32, AtomicU64, Ordering};

/// The free blocks of one size class or kind.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct FreeList {
    lock: RobustMutex,
    /// Where the first free block's header lies; 0 when there is none.
    head: AtomicU64,
    /// How many of them keep their pages: never fewer than do, more when somebody died changing it. Under the lock.
    kept: AtomicU32,
    /// How often a holder of the lock died and the next one repaired.
    recoveries: AtomicU32,
}

impl FreeList {
    /// An empty list: loom's atomics are not made of zeroed bytes.
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self {
            lock: RobustMutex::new(),
            head: AtomicU64::new(0),
            kept: AtomicU32::new(0),
            recoveries: AtomicU32::new(0),
        }
    }

    pub(super) fn lay_out(&'static self) {
        self.lock.lay_out();
    }

    pub(super) fn recoveries(&self) -> u32 {
        self.recoveries.load(Ordering::Relaxed)
    }

    /// Puts right what a holder of the lock that died has left.
    pub(super) fn settle<M: Memory>(&self, memory: &M) {
        // A list that makes no sense says so when it is used.
        let _ = self.lock.lock(|| self.repair(memory));
    }

    /// Takes the first block off the list for `owner`, if it has at least `bytes` (blocks of a kind may differ in
    /// size), and this process can map it.
    pub(super) fn pop<M: Memory>(
        &self,
        memory: &M,
        units: Units,
        list: u32,
        bytes: u64,
        owner: Owner,
    ) -> Result<Option<Handle>, LockError> {
        if self.head.load(Ordering::Relaxed) == 0 {
            return Ok(None);
        }
        let guard = self.lock.lock(|| self.repair(memory))?;
        let start = self.head.load(Ordering::Relaxed);
        if start == 0 {
            return Ok(None);
        }
        let Some(block) = free_block(memory, start, list) else {
            if memory.place::<BlockHeader>(start).is_none()
                && units.list_of_block(start) == Some(list as usize)
            {
                return Ok(None);
            }
            // The list leads out of the arena or to something else: everything behind it is lost, not used.
            self.head.store(0, Ordering::Relaxed);
            return Err(LockError::Corrupted);
        };
        if block.bytes.load(Ordering::Relaxed) < bytes {
            return Ok(None);
        }
        let next = block.next.load(Ordering::Relaxed);
        block.give(owner);
        block.state.store(HELD, Ordering::Release);
        kill_point!(ArenaPopMarked);
        self.head.store(next, Ordering::Release);
        kill_point!(ArenaPopCommitted);
        if block.kept.load(Ordering::Relaxed) == 1 {
            self.kept.store(self.kept.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
        }
        drop(guard);
        Ok(Some(Handle { offset: start + BLOCK_HEADER_BYTES, generation: block.generation() }))
    }

    /// Whether a block on it may keep its pages.
    pub(super) fn has_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed) != 0
    }

    /// Shows the free blocks that keep their pages, which `strip` gives back, until it says that this was enough for now.
    /// `most` blocks are looked at. They stay on the list, and nobody takes one meanwhile.
    ///
    /// Blocks are freed with their pages, in front of those that have lost theirs: so the walk is about as long as there
    /// are blocks to strip, however long the list is.
    pub(super) fn strip<M: Memory>(
        &self,
        memory: &M,
        list: u32,
        most: u64,
        mut strip: impl FnMut(u64, &BlockHeader) -> bool,
    ) -> Result<(), LockError> {
        let _guard = self.lock.lock(|| self.repair(memory))?;
        let mut start = self.head.load(Ordering::Relaxed);
        for _ in 0..most {
            let kept = self.kept.load(Ordering::Relaxed);
            if start == 0 || kept == 0 {
                break;
            }
            let block = free_block(memory, start, list).ok_or(LockError::Corrupted)?;
            if block.kept.load(Ordering::Relaxed) == 1 {
                let enough = strip(start, block);
                self.kept.store(kept - 1, Ordering::Relaxed);
                if enough {
                    return Ok(());
                }
            }
            start = block.next.load(Ordering::Relaxed);
        }
        // None is left: were more counted, somebody has died.
        if start == 0 {
            self.kept.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Puts a block that `owner` is rid of on the list; not if somebody else answers for it by now.
    pub(super) fn push<M: Memory>(
        &self,
        memory: &M,
        start: u64,
        block: &BlockHeader,
        owner: Owner,
    ) -> Result<(), LockError> {
        let _guard = self.lock.lock(|| self.repair(memory))?;
        if block.owner() != owner {
            return Ok(());
        }
        block.next.store(self.head.load(Ordering::Relaxed), Ordering::Relaxed);
        block.state.store(FREE, Ordering::Release);
        if block.kept.load(Ordering::Relaxed) == 1 {
            self.kept.store(self.kept.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
        }
        kill_point!(ArenaPushMarked);
        self.head.store(start, Ordering::Release);
        kill_point!(ArenaPushCommitted);
        block.give(Owner::Nobody);
        Ok(())
    }

    /// A holder died with the first block on the list and marked held, or free and with an owner.
    fn repair<M: Memory>(&self, memory: &M) {
        self.recoveries.fetch_add(1, Ordering::Relaxed);
        let start = self.head.load(Ordering::Relaxed);
        if let Some(block) = memory.place::<BlockHeader>(start)
            && block.is_header()
        {
            block.state.store(FREE, Ordering::Release);
            block.give(Owner::Nobody);
        }
        kill_point!(ArenaListRepaired);
    }
}

fn free_block<M: Memory>(memory: &M, start: u64, list: u32) -> Option<&'static BlockHeader> {
    let block = memory.place::<BlockHeader>(start)?;
    let sound = block.is_header()
        && block.state.load(Ordering::Relaxed) == FREE
        && block.list.load(Ordering::Relaxed) == list;
    sound.then_some(block)
}
