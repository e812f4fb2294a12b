//! Children of the user's own forks, for whom this process has something to do later: nobody tells it how they end.

use super::member::Place;
use super::{Family, FamilyError};
use manyhands_sync::arena::{Handle, ReferError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A place that was reserved for a child of the user's own fork is taken back when the child has not come for so long:
/// the fork has failed, or the child runs another program. One that comes later is as one without references.
pub(super) const COMES_WITHIN: Duration = Duration::from_secs(10);
/// And when the table is full.
pub(super) const COMES_WITHIN_AT_NEED: Duration = Duration::from_secs(1);

/// A child of the user's own fork, for as long as there is something to be done for it.
#[derive(Debug)]
pub(super) struct Absent {
    place: Option<Place>,
    since: Instant,
    came: bool,
    failed: bool,
    pinned: Vec<Handle>,
}

impl Absent {
    pub(super) fn new(place: Option<Place>, failed: bool, pinned: Vec<Handle>) -> Self {
        Self { place, since: Instant::now(), came: false, failed, pinned }
    }
}

static ABSENT: Mutex<Vec<Absent>> = Mutex::new(Vec::new());

pub(super) fn list() -> MutexGuard<'static, Vec<Absent>> {
    ABSENT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Family {
    /// As [`Family::reserve_place`]; where there is none, after a look at those kept for children that do not come.
    pub(super) fn reserve_place_tending(&self) -> Result<Place, FamilyError> {
        self.reserve_place().or_else(|_| {
            self.tend(COMES_WITHIN_AT_NEED);
            self.reserve_place()
        })
    }

    /// Does for children of the user's own forks what is to be done: takes back places that nobody has come to, and pins
    /// of those that have ended.
    pub(super) fn tend(&self, within: Duration) {
        // Whoever is at it does it; and this may be called from within.
        if let Ok(mut absent) = ABSENT.try_lock() {
            self.tend_all(&mut absent, within);
        }
    }

    pub(super) fn tend_all(&self, absent: &mut Vec<Absent>, within: Duration) {
        absent.retain_mut(|child| {
            let Some(place) = child.place else { return true };
            let (table, arena) = (self.process_table(), self.whole_arena());
            child.came |= !table.look(place.index).is_reserved(place);
            if table.lives(place) && !child.came {
                // A child that comes for it after all is as one without references.
                let early = child.since.elapsed() < within && !child.failed;
                if early || !table.cancel(place) {
                    return true;
                }
                arena.note_left_behind();
            }
            if table.lives(place) {
                return !child.pinned.is_empty();
            }
            child.pinned.retain(|&target| match arena.adopt_pin(target) {
                Ok(reference) => {
                    super::reclaim::release(arena, reference);
                    false
                }
                Err(ReferError::Stale) => false,
                Err(ReferError::Allocate(_)) => true,
            });
            !child.pinned.is_empty()
        });
    }
}
