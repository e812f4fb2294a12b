//! A place where a fixed number of threads of any members of a family wait for each other.
//!
//! The protocol is in `barrier.rs` of manyhands-sync. What is added here: who comes (this process), who is gone (asked of
//! the process table, then of the kernel), and the table of places.

use crate::family::{Extents, Family, FamilyError, Hold, is_gone_in};
use crate::lock::{Look, OwnerName};
use crate::queue::OpenError;
use crate::sys::clock;
use crate::waiting::{block, undisturbed};
use manyhands_sync::arena::{Arena, Handle, Owner};
pub use manyhands_sync::barrier::{Arrival, Glimpse, MOST_PARTIES, Outcome, Party};
use manyhands_sync::barrier::{Place, SPARE_PLACES, UserBarrier, find_places, lay_places};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::park::{Parked, Waiting};
use std::cell::OnceCell;
use std::sync::Arc;

/// A barrier, seen from one process. It lives as a [`Lock`](crate::Lock) does.
///
/// ```
/// use manyhands::{Barrier, Deadline, family::Family};
///
/// let start = Barrier::create(Family::current()?, 3)?;
/// let mut places: Vec<u32> = std::thread::scope(|scope| {
///     let runners: Vec<_> = (0..3).map(|_| scope.spawn(|| start.wait_by(Deadline::NEVER))).collect();
///     runners.into_iter().map(|runner| runner.join().expect("no panic").expect("nobody leaves")).collect()
/// });
/// places.sort();
/// assert_eq!(places, [0, 1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Barrier {
    family: Family,
    barrier: &'static UserBarrier,
    places: Arc<[&'static Place]>,
    hold: Arc<Hold>,
}

/// The barrier is broken: by a time-out, by `abort` or `reset`, or because a party that waited was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenBarrier;

impl std::fmt::Display for BrokenBarrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the barrier is broken")
    }
}

impl std::error::Error for BrokenBarrier {}

impl Barrier {
    /// A new barrier for so many parties, at least 1 and at most [`MOST_PARTIES`].
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub fn create(family: &Family, parties: u32) -> Result<Self, FamilyError> {
        let (arena, parties) = (family.whole_arena(), parties.clamp(1, MOST_PARTIES));
        let count = parties + SPARE_PLACES;
        let (table, places) = lay_places(&arena, count).map_err(FamilyError::Memory)?;
        let placed = family.place_shared(UserBarrier::new(parties, table));
        let placed = placed.map(|(barrier, hold)| Self {
            family: *family,
            barrier,
            places: places.into(),
            hold: Arc::new(hold),
        });
        match &placed {
            Ok(barrier) => arena.give(table, Owner::Block(barrier.handle())),
            Err(_) => drop(arena.free(table)),
        }
        placed
    }

    /// The barrier with that handle.
    ///
    /// # Errors
    /// When there is no such barrier (any more).
    pub fn open(family: &Family, handle: Handle) -> Result<Self, OpenError> {
        let (barrier, hold) = family.open_shared::<UserBarrier>(handle)?;
        let places = find_places(&family.whole_arena(), barrier.places(), barrier.place_count())?;
        Ok(Self { family: *family, barrier, places: places.into(), hold: Arc::new(hold) })
    }

    /// Makes sure that this process holds it, as a forked child may not; see [`Hold::ensure`](crate::family::Hold::ensure).
    ///
    /// # Errors
    /// When it does not, and cannot.
    #[inline]
    pub fn ensure_held(&self) -> Result<(), FamilyError> {
        self.hold.ensure()
    }

