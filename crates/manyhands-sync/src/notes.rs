//! What a member of the family says about itself, for whoever looks: what it is, what it runs, what its threads wait
//! for. Nobody's work depends on it.
//!
//! # Protocol of a wait note
//! A thread that is about to *sleep* takes one of its process's notes, and gives it back when it is awake; one that finds
//! what it wants without sleeping never comes here. One word commits: kind, thread and a count of uses.
//!
//! | kind in the word | meaning | who may change it | when its writer dies |
//! |---|---|---|---|
//! | `FREE` | nobody's | any thread of the member, to `CLAIMED` by compare-and-swap | |
//! | `CLAIMED` | its other words are being written | the thread that claimed it | stays; readers call it unreadable |
//! | a [`WaitKind`] | its thread waits | that thread, to `FREE` | stays, as the last word of a dead member: readers show it as such |
//!
//! More threads than there are notes are counted in `unnoted`. Whatever a dead member leaves is wiped when its slot is
//! reserved for another one. A reader writes nothing; it takes a note for good only if the word is the same before and
//! after the others were read.

use crate::kill_point;
use crate::primitive::{AtomicU32, AtomicU64, Ordering, fence};

/// How many waiting threads of one process are noted; more are only counted.
pub const NOTES_PER_MEMBER: usize = if cfg!(loom) { 1 } else { 4 };
/// How many bytes a label has at most.
pub const LABEL_BYTES: usize = if cfg!(loom) { 8 } else { 64 };

const FREE: u8 = 0;
const CLAIMED: u8 = u8::MAX;

/// What a thread waits for. A number never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum WaitKind {
    /// A message in a queue; the object is the queue's offset.
    Message = 1,
    /// Room in a queue that has a bound; the object is the queue's offset.
    Room = 2,
    /// A pool's worker, for tasks; the object is the pool's offset.
    Tasks = 3,
    /// The side that made a pool, for answers; the object is the pool's offset.
    Answers = 4,
    /// The end of a process; the object is its pid.
    End = 5,
    /// A fork server, for requests.
    Requests = 6,
    /// A lock; the object is the lock's offset.
    Lock = 7,
    /// A semaphore; the object is the semaphore's offset.
    Semaphore = 8,
    /// An event; the object is the event's offset.
    Event = 9,
    /// A condition; the object is the condition's offset.
    Condition = 10,
    /// A barrier; the object is the barrier's offset.
    Barrier = 11,
    /// All items of a queue to be done with; the object is the queue's offset.
    AllDone = 12,
    /// Something to read on descriptors. Not noted: connections need no shared memory.
    Connection = 13,
}

impl WaitKind {
    fn from_number(number: u8) -> Option<Self> {
        let kinds = [
            Self::Message,
            Self::Room,
            Self::Tasks,
            Self::Answers,
            Self::End,
            Self::Requests,
            Self::Lock,
            Self::Semaphore,
            Self::Event,
            Self::Condition,
            Self::Barrier,
            Self::AllDone,
            Self::Connection,
        ];
        kinds.into_iter().find(|&kind| kind as u8 == number)
    }
}

/// One thread's wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What it waits for.
    pub kind: WaitKind,
    /// On which object: see [`WaitKind`].
    pub object: u64,
    /// Which thread, by the kernel's number.
    pub thread: u32,
    /// When it began, in nanoseconds of the monotonic clock.
    pub since: u64,
    /// When it ends at the latest, by the same clock; 0 for never.
    pub deadline: u64,
}

/// What a reader finds in a note that is not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// A wait.
    Wait(Wait),
    /// Being written, changed while it was read, or damaged.
    Unreadable,
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A process that manyhands started, or that was forked from a member.
    Child,
    /// The first member.
    Founder,
    /// A worker of the pool at that offset, on that seat.
    Worker {
        /// Where the pool lies.
        pool: u64,
        /// The seat's number.
        seat: u32,
    },
    /// A fork server.
    Zygote,
}

const CHILD: u32 = 0;
const FOUNDER: u32 = 1;
const WORKER: u32 = 2;
const ZYGOTE: u32 = 3;

