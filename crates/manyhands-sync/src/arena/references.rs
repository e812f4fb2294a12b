//! References: who holds a block that several share. One small block each, owned by a member or by the message that
//! carries it; the target's header counts them.
//!
//! # Protocol
//! All counting is under one lock of the family. Before the first change the log says what was, so that whoever finds the
//! lock's holder dead puts it back: a reference is counted and says so, or neither.
//!
//! | step | commit | its maker died before it | after it |
//! |---|---|---|---|
//! | count | the log is cleared | nothing was counted; the reference is garbage | counted; it belongs to the dead maker: released by the next sweep |
//! | release | the log is cleared | still counted, of a dead owner: released by the next sweep | not counted, garbage |
//! | last release | as above | as above | the target belongs to the dead one: garbage |
//! | adopt | the reference's owner is exchanged | it is the message's still, and goes with it | counted, of a dead owner: released by the next sweep |
//!
//! So each counted reference is released exactly once, and a target with no reference left always has an owner.
//!
//! Adopting needs no memory: a receiver that has taken a message out of a queue may make what it carries its own. The
//! member that frees the message releases only those references that are the message's still. A sweep that saw the message
//! freed before it saw the new owner exchanges the old owner, which is there no more, and so leaves the reference alone.

use super::block::{BLOCK_HEADER_BYTES, BlockHeader, HELD, Handle};
use super::owner::Owner;
use super::{AllocateError, Arena, Backing, Kind, StaleHandle};
use crate::kill_point;
use crate::memory::{Memory, Placing, Shareable};
use crate::mutex::{Guard, LockError, RobustMutex};
use crate::primitive::{AtomicU32, AtomicU64, Ordering};

/// What a reference refers to.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Reference {
    target_offset: AtomicU64,
    target_generation: AtomicU32,
    /// 1 while the target counts it.
    counted: AtomicU32,
}

// SAFETY: repr(C), atomics only; what it names is checked before it is followed.
#[allow(unsafe_code)]
unsafe impl Shareable for Reference {}

impl Reference {
    /// One that is not counted.
    pub(super) fn to(target: Handle) -> Self {
        Self {
            target_offset: AtomicU64::new(target.offset),
            target_generation: AtomicU32::new(target.generation),
            counted: AtomicU32::new(0),
        }
    }

    /// The target counts it already: see `pins.rs`.
    pub(super) fn count_as_pinned(&self) {
        self.counted.store(1, Ordering::Release);
    }
}

/// The lock, and what was before the change in progress.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct ReferenceLog {
    lock: RobustMutex,
    /// Where the reference in question lies; 0 while nothing is being changed.
    reference: AtomicU64,
    /// Where the target's header lies.
    target: AtomicU64,
    owner: AtomicU64,
    holders: AtomicU32,
    counted: AtomicU32,
    /// How often something was changed.
    changes: AtomicU64,
}

/// Why there is no reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferError {
    /// The target is gone.
    Stale,
    /// There is no memory, or the lock makes no sense.
    Allocate(AllocateError),
}

impl From<StaleHandle> for ReferError {
    fn from(_: StaleHandle) -> Self {
        Self::Stale
    }
}

impl From<AllocateError> for ReferError {
    fn from(error: AllocateError) -> Self {
        Self::Allocate(error)
    }
}

impl From<LockError> for ReferError {
    fn from(error: LockError) -> Self {
        Self::Allocate(error.into())
    }
}

