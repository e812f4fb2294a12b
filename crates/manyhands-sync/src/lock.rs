//! A user's lock: one futex word that names its holder, so that no kill can come between taking it and saying so.
//!
//! # The word
//! | value | meaning |
//! |---|---|
//! | 0 | free |
//! | `KEPT` | locked; its holder has ended in an orderly way and left it so |
//! | a [reservation](crate::turn) | nobody's: for those who have slept; after 10 ms for anybody |
//! | anything else | locked by that member: 12 bits of its slot, 19 bits made of the slot's life ([`OwnerName`]) |
//! | bit 31 | beside all but the first: somebody may be asleep |
//!
//! # Protocol
//! | who | does | commit |
//! |---|---|---|
//! | taker | exchanges 0 for its name, then notes its thread in `holder` | the exchange |
//! | waiter | sets bit 31, sleeps while the word is unchanged, at most [`LONGEST_SLEEP`] at a time; takes with bit 31 set once it has slept, for it cannot know who else sleeps | |
//! | waiter that has slept, and waited for long | sets `stamp` before it sleeps again | |
//! | releaser | of a recursive lock: clears `holder`; then exchanges the word for 0, and wakes one if bit 31 was set | the exchange |
//! | releaser, where bit 31 and `stamp` are set | exchanges the word for a reservation instead; if its wake finds nobody asleep, exchanges that for 0, and wakes again if bit 31 was set meanwhile | each exchange |
//! | waiter that has slept | exchanges a reservation for its name and bit 31, then clears `stamp` | the exchange |
//! | anybody who finds a reservation that is over | as a waiter that has slept | the exchange |
//! | finder | sees that the named member is gone; exchanges the dead one's name for 0 and wakes, or for its own and keeps the lock, as the lock's maker chose; frees a recursive lock by way of its own name, to clear `holder` | the exchange |
//! | a member that ends | exchanges its name for `KEPT` in every lock that it has open | each exchange |
//!
//! `holder` and `again` are written by the holder only, while it holds. In a recursive lock they decide: a thread that
//! finds itself in `holder` while the word names its process holds the lock, so `holder` is cleared *before* the word is
//! freed, and both by a finder before anybody else can be named. In one that is not recursive they only inform, and are left
//! standing by another process that releases.
//!
//! Whoever is woken tries, and either takes the lock or sets bit 31 again before it does anything else, sleeping or
//! leaving: so somebody who sleeps is always known to the word, or to somebody awake.
//!
//! # When somebody is killed
//! | killed ([kill point](crate::kill_point)) | what stays | what the others do |
//! |---|---|---|
//! | a holder, at any step from its exchange (70, 71, 73) | the word names a dead member | one finder takes over; exactly one, since only one exchange of that name succeeds |
//! | a waiter that has set bit 31 (72), or sleeps, or was woken and has not tried | bit 31, or a wake that went with it | one wasted system call; others that sleep look again after their slice |
//! | a releaser that has not woken (74) | a sleeper that was not woken | it looks again after its slice |
//! | a finder that has taken over and told nobody (75) | the word is free, or names the finder, dead | the first death is then not told; the second is, if the word names the finder |
//! | a waiter that has set the stamp (191) | `stamp` | one release reserves the lock, and finds out by its wake whether anybody sleeps |
//! | a releaser that has reserved the lock and woken nobody (192), or the one that it woke (193) | a reservation | those whose sleep has come to its end take the lock, and after 10 ms anybody who comes by, who wakes another one when it releases: no death is told, for nobody held it |
//! | one that ends, half way (76) | some of its locks are `KEPT`, the others name a dead member | the others are recovered |
//!
//! # What is trusted
//! A word that was damaged names a member that lives, or one that does not: it is waited for, or recovered. 19 bits of a
//! life say that the same slot has been used 524,287 times before two of its members are taken for each other.

