//! What this process holds: one reference for each shared structure that it has open, however often.
//!
//! The references lie in the arena, where they outlive this process until a sweep finds them; this table says which of
//! them is whose here. A forked child has a copy of the table, but references of its own: its parent takes them for it
//! before the fork, so that nothing the child can see disappears in between.

use super::member::Place;
use super::{Extents, Family, FamilyError, reclaim};
use crate::payload::{Block, Message};
use crate::queue::OpenError;
use crate::sys::alone;
use manyhands_sync::arena::{AllocateError, Arena, Handle, Kind, Owner, ReferError};
use manyhands_sync::lock::{OwnerName, UserLock};
use manyhands_sync::memory::{Memory, Shareable};
use manyhands_sync::process_table::SlotIndex;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One more user of a shared structure in this process; dropping it gives the structure up, and the last one in the
/// family to do so frees it.
#[derive(Debug)]
pub struct Hold {
    handle: Handle,
}

#[derive(Debug)]
struct Holding {
    generation: u32,
    kind: Kind,
    /// How many [`Hold`]s there are.
    count: u32,
    /// This process's reference, and who it was when it took it: what a fork copies is the parent's.
    reference: Handle,
    owner: Owner,
}

/// What a parent made ready for a child it is about to fork.
#[derive(Debug)]
struct Expected {
    place: Place,
    /// Whether a [`Start`](crate::launch::Start) waits for the child, or a user forks by himself.
    supervised: bool,
    /// The child's references, in the order in which their targets lie.
    references: Vec<(u64, Handle)>,
}

/// What is held, by where it lies.
#[derive(Debug)]
struct Holdings {
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

