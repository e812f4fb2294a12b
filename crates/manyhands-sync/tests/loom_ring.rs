//! The ring (and beneath it the arena) under loom: producers and consumers in any order of steps within the
//! preemption bound, while segments are linked and left, and while one of them is killed at each of its steps.
//!
//! Under loom a segment holds two frames of eight bytes, so the third put links. A killed thread unwinds; its locks
//! are marked as a dead holder's, and nothing else of what its destructors do is done.
//!
//! Limits: two or three threads with two or three frames each, `LOOM_MAX_PREEMPTIONS` preemptions; SeqCst accesses
//! count as AcqRel (fences are modelled); the payload's bytes are checked for races word by word through loom
//! cells, the words of a segment's header are loom atomics; a lock's holder is never *stopped* for ever.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // counts the orders, outside the model
#![allow(unsafe_code)] // implements Memory

use loom::thread;
use manyhands_sync::arena::{Arena, Backing, CHUNK_BYTES, CommitError, Kind};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::kill_point::{KillPoint, arm};
use manyhands_sync::memory::Memory;
use manyhands_sync::ring::{Locking, Ring, RingHeader, TakeError};
use manyhands_sync::wait_word::Patience;
use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::Mutex;

/// Memory whose copied words loom watches.
#[derive(Clone, Copy)]
struct Watched {
    base: NonNull<u8>,
    cells: &'static Mutex<HashMap<u64, &'static loom::cell::UnsafeCell<()>>>,
}

// SAFETY: leaked memory that belongs to nobody; loom runs one thread at a time.
unsafe impl Send for Watched {}
// SAFETY: as above.
unsafe impl Sync for Watched {}

impl Watched {
    /// One piece of memory serves all orders of a model.
    fn new() -> Self {
        let words = vec![[0u64; 8]; CHUNK_BYTES as usize / 64 + 1].leak();
        let skip = words.as_ptr().cast::<u8>().align_offset(64);
        // SAFETY: the vector has one line more than is used.
        let base = unsafe { words.as_mut_ptr().cast::<u8>().add(skip) };
        Self { base: NonNull::new(base).expect("not null"), cells: Box::leak(Box::default()) }
    }

    fn touch(&self, offset: u64, len: usize, write: bool) {
        for word in offset / 8..(offset + len as u64).div_ceil(8) {
            let fresh = || &*Box::leak(Box::new(loom::cell::UnsafeCell::new(())));
            let cell = *self.cells.lock().expect("whole").entry(word).or_insert_with(fresh);
            if write { cell.with_mut(|_| ()) } else { cell.with(|_| ()) }
        }
    }
}

// SAFETY: bounds are checked, the memory is leaked.
unsafe impl Memory for Watched {
    fn resolve(&self, offset: u64, len: usize) -> Option<NonNull<u8>> {
        if offset.checked_add(len as u64)? > CHUNK_BYTES {
            return None;
        }
        // SAFETY: inside the memory, checked above.
        Some(unsafe { self.base.add(offset as usize) })
    }

    fn copy_in(&self, offset: u64, from: &[u8]) -> bool {
        self.touch(offset, from.len(), true);
        let Some(to) = self.resolve(offset, from.len()) else { return false };
        // SAFETY: as the default's.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(from).cast(), from.len()) };
        true
    }

    fn read_word(&self, offset: u64) -> Option<u64> {
        self.touch(offset, 8, false);
        let from = self.resolve(offset, 8)?.cast::<u64>();
        // SAFETY: as the default's.
        Some(unsafe { from.read_unaligned() })
    }

    fn copy_out(&self, offset: u64, len: usize, out: &mut Vec<u8>) -> bool {
        self.touch(offset, len, false);
        let Some(from) = self.resolve(offset, len) else { return false };
        // SAFETY: resolve() vouches for the bytes; the slice lives for this line.
        out.extend_from_slice(unsafe { std::slice::from_raw_parts(from.as_ptr(), len) });
        true
    }
}

impl Backing for Watched {
    fn commit(&self, _offset: u64, _len: u64) -> Result<(), CommitError> {
        Ok(())
    }

    fn give_back(&self, _offset: u64, _len: u64) {}
}

/// Runs the check on a fresh ring in every order.
fn model(name: &str, check: impl Fn(Ring<Watched>) + Sync + Send + 'static) {
    let orders = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (counted, memory) = (orders.clone(), Watched::new());
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    builder.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        memory.cells.lock().unwrap().clear();
        let arena = Arena::create(memory, 1, 1, CHUNK_BYTES).unwrap();
        let place = arena.allocate_kind(Kind::Ring, size_of::<RingHeader>() as u64).unwrap();
        let header = Ring::new_header(&arena, 0).unwrap();
        check(Ring::new(arena, memory.place_new(place.offset, header).unwrap()));
    });
    println!("{name}: {orders:?} orders");
}

fn put(ring: &Ring<Watched>, number: u64) {
    ring.put(number as u32, &[&number.to_le_bytes()]).unwrap();
}

/// Waits for a frame and takes it.
fn take(ring: &Ring<Watched>) -> u64 {
    loop {
        match try_take(ring) {
            Some(number) => return number,
            None => {
                ring.wait_for_frame(&mut Patience::new(), Deadline::NEVER);
            }
        }
    }
}

