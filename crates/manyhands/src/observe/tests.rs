//! A reader of a family that runs, and of one whose memory is damaged at random.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::queue::Queue;
use manyhands_sync::deadline::Deadline;
use manyhands_sync::queue_header::QueueHeader;
use manyhands_sync::ring::{Locking, Ring};
use std::os::unix::fs::FileExt;
use std::time::Duration;

#[test]
fn processes_that_are_no_members_are_refused_by_name() {
    assert_eq!(Observer::attach(1 << 30).err(), Some(ObserveError::NoSuchProcess(1 << 30)));
    let other = memory::create_sealed(COPY_NAME, CHUNK_BYTES).unwrap();
    assert_eq!(Observer::over(other, 7).err(), Some(ObserveError::NotAMember(7)));
    let open = memory::file_of(COPY_NAME, &[0; 100]).unwrap();
    assert_eq!(Observer::over(open, 7).err(), Some(ObserveError::NotAMember(7)));
}

#[test]
fn a_thread_that_waits_is_seen_from_outside_and_inside() {
    let family = Family::current().unwrap();
    let queue = Queue::create(family, 3).unwrap();
    let waiting = queue.clone();
    let waiter = std::thread::spawn(move || waiting.receive_by(Deadline::after(Duration::from_secs(60))));
    let own = Observer::own().unwrap();
    let outside = Observer::attach(std::process::id()).unwrap();
    let seen = |observer: &Observer| {
        let text = observer.report().to_string();
        text.contains("s for a message in queue") && text.contains("at most 5")
    };
    while !(seen(&own) && seen(&outside)) {
        assert!(!waiter.is_finished(), "it waits, and is not seen:\n{}", outside.report());
        std::thread::yield_now();
    }
    queue.send_by(&[1, 2, 3], Deadline::NEVER).unwrap();
    assert_eq!(waiter.join().unwrap().unwrap(), [1, 2, 3]);
    assert!(!seen(&own), "awake, so the note is given back:\n{}", own.report());
    drop(queue);
}

#[test]
fn who_holds_a_lock_for_longer_than_a_moment_is_named() {
    let family = Family::current().unwrap();
    let queue = Queue::create(family, 0).unwrap();
    let header = &family.whole_arena().placed::<QueueHeader>(queue.handle()).unwrap().ring;
    let ring = Ring::new(family.whole_arena(), header, queue.handle());
    let line = format!("its lock to put is held by process {}", std::process::id());
    let held = ring.putting(Locking::Wait).unwrap();
    assert!(Observer::own().unwrap().report().to_string().contains(&line));
    drop(held);
    // A thread that dies with it: the next one who locks would repair.
    let (arena, home) = (family.whole_arena(), queue.handle());
    std::thread::spawn(move || {
        std::mem::forget(Ring::new(arena, header, home).putting(Locking::Wait).unwrap())
    })
    .join()
    .unwrap();
    let text = Observer::own().unwrap().report().to_string();
    assert!(text.contains("its lock to put was held by somebody who died"), "{text}");
    drop(ring.putting(Locking::Wait).unwrap());
    assert!(Observer::own().unwrap().report().to_string().contains("killed at it once"));
    drop(queue);
}

#[test]
fn a_family_of_another_build_is_refused() {
    let (file, _) = copy_of(Family::current().unwrap(), 1 << 20);
    // The build's number, behind the magic word, the layout and the size of a pointer.
    file.write_all_at(&[1; 8], 16).unwrap();
    let refused = Observer::over(memory::duplicate(file.as_fd()).unwrap(), 7).err();
    assert_eq!(refused, Some(ObserveError::OtherBuild));
}

/// Not the real name: this process's own family is looked for by that.
const COPY_NAME: &str = "manyhands-copy";

/// A copy of a family's memory, to be damaged.
fn copy_of(family: &Family, bytes: usize) -> (std::fs::File, Observer) {
    let mut copy = vec![0; bytes];
    std::fs::File::from(memory::duplicate(family.descriptor().unwrap().get().unwrap()).unwrap())
        .read_exact_at(&mut copy, 0)
        .unwrap();
    let fd = memory::create_sealed(COPY_NAME, 4 * CHUNK_BYTES).unwrap();
    let file = std::fs::File::from(memory::duplicate(fd.as_fd()).unwrap());
    file.write_all_at(&copy, 0).unwrap();
    (file, Observer::over(fd, 7).unwrap())
}

#[test]
fn random_damage_is_reported_or_overlooked_but_never_follows_into_nowhere() {
    let family = Family::current().unwrap();
    let queue = Queue::create(family, 0).unwrap();
    for _ in 0..200 {
        queue.send_by(&[7; 1000], Deadline::NEVER).unwrap();
    }
    let pool = crate::pool::Pool::create(family, 3).unwrap();
    let bytes = 24 << 20;
    let (file, observer) = copy_of(family, bytes);
    let sound = observer.report();
    assert!(sound.to_string().contains("200 (19"), "{sound}");
    assert_eq!(sound.pools.iter().filter(|found| found.handle == pool.handle()).count(), 1);

    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        // xorshift64: Marsaglia, 2003.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    // Where the interesting words lie: the header, the table's first slots, rings and seats.
    let places: Vec<u64> = [64, 128, 4096]
        .into_iter()
        .chain(sound.queues.iter().map(|queue| queue.handle.offset))
        .chain(sound.pools.iter().map(|pool| pool.handle.offset))
        .collect();
    for round in 0..400 {
        let mut before = Vec::new();
        for _ in 0..1 + next() % 40 {
            let base =
                if next() % 3 == 0 { next() % bytes as u64 } else { places[next() as usize % places.len()] };
            let at = (base + next() % 2048) & !7;
            // What tells that it is an arena stays: another one would be refused.
            let at = if at < 40 { 64 } else { at.min(bytes as u64 - 8) };
            let mut word = [0; 8];
            file.read_exact_at(&mut word, at).unwrap();
            before.push((at, word));
            let value = if next() % 2 == 0 { next() } else { next() % 5_000_000 };
            file.write_all_at(&value.to_le_bytes(), at).unwrap();
        }
        let text = observer.report().to_string();
        assert!(text.starts_with("manyhands family"), "round {round}");
        for (at, word) in before.into_iter().rev() {
            file.write_all_at(&word, at).unwrap();
        }
    }
    let healed = observer.report();
    assert_eq!((healed.queues, healed.arena), (sound.queues, sound.arena));
    pool.destroy();
    drop(queue);
}
