//! How fast the ring is between processes: `cargo run --release -p manyhands-sync --example ring_speed`.
//!
//! Messages a second through a ring without bound, one or two producers and consumers, 8 bytes and 1 KiB, one
//! frame a lock and sixteen; and the round trip of an 8-byte message over two rings. Three rounds each: whole runs
//! differ by up to five times with where the machine puts its processors, so compare within one run only.
#![allow(unsafe_code)] // maps memory, forks, and implements Memory
#![allow(missing_docs)]
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // not part of the structures that loom checks

#[cfg(not(loom))]
#[path = "../tests/support/mod.rs"]
mod support;

#[cfg(loom)]
fn main() {}

#[cfg(not(loom))]
fn main() {
    speed::run();
}

#[cfg(not(loom))]
mod speed {
    use super::support::{self, Mapping};
    use manyhands_sync::deadline::Deadline;
    use manyhands_sync::notes::WaitKind;
    use manyhands_sync::ring::{Locking, PutError, Ring, TakeError};
    use manyhands_sync::spin::Learnt;
    use manyhands_sync::wait_word::Waiting;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    const END: u32 = 1;

    pub(super) fn run() {
        for (workers, bytes, batch, messages) in [
            (1, 8, 1, 3_000_000u64),
            (2, 8, 1, 3_000_000),
            (1, 1024, 1, 1_000_000),
            (2, 1024, 1, 1_000_000),
            (1, 8, 16, 10_000_000),
            (2, 8, 16, 10_000_000),
            (1, 1024, 16, 2_000_000),
            (2, 1024, 16, 2_000_000),
        ] {
            let rounds: Vec<String> =
                (0..3).map(|_| format!("{:.1}", throughput(workers, bytes, batch, messages) / 1e6)).collect();
            println!("{workers}P{workers}C {bytes:>4} B, {batch:>2} a lock: {} M/s", rounds.join(" / "));
        }
        let rounds: Vec<String> = (0..3).map(|_| format!("{:.2}", round_trip(200_000))).collect();
        println!("round trip, 8 B: {} us", rounds.join(" / "));
        let rounds: Vec<String> = (0..3).map(|_| format!("{:.2}", floor(200_000))).collect();
        println!("its floor, two words spun on with the same waiting: {} us", rounds.join(" / "));
    }

    /// Messages a second, from the first put to the last take.
    fn throughput(workers: u64, bytes: usize, batch: u32, messages: u64) -> f64 {
        let arena = support::arena(8);
        // As large as the prototype's ring of 256 KiB, by number: what is measured is the ring, not the arena.
        let ring = support::ring(arena, u32::try_from((256 << 10) / (bytes + 8)).unwrap());
        let start = Instant::now();
        let consumers: Vec<i32> = (0..workers).map(|_| support::fork(|| consume(&ring, batch))).collect();
        let producers: Vec<i32> = (0..workers)
            .map(|_| support::fork(|| produce(&ring, bytes, batch, messages / workers)))
            .collect();
        for pid in producers {
            assert_eq!(support::reap(pid), 0);
        }
        for _ in 0..workers {
            put(&ring, END, &[], &mut Waiting::new(WaitKind::Message));
        }
        for pid in consumers {
            assert_eq!(support::reap(pid), 0);
        }
        let rate = messages as f64 / start.elapsed().as_secs_f64();
        arena.backing().wipe();
        rate
    }

    fn put(ring: &Ring<Mapping>, tag: u32, bytes: &[u8], waiting: &mut Waiting) {
        loop {
            match ring.put(tag, &[bytes]) {
                Ok(_) => return,
                Err(PutError::Full) => drop(ring.wait_for_room(waiting, Deadline::NEVER)),
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    fn produce(ring: &Ring<Mapping>, bytes: usize, batch: u32, messages: u64) {
        let (bytes, mut waiting) = (vec![7; bytes], Waiting::new(WaitKind::Message));
        if batch == 1 {
            return (0..messages).for_each(|_| put(ring, 0, &bytes, &mut waiting));
        }
        let mut left = messages;
        while left != 0 {
            let mut putting = ring.putting(Locking::Wait).unwrap();
            let wanted = left.min(batch.into());
            let put = (0..wanted).map_while(|_| putting.put(0, &[&bytes]).ok()).count() as u64;
            let full = ring.is_full();
            putting.finish();
            left -= put;
            if put < wanted {
                if full {
                    ring.wait_for_room(&mut waiting, Deadline::NEVER);
                } else {
                    ring.grow(&[&bytes], Locking::Wait).unwrap();
                }
            }
        }
    }

    fn consume(ring: &Ring<Mapping>, batch: u32) {
        let (mut out, mut waiting) = (Vec::new(), Waiting::new(WaitKind::Message));
        loop {
            out.clear();
            match ring.taking(Locking::Wait) {
                Ok(mut taking) => {
                    let mut ended = false;
                    for _ in 0..batch {
                        let Some(frame) = taking.peek().unwrap() else { break };
                        taking.read(frame, &mut out).unwrap();
                        if frame.tag == END {
                            ended = true;
                            break;
                        }
                    }
                    taking.commit();
                    if ended {
                        return;
                    }
                }
                Err(TakeError::Empty) => drop(ring.wait_for_frame(&mut waiting, Deadline::NEVER)),
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    /// Microseconds from a put to the answer.
    fn round_trip(trips: u32) -> f64 {
        let arena = support::arena(1);
        let (there, back) = (support::ring(arena, 0), support::ring(arena, 0));
        let echo = support::fork(|| {
            let (mut out, mut waiting) = (Vec::new(), Waiting::new(WaitKind::Message));
            for _ in 0..trips {
                take(&there, &mut out, &mut waiting);
                put(&back, 0, &out, &mut waiting);
            }
        });
        let (mut out, mut waiting) = (Vec::new(), Waiting::new(WaitKind::Message));
        let start = Instant::now();
        for _ in 0..trips {
            put(&there, 0, &[1; 8], &mut waiting);
            take(&back, &mut out, &mut waiting);
        }
        let each = start.elapsed().as_secs_f64() * 1e6 / f64::from(trips);
        assert_eq!(support::reap(echo), 0);
        arena.backing().wipe();
        each
    }

    /// As `round_trip`, with nothing but a word each way.
    fn floor(trips: u32) -> f64 {
        let arena = support::arena(1);
        let word = || {
            let (_, place) = support::placed(&arena, manyhands_sync::seat::Seat::new());
            support::atomic_at(std::ptr::from_ref(place).cast(), 0)
        };
        let (there, back) = (word(), word());
        let learnt = Learnt::new();
        let wait = |word: &AtomicU32, wanted| {
            while learnt.spin(|| (word.load(Ordering::Acquire) == wanted).then_some(())).is_none() {}
        };
        let echo = support::fork(|| {
            for trip in 1..=trips {
                wait(there, trip);
                back.store(trip, Ordering::Release);
            }
        });
        let start = Instant::now();
        for trip in 1..=trips {
            there.store(trip, Ordering::Release);
            wait(back, trip);
        }
        let each = start.elapsed().as_secs_f64() * 1e6 / f64::from(trips);
        assert_eq!(support::reap(echo), 0);
        arena.backing().wipe();
        each
    }

    fn take(ring: &Ring<Mapping>, out: &mut Vec<u8>, waiting: &mut Waiting) {
        out.clear();
        while ring.try_take(out, Locking::Wait).is_err() {
            ring.wait_for_frame(waiting, Deadline::NEVER);
        }
    }
}
