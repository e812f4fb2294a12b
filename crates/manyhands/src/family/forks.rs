//! Forks of this process, whoever asks for them: a forked child holds what it has open from its first moment on.
//!
//! What is known of a fork is the forking thread's own, in its thread-local memory: that is what its child has a copy of,
//! and no other thread forks in its place, however forks and their hooks interleave.
//!
//! | moment | in | what happens |
//! |---|---|---|
//! | [`Family::announce`] | a start | the child's references are taken, all or none; noted with the caller that will fork |
//! | [`before_fork`] | the fork's first hook | the fork of that caller is the announced one; any other is the user's own |
//! | `prepare` | `fork` itself | the locks of this process are taken; what was opened since gets its reference, too |
//! | [`Family::after_fork_in_child`] | the child | it takes its place in the table, and the references |
//! | [`after_fork_in_parent`] | the parent | nothing of the fork is known here any more, but a place that nobody may take |
//!
//! A start without memory for all references fails before anything was forked. The user's own fork cannot be refused:
//! what there was no reference for, the child asks for itself when it first uses it, while the parent has it; failing
//! that it is told so at each use ([`Hold::ensure`](super::Hold::ensure)). Plain bytes are read and written by their
//! address, where nobody can ask: the parent pins them, until the child has ended.
//!
//! A child of a fork without these hooks (a C library's) finds out at its first use that it is a new process: the word
//! `standing` lies in memory that the kernel wipes in it.

use super::absent::{self, Absent, COMES_WITHIN, COMES_WITHIN_AT_NEED};
use super::holdings::{self, Holding, Holdings};
use super::member::{self, Place, own_standing_word};
use super::{Family, FamilyError};
use crate::pool::seats_for_fork;
use crate::sys::{OsError, alone, at_fork, life_pipe, limits, namespaces};
use manyhands_sync::arena::{AllocateError, Handle, Kind, Owner, ReferError};
use manyhands_sync::kill_point;
use manyhands_sync::process_table::Namespaces;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

/// `standing`: this process holds all that it has open. (0: nobody has looked.)
const WHOLE: u64 = 1;
/// `standing`: of something it has no reference.
const LACKING: u64 = 2;

/// A child that is about to be forked.
#[derive(Debug)]
struct Coming {
    /// Which call forks: a number that no other call has while it runs, 0 for whichever comes next.
    caller: usize,
    /// The process that forks, as its identity.
    parent: u64,
    /// `None` while it needs none.
    place: Option<Place>,
    /// Whether a [`Start`](crate::launch::Start) waits for the child, or a user forks by himself.
    supervised: bool,
    /// The child's references, by where their targets lie.
    references: BTreeMap<u64, (u32, Handle)>,
    /// What was pinned for want of memory.
    pinned: Vec<Handle>,
    /// It looks as if there were no child.
    failed: bool,
}

impl Coming {
    fn new(caller: usize, place: Option<Place>) -> Self {
        let (parent, supervised) = (member::process_identity(), place.is_some());
        Self {
            caller,
            parent,
            place,
            supervised,
            references: BTreeMap::new(),
            pinned: Vec::new(),
            failed: false,
        }
    }

    fn has(&self, target: Handle) -> bool {
        self.references.get(&target.offset).is_some_and(|(generation, _)| *generation == target.generation)
    }

    /// Takes the child's reference.
    fn refer(&mut self, family: &Family, place: Place, target: Handle) -> Result<(), ReferError> {
        let reference = family.whole_arena().refer(target, member::owner_of(place))?;
        self.references.insert(target.offset, (target.generation, reference));
        Ok(())
    }

    fn give_up(self, family: &Family) {
        for (_, reference) in self.references.into_values() {
            super::reclaim::release(family.whole_arena(), reference);
        }
    }
}

/// What one thread knows of its forks.
#[derive(Debug)]
struct Forks {
    announced: Vec<Coming>,
    /// A hook of a fork may fork itself: the innermost is the last.
    under_way: Vec<Coming>,
    /// During the fork itself.
    locked: Option<Locks>,
    /// In a child that was forked just now, until it is settled: who it is, and the namespaces that its parent has found
    /// it will have.
    born: Option<(u64, Namespaces)>,
}

