//! The park loop under loom, over several sleeps of one wait: whenever a sleep comes to its end, the caller looks around and
//! parks again, and what came meanwhile is not missed. That no wake-up is lost within one sleep, is checked for each
//! primitive in its own models.
//!
//! Limits: three threads; time passes once for all sleeps of a model.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

mod model;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use manyhands_sync::deadline::Deadline;
use manyhands_sync::event::UserEvent;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::park::{FIRST_SLEEP, LONGEST_SLEEP, Waited, Waiting};
use manyhands_sync::primitive::end_sleeps;
use manyhands_sync::semaphore::UserSemaphore;
use manyhands_sync::wait_word::WaitWord;
use model::orders;

/// Parks until it is ready; a sleep that ended is counted, and the next one is long.
fn to_the_end(mut park: impl FnMut(&mut Waiting) -> Waited) -> u32 {
    let mut waiting = Waiting::new(WaitKind::Message);
    loop {
        let slices = waiting.slices();
        assert_eq!(waiting.longest_sleep(), if slices == 0 { FIRST_SLEEP } else { LONGEST_SLEEP });
        match park(&mut waiting) {
            Waited::Ready => return waiting.slices(),
            Waited::Interrupted => {
                assert_eq!(waiting.slices(), slices + 1, "nothing else interrupts a model")
            }
            Waited::TimedOut => panic!("it has no deadline"),
        }
        thread::yield_now();
    }
}

#[test]
fn what_comes_while_a_sleep_ends_is_not_missed() {
    orders("a sleep ends beside a wake", || {
        let (word, count) = (Arc::new(WaitWord::new()), Arc::new(AtomicU32::new(0)));
        let (theirs, given) = (word.clone(), count.clone());
        let waker = thread::spawn(move || {
            given.store(1, Ordering::Relaxed);
            theirs.wake(1);
        });
        let time = thread::spawn(end_sleeps);
        let ready = || count.load(Ordering::Relaxed) != 0;
        to_the_end(|waiting| word.wait(ready, waiting, Deadline::NEVER, |_| ()));
        waker.join().unwrap();
        time.join().unwrap();
    });
}

#[test]
fn what_was_given_while_a_sleep_ends_is_taken_once() {
    orders("two who wait, two given, sleeps end", || {
        let semaphore = Arc::new(UserSemaphore::new(0, 2));
        let theirs = semaphore.clone();
        let other = thread::spawn(move || to_the_end(|w| theirs.take(w, Deadline::NEVER, |_| ())));
        semaphore.give().unwrap();
        end_sleeps();
        semaphore.give().unwrap();
        to_the_end(|w| semaphore.take(w, Deadline::NEVER, |_| ()));
        other.join().unwrap();
        assert_eq!(semaphore.count(), 0);
    });
}

#[test]
fn a_note_lasts_as_long_as_one_park_and_is_made_anew_for_the_next() {
    orders("notes", || {
        let (event, notes) = (Arc::new(UserEvent::new()), Arc::new(AtomicU32::new(0)));
        let theirs = event.clone();
        let since = event.begin_wait().unwrap();
        let setter = thread::spawn(move || {
            end_sleeps();
            theirs.set();
        });
        let parks = std::cell::Cell::new(0);
        let slices = to_the_end(|waiting| {
            parks.set(parks.get() + 1);
            event.wait(since, waiting, Deadline::NEVER, |_| notes.fetch_add(1, Ordering::Relaxed))
        });
        let notes = notes.load(Ordering::Relaxed);
        // The last park may have found the event set, and has none then.
        assert!((slices..=parks.get()).contains(&notes), "{notes} notes, {slices} sleeps that ended");
        setter.join().unwrap();
    });
}
