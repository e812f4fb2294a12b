//! The family's table of processes: one slot for each member.
//!
//! | state | meaning | who may change it |
//! |---|---|---|
//! | `FREE` | nobody's | anyone, to `RESERVED` in the next life |
//! | `RESERVED` | for a child that is about to start | the child, to `REGISTERING`; its parent, or a process that found the parent dead, to `FREE` |
//! | `REGISTERING` | a process writes into it what it is to be known by | that process, to `LIVE`; as `LIVE` |
//! | `LIVE` | a member runs | its parent that saw it end, or a process that found both dead, to `FREE` |
//!
//! State, *life* and parent are one word, changed by compare-and-swap: a child whose slot was taken back finds that out
//! when it registers, and must end. The life grows by one with each reservation; a block of the arena names its owner by
//! slot and life, so that freeing the slot makes all that its member held garbage, in one store.
//!
//! **A slot is changed as it was seen, never by its number.** A [`Place`] names one life of a slot, a [`Seen`] its state
//! besides. Two processes that find the same member dead both try to release what they saw; one of them does, and a
//! newcomer that has the slot by then keeps it. A word of the slot that is written outside of `REGISTERING` carries the
//! life that it is of and is replaced by a later life's only, so a process that comes too late disturbs nobody.
//!
//! A slot names its member by pid, pid namespace and time of registration, so that a reused pid is told apart. A parent that
//! has forked the member says besides which pid that has in its own namespace: a member in a namespace of its own can be
//! found dead by that one, once the parent is gone. The namespace is written first, then the pid; before both are there, and
//! where a parent dies before, nothing is known of it outside. The exit
//! word is written by the child itself before it ends, so that its parent knows the status even when another process
//! collected it from the kernel. The *luggage* is the block of references that a parent packed for its child.

mod noted;
mod place;

use crate::arena::Handle;
use crate::kill_point;
use crate::memory::Shareable;
use crate::notes::Notes;
use crate::primitive::{AtomicU32, AtomicU64, Ordering, fence};
use crate::taker::OwnerName;
use noted::{Noted, Wide};
pub use place::{Census, Member, Namespaces, Place, Seen, SlotIndex, State};
use place::{FREE, LIFE_MASK, LIVE, NO_PARENT, REGISTERING, RESERVED, STATE_MASK, is_of, life_in, word};

/// How many members a family can have at a time.
pub const MOST_MEMBERS: usize = if cfg!(loom) { 2 } else { 4096 };

const EXITED: u32 = 1 << 31;
/// What luggage is aligned to: a block of the arena.
const LUGGAGE_LINE: u64 = 64;

/// One member.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Slot {
    /// The parent's name, the slot's life, the state.
    word: AtomicU64,
    /// A life, and the pid of the process that came for it.
    pid: Noted,
    /// A life, and the pid namespace of that process.
    namespace: Noted,
    /// A life, and what its member noted of its end.
    exit: Noted,
    /// A life, and the luggage's generation.
    luggage_generation: Noted,
    /// A life, and where its luggage lies.
    luggage: Wide,
    /// A life, and whether its member may own blocks of the arena.
    holds: Noted,
    /// A life, and the pid namespace of the parent that has forked its member.
    parents_namespace: Noted,
    /// A life, and the pid that its member has there.
    parents_pid: Noted,
    /// Of a registered member: written while `REGISTERING`, by the process that registers.
    registered_at: AtomicU64,
    /// As above.
    image: AtomicU64,
    /// As above: the time namespace.
    clock: AtomicU32,
    notes: Notes,
}

impl Slot {
    /// No word stays behind so far that an earlier life is taken for a later one.
    fn begin_life(&self, life: u32) {
        let words =
            [&self.exit, &self.luggage_generation, &self.holds, &self.parents_namespace, &self.parents_pid];
        for word in words {
            word.note_once(life, 0);
        }
        self.luggage.note_once(life, 0);
    }
}

/// All slots.
#[derive(Debug)]
#[repr(C)]
pub struct ProcessTable {
    slots: [Slot; MOST_MEMBERS],
    /// How many slots were ever in use at a time: nothing lies behind them.
    used: AtomicU32,
}

// SAFETY: repr(C), atomics only; any bit pattern is some state.
#[allow(unsafe_code)]
unsafe impl Shareable for ProcessTable {}

