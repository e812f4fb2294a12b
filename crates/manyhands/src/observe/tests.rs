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
    let other = memory::create_sealed(COPY_NAME, CHUNK_BYTES).expect("a descriptor");
    assert_eq!(Observer::over(other, 7).err(), Some(ObserveError::NotAMember(7)));
    let open = memory::file_of(COPY_NAME, &[0; 100]).expect("a descriptor");
    assert_eq!(Observer::over(open, 7).err(), Some(ObserveError::NotAMember(7)));
}

#[test]
fn a_thread_that_waits_is_seen_from_outside_and_inside() {
    let family = Family::current().expect("a family");
    let queue = Queue::create(family, 3).expect("memory");
    let waiting = queue.clone();
    let waiter = std::thread::spawn(move || waiting.receive_by(Deadline::after(Duration::from_secs(60))));
    let own = Observer::own().expect("a family to look into");
    let outside = Observer::attach(std::process::id()).expect("made by this test");
    let seen = |observer: &Observer| {
        let text = observer.report().to_string();
        text.contains("s for a message in queue") && text.contains("at most 5")
    };
    while !(seen(&own) && seen(&outside)) {
        assert!(!waiter.is_finished(), "it waits, and is not seen:\n{}", outside.report());
        std::thread::yield_now();
    }
    queue.send_by(&[1, 2, 3], Deadline::NEVER).expect("room");
    assert_eq!(waiter.join().expect("no panic").expect("a message"), [1, 2, 3]);
    assert!(!seen(&own), "awake, so the note is given back:\n{}", own.report());
    drop(queue);
}

#[test]
fn who_holds_a_lock_for_longer_than_a_moment_is_named() {
    let family = Family::current().expect("a family");
    let queue = Queue::create(family, 0).expect("memory");
    let header = &family.whole_arena().placed::<QueueHeader>(queue.handle()).expect("made by this test").ring;
    let ring = Ring::new(family.whole_arena(), header, queue.handle());
    let line = format!("its lock to put is held by process {}", std::process::id());
    let held = ring.putting(Locking::Wait).expect("a sound ring");
    assert!(Observer::own().expect("a family to look into").report().to_string().contains(&line));
    drop(held);
    // A thread that dies with it: the next one who locks would repair.
    let (arena, home) = (family.whole_arena(), queue.handle());
    std::thread::spawn(move || {
        std::mem::forget(Ring::new(arena, header, home).putting(Locking::Wait).expect("a sound ring"))
    })
    .join()
    .expect("made by this test");
    let text = Observer::own().expect("a family to look into").report().to_string();
    assert!(text.contains("its lock to put was held by somebody who died"), "{text}");
    drop(ring.putting(Locking::Wait).expect("a sound ring"));
    assert!(
        Observer::own().expect("a family to look into").report().to_string().contains("killed at it once")
    );
    drop(queue);
}

#[test]
fn a_family_of_another_build_is_refused() {
    let (file, _) = copy_of(Family::current().expect("a family"), 1 << 20);
    // The build's number, behind the magic word, the layout and the size of a pointer.
    file.write_all_at(&[1; 8], 16).expect("made by this test");
    let refused = Observer::over(memory::duplicate(file.as_fd()).expect("a descriptor"), 7).err();
    assert_eq!(refused, Some(ObserveError::OtherBuild));
}

/// Not the real name: this process's own family is looked for by that.
const COPY_NAME: &str = "manyhands-copy";

/// A copy of a family's memory, to be damaged.
fn copy_of(family: &Family, bytes: usize) -> (std::fs::File, Observer) {
    let mut copy = vec![0; bytes];
    std::fs::File::from(
        memory::duplicate(family.descriptor().expect("a descriptor").get().expect("made by this test"))
            .expect("made by this test"),
    )
    .read_exact_at(&mut copy, 0)
    .expect("made by this test");
    let fd = memory::create_sealed(COPY_NAME, 4 * CHUNK_BYTES).expect("a descriptor");
    let file = std::fs::File::from(memory::duplicate(fd.as_fd()).expect("a descriptor"));
    file.write_all_at(&copy, 0).expect("a file of this test");
    (file, Observer::over(fd, 7).expect("made by this test"))
}

#[test]
fn random_damage_is_reported_or_overlooked_but_never_follows_into_nowhere() {
    let family = Family::current().expect("a family");
    let queue = Queue::create(family, 0).expect("memory");
    for _ in 0..200 {
        queue.send_by(&[7; 1000], Deadline::NEVER).expect("made by this test");
    }
    let pool = crate::pool::Pool::create(family, 3).expect("memory");
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
            file.read_exact_at(&mut word, at).expect("a file of this test");
            before.push((at, word));
            let value = if next() % 2 == 0 { next() } else { next() % 5_000_000 };
            file.write_all_at(&value.to_le_bytes(), at).expect("a file of this test");
        }
        let text = observer.report().to_string();
        assert!(text.starts_with("manyhands family"), "round {round}");
        for (at, word) in before.into_iter().rev() {
            file.write_all_at(&word, at).expect("a file of this test");
        }
    }
    let healed = observer.report();
    assert_eq!((healed.queues, healed.arena), (sound.queues, sound.arena));
    pool.destroy();
    drop(queue);
}
