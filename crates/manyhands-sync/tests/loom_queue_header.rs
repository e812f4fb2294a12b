//! A queue's end and its unfinished items under loom: who puts, takes, says that it is done, shuts and waits, in any order of
//! steps within the preemption bound, while one of them is killed.
//!
//! Limits: two or three threads with one or two frames each; sleepers whose waker was killed look again when the model ends
//! their slices, since loom's sleeps have no end.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

mod model;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use manyhands_sync::arena::{Arena, Kind};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::kill_point::KillPoint;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::queue_header::QueueHeader;
use manyhands_sync::ring::{Locking, PutError, Ring, TakeError};
use manyhands_sync::wait_word::{EVERYONE, WaitWord, Waiting};
use model::{Watched, killed_at};

/// A queue as the engine uses its words.
#[derive(Clone, Copy)]
struct Queue {
    header: &'static QueueHeader,
    ring: Ring<Watched>,
}

#[derive(Debug, PartialEq)]
enum Got {
    Item(u32),
    Nothing,
    Shut,
}

impl Queue {
    fn create(arena: Arena<Watched>) -> Self {
        let place = arena.allocate_kind(Kind::Ring, size_of::<QueueHeader>() as u64).unwrap().share();
        let header = QueueHeader::new(Ring::new_header(&arena, 0).unwrap());
        let header = arena.backing().place_new(place.offset, header).unwrap();
        Self { header, ring: Ring::found(arena, &header.ring, place) }
    }

    /// Whether it was put.
    fn put(&self, number: u32) -> bool {
        loop {
            let mut putting = self.ring.putting(Locking::Wait).unwrap();
            if self.header.is_shut() {
                return false;
            }
            match putting.put(number, &[]) {
                Ok(()) => {
                    putting.finish();
                    self.header.wake_for_arrival();
                    return true;
                }
                Err(PutError::NoRoom) => drop(putting),
                Err(error) => panic!("{error:?}"),
            }
            self.ring.grow(&[], Locking::Wait).unwrap();
        }
    }

    fn take_once(&self) -> Got {
        let mut taking = match self.ring.taking(Locking::Wait) {
            Ok(taking) => taking,
            Err(TakeError::Empty) => return Got::Nothing,
            Err(error) => panic!("{error:?}"),
        };
        if self.header.is_shut_at_once() {
            return Got::Shut;
        }
        let frame = taking.peek().unwrap().unwrap();
        taking.read(frame, &mut Vec::new()).unwrap();
        taking.commit();
        self.header.wake_if_emptied(&self.ring);
        Got::Item(frame.tag)
    }

    fn take(&self) -> Got {
        match self.take_once() {
            Got::Nothing if self.header.is_shut() => match self.take_once() {
                Got::Nothing => Got::Shut,
                got => got,
            },
            got => got,
        }
    }

    /// Waits for an item, or for the end.
    fn get(&self) -> Got {
        loop {
            match self.take() {
                Got::Nothing => {
                    let shut = || self.header.is_shut();
                    self.ring.wait_for_frame_or(
                        shut,
                        &mut Waiting::new(WaitKind::Message),
                        Deadline::NEVER,
                        |_| (),
                    );
                }
                got => return got,
            }
        }
    }

    fn join(&self) {
        while self.header.all_done(&self.ring, Locking::Wait) != Some(true) {
            self.header.wait_for_all_done(
                &self.ring,
                &mut Waiting::new(WaitKind::Message),
                Deadline::NEVER,
                |_| (),
            );
        }
    }
}

fn model(name: &str, check: impl Fn(Queue) + Sync + Send + 'static) {
    model::model(name, 1, move |arena| check(Queue::create(arena)));
}

#[test]
fn whoever_waits_for_all_items_goes_on_after_the_last() {
    model("two are done", |queue| {
        assert!(queue.put(1) && queue.put(2));
        let workers = [(); 2].map(|()| {
            thread::spawn(move || {
                assert!(matches!(queue.get(), Got::Item(_)));
                queue.header.task_done(&queue.ring, Locking::Wait).unwrap();
            })
        });
        queue.join();
        for worker in workers {
            worker.join().unwrap();
        }
        assert_eq!(queue.header.unfinished(&queue.ring), 0);
        queue.header.task_done(&queue.ring, Locking::Wait).unwrap_err();
    });
}

#[test]
fn an_item_that_was_taken_can_be_done_with_however_late_its_producer_counts() {
    model("a late count", |queue| {
        let producer = thread::spawn(move || assert!(queue.put(1)));
        let consumer = thread::spawn(move || {
            if queue.take() == Got::Item(1) {
                assert_eq!(queue.header.all_done(&queue.ring, Locking::Wait), Some(false));
                queue.header.task_done(&queue.ring, Locking::Wait).unwrap();
            }
        });
        producer.join().unwrap();
        consumer.join().unwrap();
    });
}

#[test]
fn an_item_whose_producer_was_killed_before_its_count_is_unfinished() {
    model("a killed count", |queue| {
        let victim = killed_at(KillPoint::RingPutCommitted, move || _ = queue.put(1));
        assert!(victim.join().unwrap());
        assert_eq!(queue.header.all_done(&queue.ring, Locking::Wait), Some(false));
        assert_eq!(queue.take(), Got::Item(1));
        queue.header.task_done(&queue.ring, Locking::Wait).unwrap();
        assert_eq!(queue.header.all_done(&queue.ring, Locking::Wait), Some(true));
    });
}

#[test]
fn whoever_waits_for_all_items_goes_on_though_the_last_worker_is_killed() {
    model("killed when done", |queue| {
        assert!(queue.put(1));
        assert_eq!(queue.take(), Got::Item(1));
        let waiter = thread::spawn(move || queue.join());
        let victim = killed_at(KillPoint::QueueTaskDone, move || {
            _ = queue.header.task_done(&queue.ring, Locking::Wait)
        });
        assert!(victim.join().unwrap());
        queue.header.end_slices();
        waiter.join().unwrap();
    });
}