fn try_take(ring: &Ring<Watched>) -> Option<u64> {
    let mut out = Vec::new();
    match ring.try_take(&mut out, Locking::Wait) {
        Ok(tag) => {
            let number = u64::from_le_bytes(out.try_into().unwrap());
            assert_eq!(number, u64::from(tag), "a corrupt frame");
            Some(number)
        }
        Err(TakeError::Empty) => None,
        Err(error) => panic!("{error:?}"),
    }
}

/// Runs `work` in a thread of the model that dies when it gets to `point`; whether it died.
fn killed_at(point: KillPoint, work: impl FnOnce() + Send + 'static) -> thread::JoinHandle<bool> {
    thread::spawn(move || {
        arm(point, 1);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err()
    })
}

#[test]
fn one_producer_and_one_sleeping_consumer_over_a_link() {
    model("1 producer, 1 consumer", |ring| {
        let producer = thread::spawn(move || (0..3).for_each(|number| put(&ring, number)));
        for number in 0..3 {
            assert_eq!(take(&ring), number);
        }
        producer.join().unwrap();
        assert_eq!((try_take(&ring), ring.len()), (None, 0));
    });
}

#[test]
fn two_producers_link_while_a_consumer_leaves() {
    model("2 producers, 1 consumer", |ring| {
        // Two frames fill the first segment: either of the two producers links.
        put(&ring, 0);
        put(&ring, 1);
        let producers = [10, 20].map(|n| thread::spawn(move || put(&ring, n)));
        let taken = [(); 4].map(|()| take(&ring));
        assert_eq!(taken[..2], [0, 1]);
        assert!(matches!(taken[2..], [10, 20] | [20, 10]), "{taken:?}");
        for producer in producers {
            producer.join().unwrap();
        }
        assert_eq!((try_take(&ring), ring.len()), (None, 0));
    });
}

#[test]
fn one_producer_links_while_two_consumers_take_and_leave() {
    model("1 producer, 2 consumers", |ring| {
        put(&ring, 0);
        put(&ring, 1);
        let consumer = thread::spawn(move || (take(&ring), take(&ring)));
        let producer = thread::spawn(move || put(&ring, 2));
        let last = take(&ring);
        let (a, b) = consumer.join().unwrap();
        producer.join().unwrap();
        assert!(a < b, "out of order");
        let mut all = [a, b, last];
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
        assert_eq!((try_take(&ring), ring.len()), (None, 0));
    });
}

#[test]
fn a_producer_is_killed_at_each_step_while_others_go_on() {
    use KillPoint::*;
    for point in
        [RingPutLocked, RingPutCopied, RingPutCommitted, RingPutUnlocked, RingLinkWritten, RingLinkCommitted]
    {
        model(&format!("killed at {point:?}"), move |ring| {
            put(&ring, 0);
            put(&ring, 1);
            // Links, then puts.
            let victim = killed_at(point, move || put(&ring, 2));
            // Leaves the first segment if it is linked by then.
            let consumer = thread::spawn(move || (take(&ring), take(&ring), try_take(&ring)));
            put(&ring, 3);
            let (a, b, c) = consumer.join().unwrap();
            let died = victim.join().unwrap();
            // Another may have linked, or made room, before it had to.
            assert!(died || matches!(point, RingLinkWritten | RingLinkCommitted), "it got there");
            let mut seen = vec![a, b];
            seen.extend(c);
            while let Some(number) = try_take(&ring) {
                seen.push(number);
            }
            let committed = !died || matches!(point, RingPutCommitted | RingPutUnlocked);
            let before = [0, 1, 2, 3];
            let after = [0, 1, 3, 2];
            let without = [0, 1, 3];
            assert!(if committed { seen == before || seen == after } else { seen == without }, "{seen:?}");
            // Whoever locks next repairs what is left to repair.
            put(&ring, 4);
            assert_eq!((try_take(&ring), ring.len()), (Some(4), 0));
        });
    }
}

#[test]
fn a_consumer_is_killed_at_each_step_while_others_go_on() {
    use KillPoint::*;
    for point in [RingTakeLocked, RingTakeCopied, RingTakeCommitted, RingUnlinkCommitted] {
        model(&format!("killed at {point:?}"), move |ring| {
            put(&ring, 0);
            put(&ring, 1);
            put(&ring, 2);
            let at_the_end = point == RingUnlinkCommitted;
            if at_the_end {
                assert_eq!((try_take(&ring), try_take(&ring)), (Some(0), Some(1)));
            }
            let victim = killed_at(point, move || {
                take(&ring);
            });
            let producer = thread::spawn(move || put(&ring, 3));
            let mut seen = vec![take(&ring)];
            if !at_the_end {
                seen.push(take(&ring));
            }
            producer.join().unwrap();
            let died = victim.join().unwrap();
            while let Some(number) = try_take(&ring) {
                seen.push(number);
            }
            // Another may have left the segment before it had to.
            assert!(died || at_the_end, "it got there");
            let all: Vec<u64> = if at_the_end { vec![2, 3] } else { vec![0, 1, 2, 3] };
            let missing: Vec<u64> = all.iter().copied().filter(|n| !seen.contains(n)).collect();
            assert!(seen.is_sorted() && seen.iter().all(|n| all.contains(n)), "{seen:?}");
            assert_eq!(missing.len(), usize::from(!died || point == RingTakeCommitted), "{seen:?}");
            put(&ring, 4);
            assert_eq!((try_take(&ring), ring.len()), (Some(4), 0));
            assert_eq!(ring.recoveries().1, u32::from(died));
        });
    }
}