/// This process's locks, over a fork.
#[derive(Debug)]
struct Locks {
    _holdings: MutexGuard<'static, Holdings>,
    absent: MutexGuard<'static, Vec<Absent>>,
    _alone: alone::Locked,
    _ends: MutexGuard<'static, Vec<std::sync::Weak<life_pipe::LifeEnd>>>,
    childs_namespaces: Option<Namespaces>,
    limits: limits::Locked,
    _seats: MutexGuard<'static, BTreeSet<(u64, u32)>>,
}

thread_local! {
    static FORKS: RefCell<Forks> =
        const { RefCell::new(Forks { announced: Vec::new(), under_way: Vec::new(), locked: None, born: None }) };
}

/// Has `fork` call what is to be done around it, in this process and its forked children.
pub(super) fn register() -> Result<(), OsError> {
    at_fork::register(at_fork::Handlers { prepare, parent: unlock_in_parent, child: unlock_in_child })
}

/// Runs in the thread that forks, whichever that is, and in whatever state it is.
fn with_forks<R>(work: impl FnOnce(&mut Forks) -> R) -> Option<R> {
    FORKS.try_with(|forks| forks.try_borrow_mut().ok().map(|mut forks| work(&mut forks))).ok().flatten()
}

fn prepare() {
    let Some(family) = Family::existing() else { return };
    // Asked before anything is locked: this process may have to find its place first.
    let me = family.whole_arena().me();
    let coming = with_forks(|forks| forks.under_way.pop()).flatten();
    let holdings = holdings::lock();
    let mut alone = alone::lock_for_fork();
    let mut absent = absent::list();
    let coming = coming.map(|mut coming| {
        alone::before_fork(&mut alone, || family.whole_arena().backing().descriptor().ok());
        family.provide(&mut coming, &holdings, me, &mut absent);
        coming
    });
    let locks = Locks {
        _holdings: holdings,
        absent,
        _alone: alone,
        _ends: life_pipe::lock_for_fork(),
        _seats: seats_for_fork(),
        childs_namespaces: namespaces::of_children(),
        // Behind what may take memory, which may raise one.
        limits: limits::lock_for_fork(),
    };
    with_forks(|forks| {
        forks.under_way.extend(coming);
        forks.locked = Some(locks);
    });
}

fn unlock_in_parent(failed: bool) {
    // Dropped when the list of forks is free again.
    drop(with_forks(|forks| {
        if let Some(coming) = forks.under_way.last_mut() {
            coming.failed = failed;
        }
        forks.locked.take()
    }));
}

fn unlock_in_child() {
    if let Some(mut locks) = with_forks(|forks| forks.locked.take()).flatten() {
        // They are the parent's children.
        locks.absent.clear();
        locks.limits.put_back_in_child();
        if let Some(namespaces) = locks.childs_namespaces {
            let me = member::process_identity();
            with_forks(|forks| forks.born = Some((me, namespaces)));
        }
    }
}

/// The namespaces of this process, if it was born into them just now and its parent has looked.
pub(super) fn namespaces_at_birth() -> Option<Namespaces> {
    let (child, namespaces) = with_forks(|forks| forks.born).flatten()?;
    (child == member::process_identity()).then_some(namespaces)
}

/// Before a fork, whoever asks for it: `caller` is the call that does, as a number; see [`Family::announce`].
pub fn before_fork(caller: usize) {
    if let Some(family) = Family::existing() {
        // A child whose first act is to fork, in a hook that comes before ours.
        if is_unsettled_child() {
            family.settle();
        }
        family.tend(COMES_WITHIN);
    }
    with_forks(|forks| {
        // Of a start that an exception has ended between the two.
        forks.announced.retain(Coming::is_awaited);
        let known = forks.announced.iter().rposition(|coming| coming.is_of(caller));
        let coming = known.map_or_else(|| Coming::new(caller, None), |at| forks.announced.remove(at));
        forks.under_way.push(coming);
    });
}

impl Coming {
    fn is_of(&self, caller: usize) -> bool {
        self.caller == caller || self.caller == 0
    }