impl ReferenceLog {
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self {
            lock: RobustMutex::new(),
            reference: AtomicU64::new(0),
            target: AtomicU64::new(0),
            owner: AtomicU64::new(0),
            holders: AtomicU32::new(0),
            counted: AtomicU32::new(0),
            changes: AtomicU64::new(0),
        }
    }

    /// How often something was changed so far.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Something is about to be changed. Under the lock.
    pub(super) fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn lay_out(&'static self) {
        self.lock.lay_out();
    }

    /// Puts right what a member that died counting has left.
    pub(super) fn settle<M: Memory>(&self, memory: &M) {
        // A lock that makes no sense says so when it is used.
        let _ = self.lock(memory);
    }

    pub(super) fn lock<M: Memory>(&self, memory: &M) -> Result<Guard<'_>, LockError> {
        self.lock.lock(|| self.undo(memory))
    }

    fn undo<M: Memory>(&self, memory: &M) {
        let reference = memory.place::<Reference>(self.reference.load(Ordering::Acquire));
        let target = memory.place::<BlockHeader>(self.target.load(Ordering::Relaxed));
        if let (Some(reference), Some(target)) = (reference, target) {
            target.holders.store(self.holders.load(Ordering::Relaxed), Ordering::Relaxed);
            target.owner.store(self.owner.load(Ordering::Relaxed), Ordering::Relaxed);
            reference.counted.store(self.counted.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.reference.store(0, Ordering::Release);
        kill_point!(ReferencesRepaired);
    }

    /// Changes count and owner of the target and the mark of the reference, all or nothing. Under the lock.
    fn change(
        &self,
        at: u64,
        reference: &Reference,
        target: (u64, &BlockHeader),
        holders: u32,
        owner: Owner,
    ) {
        let (start, target) = target;
        self.note_change();
        self.target.store(start, Ordering::Relaxed);
        self.holders.store(target.holders.load(Ordering::Relaxed), Ordering::Relaxed);
        self.owner.store(target.owner.load(Ordering::Relaxed), Ordering::Relaxed);
        self.counted.store(reference.counted.load(Ordering::Relaxed), Ordering::Relaxed);
        self.reference.store(at, Ordering::Release);
        kill_point!(ReferenceLogged);
        target.holders.store(holders, Ordering::Relaxed);
        kill_point!(ReferenceCounted);
        target.give(owner);
        reference.counted.store(1 - self.counted.load(Ordering::Relaxed).min(1), Ordering::Relaxed);
        kill_point!(ReferenceMarked);
        self.reference.store(0, Ordering::Release);
        kill_point!(ReferenceCommitted);
    }
}

impl<B: Backing> Arena<B> {
    /// Makes a reference to `target`, which `owner` holds from now on. The first reference makes the target shared: it
    /// lives until the last one is released.
    ///
    /// # Errors
    /// When the target is gone, or was not [shared](super::Blank::share), or there is no memory.
    pub fn refer(&self, target: Handle, owner: Owner) -> Result<Handle, ReferError> {
        let handle = self.allocate_kind(Kind::Reference, size_of::<Reference>() as u64)?.finish();
        let counted = match self.backing.place_new(handle.offset, Reference::to(target)) {
            Some(reference) => self.count(handle.offset, reference, target),
            None => Err(ReferError::Stale),
        };
        match counted {
            Ok(()) => self.give(handle, owner),
            Err(_) => drop(self.free(handle)),
        }
        counted.map(|()| handle)
    }

    /// What the reference is to.
    ///
    /// # Errors
    /// When there is no such reference (any more).
    pub fn target_of(&self, reference: Handle) -> Result<Handle, StaleHandle> {
        self.check_kind(Kind::Reference, reference)?;
        let reference = self.backing.place::<Reference>(reference.offset).ok_or(StaleHandle)?;
        Ok(Handle {
            offset: reference.target_offset.load(Ordering::Relaxed),
            generation: reference.target_generation.load(Ordering::Relaxed),
        })
    }

    /// Makes a reference that a message carries this process's own; the message is in this process's hands. Needs no
    /// memory.
    ///
    /// # Errors
    /// When there is no such reference (any more), or it is not that message's.
    pub fn adopt(&self, reference: Handle, carrier: Handle) -> Result<(), ReferError> {
        let log = &self.header.references;
        let _counting = log.lock(&self.backing)?;
        let block = self.held(reference)?;
        self.reference(reference.offset - BLOCK_HEADER_BYTES, block).ok_or(ReferError::Stale)?;
        // Who looks for what is out of reach has seen it as the message's.
        log.note_change();
        let (from, to) = (Owner::Block(carrier).to_word(), self.backing.me().to_word());
        let adopted = block.owner.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
        kill_point!(ReferenceAdopted);
        adopted.map(|_| ()).map_err(|_| ReferError::Stale)
    }

    /// Whether a message has the reference still: its receiver may have [adopted](Arena::adopt) it.
    pub fn is_carried_by(&self, reference: Handle, carrier: Handle) -> bool {
        let owner = self.held(reference).map(BlockHeader::owner);
        owner.is_ok_and(|owner| owner.to_word() == Owner::Block(carrier).to_word())
    }

    fn count(&self, at: u64, reference: &Reference, target: Handle) -> Result<(), ReferError> {
        let log = &self.header.references;
        let _counting = log.lock(&self.backing)?;
        let block = self.held(target)?;
        // What nobody shares is its owner's alone, whoever guesses its handle.
        if block.shareable.load(Ordering::Acquire) != 1 {
            return Err(ReferError::Stale);
        }
        let holders = block.holders.load(Ordering::Relaxed);
        // Its maker makes the first reference. A target that belongs to somebody later than that is on its way out.
        let fresh = holders == 0 && block.owner() == self.backing.me();
        if block.owner() != Owner::Shared && !fresh {
            return Err(ReferError::Stale);
        }
        let start = target.offset - BLOCK_HEADER_BYTES;
        log.change(at, reference, (start, block), holders.saturating_add(1), Owner::Shared);
        Ok(())
    }

    /// Releases a reference. `Some` when it was the last one: the target belongs to this process alone, which must free
    /// it with all that is in it.
    ///
    /// # Errors
    /// When there is no such reference (any more).
    pub fn release_reference(&self, handle: Handle) -> Result<Option<(Kind, Handle)>, StaleHandle> {
        let block = self.held(handle)?;
        if Kind::of_list(block.list.load(Ordering::Relaxed)) != Some(Kind::Reference) {
            return Err(StaleHandle);
        }
        let last = self.uncount(handle);
        self.free(handle)?;
        Ok(last)
    }

    fn uncount(&self, handle: Handle) -> Option<(Kind, Handle)> {
        let at = handle.offset;
        let reference = self.backing.place::<Reference>(at)?;
        let log = &self.header.references;
        let _counting = log.lock(&self.backing).ok()?;
        // Somebody else may have freed it since. While this lock is held, its memory becomes nothing else.
        self.held(handle).ok()?;
        if reference.counted.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let target = Handle {
            offset: reference.target_offset.load(Ordering::Relaxed),
            generation: reference.target_generation.load(Ordering::Relaxed),
        };
        let block = self.held(target).ok()?;
        let holders = block.holders.load(Ordering::Relaxed).saturating_sub(1);
        // Claimed by a sweep: it is out of everybody's reach, and goes without our doing.
        let claimed = block.owner() != Owner::Shared;
        let owner = match holders {
            _ if claimed => block.owner(),
            0 => self.backing.me(),
            _ => Owner::Shared,
        };
        log.change(at, reference, (target.offset - BLOCK_HEADER_BYTES, block), holders, owner);
        let kind = Kind::of_target(block.list.load(Ordering::Relaxed))?;
        (holders == 0 && !claimed).then_some((kind, target))
    }

    /// Runs `work` while nobody can release the last reference to the shared structure: it stays what it is until then.
    /// `None` when it is gone, or on its way out. `work` must be short, and take no lock that others wait for with this one
    /// in hand.
    pub(crate) fn while_referred<T>(&self, target: Handle, work: impl FnOnce() -> T) -> Option<T> {
        let _counting = self.header.references.lock(&self.backing).ok()?;
        let block = self.held(target).ok()?;
        let referred = block.owner() == Owner::Shared && block.holders.load(Ordering::Relaxed) > 0;
        referred.then(work)
    }

    /// Makes this process the owner of these shared structures, if no reference was changed since `before`.
    pub(super) fn claim(&self, before: u64, lost: Vec<(Kind, Handle)>) -> Vec<(Kind, Handle)> {
        let log = &self.header.references;
        let Ok(_counting) = log.lock(&self.backing) else { return Vec::new() };
        if log.changes() != before {
            return Vec::new();
        }
        for (_, target) in &lost {
            self.give(*target, self.backing.me());
            kill_point!(SweepCycleClaimed);
        }
        lost
    }

    /// What the block refers to, and who holds it, if it is a reference that is counted.
    pub(super) fn reference(&self, start: u64, block: &BlockHeader) -> Option<(Handle, Owner)> {
        let is_one = Kind::of_list(block.list.load(Ordering::Relaxed)) == Some(Kind::Reference)
            && block.state.load(Ordering::Acquire) == HELD;
        let reference = self.backing.place::<Reference>(start + BLOCK_HEADER_BYTES).filter(|_| is_one)?;
        let target = Handle {
            offset: reference.target_offset.load(Ordering::Relaxed),
            generation: reference.target_generation.load(Ordering::Relaxed),
        };
        (reference.counted.load(Ordering::Relaxed) == 1).then_some((target, block.owner()))
    }

    /// How many references to the block are counted.
    ///
    /// # Errors
    /// When the handle is stale.
    pub fn holders(&self, target: Handle) -> Result<u32, StaleHandle> {
        Ok(self.held(target)?.holders.load(Ordering::Relaxed))
    }
}
