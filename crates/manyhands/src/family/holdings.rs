//! What this process holds: one reference for each shared structure that it has open, however often.
//!
//! The references lie in the arena, where they outlive this process until a sweep finds them; this table says which of
//! them is whose here. A forked child has a copy of the table, but references of its own: its parent takes them for it
//! before the fork, so that nothing the child can see disappears in between.

use super::member::{Place, own_place, owner_of};
use super::{Extents, Family, FamilyError, forks, reclaim};
use crate::opening;
use crate::payload::{Block, Message};
use crate::queue::OpenError;
use crate::sys::refusals;
use manyhands_sync::arena::{AllocateError, Arena, Handle, Kind, Owner, ReferError};
use manyhands_sync::lock::{OwnerName, UserLock};
use manyhands_sync::memory::Placed;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One more user of a shared structure in this process; dropping it gives the structure up, and the last one in the
/// family to do so frees it.
#[derive(Debug)]
pub struct Hold {
    handle: Handle,
}

#[derive(Debug)]
pub(super) struct Holding {
    pub(super) generation: u32,
    pub(super) kind: Kind,
    /// How many [`Hold`]s there are.
    count: u32,
    /// This process's reference, and who it was when it took it: what a fork copies is the parent's.
    pub(super) reference: Handle,
    pub(super) owner: Owner,
}

/// What is held, by where it lies.
#[derive(Debug)]
pub(super) struct Holdings {
    all: BTreeMap<u64, Holding>,
    /// How many of them are queues and pools: what a process waits at.
    channels: usize,
    /// How many are plain bytes.
    bytes: usize,
}

impl Holdings {
    const fn new() -> Self {
        Self { all: BTreeMap::new(), channels: 0, bytes: 0 }
    }

    fn insert(&mut self, offset: u64, holding: Holding) {
        // Of a block's earlier life.
        self.remove(offset);
        if let Some(count) = self.counter(holding.kind) {
            *count += 1;
        }
        self.all.insert(offset, holding);
    }

    fn remove(&mut self, offset: u64) {
        let removed = self.all.remove(&offset);
        if let Some(count) = removed.and_then(|holding| self.counter(holding.kind)) {
            *count -= 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// What a child that is forked now will hold: what `me`, this process, does. A pool belongs to the process that made
    /// it: a forked child cannot use it.
    pub(super) fn passed_on(&self, me: Owner) -> impl Iterator<Item = (Handle, Kind)> + '_ {
        let passed =
            self.all.iter().filter(move |(_, holding)| holding.kind != Kind::Pool && holding.owner == me);
        passed.map(|(&offset, holding)| (Handle { offset, generation: holding.generation }, holding.kind))
    }

    /// What `me`, this process, has open without a reference.
    pub(super) fn lacking(&mut self, me: Owner) -> impl Iterator<Item = (u64, &mut Holding)> {
        let lacking =
            self.all.iter_mut().filter(move |(_, holding)| holding.kind != Kind::Pool && holding.owner != me);
        lacking.map(|(&offset, holding)| (offset, holding))
    }

    /// What this process has open under that name.
    pub(super) fn find(&mut self, target: Handle) -> Option<&mut Holding> {
        self.all.get_mut(&target.offset).filter(|holding| holding.generation == target.generation)
    }

    fn counter(&mut self, kind: Kind) -> Option<&mut usize> {
        match kind {
            Kind::Ring | Kind::Pool => Some(&mut self.channels),
            Kind::Bytes => Some(&mut self.bytes),
            _ => None,
        }
    }
}

static HOLDINGS: Mutex<Holdings> = Mutex::new(Holdings::new());

/// The table. Over a fork the forking thread has it locked, so that the child does not find it in another's hands.
pub(super) fn lock() -> MutexGuard<'static, Holdings> {
    HOLDINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why no reference could be made to something that is there.
pub(super) fn allocate_error(error: ReferError) -> AllocateError {
    match error {
        ReferError::Allocate(error) => error,
        ReferError::Stale => AllocateError::Corrupted,
    }
}

/// A reference of this process's: a new one, or, when there is no memory for it, that of the message which brought the
/// handle.
fn refer(arena: Arena<Extents>, handle: Handle, me: Owner) -> Result<Handle, ReferError> {
    let referred = arena.refer(handle, me);
    match referred {
        Err(ReferError::Allocate(_)) => opening::adopt(arena, handle).map_or(referred, |adopted| {
            // What was refused on the way is nobody's error.
            let _ = refusals::take();
            Ok(adopted)
        }),
        _ => referred,
    }
}

impl Family {
    /// Holds a shared structure. The first hold in the family is its maker's.
    ///
    /// # Errors
    /// When the structure is gone, or there is no memory for the reference.
    pub(crate) fn hold(&self, kind: Kind, handle: Handle) -> Result<Hold, ReferError> {
        let arena = self.whole_arena();
        // Before the table is locked: this process may have to find its place first.
        let me = arena.me();
        let mut holdings = lock();
        // A handle comes out of a pickle: bytes that users write must not be taken for a queue.
        if arena.kind(handle)? != kind {
            return Err(ReferError::Stale);
        }
        if let Some(known) = holdings.find(handle) {
            if known.owner != me {
                // What a fork has copied, and this process has not asked for before.
                (known.reference, known.owner) = (refer(arena, handle, me)?, me);
            }
            known.count += 1;
            return Ok(Hold { handle });
        }
        let reference = refer(arena, handle, me)?;
        let holding = Holding { generation: handle.generation, kind, count: 1, reference, owner: me };
        holdings.insert(handle.offset, holding);
        Ok(Hold { handle })
    }

