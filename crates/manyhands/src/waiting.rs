//! The one blocking loop of the engine, and the record of a wait in shared memory, so that an observer can tell what this
//! process's threads wait for; see `notes.rs` of manyhands-sync for the protocol.
//!
//! Everything that blocks goes through [`block`]: locks, semaphores, events, conditions, barriers, queues, the ends of
//! processes, connections. Where one of a queue's sides is held by another for long (it may be stopped), a turn is one slice
//! of the wait for its lock (`mutex/slices.rs` of manyhands-sync). The locks that guard the arena's own structures are waited
//! for without: they are held for microseconds, but behind a holder that is stopped no signal is heard. One turn of it is one sleep (see `park.rs` of manyhands-sync); after a sleep that brought nothing
//! it calls `on_signal`, which is the caller's: a Rust program has nothing to do there, the Python module runs the handlers
//! of signals that have come. What `on_signal` returns as an error ends the wait, with nothing taken; else the wait goes on,
//! and its deadline stays what it was. (A pool's leader does other work between two sleeps, and looks around itself.)
//!
//! `on_signal` may fork, and its child come back from it: a record is ended before it is called.

use crate::family::{Family, reclaim};
use crate::sys::{clock, memory};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::notes::{Notes, Place, Wait, WaitKind};
use manyhands_sync::park::{LONGEST_SLEEP, Parked, Waiting};
use std::cell::Cell;
use std::convert::Infallible;
use std::time::Duration;

/// What a wait is for and until when, as its record says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    object: u64,
    deadline: Deadline,
}

impl Record {
    pub(crate) fn new(object: u64, deadline: Deadline) -> Self {
        Self { object, deadline }
    }

    /// Notes that this thread waits from now on, or since its wait began; `None` when this process is in no family or can
    /// have no slot: then nobody can look. Called only by a thread that is about to sleep.
    #[cold]
    pub(crate) fn note(self, waiting: &mut Waiting) -> Option<NotedWait> {
        let family = Family::existing()?;
        let slot = family.own_slot().ok()?;
        let notes = family.notes_of(slot)?;
        let now = clock::monotonic_nanoseconds();
        let deadline = self.deadline.left().map_or(0, |left| {
            let left = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
            now.saturating_add(left).max(1)
        });
        let (kind, began) = (waiting.kind(), waiting.since(now));
        let wait = Wait { kind, object: self.object, thread: own_thread(slot), since: began, deadline };
        Some(NotedWait { notes, place: notes.begin_wait(wait), began, noted: now })
    }
}

/// Waits, by one `turn` after the other, until one is done or the deadline passes, which is `None`. A turn parks once, and
/// notes that by the record just before it sleeps.
///
/// # Errors
/// What `on_signal` returned.
pub(crate) fn block<R, E>(
    kind: WaitKind,
    object: u64,
    deadline: Deadline,
    mut on_signal: impl FnMut() -> Result<(), E>,
    mut turn: impl FnMut(&mut Waiting, Record) -> Parked<R>,
) -> Result<Option<R>, E> {
    let (mut waiting, record) = (Waiting::new(kind), Record::new(object, deadline));
    loop {
        match turn(&mut waiting, record) {
            Parked::Done(got) => return Ok(Some(got)),
            Parked::TimedOut => return Ok(None),
            Parked::Interrupted => on_signal()?,
        }
    }
}

/// For waits that no signal ends.
pub(crate) fn undisturbed() -> Result<(), Infallible> {
    Ok(())
}

/// A wait that is noted until this is dropped.
#[derive(Debug)]
pub(crate) struct NotedWait {
    notes: &'static Notes,
    place: Place,
    /// When the wait began, in nanoseconds, and when this sleep of it was noted.
    began: u64,
    noted: u64,
}

impl Drop for NotedWait {
    fn drop(&mut self) {
        self.notes.end_wait(self.place);
        let now = clock::monotonic_nanoseconds();
        // After a sleep that was woken there is something better to do.
        if Duration::from_nanos(now.saturating_sub(self.noted)) >= LONGEST_SLEEP / 10 * 9 {
            reclaim::trim_at_rest(now.saturating_sub(self.began) / 1_000_000);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use manyhands_sync::wait_word::WaitWord;
    use std::time::Instant;

    fn park(word: &WaitWord, deadline: Deadline) -> impl FnMut(&mut Waiting, Record) -> Parked<()> {
        move |waiting, record| word.wait(|| false, waiting, deadline, |w| record.note(w)).into()
    }

    #[test]
    fn each_sleep_in_vain_asks_for_signals_and_the_deadline_stays() {
        let (word, began, mut asked) = (WaitWord::new(), Instant::now(), 0);
        let deadline = Deadline::after(LONGEST_SLEEP + Duration::from_millis(100));
        let on_signal = || {
            asked += 1;
            Ok::<_, Infallible>(())
        };
        let Ok(waited) = block(WaitKind::Event, 0, deadline, on_signal, park(&word, deadline));
        assert_eq!(waited, None);
        assert!(began.elapsed() >= LONGEST_SLEEP);
        assert_eq!(asked, 2, "after the short sleep and a long one");
    }

    #[test]
    fn what_a_handler_raises_ends_the_wait_within_its_first_sleep() {
        let word = WaitWord::new();
        let waited =
            block(WaitKind::Event, 0, Deadline::NEVER, || Err("raised"), park(&word, Deadline::NEVER));
        assert_eq!(waited, Err("raised"));
    }
}