/// A member's notes, in its slot of the process table.
#[derive(Debug)]
#[repr(C)]
pub struct Notes {
    role: AtomicU32,
    seat: AtomicU32,
    pool: AtomicU64,
    label: [AtomicU64; LABEL_BYTES / 8],
    waits: [WaitNote; NOTES_PER_MEMBER],
    /// Threads that wait and found every note taken.
    unnoted: AtomicU32,
}

#[derive(Debug)]
#[repr(C)]
struct WaitNote {
    /// Kind (8 bits), thread (32), uses (24).
    word: AtomicU64,
    object: AtomicU64,
    since: AtomicU64,
    deadline: AtomicU64,
}

/// Which note a thread has taken: for [`Notes::end_wait`].
#[derive(Clone, Copy, Debug)]
pub struct Place(Option<usize>);

fn word_of(kind: u8, thread: u32, uses: u32) -> u64 {
    u64::from(kind) | u64::from(thread) << 8 | u64::from(uses) << 40
}

fn kind_in(word: u64) -> u8 {
    word as u8
}

fn uses_in(word: u64) -> u32 {
    (word >> 40) as u32
}

impl Notes {
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        let note = |_| WaitNote { word: zero(), object: zero(), since: zero(), deadline: zero() };
        Self {
            role: AtomicU32::new(CHILD),
            seat: AtomicU32::new(0),
            pool: zero(),
            label: std::array::from_fn(|_| zero()),
            waits: std::array::from_fn(note),
            unnoted: AtomicU32::new(0),
        }
    }

    /// Wipes what the slot's last member left. Run by whoever has reserved the slot.
    pub fn wipe(&self) {
        self.set_role(Role::Child);
        for word in &self.label {
            word.store(0, Ordering::Relaxed);
        }
        for note in &self.waits {
            note.word.store(0, Ordering::Relaxed);
        }
        self.unnoted.store(0, Ordering::Relaxed);
    }

    /// The member says what it is.
    pub fn set_role(&self, role: Role) {
        let number = match role {
            Role::Child => CHILD,
            Role::Founder => FOUNDER,
            Role::Zygote => ZYGOTE,
            Role::Worker { pool, seat } => {
                self.pool.store(pool, Ordering::Relaxed);
                self.seat.store(seat, Ordering::Relaxed);
                WORKER
            }
        };
        self.role.store(number, Ordering::Release);
    }

    /// What the member says it is.
    pub fn role(&self) -> Role {
        match self.role.load(Ordering::Acquire) {
            FOUNDER => Role::Founder,
            ZYGOTE => Role::Zygote,
            WORKER => Role::Worker {
                pool: self.pool.load(Ordering::Relaxed),
                seat: self.seat.load(Ordering::Relaxed),
            },
            _ => Role::Child,
        }
    }

    /// The member says what it runs: the first [`LABEL_BYTES`] of the text.
    pub fn set_label(&self, text: &str) {
        let mut bytes = [0; LABEL_BYTES];
        let len = beginning(text, LABEL_BYTES);
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        for (word, eight) in self.label.iter().zip(bytes.chunks_exact(8)) {
            word.store(u64::from_le_bytes(std::array::from_fn(|i| eight[i])), Ordering::Relaxed);
        }
    }

    /// What the member says it runs; what is no text in it is replaced.
    pub fn label(&self) -> String {
        let bytes: Vec<u8> =
            self.label.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }

    /// A thread of the member is about to sleep.
    #[must_use]
    pub fn begin_wait(&self, wait: Wait) -> Place {
        for (place, note) in self.waits.iter().enumerate() {
            if note.claim(wait) {
                return Place(Some(place));
            }
        }
        self.unnoted.fetch_add(1, Ordering::Relaxed);
        Place(None)
    }

    /// The thread is awake.
    pub fn end_wait(&self, place: Place) {
        match place.0.and_then(|place| self.waits.get(place)) {
            Some(note) => note.give_back(),
            None => {
                self.unnoted.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// The notes that are not free.
    pub fn waits(&self) -> impl Iterator<Item = Noted> + '_ {
        self.waits.iter().filter_map(WaitNote::read)
    }

    /// How many threads wait beyond those that are noted.
    pub fn unnoted(&self) -> u32 {
        self.unnoted.load(Ordering::Relaxed)
    }
}

impl WaitNote {
    fn claim(&self, wait: Wait) -> bool {
        let free = self.word.load(Ordering::Relaxed);
        let uses = uses_in(free).wrapping_add(1);
        let claimed = word_of(CLAIMED, wait.thread, uses);
        let won = kind_in(free) == FREE
            && self.word.compare_exchange(free, claimed, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !won {
            return false;
        }
        kill_point!(NoteClaimed);
        // Pairs with the reader's fence: who sees a word of this use also sees that the note was claimed.
        fence(Ordering::Release);
        self.object.store(wait.object, Ordering::Relaxed);
        self.since.store(wait.since, Ordering::Relaxed);
        self.deadline.store(wait.deadline, Ordering::Relaxed);
        self.word.store(word_of(wait.kind as u8, wait.thread, uses), Ordering::Release);
        kill_point!(NoteWritten);
        true
    }

    fn give_back(&self) {
        let uses = uses_in(self.word.load(Ordering::Relaxed));
        self.word.store(word_of(FREE, 0, uses), Ordering::Release);
        kill_point!(NoteGivenBack);
    }

    fn read(&self) -> Option<Noted> {
        let word = self.word.load(Ordering::Acquire);
        if kind_in(word) == FREE {
            return None;
        }
        let kind = WaitKind::from_number(kind_in(word));
        let object = self.object.load(Ordering::Relaxed);
        let since = self.since.load(Ordering::Relaxed);
        let deadline = self.deadline.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let unchanged = self.word.load(Ordering::Relaxed) == word;
        let thread = (word >> 8) as u32;
        Some(match kind {
            Some(kind) if unchanged => Noted::Wait(Wait { kind, object, thread, since, deadline }),
            _ => Noted::Unreadable,
        })
    }
}

/// How many bytes the longest beginning of a text has that fits into so many.
fn beginning(text: &str, most: usize) -> usize {
    (0..=most.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn notes() -> Notes {
        let zero = || AtomicU64::new(0);
        let note = |_| WaitNote { word: zero(), object: zero(), since: zero(), deadline: zero() };
        Notes {
            role: AtomicU32::new(77),
            seat: AtomicU32::new(0),
            pool: zero(),
            label: std::array::from_fn(|_| zero()),
            waits: std::array::from_fn(note),
            unnoted: AtomicU32::new(0),
        }
    }

    fn wait(thread: u32) -> Wait {
        Wait { kind: WaitKind::Message, object: 64 * u64::from(thread), thread, since: 5, deadline: 0 }
    }

    #[test]
    fn threads_beyond_the_notes_are_counted_and_a_note_is_used_again() {
        let notes = notes();
        let most = NOTES_PER_MEMBER as u32;
        let places: Vec<_> = (0..most + 2).map(|thread| notes.begin_wait(wait(thread))).collect();
        let noted: Vec<_> = notes.waits().collect();
        assert_eq!(noted, (0..most).map(|thread| Noted::Wait(wait(thread))).collect::<Vec<_>>());
        assert_eq!(notes.unnoted(), 2);
        places.into_iter().for_each(|place| notes.end_wait(place));
        assert_eq!((notes.waits().count(), notes.unnoted()), (0, 0));
        let place = notes.begin_wait(wait(9));
        assert_eq!(notes.waits().collect::<Vec<_>>(), [Noted::Wait(wait(9))]);
        notes.end_wait(place);
    }

    #[test]
    fn damage_is_unreadable_and_wiping_clears_it() {
        let notes = notes();
        assert_eq!(notes.role(), Role::Child, "an unknown number is the least that can be said");
        notes.waits[0].word.store(word_of(200, 1, 1), Ordering::Relaxed);
        assert_eq!(notes.waits().collect::<Vec<_>>(), [Noted::Unreadable]);
        notes.wipe();
        assert_eq!(notes.waits().count(), 0);
    }

    #[test]
    fn a_label_is_cut_between_characters() {
        let notes = notes();
        notes.set_label(&"\u{e4}".repeat(LABEL_BYTES));
        assert_eq!(notes.label(), "\u{e4}".repeat(LABEL_BYTES / 2));
        notes.set_label("short");
        assert_eq!(notes.label(), "short");
        notes.label[0].store(u64::MAX, Ordering::Relaxed);
        assert!(notes.label().contains('\u{fffd}'));
    }
}
