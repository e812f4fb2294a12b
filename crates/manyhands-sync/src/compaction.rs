//! Compaction: what outlives the messages of a full arena goes where it parts nothing.
//!
//! A queue or pool that is in use when memory is full gets its segments wherever something is free, and keeps the last of
//! them when it is empty, in the middle of all that was freed around it. Nothing else that lies in the arena can be moved:
//! others know where it lies. A ring's segment is known to the ring alone. So a member that is about to be told that there is
//! no memory moves the empty rings of the family first: to small segments, packed into the first units that are free.
//!
//! The ring stays while it is moved, because nobody can release the last reference to it meanwhile; the steps, and what is
//! found when the mover dies, are in `ring/moving.rs`. Who puts or takes knows nothing of it, and pays nothing for it.

use crate::arena::{Arena, Backing, Handle, Kind};
use crate::pool_header::PoolHeader;
use crate::queue_header::QueueHeader;
use crate::ring::{Ring, RingHeader, Spare};

/// Moves the segments of empty queues and pools towards the arena's beginning, and makes them small; whether any was moved.
pub fn compact<B: Backing>(arena: Arena<B>) -> bool {
    let mut mover = Mover { arena, spare: None, moved: false };
    for (kind, handle) in arena.shared_of(&[Kind::Ring, Kind::Pool]) {
        if kind == Kind::Ring {
            if let Ok(queue) = arena.placed::<QueueHeader>(handle) {
                mover.consider(handle, &queue.ring, |_| {});
            }
        } else if let Ok(pool) = arena.placed::<PoolHeader>(handle) {
            mover.consider(handle, &pool.tasks, |taken| pool.settle_seats(arena, taken));
            mover.consider(handle, &pool.results, |_| {});
        }
    }
    if let Some(spare) = mover.spare {
        spare.free();
    }
    mover.moved
}

struct Mover<B: Backing> {
    arena: Arena<B>,
    /// What the last ring did not take.
    spare: Option<Spare<B>>,
    moved: bool,
}

impl<B: Backing> Mover<B> {
    fn consider(&mut self, home: Handle, header: &'static RingHeader, settle: impl FnOnce(u32)) {
        let ring = Ring::new(self.arena, header, home);
        let Some(before) = ring.better_before() else { return };
        let Some(spare) = self.spare_before(before) else { return };
        let mut spare = Some(spare);
        let moved = self.arena.while_referred(home, || spare.take().map(|spare| ring.move_to(spare, settle)));
        match moved.flatten() {
            Some(Ok(left)) => {
                self.moved = true;
                left.free();
            }
            Some(Err(back)) => self.spare = Some(back),
            None => self.spare = spare,
        }
    }

    fn spare_before(&mut self, before: u64) -> Option<Spare<B>> {
        if let Some(spare) = self.spare.take() {
            if spare.offset() < before {
                return Some(spare);
            }
            spare.free();
        }
        Spare::before(self.arena, before)
    }
}