    /// Whether its place is kept for it.
    fn is_awaited(&self) -> bool {
        let (Some(place), Some(family)) = (self.place, Family::existing()) else { return false };
        family.process_table().look(place.index).is_reserved(place)
    }
}

/// After a fork, in the parent, whether there is a child or not.
pub fn after_fork_in_parent() {
    let Some(coming) = with_forks(|forks| forks.under_way.pop()).flatten() else { return };
    // Of one that was announced its `Start` knows: a slot that nobody comes to is taken back with what belongs to it.
    if (!coming.supervised && coming.place.is_some()) || !coming.pinned.is_empty() {
        let Coming { place, pinned, failed, .. } = coming;
        absent::list().push(Absent::new(place, failed, pinned));
        if let (true, Some(family)) = (failed, Family::existing()) {
            family.tend(COMES_WITHIN);
        }
    }
}

/// Whether this process was forked by this thread and has not been told so yet.
pub(super) fn is_unsettled_child() -> bool {
    with_forks(|forks| {
        forks.under_way.last().is_some_and(|coming| coming.parent != member::process_identity())
    })
    .unwrap_or(false)
}

impl Family {
    /// Takes, for the child of that place, references to all that this process has open. The next fork that the call
    /// `caller` of this thread makes is that child; with 0, whatever this thread forks next.
    ///
    /// # Errors
    /// When there is no memory: nothing was taken then.
    pub(crate) fn announce(&self, place: Place, caller: usize) -> Result<(), FamilyError> {
        let me = self.whole_arena().me();
        let mut coming = Coming::new(caller, Some(place));
        let holdings = holdings::lock();
        let taken = holdings.passed_on(me).try_for_each(|(target, _)| coming.refer(self, place, target));
        drop(holdings);
        if !coming.references.is_empty() {
            self.process_table().note_holds(place);
        }
        if let Err(error) = taken {
            coming.give_up(self);
            return Err(FamilyError::Memory(holdings::allocate_error(error)));
        }
        kill_point!(ForkAnnounced);
        with_forks(|forks| forks.announced.push(coming));
        Ok(())
    }

    /// The fork that was announced is not made. (One that was made, or tried, has nothing to withdraw: what belongs to the
    /// place goes with it.)
    pub(crate) fn withdraw(&self, place: Place) {
        let found = with_forks(|forks| {
            let at = forks.announced.iter().position(|coming| coming.place == Some(place))?;
            Some(forks.announced.remove(at))
        });
        if let Some(coming) = found.flatten() {
            coming.give_up(self);
        }
    }

    /// Takes the references that are missing, with all of this process's locks taken.
    fn provide(&self, coming: &mut Coming, holdings: &Holdings, me: Owner, absent: &mut Vec<Absent>) {
        if holdings.passed_on(me).next().is_none() {
            return;
        }
        if coming.place.is_none() {
            coming.place = self.reserve_place_for_fork().or_else(|| {
                self.tend_all(absent, COMES_WITHIN_AT_NEED);
                self.reserve_place_for_fork()
            });
        }
        if let Some(place) = coming.place {
            self.process_table().note_holds(place);
        }
        // Where there is no memory, that is looked for once, not for each of them.
        let mut full = false;
        for (target, kind) in holdings.passed_on(me) {
            if coming.has(target) {
                continue;
            }
            let referred = match coming.place {
                Some(place) if !full => coming.refer(self, place, target),
                _ => Err(ReferError::Stale),
            };
            full |= matches!(referred, Err(ReferError::Allocate(_)));
            if referred.is_err() && kind == Kind::Bytes && self.whole_arena().pin(target).is_ok() {
                coming.pinned.push(target);
            }
        }
    }

    /// After a fork, in the child, as early as it can be: what was held there is held here.
    pub fn after_fork_in_child(&self) {
        if own_standing_word().is_none_or(|standing| standing.load(Ordering::Relaxed) == 0) {
            self.settle();
        }
        // The rest is the parent's affair.
        with_forks(|forks| {
            forks.announced.clear();
            forks.under_way.clear();
            // From now on it may go to others.
            forks.born = None;
        });
    }

