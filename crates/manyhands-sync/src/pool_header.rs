//! A pool's shared words: its two rings, where its seats lie, and the word that tells workers to leave.
//!
//! | word | written by | when its writer dies |
//! |---|---|---|
//! | `state` | the pool's side: `OPEN`, then `DISMISSED`, for good | between the store and the wake (kill point 56) workers look by themselves after their longest sleep; with the pool's process they die |
//! | `seat_count`, `seats` | the pool's side, before any worker is told of the pool | as above |
//! | `tasks`, `results` | see `ring/README.md` | see there |

use crate::arena::{Arena, Backing, Kind};
use crate::kill_point;
use crate::memory::{Placed, Shareable};
use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::ring::RingHeader;
use crate::seat::Seat;
use crate::wait_word::EVERYONE;

/// How many workers a pool can have.
pub const MOST_SEATS: usize = 512;

const OPEN: u32 = 0;
const DISMISSED: u32 = 1;

/// Placed in the arena, one for each pool.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct PoolHeader {
    state: AtomicU32,
    seat_count: AtomicU32,
    seats: [AtomicU64; MOST_SEATS],
    /// From the pool's side to the workers.
    pub tasks: RingHeader,
    /// From the workers to the pool's side.
    pub results: RingHeader,
}

// SAFETY: repr(C), atomics and ring headers; counts and offsets are checked by those who read them.
#[allow(unsafe_code)]
unsafe impl Shareable for PoolHeader {}

// SAFETY: the only structure that is laid into blocks of this kind.
#[allow(unsafe_code)]
unsafe impl Placed for PoolHeader {
    const KIND: Kind = Kind::Pool;
}

impl PoolHeader {
    /// A pool whose seats are not laid out yet.
    #[must_use]
    pub fn new(seat_count: usize, tasks: RingHeader, results: RingHeader) -> Self {
        Self {
            state: AtomicU32::new(OPEN),
            seat_count: AtomicU32::new(seat_count.min(MOST_SEATS) as u32),
            seats: std::array::from_fn(|_| AtomicU64::new(0)),
            tasks,
            results,
        }
    }

    /// How many seats the pool has.
    pub fn seat_count(&self) -> usize {
        (self.seat_count.load(Ordering::Relaxed) as usize).min(MOST_SEATS)
    }

    /// Where the seat with that number lies; `None` when the pool has no such seat.
    pub fn seat(&self, index: usize) -> Option<u64> {
        let offset = self.seats[..self.seat_count()].get(index)?.load(Ordering::Acquire);
        (offset != 0).then_some(offset)
    }

    /// Settles, for the member that repairs the head of the task ring, the notes of the worker that died there.
    pub fn settle_seats<B: Backing>(&self, arena: Arena<B>, taken_total: u32) {
        let seats = (0..self.seat_count()).filter_map(|index| arena.placed_at::<Seat>(self.seat(index)?));
        seats.for_each(|seat| seat.settle(taken_total));
    }

    /// Says where the seat with that number lies.
    pub fn set_seat(&self, index: usize, offset: u64) {
        if let Some(seat) = self.seats.get(index) {
            seat.store(offset, Ordering::Release);
        }
    }

    /// Tells the workers to leave once the task ring is empty.
    pub fn dismiss(&self) {
        self.state.store(DISMISSED, Ordering::Release);
        kill_point!(PoolDismissed);
        self.tasks.not_empty.wake(EVERYONE);
    }

    /// Whether the workers were told to leave.
    pub fn is_dismissed(&self) -> bool {
        self.state.load(Ordering::Acquire) == DISMISSED
    }
}