impl ProcessTable {
    /// A table of free slots: loom's atomics are not made of zeroed bytes.
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        let slot = |_| Slot {
            word: AtomicU64::new(word(NO_PARENT, 0, FREE)),
            pid: Noted::new(),
            namespace: Noted::new(),
            exit: Noted::new(),
            luggage_generation: Noted::new(),
            luggage: Wide::new(),
            registered_at: AtomicU64::new(0),
            image: AtomicU64::new(0),
            clock: AtomicU32::new(0),
            holds: Noted::new(),
            parents_namespace: Noted::new(),
            parents_pid: Noted::new(),
            notes: Notes::new(),
        };
        Self { slots: std::array::from_fn(slot), used: AtomicU32::new(0) }
    }

    /// Reserves a slot for a child of the member with that name, or for the caller itself; `None` when all are taken.
    #[must_use]
    pub fn reserve(&self, parent: Option<OwnerName>) -> Option<Place> {
        let parent = parent.map_or(NO_PARENT, OwnerName::to_number);
        (0..MOST_MEMBERS as u32).map(SlotIndex).find_map(|index| {
            let slot = self.slot(index);
            let seen = slot.word.load(Ordering::Relaxed);
            if seen & STATE_MASK != FREE {
                return None;
            }
            // Counted as used first: a process that looks for the dead must not miss this one.
            self.used.fetch_max(index.0 + 1, Ordering::AcqRel);
            let life = life_in(seen).wrapping_add(1) & LIFE_MASK;
            let next = word(parent, life, RESERVED);
            slot.word.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed).ok()?;
            kill_point!(SlotClaimed);
            Some(Place { index, life })
        })
    }

    /// The calling process, which is that member, takes the slot that was reserved for it. `false` when it was taken back
    /// meanwhile: nobody counts on this process any more.
    #[must_use]
    pub fn register(&self, place: Place, member: Member) -> bool {
        let slot = self.slot(place.index);
        let reserved = |seen: u64| seen & STATE_MASK == RESERVED && life_in(seen) == place.life;
        // One process comes for a place; its pid first, so that it can be found dead from the next state on.
        if !reserved(slot.word.load(Ordering::Acquire)) || !slot.pid.note_once(place.life, member.pid.into())
        {
            return false;
        }
        kill_point!(SlotNamed);
        slot.namespace.note(place.life, member.namespaces.pids.into());
        if !self.change(place.index, |seen| reserved(seen).then_some(seen & !STATE_MASK | REGISTERING)) {
            return false;
        }
        kill_point!(SlotRegistering);
        // Pairs with the fence in `identity`: a reader that sees any of the following also sees this life in the word.
        fence(Ordering::Release);
        slot.notes.wipe();
        slot.begin_life(place.life);
        slot.clock.store(member.namespaces.clock, Ordering::Relaxed);
        slot.image.store(member.image, Ordering::Relaxed);
        slot.registered_at.store(member.registered_at.unwrap_or(u64::MAX), Ordering::Relaxed);
        kill_point!(SlotWritten);
        let mine = |seen: u64| seen & STATE_MASK == REGISTERING && life_in(seen) == place.life;
        self.change(place.index, |seen| mine(seen).then_some(seen & !STATE_MASK | LIVE))
    }

    /// Frees a slot whose member was found dead, if it still is as it was seen; whether it was.
    pub fn release(&self, seen: Seen) -> bool {
        let free = word(NO_PARENT, life_in(seen.word), FREE);
        let same = |now| (seen.is_same(now) && seen.state() != State::Free).then_some(free);
        let released = self.change(seen.index, same);
        if released {
            kill_point!(SlotReleased);
        }
        released
    }

    /// Frees the slot of a child that its parent saw end, or knows that it was never started.
    pub fn end(&self, place: Place) -> bool {
        let free = word(NO_PARENT, place.life, FREE);
        self.change(place.index, |now| is_of(now, place).then_some(free))
    }

    /// Takes a reserved slot back from a child that may not have started; `false` when it has taken the slot, or the place
    /// was given up before.
    #[must_use]
    pub fn cancel(&self, place: Place) -> bool {
        let free = word(NO_PARENT, place.life, FREE);
        self.change(place.index, |now| (is_of(now, place) && now & STATE_MASK == RESERVED).then_some(free))
    }

    /// Says that no process waits for the member's end, whichever reserved its slot.
    pub fn disown(&self, place: Place) -> bool {
        self.change(place.index, |now| {
            is_of(now, place).then(|| word(NO_PARENT, place.life, now & STATE_MASK))
        })
    }

    fn change(&self, index: SlotIndex, next: impl Fn(u64) -> Option<u64>) -> bool {
        let word = &self.slot(index).word;
        let mut seen = word.load(Ordering::Acquire);
        loop {
            let Some(next) = next(seen) else { return false };
            match word.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// How the slot stands.
    #[must_use]
    pub fn look(&self, index: SlotIndex) -> Seen {
        Seen { index, word: self.slot(index).word.load(Ordering::Acquire) }
    }

    /// Which of its lives the slot is in.
    #[must_use]
    pub fn life(&self, index: SlotIndex) -> u32 {
        self.look(index).place().life
    }

    /// Whether the member of that life may still run, or is about to start.
    #[must_use]
    pub fn lives(&self, place: Place) -> bool {
        is_of(self.slot(place.index).word.load(Ordering::Acquire), place)
    }

    /// Who lives now, in a form that stays as it is.
    #[must_use]
    pub fn census(&self) -> Census {
        let words = self.used().map(|index| self.slot(index).word.load(Ordering::Acquire));
        Census(words.collect())
    }

    /// What the process is known by that has the slot as it was seen: all of it of that life. `None` when nobody has, or
    /// the slot has changed since.
    #[must_use]
    pub fn identity(&self, seen: Seen) -> Option<Member> {
        let (slot, life) = (self.slot(seen.index), seen.place().life);
        let live = match seen.state() {
            State::Live => true,
            State::Registering => false,
            State::Free | State::Reserved => return None,
        };
        let pid = slot.pid.of(life)? as u32;
        let pids = slot.namespace.of(life).unwrap_or(0) as u32;
        let clock = slot.clock.load(Ordering::Relaxed);
        let image = slot.image.load(Ordering::Relaxed);
        let registered_at = slot.registered_at.load(Ordering::Relaxed);
        // Pairs with the fence in `register`: what was read of a later member shows its life here.
        fence(Ordering::Acquire);
        if !seen.is_same(slot.word.load(Ordering::Relaxed)) {
            return None;
        }
        Some(match live {
            true => Member {
                pid,
                namespaces: Namespaces { pids, clock },
                registered_at: Some(registered_at),
                image,
            },
            false => Member { pid, namespaces: Namespaces { pids, clock: 0 }, registered_at: None, image: 0 },
        })
    }

    /// Says what the member of that life, which the caller has forked, is called in the caller's pid namespace.
    pub fn note_forked(&self, place: Place, pid: u32, namespace: u32) {
        let slot = self.slot(place.index);
        if slot.parents_namespace.note(place.life, namespace.into()) {
            kill_point!(SlotHalfForked);
            slot.parents_pid.note(place.life, pid.into());
        }
    }

    /// The pid of the member that has the slot as it was seen, in the namespace of the parent that has forked it, and that
    /// namespace; `None` when the parent has not said so.
    #[must_use]
    pub fn forked_as(&self, seen: Seen) -> Option<(u32, u32)> {
        let (slot, life) = (self.slot(seen.index), seen.place().life);
        // In this order: the namespace was there before the pid.
        let pid = slot.parents_pid.of(life).filter(|&pid| pid != 0)?;
        let namespace = slot.parents_namespace.of(life).filter(|&namespace| namespace != 0)?;
        Some((pid as u32, namespace as u32))
    }

    /// The member in the slot, while one lives there.
    #[must_use]
    pub fn member(&self, index: SlotIndex) -> Option<(Seen, Member)> {
        let seen = self.look(index);
        let live = seen.state() == State::Live;
        live.then(|| self.identity(seen)).flatten().map(|member| (seen, member))
    }

    /// Every slot in which a member lives.
    pub fn members(&self) -> impl Iterator<Item = (Seen, Member)> + '_ {
        self.used().filter_map(|index| self.member(index))
    }

    /// Says that the member of that life may own blocks of the arena from now on.
    pub fn note_holds(&self, place: Place) {
        self.slot(place.index).holds.note(place.life, 1);
    }

    /// Whether the member of that life may own blocks of the arena.
    #[must_use]
    pub fn holds(&self, place: Place) -> bool {
        self.slot(place.index).holds.of(place.life) == Some(1)
    }

    /// Leaves a block of references for the child that the place is reserved for; `false` when the place was given up.
    #[must_use]
    pub fn pack(&self, place: Place, luggage: Handle) -> bool {
        let slot = self.slot(place.index);
        let line = luggage.offset / LUGGAGE_LINE;
        let packed = self.lives(place)
            && slot.luggage_generation.note(place.life, luggage.generation.into())
            && slot.luggage.note(place.life, line);
        if packed {
            self.note_holds(place);
        }
        packed
    }

    /// Takes what the parent packed for the member of that life, once.
    #[must_use]
    pub fn unpack(&self, place: Place) -> Option<Handle> {
        let slot = self.slot(place.index);
        let generation = slot.luggage_generation.of(place.life)? as u32;
        let line = slot.luggage.take(place.life)?;
        Some(Handle { offset: line * LUGGAGE_LINE, generation })
    }

    /// Notes the exit status (as Python's `exitcode`, -128..=255) that the member of that life is about to end with.
    pub fn note_exit(&self, place: Place, status: i32) {
        let word = EXITED | (status.cast_unsigned() & 0xffff);
        self.slot(place.index).exit.note(place.life, word.into());
    }

    /// The exit status that the member of that life noted, if it came that far.
    #[must_use]
    pub fn noted_exit(&self, place: Place) -> Option<i32> {
        let word = self.slot(place.index).exit.of(place.life)? as u32;
        (word & EXITED != 0).then(|| i32::from((word & 0xffff) as u16 as i16))
    }

    /// What the member in the slot says about itself.
    #[must_use]
    pub fn notes(&self, index: SlotIndex) -> &Notes {
        &self.slot(index).notes
    }

    /// The slots that may hold a member, for a reader who shall not touch the memory of the others.
    pub fn used(&self) -> impl Iterator<Item = SlotIndex> + use<> {
        let used = (self.used.load(Ordering::Relaxed) as usize).min(MOST_MEMBERS);
        (0..used as u32).map(SlotIndex)
    }

    fn slot(&self, index: SlotIndex) -> &Slot {
        &self.slots[index.0 as usize]
    }
}