    /// In a process that has not looked yet whether it holds what it has open: takes what was made ready for it, and asks
    /// for the rest.
    pub(super) fn settle(&self) {
        let expected = with_forks(|forks| {
            let last = forks.under_way.pop()?;
            if last.parent != member::process_identity() {
                return Some(last);
            }
            forks.under_way.push(last);
            None
        });
        let mut expected = expected.flatten();
        let place = expected.as_ref().and_then(|coming| coming.place);
        let placed = place.is_some_and(|place| self.take_slot(place).is_ok());
        if placed {
            kill_point!(ForkPlaced);
        }
        if let (Some(coming), false) = (&mut expected, placed) {
            coming.references.clear();
            if coming.supervised {
                // Nobody waits for this process, and it is about to end.
                return stand(LACKING);
            }
        }
        if let (true, Some(place), Some(Coming { supervised: false, .. })) = (placed, place, &expected) {
            self.process_table().disown(place);
        }
        let mut references = expected.map(|coming| coming.references).unwrap_or_default();
        if holdings::lock().is_empty() {
            return;
        }
        let me = self.whole_arena().me();
        let mut full = false;
        let whole = holdings::lock().lacking(me).fold(true, |whole, (offset, holding)| {
            let made =
                references.get(&offset).is_some_and(|(generation, _)| *generation == holding.generation);
            let reference = references.remove(&offset).filter(|_| made).map(|(_, reference)| reference);
            let reference = reference.or_else(|| {
                let own = if full {
                    Err(FamilyError::NoReference)
                } else {
                    self.own_reference(offset, holding, me)
                };
                full = matches!(own, Err(FamilyError::NoReference));
                own.ok()
            });
            reference.is_some_and(|reference| {
                (holding.reference, holding.owner) = (reference, me);
                true
            }) && whole
        });
        stand(if whole { WHOLE } else { LACKING });
        // What was dropped between the announcement and the fork.
        for (_, reference) in references.into_values() {
            super::reclaim::release(self.whole_arena(), reference);
        }
    }

    fn own_reference(&self, offset: u64, holding: &Holding, me: Owner) -> Result<Handle, FamilyError> {
        let Owner::Member(..) = me else { return Err(FamilyError::Full { unknown: 0 }) };
        let target = Handle { offset, generation: holding.generation };
        self.whole_arena().refer(target, me).map_err(|error| match error {
            ReferError::Stale => FamilyError::NotHeld,
            ReferError::Allocate(AllocateError::OutOfMemory { .. }) => FamilyError::NoReference,
            ReferError::Allocate(AllocateError::Corrupted) => FamilyError::Memory(AllocateError::Corrupted),
        })
    }
}

fn stand(standing: u64) {
    if let Some(word) = own_standing_word() {
        word.store(standing, Ordering::Relaxed);
    }
}

/// Whether this process holds all that it has open.
#[inline]
pub(super) fn is_whole() -> bool {
    own_standing_word().is_some_and(|standing| standing.load(Ordering::Relaxed) == WHOLE)
}

/// Makes sure that this process holds a structure that it has open, in a process that may not.
///
/// # Errors
/// When it does not, and cannot.
#[cold]
pub(super) fn ensure(target: Handle) -> Result<(), FamilyError> {
    let family = Family::existing().ok_or(FamilyError::NotHeld)?;
    if member::own()?.standing.load(Ordering::Relaxed) == 0 {
        family.settle();
    }
    if is_whole() {
        return Ok(());
    }
    // Without a place it fails: this is looked for, whatever it takes.
    let _ = family.own_slot();
    let me = family.whole_arena().me();
    let mut holdings = holdings::lock();
    let holding = holdings.find(target).ok_or(FamilyError::NotHeld)?;
    // A pool is used by nobody but its maker and its workers, who open it.
    if holding.owner != me && holding.kind != Kind::Pool {
        let reference = family.own_reference(target.offset, holding, me)?;
        (holding.reference, holding.owner) = (reference, me);
    }
    if holdings.lacking(me).next().is_none() {
        stand(WHOLE);
    }
    Ok(())
}