use crate::arena::Kind;
use crate::deadline::Deadline;
use crate::kill_point;
use crate::memory::{Placed, Shareable};
use crate::park::{Announced, Parked, park};
pub use crate::park::{LONGEST_SLEEP, Waiting};
use crate::primitive::{AtomicU32, AtomicU64, Ordering, futex_wake};
use crate::taker::LIFE_BITS;
pub use crate::taker::{OwnerName, Taker};
use crate::turn::{Stamp, is_over, is_reserved, reserved};

const FREE: u32 = 0;
const SLEEPERS: u32 = 1 << 31;
/// A slot with no life: names nobody.
const KEPT: u32 = 1 << LIFE_BITS;

/// What becomes of a lock whose holder was killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum OnOwnerDeath {
    /// It becomes free, and one of those who want it is told instead of getting it.
    #[default]
    Raise = 0,
    /// It stays locked until somebody releases it.
    Block = 1,
    /// One of those who want it gets it.
    Recover = 2,
}

/// What sort of lock it is: chosen when it is made, for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nature {
    /// Whether the thread that holds it may take it again, and only that one may release it.
    pub recursive: bool,
    /// What becomes of it when its holder is killed.
    pub on_owner_death: OnOwnerDeath,
}

const RECURSIVE: u32 = 1 << 8;

impl Nature {
    fn to_word(self) -> u32 {
        self.on_owner_death as u32 | if self.recursive { RECURSIVE } else { 0 }
    }

    fn from_word(word: u32) -> Self {
        let on_owner_death = match word & 0xff {
            1 => OnOwnerDeath::Block,
            2 => OnOwnerDeath::Recover,
            _ => OnOwnerDeath::Raise,
        };
        Self { recursive: word & RECURSIVE != 0, on_owner_death }
    }
}

/// How a try or a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The caller holds the lock.
    Yes,
    /// The caller holds the lock, whose last holder was killed: what the lock guards may be half changed.
    Recovered,
    /// The last holder was killed, which nobody else is told. The caller does not hold the lock, which is free.
    OwnerDied(Dead),
    /// Somebody else holds it, and the caller's time is over.
    No,
    /// A signal arrived, or a sleep has come to its end: the caller looks around and goes on.
    Interrupted,
}

/// A holder that was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dead {
    /// Its name.
    pub owner: OwnerName,
    /// The process id that it noted; 0 when it did not come so far.
    pub pid: u32,
}

/// Why a lock was not released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseError {
    /// It is free.
    Free,
    /// It is recursive, and this thread does not hold it.
    NotOwner,
}

/// How closely to look whether a member is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// In shared memory: costs nothing.
    Quick,
    /// Asking the kernel.
    Close,
}

/// Who holds a lock, for somebody who only looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBy {
    /// Nobody.
    Nobody,
    /// A process that has ended in an orderly way.
    Kept,
    /// That member; process id and thread as it noted them, 0 while it has not.
    Member(OwnerName, u32, u32),
}

/// Placed in the arena, one for each lock.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct UserLock {
    word: AtomicU32,
    nature: AtomicU32,
    /// The holder's [`Taker::thread`].
    holder: AtomicU64,
    /// How often the holder has taken a recursive lock again: 0 after the first time, so that this costs no store.
    again: AtomicU32,
    /// How often a holder was killed.
    deaths: AtomicU32,
    /// Set by waiters that have waited for long; cleared by one that takes what was reserved.
    stamp: Stamp,
}

// SAFETY: repr(C), atomics only; any bit pattern is a state that is waited for, recovered or released.
#[allow(unsafe_code)]
unsafe impl Shareable for UserLock {}

// SAFETY: the only structure that is laid into blocks of this kind.
#[allow(unsafe_code)]
unsafe impl Placed for UserLock {
    const KIND: Kind = Kind::Lock;
}

impl UserLock {
    /// A free lock.
    #[must_use]
    pub fn new(nature: Nature) -> Self {
        Self {
            word: AtomicU32::new(FREE),
            nature: AtomicU32::new(nature.to_word()),
            holder: AtomicU64::new(0),
            again: AtomicU32::new(0),
            deaths: AtomicU32::new(0),
            stamp: Stamp::new(),
        }
    }