    /// Lays out a new structure that members share, and holds it.
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub(crate) fn place_shared<T: Placed>(&self, value: T) -> Result<(&'static T, Hold), FamilyError> {
        let memory = |error| FamilyError::Memory(refusals::explain(error));
        let arena = self.whole_arena();
        let block = arena.allocate_kind(T::KIND, size_of::<T>() as u64).map_err(memory)?;
        let (place, handle) = block.lay(value).map_err(|_| memory(AllocateError::Corrupted))?;
        let held = self.hold(T::KIND, handle).map_err(|error| {
            let _ = arena.free(handle);
            memory(allocate_error(error))
        });
        Ok((place, held?))
    }

    /// Finds a structure that another member has laid out, and holds it.
    ///
    /// # Errors
    /// When there is none of that kind (any more).
    pub(crate) fn open_shared<T: Placed>(&self, handle: Handle) -> Result<(&'static T, Hold), OpenError> {
        let hold = self.hold(T::KIND, handle).map_err(|_| OpenError::not_found())?;
        let place = self.whole_arena().placed(handle).map_err(|_| OpenError::not_found())?;
        Ok((place, hold))
    }
}

impl Family {
    /// Leaves references for a child that is about to start some other way than by `fork`.
    pub(crate) fn pack(&self, place: Place, carried: &[Handle]) -> Result<(), FamilyError> {
        let arena = self.whole_arena();
        let luggage = Block::with(arena, Message { parts: &[], carried }).map_err(FamilyError::Memory)?;
        let packed = self.process_table().pack(place, luggage.into_luggage(owner_of(place)));
        // Nobody else gives up a place whose parent lives.
        if packed { Ok(()) } else { Err(FamilyError::Unwanted) }
    }

    /// In the child, once it has opened what it was sent: what it holds from here on, it holds by itself.
    pub fn unpack(&self) {
        if self.own_slot().is_err() {
            return;
        }
        let luggage = own_place().and_then(|place| self.process_table().unpack(place));
        if let Some(luggage) = luggage {
            drop(Block::luggage(self.whole_arena(), luggage));
        }
    }
}

/// Marks the locks that this process holds, of those that it has open.
pub(super) fn keep_locks(arena: Arena<Extents>, owner: OwnerName) {
    let holdings = lock();
    for (&offset, holding) in holdings.all.iter().filter(|(_, holding)| holding.kind == Kind::Lock) {
        keep_lock(arena, Handle { offset, generation: holding.generation }, owner);
    }
}

fn keep_lock(arena: Arena<Extents>, handle: Handle, owner: OwnerName) {
    if let Ok(lock) = arena.placed::<UserLock>(handle) {
        lock.keep(owner);
    }
}

impl Hold {
    /// What is held.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// Whether it is certain that this process has a reference to it.
    #[inline]
    pub(crate) fn is_certain(&self) -> bool {
        forks::is_whole()
    }

    /// Makes sure that this process has a reference to what it has open: a forked child may have none. To be asked before
    /// each use.
    ///
    /// # Errors
    /// When it has none, and can have none: nobody else holds it any more, or there is no memory or no place for this
    /// process.
    #[inline]
    pub fn ensure(&self) -> Result<(), FamilyError> {
        if forks::is_whole() { Ok(()) } else { forks::ensure(self.handle) }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some(family) = Family::existing() else { return };
        let arena = family.whole_arena();
        let mut holdings = lock();
        let Some(holding) = holdings.all.get_mut(&self.handle.offset) else { return };
        if holding.generation != self.handle.generation {
            return;
        }
        holding.count -= 1;
        if holding.count > 0 {
            return;
        }
        let (reference, owner, kind) = (holding.reference, holding.owner, holding.kind);
        holdings.remove(self.handle.offset);
        let (channels, bytes) = (holdings.channels, holdings.bytes);
        // What this process can reach no more it can release no more: for the others it stays locked. Before another
        // thread can open it anew, and take it.
        if let (Kind::Lock, Some(name)) = (kind, family.own_name()) {
            keep_lock(arena, self.handle, name);
        }
        drop(holdings);
        // A copy of the parent's table, made by a fork that nobody told us of.
        if owner != arena.me() || !reclaim::release(arena, reference) || channels > 0 {
            return;
        }
        match kind {
            Kind::Ring | Kind::Pool => reclaim::trim_now(arena),
            Kind::Bytes => reclaim::trim_without_channels(arena, bytes == 0),
            _ => {}
        }
    }
}