#[test]
fn what_is_put_before_the_end_is_got_and_nothing_after_it() {
    model("put, shut, get", |queue| {
        let producer = thread::spawn(move || queue.put(1));
        let consumer = thread::spawn(move || queue.get());
        queue.header.shut(&queue.ring, false, Locking::Wait).unwrap();
        assert!(!queue.put(2));
        let expected = if producer.join().unwrap() { Got::Item(1) } else { Got::Shut };
        assert_eq!(consumer.join().unwrap(), expected);
        assert_eq!(queue.get(), Got::Shut);
    });
}

#[test]
fn an_end_at_once_throws_away_what_nobody_took_and_counts_it() {
    model("shut at once", |queue| {
        assert!(queue.put(1));
        let consumer = thread::spawn(move || queue.get());
        let producer = thread::spawn(move || _ = queue.put(2));
        queue.header.shut(&queue.ring, true, Locking::Wait).unwrap();
        assert_eq!(queue.get(), Got::Shut);
        let taken = matches!(consumer.join().unwrap(), Got::Item(1));
        producer.join().unwrap();
        assert_eq!(queue.header.unfinished(&queue.ring), u32::from(taken));
        if taken {
            queue.header.task_done(&queue.ring, Locking::Wait).unwrap();
        }
        assert_eq!(queue.header.all_done(&queue.ring, Locking::Wait), Some(true));
    });
}

#[test]
fn whoever_watches_an_empty_queue_is_woken_by_what_comes_and_by_the_end() {
    for shuts in [false, true] {
        model(if shuts { "watched, shut" } else { "watched, put" }, move |queue| {
            let watcher = thread::spawn(move || {
                while !queue.header.is_ready(&queue.ring) {
                    queue.header.watch(&queue.ring, false, || false);
                }
            });
            if shuts {
                queue.header.shut(&queue.ring, false, Locking::Wait).unwrap();
            } else {
                assert!(queue.put(1));
            }
            watcher.join().unwrap();
        });
    }
}

#[test]
fn whoever_waits_for_all_items_goes_on_when_the_rest_is_thrown_away_beside_the_last_worker() {
    model("done, shut at once", |queue| {
        assert!(queue.put(1) && queue.put(2));
        assert_eq!(queue.take(), Got::Item(1));
        let waiter = thread::spawn(move || queue.join());
        let worker = thread::spawn(move || queue.header.task_done(&queue.ring, Locking::Wait).unwrap());
        queue.header.shut(&queue.ring, true, Locking::Wait).unwrap();
        worker.join().unwrap();
        waiter.join().unwrap();
    });
}

/// What a doorbell does (`queue_watch.rs` of the engine), with a wait word in place of its descriptor.
struct Bell {
    queue: Queue,
    looking: Mutex<()>,
    rung: AtomicBool,
    polled: WaitWord,
}

impl Bell {
    /// Whether the queue is ready, and whether the bell said otherwise.
    fn look(&self) -> (bool, bool) {
        let _looking = self.looking.lock().unwrap();
        let ready = self.queue.header.is_ready(&self.queue.ring);
        let changed = ready != self.rung.load(Ordering::Acquire);
        if changed {
            self.rung.store(ready, Ordering::Release);
            self.polled.wake(EVERYONE);
        }
        (ready, changed)
    }

    fn watch(&self, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            let (was, _) = self.look();
            let called = || stop.load(Ordering::Acquire) || self.rung.load(Ordering::Acquire) != was;
            self.queue.header.watch(&self.queue.ring, was, called);
        }
    }
}

#[test]
fn a_bell_that_its_process_silences_rings_for_what_comes_then() {
    model("silenced, put", |queue| {
        assert!(queue.put(1));
        let bell = Arc::new(Bell {
            queue,
            looking: Mutex::new(()),
            rung: AtomicBool::new(true),
            polled: WaitWord::new(),
        });
        let stop = Arc::new(AtomicBool::new(false));
        let watcher = {
            let (bell, stop) = (bell.clone(), stop.clone());
            thread::spawn(move || bell.watch(&stop))
        };
        let other = thread::spawn(move || _ = queue.take());
        if queue.take() == Got::Nothing {
            if bell.look().1 {
                queue.header.wake_watchers();
            }
            // The other one takes no more: this stays, and whoever polls is told.
            assert!(queue.put(2));
            let rung = || bell.rung.load(Ordering::Acquire);
            while !rung() {
                bell.polled.wait(rung, &mut Waiting::new(WaitKind::Message), Deadline::NEVER, |_| ());
            }
        }
        stop.store(true, Ordering::Release);
        queue.header.wake_watchers();
        other.join().unwrap();
        watcher.join().unwrap();
    });
}

#[test]
fn whoever_shuts_may_be_killed_at_each_step() {
    use KillPoint::{QueueDiscardCounted, QueueShut, QueueShutAtOnce};
    for point in [QueueShut, QueueDiscardCounted, QueueShutAtOnce] {
        model(&format!("killed at {point:?}"), move |queue| {
            let consumer = thread::spawn(move || queue.get());
            let victim =
                killed_at(point, move || queue.header.shut(&queue.ring, true, Locking::Wait).unwrap());
            assert!(victim.join().unwrap());
            queue.header.end_slices();
            assert_eq!(consumer.join().unwrap(), Got::Shut);
            assert!(!queue.put(1));
            queue.header.shut(&queue.ring, true, Locking::Wait).unwrap();
            assert_eq!(queue.header.all_done(&queue.ring, Locking::Wait), Some(true));
        });
    }
}