    /// By what another member opens the barrier.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.hold.handle()
    }

    /// How many parties it waits for.
    #[must_use]
    pub fn parties(&self) -> u32 {
        self.barrier.parties()
    }

    /// How many wait; 0 when it is broken.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.barrier.waiting()
    }

    /// Whether it is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.barrier.is_broken()
    }

    fn me(&self) -> Result<u32, FamilyError> {
        Ok(self.family.taker()?.owner.to_number())
    }

    /// Whether that is the name of a member that has died; this process lives. For one look at the places.
    fn is_dead(&self, me: u32) -> impl Fn(u32, Look) -> bool + use<> {
        let (family, round) = (self.family, OnceCell::new());
        move |name, look| name != me && is_gone_in(&family, &round, OwnerName::from_number(name), look)
    }

    /// This thread comes. With `acts`, it has something to do before everybody passes, should it be the last one.
    ///
    /// # Errors
    /// When this process can be in no family.
    pub fn arrive(&self, acts: bool) -> Result<Arrival, FamilyError> {
        let me = self.me()?;
        let now = clock::monotonic_nanoseconds();
        Ok(self.barrier.arrive(&self.places, me, acts, now, self.is_dead(me)))
    }

    /// Waits until the party's generation is over, and says what became of it. Looks at the other parties after each sleep, and
    /// breaks the barrier when one of them is dead; one whose time is over breaks it, too, unless everybody is there: then the
    /// end of what the last one does is waited for, however long it takes. `on_signal` is called whenever a signal may have
    /// come; what it returns as an error ends the wait: then the party leaves.
    ///
    /// # Errors
    /// What `on_signal` returned.
    pub fn wait_interruptibly<E>(
        &self,
        party: Party,
        deadline: Deadline,
        mut on_signal: impl FnMut() -> Result<(), E>,
    ) -> Result<Outcome, E> {
        let mut end = deadline;
        loop {
            let over =
                block(WaitKind::Barrier, self.handle().offset, end, &mut on_signal, |waiting, record| {
                    let slices = waiting.slices();
                    let waited = self.barrier.wait(party, waiting, end, |waiting| record.note(waiting));
                    self.look_after(slices, waiting, |is_dead| {
                        self.barrier.look_around(&self.places, party, slices as usize, is_dead);
                    });
                    Parked::from(waited)
                })?;
            let outcome = if over.is_some() { self.outcome(party) } else { self.barrier.time_out(party) };
            match outcome {
                Some(outcome) => return Ok(outcome),
                None if over.is_none() => end = Deadline::NEVER,
                None => {}
            }
        }
    }

    /// After [`Arrival::Busy`]: waits until the state has changed, and comes again; what the arrival came to.
    ///
    /// # Errors
    /// What `on_signal` returned; inside, as [`Barrier::arrive`].
    pub fn arrive_interruptibly<E>(
        &self,
        acts: bool,
        mut on_signal: impl FnMut() -> Result<(), E>,
    ) -> Result<Result<Arrival, FamilyError>, E> {
        let (object, deadline) = (self.handle().offset, Deadline::NEVER);
        loop {
            let glimpse = match self.arrive(acts) {
                Ok(Arrival::Busy(glimpse)) => glimpse,
                arrived => return Ok(arrived),
            };
            block(WaitKind::Barrier, object, deadline, &mut on_signal, |waiting, record| {
                let slices = waiting.slices();
                let note = |waiting: &mut Waiting| record.note(waiting);
                let waited = self.barrier.wait_for_change(glimpse, waiting, deadline, note);
                self.look_after(slices, waiting, |is_dead| {
                    self.barrier.look_in(&self.places, glimpse, is_dead);
                });
                Parked::from(waited)
            })?;
        }
    }

    /// Looks at the others when a sleep has come to its end.
    fn look_after(&self, slices: u32, waiting: &Waiting, look: impl FnOnce(&dyn Fn(u32, Look) -> bool)) {
        if waiting.slices() != slices
            && let Ok(me) = self.me()
        {
            look(&self.is_dead(me));
        }
    }

    fn outcome(&self, party: Party) -> Option<Outcome> {
        self.barrier.outcome(party)
    }

    /// What had to be done was done: everybody passes, unless the barrier was broken or reset meanwhile.
    #[must_use]
    pub fn acted(&self, party: Party) -> Outcome {
        self.barrier.acted(party)
    }

    /// What had to be done was not done: breaks the barrier, unless it was reset meanwhile.
    pub fn fail(&self, party: Party) {
        self.barrier.fail(party);
    }

    /// The party goes away, as if it had not come, unless everybody is there.
    pub fn leave(&self, party: Party) {
        if let Ok(me) = self.me() {
            self.barrier.leave(&self.places, party, me);
        }
    }

    /// Breaks the barrier for good, until it is reset.
    pub fn abort(&self) {
        self.barrier.abort();
    }

    /// Begins anew. For those who wait it is broken.
    pub fn reset(&self) {
        self.barrier.reset();
    }

    /// Waits until all parties are there; how many were there before this one. Signals do not end the wait.
    ///
    /// # Errors
    /// When the barrier is or becomes broken; one that waits until its deadline breaks it.
    pub fn wait_by(&self, deadline: Deadline) -> Result<u32, BrokenBarrier> {
        let Ok(arrived) = self.arrive_interruptibly(false, undisturbed);
        let party = match arrived.map_err(|_| BrokenBarrier)? {
            Arrival::Passed(party) | Arrival::Acts(party) => return Ok(party.index),
            Arrival::Waits(party) => party,
            Arrival::Broken | Arrival::Busy(_) => return Err(BrokenBarrier),
        };
        let Ok(outcome) = self.wait_interruptibly(party, deadline, undisturbed);
        match outcome {
            Outcome::Passed => Ok(party.index),
            Outcome::Broken => Err(BrokenBarrier),
        }
    }
}

/// Frees the table of a barrier that nobody holds any more.
pub(crate) fn dismantle(arena: Arena<Extents>, handle: Handle) {
    if let Ok(barrier) = arena.placed::<UserBarrier>(handle) {
        // Stale if it was damaged: then it is garbage with the barrier.
        let _ = arena.free(barrier.places());
    }
}
