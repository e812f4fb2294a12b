//! A place where a fixed number of threads of any members of a family wait for each other.
//!
//! The protocol is in `barrier.rs` of manyhands-sync. What is added here: who comes (this process), who is gone (asked of
//! the process table, then of the kernel), and the table of places.

use crate::family::{Extents, Family, FamilyError, Hold, is_gone};
use crate::lock::{Look, OwnerName};
use crate::queue::OpenError;
use crate::sys::clock;
use crate::waiting;
use manyhands_sync::arena::{AllocateError, Arena, Handle, Kind, Owner};
pub use manyhands_sync::barrier::{Arrival, Glimpse, MOST_PARTIES, Outcome, Party};
use manyhands_sync::barrier::{LONGEST_SLICE, Place, SPARE_PLACES, UserBarrier};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::memory::Memory;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::wait_word::{Patience, Waited};
use std::sync::Arc;
use std::time::Duration;

/// The first sleep of a wait is no longer, so that a party that was dead already is found soon.
const FIRST_SLICE: Duration = Duration::from_millis(20);

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

/// A wait at a barrier, between interruptions.
#[derive(Debug, Default)]
pub struct Watch {
    patience: Patience,
    /// Sleeps that came to their end.
    slices: usize,
}

impl Barrier {
    /// A new barrier for so many parties, at least 1 and at most [`MOST_PARTIES`].
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub fn create(family: &Family, parties: u32) -> Result<Self, FamilyError> {
        let (arena, parties) = (family.arena(), parties.clamp(1, MOST_PARTIES));
        let count = parties + SPARE_PLACES;
        let table =
            arena.allocate(u64::from(count) * size_of::<Place>() as u64).map_err(FamilyError::Memory)?;
        let places: Option<Arc<_>> =
            offsets(table, count).map(|at| arena.backing().place_new(at, Place::new())).collect();
        let damaged = FamilyError::Memory(AllocateError::Corrupted);
        let placed = places.ok_or(damaged).and_then(|places| {
            let (barrier, hold) = family.place_shared(Kind::Barrier, UserBarrier::new(parties, table))?;
            Ok(Self { family: *family, barrier, places, hold: Arc::new(hold) })
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
        let (barrier, hold) = family.open_shared::<UserBarrier>(Kind::Barrier, handle)?;
        let (table, count) = (barrier.places(), barrier.place_count());
        let needed = u64::from(count) * size_of::<Place>() as u64;
        if family.arena().payload_bytes(table)? < needed {
            return Err(OpenError::Stale);
        }
        let places: Option<Arc<_>> =
            offsets(table, count).map(|at| family.arena().backing().place(at)).collect();
        Ok(Self {
            family: *family,
            barrier,
            places: places.ok_or_else(OpenError::not_found)?,
            hold: Arc::new(hold),
        })
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

    /// Whether that is the name of a member that has died; this process lives.
    fn is_dead(&self, me: u32) -> impl Fn(u32, Look) -> bool + use<> {
        let table = self.family.process_table();
        move |name, look| name != me && is_gone(table, OwnerName::from_number(name), look)
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

    /// Waits until the party's generation is over ([`Waited::Ready`]): see [`Barrier::outcome`]. Looks at the other parties
    /// now and then, and breaks the barrier when one of them is dead. [`Waited::Interrupted`] is to be answered by another
    /// call with the same `watch`.
    pub fn wait(&self, party: Party, watch: &mut Watch, deadline: Deadline) -> Waited {
        let turn = watch.slices;
        self.wait_watching(
            watch,
            deadline,
            |patience, slice| self.barrier.wait(party, patience, slice, |p| self.note(p, deadline)),
            |is_dead| self.barrier.look_around(&self.places, party, turn, is_dead),
        )
    }

    /// As [`Barrier::wait`], after [`Arrival::Busy`]: until it is worth to come again.
    pub fn wait_to_come(&self, glimpse: Glimpse, watch: &mut Watch) -> Waited {
        let deadline = Deadline::NEVER;
        self.wait_watching(
            watch,
            deadline,
            |patience, slice| {
                self.barrier.wait_for_change(glimpse, patience, slice, |p| self.note(p, deadline))
            },
            |is_dead| self.barrier.look_in(&self.places, glimpse, is_dead),
        )
    }

    fn note(&self, patience: &mut Patience, deadline: Deadline) -> Option<waiting::NotedWait> {
        waiting::note(WaitKind::Barrier, self.handle().offset, patience, deadline)
    }

    /// One slice of a wait, and a look at the others when it is over.
    fn wait_watching(
        &self,
        watch: &mut Watch,
        deadline: Deadline,
        wait: impl FnOnce(&mut Patience, Deadline) -> Waited,
        look: impl FnOnce(&dyn Fn(u32, Look) -> bool),
    ) -> Waited {
        let longest = if watch.slices == 0 { FIRST_SLICE } else { LONGEST_SLICE };
        let slice = deadline.slice(longest).unwrap_or_default();
        let waited = wait(&mut watch.patience, Deadline::after(slice));
        if waited != Waited::TimedOut {
            return waited;
        }
        watch.slices += 1;
        if let Ok(me) = self.me() {
            look(&self.is_dead(me));
        }
        if deadline.passed() { Waited::TimedOut } else { Waited::Interrupted }
    }

    /// What became of the party's generation; `None` while it is not over.
    #[must_use]
    pub fn outcome(&self, party: Party) -> Option<Outcome> {
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

    /// The party's time is over: breaks the barrier, unless everybody is there. What became of it; `None` while the last
    /// one acts: then the party goes on waiting.
    #[must_use]
    pub fn time_out(&self, party: Party) -> Option<Outcome> {
        self.barrier.time_out(party)
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
    pub fn wait_by(&self, mut deadline: Deadline) -> Result<u32, BrokenBarrier> {
        let mut watch = Watch::default();
        let party = loop {
            match self.arrive(false).map_err(|_| BrokenBarrier)? {
                Arrival::Passed(party) | Arrival::Acts(party) => return Ok(party.index),
                Arrival::Waits(party) => break party,
                Arrival::Broken => return Err(BrokenBarrier),
                Arrival::Busy(glimpse) => _ = self.wait_to_come(glimpse, &mut watch),
            }
        };
        let mut watch = Watch::default();
        loop {
            let outcome = match self.wait(party, &mut watch, deadline) {
                Waited::Ready | Waited::Interrupted => self.outcome(party),
                Waited::TimedOut => {
                    // If everybody has come meanwhile, the end of what the last one does is waited for.
                    deadline = Deadline::NEVER;
                    self.time_out(party)
                }
            };
            match outcome {
                Some(Outcome::Passed) => return Ok(party.index),
                Some(Outcome::Broken) => return Err(BrokenBarrier),
                None => {}
            }
        }
    }
}

fn offsets(table: Handle, count: u32) -> impl Iterator<Item = u64> {
    (0..u64::from(count)).map(move |at| table.offset + at * size_of::<Place>() as u64)
}

/// Frees the table of a barrier that nobody holds any more.
pub(crate) fn dismantle(arena: Arena<Extents>, handle: Handle) {
    if let Some(barrier) = arena.backing().place::<UserBarrier>(handle.offset) {
        // Stale if it was damaged: then it is garbage with the barrier.
        let _ = arena.free(barrier.places());
    }
}