    /// What sort of lock it is.
    pub fn nature(&self) -> Nature {
        Nature::from_word(self.nature.load(Ordering::Relaxed))
    }

    /// Takes the lock if it is free, or held by this thread and recursive; whether it did.
    #[inline]
    pub fn try_take(&self, recursive: bool, me: Taker) -> bool {
        match self.word.compare_exchange(FREE, me.owner.0, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => {
                self.note_taken(me);
                true
            }
            Err(word) if is_reserved(word) => self.take_if_over(word, me),
            Err(_) => recursive && self.take_again(me),
        }
    }

    /// Takes a lock whose reservation is over; whether it did.
    #[cold]
    fn take_if_over(&self, word: u32, me: Taker) -> bool {
        is_over(word) && self.take_reserved(word, me)
    }

    /// Takes a lock that is reserved. Of those who sleep one may have been woken, or none: it is woken at the release.
    fn take_reserved(&self, word: u32, me: Taker) -> bool {
        let to = me.owner.0 | SLEEPERS;
        let taken = self.word.compare_exchange(word, to, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if taken {
            self.stamp.clear();
            self.note_taken(me);
        }
        taken
    }

    #[inline]
    fn note_taken(&self, me: Taker) {
        kill_point!(LockTaken);
        self.holder.store(me.thread, Ordering::Relaxed);
        kill_point!(LockNoted);
    }

    fn take_again(&self, me: Taker) -> bool {
        let mine = self.is_held_by(me);
        if mine {
            // Nobody else writes it while we hold the lock.
            self.again.store(self.again.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
        }
        mine
    }

    /// As [`UserLock::try_take`], looking as closely as told whether a holder is gone, and taking over from one that is.
    #[cold]
    pub fn try_take_looking(
        &self,
        me: Taker,
        look: Look,
        is_gone: impl Fn(OwnerName, Look) -> bool,
    ) -> Taken {
        let nature = self.nature();
        if self.try_take(nature.recursive, me) {
            return Taken::Yes;
        }
        let word = self.word.load(Ordering::Relaxed);
        self.take_over_if_gone(word, nature, me, look, is_gone).unwrap_or(Taken::No)
    }

    /// Waits for the lock until the deadline, a signal, or the end of a sleep; `is_gone` says whether a member has died,
    /// for good, and `about_to_sleep` is called once if the wait comes to that: what it returns is kept while it lasts.
    ///
    /// The caller has tried before. It calls again after [`Taken::Interrupted`], with the same `waiting`.
    pub fn take<N>(
        &self,
        me: Taker,
        waiting: &mut Waiting,
        deadline: Deadline,
        is_gone: impl Fn(OwnerName, Look) -> bool,
        about_to_sleep: impl FnOnce(&mut Waiting) -> N,
    ) -> Taken {
        let nature = self.nature();
        let free = || {
            let taken = self.word.load(Ordering::Relaxed) == FREE && self.try_take(nature.recursive, me);
            taken.then_some(Taken::Yes)
        };
        let announce = |waiting: &mut Waiting| self.announce(nature, me, waiting, &is_gone);
        match park(&self.word, waiting, deadline, free, announce, about_to_sleep) {
            Parked::Done(taken) => taken,
            Parked::TimedOut => Taken::No,
            Parked::Interrupted => Taken::Interrupted,
        }
    }

    fn announce(
        &self,
        nature: Nature,
        me: Taker,
        waiting: &mut Waiting,
        is_gone: impl Fn(OwnerName, Look) -> bool,
    ) -> Announced<Taken> {
        if waiting.was_woken() {
            kill_point!(LockWoken);
        }
        let word = self.word.load(Ordering::Relaxed);
        if let Some(taken) = self.take_unheld(word, me, waiting) {
            return if taken { Announced::Done(Taken::Yes) } else { Announced::Changed };
        }
        if waiting.has_waited_long() {
            self.stamp.set();
            kill_point!(LockStamped);
        }
        // First of all: who takes over from the dead must know that others may sleep.
        let expected = word | SLEEPERS;
        if word != expected && !self.exchange(word, expected) {
            return Announced::Changed;
        }
        // A waiter that was woken and looks closely each time is late for each turn.
        let look = if waiting.take_ended() { Look::Close } else { Look::Quick };
        if let Some(taken) = self.take_over_if_gone(expected, nature, me, look, is_gone) {
            return Announced::Done(taken);
        }
        kill_point!(LockFlagged);
        Announced::Sleep(expected)
    }

    /// Takes a lock whose word says that nobody holds it, and whether that succeeded; `None` where somebody does, or the lock
    /// is not for this waiter.
    fn take_unheld(&self, word: u32, me: Taker, waiting: &Waiting) -> Option<bool> {
        if word & !SLEEPERS == FREE {
            return Some(self.take_from(word, me, waiting.was_woken()));
        }
        let its_turn = is_reserved(word) && (waiting.has_slept() || is_over(word));
        its_turn.then(|| self.take_reserved(word, me))
    }

    fn exchange(&self, from: u32, to: u32) -> bool {
        self.word.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Takes a lock whose word is that of a free one. Bit 31 alone is damage, and as good as free.
    fn take_from(&self, word: u32, me: Taker, woken: bool) -> bool {
        let sleepers = if woken { SLEEPERS } else { word & SLEEPERS };
        let to = me.owner.0 | sleepers;
        let taken = self.word.compare_exchange(word, to, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if taken {
            self.note_taken(me);
        }
        taken
    }

    /// Takes over from a holder that is gone; `None` when it is not, or somebody else was faster.
    fn take_over_if_gone(
        &self,
        word: u32,
        nature: Nature,
        me: Taker,
        look: Look,
        is_gone: impl Fn(OwnerName, Look) -> bool,
    ) -> Option<Taken> {
        let owner = OwnerName(word & !SLEEPERS);
        let somebody = !matches!(owner.0, FREE | KEPT) && !is_reserved(word) && owner != me.owner;
        if nature.on_owner_death == OnOwnerDeath::Block || !somebody || !is_gone(owner, look) {
            return None;
        }
        let dead = Dead { owner, pid: (self.holder.load(Ordering::Relaxed) >> 32) as u32 };
        let keeps = nature.on_owner_death == OnOwnerDeath::Recover;
        // One that is not recursive may be released by anybody at any moment, the dead one's name or ours: so it goes from
        // one state to the next in one exchange. Of a recursive one nobody else can change the word once it names us.
        let passes_by = nature.recursive || keeps;
        let to = if passes_by { me.owner.0 | word & SLEEPERS } else { FREE };
        self.word.compare_exchange(word, to, Ordering::Acquire, Ordering::Relaxed).ok()?;
        self.deaths.fetch_add(1, Ordering::Relaxed);
        if passes_by {
            self.holder.store(0, Ordering::Relaxed);
            self.again.store(0, Ordering::Relaxed);
        }
        kill_point!(LockTakenOver);
        if keeps {
            self.note_taken(me);
            return Some(Taken::Recovered);
        }
        if nature.recursive {
            let _ = self.free(me);
        } else {
            self.wake(word);
        }
        Some(Taken::OwnerDied(dead))
    }

    /// Gives the lock back; one of those who wait is woken.
    ///
    /// # Errors
    /// When it is free, or recursive and not this thread's. Nothing has happened then.
    #[inline]
    pub fn release(&self, recursive: bool, me: Taker) -> Result<(), ReleaseError> {
        if recursive { self.release_recursive(me) } else { self.free(me) }
    }

    /// Frees the lock.
    #[inline]
    fn free(&self, me: Taker) -> Result<(), ReleaseError> {
        // The word as it is while nobody waits: one exchange then, and no look before it.
        match self.word.compare_exchange(me.owner.0, FREE, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => {
                kill_point!(LockReleased);
                Ok(())
            }
            Err(word) => self.free_other(word),
        }
    }

    /// Frees a lock that somebody waits for, or that another process has taken.
    #[cold]
    fn free_other(&self, mut word: u32) -> Result<(), ReleaseError> {
        let mut turn = None;
        loop {
            if word & !SLEEPERS == FREE || is_reserved(word) {
                return Err(ReleaseError::Free);
            }
            if word & SLEEPERS != 0 && turn.is_none() {
                turn = self.stamp.turn().map(reserved);
            }
            let to = turn.unwrap_or(FREE);
            match self.word.compare_exchange(word, to, Ordering::Release, Ordering::Relaxed) {
                Ok(_) if turn.is_some() => self.wake_for_turn(to),
                Ok(_) => self.wake(word),
                Err(now) => {
                    word = now;
                    continue;
                }
            }
            return Ok(());
        }
    }

    /// Wakes one of those for whom the lock was reserved by that word. Where nobody sleeps any more, it is for everybody.
    fn wake_for_turn(&self, mut word: u32) {
        kill_point!(LockReserved);
        if futex_wake(&self.word, 1) != 0 {
            return;
        }
        // A waiter that is still there asks again before it sleeps.
        self.stamp.clear();
        loop {
            match self.word.compare_exchange(word, FREE, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return self.wake(word),
                // Somebody who has not slept before has gone to sleep.
                Err(now) if now == word | SLEEPERS => word = now,
                Err(_) => return,
            }
        }
    }

    fn release_recursive(&self, me: Taker) -> Result<(), ReleaseError> {
        if !self.is_held_by(me) {
            return Err(ReleaseError::NotOwner);
        }
        let again = self.again.load(Ordering::Relaxed);
        if again > 0 {
            self.again.store(again - 1, Ordering::Relaxed);
            return Ok(());
        }
        self.holder.store(0, Ordering::Relaxed);
        kill_point!(LockCleared);
        self.free(me)
    }

    fn wake(&self, word: u32) {
        kill_point!(LockReleased);
        if word & SLEEPERS != 0 {
            futex_wake(&self.word, 1);
        }
    }

    /// Whether this thread holds it.
    #[inline]
    pub fn is_held_by(&self, me: Taker) -> bool {
        self.word.load(Ordering::Relaxed) & !SLEEPERS == me.owner.0
            && self.holder.load(Ordering::Relaxed) == me.thread
    }

    /// Whether somebody holds it, or it is reserved: whether somebody who comes now would have to wait.
    #[inline]
    pub fn is_locked(&self) -> bool {
        match self.word.load(Ordering::Relaxed) & !SLEEPERS {
            FREE => false,
            word => !is_reserved(word) || !is_over(word),
        }
    }

    /// Who holds it.
    pub fn held_by(&self) -> HeldBy {
        match self.word.load(Ordering::Relaxed) & !SLEEPERS {
            FREE => HeldBy::Nobody,
            word if is_reserved(word) => HeldBy::Nobody,
            KEPT => HeldBy::Kept,
            owner => {
                let holder = self.holder.load(Ordering::Relaxed);
                HeldBy::Member(OwnerName(owner), (holder >> 32) as u32, holder as u32)
            }
        }
    }

    /// How often its holder has taken it; at most 1 if it is not recursive.
    pub fn count(&self) -> u32 {
        match (self.held_by(), self.nature().recursive) {
            (HeldBy::Nobody, _) => 0,
            (_, false) => 1,
            (_, true) => self.again.load(Ordering::Relaxed).saturating_add(1),
        }
    }

    /// How often a holder was killed, and somebody took over.
    pub fn deaths(&self) -> u32 {
        self.deaths.load(Ordering::Relaxed)
    }

    /// The process ends, or lets go of the lock for good: if it holds it, it stays locked until somebody releases it.
    pub fn keep(&self, owner: OwnerName) {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & !SLEEPERS == owner.0 {
            let kept = KEPT | word & SLEEPERS;
            match self.word.compare_exchange(word, kept, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return kill_point!(LockKept),
                Err(now) => word = now,
            }
        }
    }
}
