//! The places at a barrier: who is there, and whether somebody who was there has died.

use super::state::State;
use crate::arena::{AllocateError, Arena, Backing, Handle, StaleHandle};
use crate::memory::{Placing, Shareable};
use crate::primitive::{AtomicU64, Ordering};

/// A party's place: its generation and its name, one above the other.
#[derive(Debug)]
#[repr(transparent)]
pub struct Place(pub(super) AtomicU64);

// SAFETY: one atomic word, any bit pattern is a place.
#[allow(unsafe_code)]
unsafe impl Shareable for Place {}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// A free place.
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Who is on it in that generation.
    pub(super) fn party(&self, generation: u32) -> Option<u32> {
        let word = self.0.load(Ordering::Acquire);
        ((word >> 32) as u32 == generation && word as u32 != 0).then_some(word as u32)
    }
}

/// Whether one of those who are there is gone, of at most so many.
pub(super) fn find_dead(
    places: &[&Place],
    generation: u32,
    most: usize,
    first: usize,
    is_gone: impl Fn(u32) -> bool,
) -> bool {
    let taken = (0..places.len()).filter_map(|at| places[(first + at) % places.len()].party(generation));
    taken.take(most).any(is_gone)
}

fn place_word(generation: u32, me: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(me)
}

/// Takes a place that nobody has in this generation.
pub(super) fn take_place(places: &[&Place], state: State, me: u32) -> Option<usize> {
    let own = place_word(state.generation, me);
    (0..places.len()).map(|at| (state.count as usize + at) % places.len()).find(|&at| {
        let word = places[at].0.load(Ordering::Relaxed);
        // One of a later generation than that was seen belongs to somebody.
        let older = (word >> 32) as u32 != state.generation
            && state.generation.wrapping_sub((word >> 32) as u32) <= u32::MAX / 2;
        (word as u32 == 0 || older)
            && places[at].0.compare_exchange(word, own, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    })
}

pub(super) fn give_place_back(places: &[&Place], place: usize, generation: u32, me: u32) {
    let (own, free) = (place_word(generation, me), place_word(generation, 0));
    let _ = places[place].0.compare_exchange(own, free, Ordering::AcqRel, Ordering::Relaxed);
}

/// Lays out the places of a new barrier, in a block of their own, which no handle opens.
///
/// # Errors
/// When there is no memory.
pub fn lay_places<B: Backing>(
    arena: &Arena<B>,
    count: u32,
) -> Result<(Handle, Vec<&'static Place>), AllocateError> {
    let table = arena.allocate(u64::from(count) * size_of::<Place>() as u64)?;
    let places: Option<Vec<_>> =
        offsets(*table, count).map(|at| arena.backing().place_new(at, Place::new())).collect();
    places.map(|places| (table.finish(), places)).ok_or(AllocateError::Corrupted)
}

/// The places that lie in that block: those of a barrier that the caller has open.
///
/// # Errors
/// When there is no such block (any more), or it is shorter.
pub fn find_places<B: Backing>(
    arena: &Arena<B>,
    table: Handle,
    count: u32,
) -> Result<Vec<&'static Place>, StaleHandle> {
    if arena.payload_bytes(table)? < u64::from(count) * size_of::<Place>() as u64 {
        return Err(StaleHandle);
    }
    offsets(table, count).map(|at| arena.backing().place(at).ok_or(StaleHandle)).collect()
}

fn offsets(table: Handle, count: u32) -> impl Iterator<Item = u64> {
    (0..u64::from(count)).map(move |at| table.offset + at * size_of::<Place>() as u64)
}
