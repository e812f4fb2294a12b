//! Noting in shared memory what this process's threads wait for, so that whoever looks can tell. Called only by a thread
//! that is about to sleep; see `notes.rs` of manyhands-sync for the protocol.

use crate::family::{Family, reclaim};
use crate::sys::{clock, memory};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::notes::{Notes, Place, Wait, WaitKind};
use manyhands_sync::wait_word::Patience;
use std::cell::Cell;

/// A wait that is noted until this is dropped.
#[derive(Debug)]
pub(crate) struct NotedWait {
    notes: &'static Notes,
    place: Place,
    /// When it was noted, in nanoseconds.
    noted: u64,
}

impl Drop for NotedWait {
    fn drop(&mut self) {
        self.notes.end_wait(self.place);
        let slept = clock::monotonic_nanoseconds().saturating_sub(self.noted);
        reclaim::trim_at_rest(slept / 1_000_000);
    }
}

thread_local! {
    /// This thread's number, and the slot its process had when it was asked for: a forked child has another one.
    static THREAD: Cell<Option<(u32, u32)>> = const { Cell::new(None) };
}

/// Asked of the kernel once, not before each sleep.
fn own_thread(slot: u32) -> u32 {
    match THREAD.get() {
        Some((known_in, thread)) if known_in == slot => thread,
        _ => {
            let thread = memory::own_thread();
            THREAD.set(Some((slot, thread)));
            thread
        }
    }
}

/// Notes that this thread waits for `kind` on `object` from now on, or since its patience began; `None` when this process
/// is in no family or can have no slot: then nobody can look.
#[cold]
pub(crate) fn note(
    kind: WaitKind,
    object: u64,
    patience: &mut Patience,
    deadline: Deadline,
) -> Option<NotedWait> {
    let family = Family::existing()?;
    let slot = family.own_slot().ok()?;
    let notes = family.notes_of(slot)?;
    let now = clock::monotonic_nanoseconds();
    let deadline = deadline.left().map_or(0, |left| {
        let left = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
        now.saturating_add(left).max(1)
    });
    let wait = Wait { kind, object, thread: own_thread(slot), since: patience.since(now), deadline };
    Some(NotedWait { notes, place: notes.begin_wait(wait), noted: now })
}