    /// Keeps those of which `keep` says so.
    fn retain(&mut self, keep: impl FnMut(&u64, &mut Holding) -> bool) {
        let mut all = std::mem::take(&mut self.all);
        all.retain(keep);
        *self = Self::new();
        all.into_iter().for_each(|(offset, holding)| self.insert(offset, holding));
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
static EXPECTED: Mutex<Option<Expected>> = Mutex::new(None);
/// The slot of the child that this process is about to fork.
static ANNOUNCED: Mutex<Option<Place>> = Mutex::new(None);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Family {
    /// Holds a shared structure. The first hold in the family is its maker's.
    ///
    /// # Errors
    /// When the structure is gone, or there is no memory for the reference.
    pub(crate) fn hold(&self, kind: Kind, handle: Handle) -> Result<Hold, ReferError> {
        let (arena, mut holdings) = (self.arena(), lock(&HOLDINGS));
        let me = arena.me();
        // A handle comes out of a pickle: bytes that users write must not be taken for a queue.
        if arena.kind(handle)? != kind {
            return Err(ReferError::Stale);
        }
        if let Some(known) = holdings.all.get_mut(&handle.offset)
            && known.generation == handle.generation
            && known.owner == me
        {
            known.count += 1;
            return Ok(Hold { handle });
        }
        let reference = arena.refer(handle, me)?;
        let holding = Holding { generation: handle.generation, kind, count: 1, reference, owner: me };
        holdings.insert(handle.offset, holding);
        Ok(Hold { handle })
    }

    /// Lays out a new structure that members share, and holds it.
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub(crate) fn place_shared<T: Shareable>(
        &self,
        kind: Kind,
        value: T,
    ) -> Result<(&'static T, Hold), FamilyError> {
        let arena = self.arena();
        let handle = arena.allocate_kind(kind, size_of::<T>() as u64).map_err(FamilyError::Memory)?;
        let placed = arena.backing().place_new(handle.offset, value).ok_or(ReferError::Stale);
        placed.and_then(|place| Ok((place, self.hold(kind, handle)?))).map_err(|error| {
            let _ = arena.free(handle);
            FamilyError::Memory(match error {
                ReferError::Allocate(error) => error,
                ReferError::Stale => AllocateError::Corrupted,
            })
        })
    }

    /// Finds a structure that another member has laid out, and holds it.
    ///
    /// # Errors
    /// When there is none of that kind (any more).
    pub(crate) fn open_shared<T: Shareable>(
        &self,
        kind: Kind,
        handle: Handle,
    ) -> Result<(&'static T, Hold), OpenError> {
        self.arena().check_kind(kind, handle)?;
        let hold = self.hold(kind, handle).map_err(|_| OpenError::Stale)?;
        let place = self.arena().backing().place(handle.offset).ok_or(OpenError::Stale)?;
        Ok((place, hold))
    }

    /// Before a fork, whoever asks for it: takes the references that the child will hold.
    pub fn before_fork(&self) {
        let (arena, announced) = (self.arena(), lock(&ANNOUNCED).take());
        alone::before_fork(|| arena.backing().descriptor().ok());
        let holdings = lock(&HOLDINGS);
        // A pool belongs to the process that made it: a forked child cannot use it.
        let mut shared =
            holdings.all.iter().filter(|(_, h)| h.kind != Kind::Pool && h.owner == arena.me()).peekable();
        if shared.peek().is_none() {
            return;
        }
        let Some(place) = announced.or_else(|| self.reserve_place()) else { return };
        let owner = place.owner();
        let references = shared
            .filter_map(|(&offset, holding)| {
                let target = Handle { offset, generation: holding.generation };
                Some((offset, arena.refer(target, owner).ok()?))
            })
            .collect();
        self.process_table().note_holds(place.index);
        *lock(&EXPECTED) = Some(Expected { place, supervised: announced.is_some(), references });
    }

    /// After a fork, in the child: what was held there is held here. (A child that has no slot yet gets the one that its
    /// parent took for it.)
    pub fn after_fork_in_child(&self) {
        let expected = lock(&EXPECTED).take();
        let mut holdings = lock(&HOLDINGS);
        let Some(expected) = expected else { return holdings.retain(|_, _| false) };
        if self.take_slot(expected.place).is_err() {
            return holdings.retain(|_, _| false);
        }
        if !expected.supervised {
            self.process_table().disown(expected.place.index);
        }
        let me = self.arena().me();
        holdings.retain(|offset, holding| {
            let own = expected.references.binary_search_by_key(offset, |(target, _)| *target);
            if let Ok(at) = own {
                (holding.reference, holding.owner) = (expected.references[at].1, me);
            }
            own.is_ok()
        });
    }
}

impl Family {
    /// Leaves references for a child that is about to start some other way than by `fork`.
    pub(crate) fn pack(&self, place: Place, carried: &[Handle]) -> Result<(), FamilyError> {
        let arena = self.arena();
        let luggage = Block::with(arena, Message { parts: &[], carried }).map_err(FamilyError::Memory)?;
        self.process_table().pack(place.index, luggage.into_luggage(place.owner()));
        Ok(())
    }

    /// In the child, once it has opened what it was sent: what it holds from here on, it holds by itself.
    pub fn unpack(&self) {
        let Ok(Some(index)) = self.own_slot().map(SlotIndex::new) else { return };
        if let Some(luggage) = self.process_table().unpack(index) {
            drop(Block::luggage(self.arena(), luggage));
        }
    }
}

/// After a fork, in the parent.
pub fn after_fork_in_parent() {
    // Should the fork have failed, the child's references belong to a slot in which nobody will live.
    lock(&EXPECTED).take();
    lock(&ANNOUNCED).take();
}

/// Marks the locks that this process holds, of those that it has open.
pub(super) fn keep_locks(arena: Arena<Extents>, owner: OwnerName) {
    for (&offset, _) in lock(&HOLDINGS).all.iter().filter(|(_, holding)| holding.kind == Kind::Lock) {
        keep_lock(arena, offset, owner);
    }
}

fn keep_lock(arena: Arena<Extents>, offset: u64, owner: OwnerName) {
    if let Some(lock) = arena.backing().place::<UserLock>(offset) {
        lock.keep(owner);
    }
}

/// The next fork of this process is the child of that slot.
pub(crate) fn announce(place: Place) {
    *lock(&ANNOUNCED) = Some(place);
}

impl Hold {
    /// What is held.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some(family) = Family::existing() else { return };
        let arena = family.arena();
        let mut holdings = lock(&HOLDINGS);
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
            keep_lock(arena, self.handle.offset, name);
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
