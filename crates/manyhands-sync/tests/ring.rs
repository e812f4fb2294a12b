//! The ring through its public names, in one process.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // not part of the structures that loom checks

mod support;

use manyhands_sync::arena::{Arena, Handle};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::memory::Memory;
use manyhands_sync::mutex::RobustMutex;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::ring::{Frame, Locking, MOST_INLINE_BYTES, PutError, Ring, RingHeader, TakeError};
use manyhands_sync::wait_word::{Waited, Waiting};
use std::time::Duration;
use support::{Mapping, Random, Stall, arena, checked, message, ring, times};

fn take(ring: &Ring<Mapping>) -> Result<(u32, Vec<u8>), TakeError> {
    let mut out = Vec::new();
    ring.try_take(&mut out, Locking::Wait).map(|tag| (tag, out))
}

#[test]
fn frames_come_out_in_the_order_they_went_in_with_tag_and_bytes() {
    let ring = ring(arena(1), 0);
    assert_eq!(take(&ring), Err(TakeError::Empty));
    ring.put(7, &[b"one", b" and ", b"a half"]).unwrap();
    ring.put(8, &[]).unwrap();
    ring.put(9, &[b"three"]).unwrap();
    assert_eq!(ring.len(), 3);
    assert_eq!(take(&ring), Ok((7, b"one and a half".to_vec())));
    assert_eq!(take(&ring), Ok((8, vec![])));
    assert_eq!(take(&ring), Ok((9, b"three".to_vec())));
    assert_eq!(take(&ring), Err(TakeError::Empty));
    assert!(ring.is_empty());
    assert_eq!(ring.taken_total(), 3);
}

#[test]
fn one_segment_serves_for_ever_when_it_is_drained_in_time() {
    let arena = arena(1);
    let ring = ring(arena, 0);
    let mut random = Random::new(1);
    for number in 0..times(20_000) {
        let len = 24 + random.below(4_000) as usize;
        ring.put(number as u32, &[&message(1, number, len)]).unwrap();
        let (tag, bytes) = take(&ring).unwrap();
        assert_eq!((tag, checked(&bytes)), (number as u32, (1, number)));
    }
    // Sixty megabytes went through; the first segment is all there is.
    assert_eq!(segments(&arena, &ring).len(), 1, "segments were linked without need");
    assert!(arena.survey(usize::MAX).held_bytes < 16 << 10, "a ring takes little");
}

#[test]
fn a_ring_without_bound_grows_and_shrinks_and_gives_its_segments_back() {
    let arena = arena(4);
    let ring = ring(arena, 0);
    let mut high_water = 0;
    for round in 0..4 {
        for number in 0..4_000 {
            ring.put(0, &[&message(round, number, 24 + (number as usize * 37) % 8_000)]).unwrap();
        }
        assert_eq!(ring.len(), 4_000);
        for number in 0..4_000 {
            let (_, bytes) = take(&ring).unwrap();
            assert_eq!(checked(&bytes), (round, number));
        }
        assert_eq!(take(&ring), Err(TakeError::Empty));
        match round {
            1 => high_water = arena.extent_bytes(),
            2.. => assert_eq!(arena.extent_bytes(), high_water, "drained segments were not reused"),
            _ => {}
        }
    }
}

#[test]
fn a_full_ring_of_frames_of_the_longest_kind_wraps_at_every_offset() {
    let ring = ring(arena(1), 0);
    let longest = vec![0xa5; MOST_INLINE_BYTES];
    assert_eq!(ring.put(0, &[&longest, b"x"]), Err(PutError::TooLong));
    for shift in 0..80 {
        ring.put(1, &[&longest[..shift]]).unwrap();
        for _ in 0..6 {
            ring.put(2, &[&longest]).unwrap();
        }
        assert_eq!(take(&ring).unwrap().1.len(), shift);
        for _ in 0..6 {
            assert_eq!(take(&ring).unwrap(), (2, longest.clone()));
        }
    }
}

#[test]
fn a_bound_is_exact_and_room_comes_back() {
    let ring = ring(arena(1), 3);
    for _ in 0..3 {
        ring.put(0, &[b"x"]).unwrap();
    }
    assert!(ring.is_full());
    assert_eq!(ring.put(0, &[b"x"]), Err(PutError::Full));
    take(&ring).unwrap();
    assert!(!ring.is_full());
    ring.put(0, &[b"x"]).unwrap();
    assert_eq!(ring.put(0, &[b"x"]), Err(PutError::Full));
}

#[test]
fn a_batch_that_is_read_and_not_committed_stays() {
    let ring = ring(arena(1), 0);
    for tag in 0..5 {
        ring.put(tag, &[&tag.to_le_bytes()]).unwrap();
    }
    let mut out = Vec::new();
    let mut taking = ring.taking(Locking::Try).unwrap();
    assert_eq!(taking.next_number(), 0);
    for _ in 0..3 {
        let frame = taking.peek().unwrap().unwrap();
        taking.read(frame, &mut out).unwrap();
    }
    assert_eq!(taking.next_number(), 3);
    assert_eq!(ring.taking(Locking::Try).err(), Some(TakeError::Busy));
    drop(taking);
    assert_eq!((ring.len(), ring.taken_total()), (5, 0));

    let mut taking = ring.taking(Locking::Try).unwrap();
    while let Some(frame) = taking.peek().unwrap() {
        taking.read(frame, &mut out).unwrap();
    }
    let mut noted = false;
    taking.commit_with(|| noted = true);
    assert!(noted);
    assert_eq!((ring.len(), ring.taken_total()), (0, 5));
}

#[test]
fn a_batch_that_was_put_before_an_error_is_there_and_the_bell_is_still_wanted() {
    let ring = ring(arena(1), 2);
    ring.want_bell();
    let mut putting = ring.putting(Locking::Try).unwrap();
    putting.put(1, &[b"a"]).unwrap();
    putting.put(2, &[b"b"]).unwrap();
    assert_eq!(putting.put(3, &[b"c"]), Err(PutError::Full));
    // The caller's `?` drops it: nobody was told to ring.
    drop(putting);
    assert_eq!(ring.len(), 2);
    take(&ring).unwrap();
    assert_eq!(ring.try_put(4, &[b"d"], Locking::Try), Ok(true), "the bell is rung by the next put");
    take(&ring).unwrap();
    assert_eq!(ring.try_put(5, &[b"e"], Locking::Try), Ok(false), "and only once");
}

#[test]
fn frames_are_copied_to_another_place_of_the_arena() {
    let arena = arena(1);
    let ring = ring(arena, 0);
    let place = arena.allocate(MOST_INLINE_BYTES as u64).unwrap().share();
    for number in 0..200 {
        let bytes = message(3, number, 24 + (number as usize * 131) % 6_000);
        ring.put(5, &[&bytes]).unwrap();
        let mut taking = ring.taking(Locking::Wait).unwrap();
        let frame = taking.peek().unwrap().unwrap();
        assert_eq!(frame, Frame { tag: 5, payload_bytes: bytes.len() as u32 });
        taking.read_within(frame, place.offset).unwrap();
        taking.commit();
        let mut out = Vec::new();
        assert!(arena.backing().copy_out(place.offset, bytes.len(), &mut out));
        assert_eq!(out, bytes);
    }
}

#[test]
fn a_frame_of_the_callers_own_invention_is_refused() {
    let ring = ring(arena(1), 0);
    ring.put(0, &[b"short"]).unwrap();
    let mut taking = ring.taking(Locking::Wait).unwrap();
    let mut out = Vec::new();
    let absurd = Frame { tag: 0, payload_bytes: u32::MAX };
    assert_eq!(taking.read(absurd, &mut out), Err(TakeError::Corrupted));
    assert_eq!(taking.read_within(absurd, 4096), Err(TakeError::Corrupted));
}

#[test]
fn many_threads_lose_double_and_corrupt_nothing() {
    let each = times(30_000);
    const PRODUCERS: u32 = 4;
    const CONSUMERS: usize = 4;
    for bound in [0, 10] {
        let ring = ring(arena(4), bound);
        let producer = |sender: u32| {
            let (mut waiting, mut random) = (Waiting::new(WaitKind::Message), Random::new(u64::from(sender)));
            let mut number = 0;
            let mut stall = Stall::new();
            while number < each {
                let bytes = message(sender, number, 24 + random.below(400) as usize);
                match ring.put(sender, &[&bytes]) {
                    Ok(_) => {
                        number += 1;
                        stall.progress();
                    }
                    Err(PutError::Full) => {
                        ring.wait_for_room(&mut waiting, Deadline::after(Duration::from_secs(1)));
                        stall.check(|| format!("{ring:?}"));
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
        };
        let consumer = || {
            let (mut waiting, mut out) = (Waiting::new(WaitKind::Message), Vec::new());
            let mut last = [None; PRODUCERS as usize];
            let mut taken = 0;
            let mut stall = Stall::new();
            loop {
                out.clear();
                match ring.try_take(&mut out, Locking::Wait) {
                    Ok(u32::MAX) => return taken,
                    Ok(tag) => {
                        let (sender, number) = checked(&out);
                        assert_eq!(sender, tag);
                        assert!(last[sender as usize] < Some(number), "out of order");
                        last[sender as usize] = Some(number);
                        taken += 1;
                        stall.progress();
                    }
                    Err(TakeError::Empty) => {
                        ring.wait_for_frame(&mut waiting, Deadline::NEVER);
                        stall.check(|| format!("{ring:?}"));
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
        };
        let taken: u64 = std::thread::scope(|scope| {
            let consumers: Vec<_> = (0..CONSUMERS).map(|_| scope.spawn(consumer)).collect();
            let producers: Vec<_> = (0..PRODUCERS).map(|p| scope.spawn(move || producer(p))).collect();
            for producer in producers {
                producer.join().unwrap();
            }
            for _ in 0..CONSUMERS {
                while ring.put(u32::MAX, &[]) == Err(PutError::Full) {
                    std::thread::yield_now();
                }
            }
            consumers.into_iter().map(|c| c.join().unwrap()).sum()
        });
        assert_eq!(taken, each * u64::from(PRODUCERS));
        assert_eq!(take(&ring), Err(TakeError::Empty));
    }
}

#[test]
fn a_frame_that_the_count_does_not_know_of_is_found_by_who_waits() {
    let arena = arena(1);
    let ring = ring(arena, 0);
    ring.put(1, &[b"counted"]).unwrap();
    take(&ring).unwrap();
    ring.put(2, &[b"uncounted"]).unwrap();
    // What a producer leaves that is killed between its commit and its count.
    let behind = ring.taken_total();
    let total = words_of(ring.header()).find(|&(_, word)| word == behind + 1).expect("the put total").0;
    stomp_header(ring.header(), total, behind);
    assert!(ring.is_empty(), "the count says so");
    let mut waiting = Waiting::new(WaitKind::Message);
    let waited = ring.wait_for_frame(&mut waiting, Deadline::after(Duration::from_secs(60)));
    assert_eq!(waited, Waited::Interrupted, "the end of a sleep: who waits tries, whatever the count says");
    assert_eq!(take(&ring), Ok((2, b"uncounted".to_vec())));
}

#[test]
fn a_wait_ends_at_its_deadline() {
    let ring = ring(arena(1), 1);
    let wait = |wait: &dyn Fn(&mut Waiting, Deadline) -> Waited| {
        let (mut waiting, soon) =
            (Waiting::new(WaitKind::Message), Deadline::after(Duration::from_millis(30)));
        loop {
            match wait(&mut waiting, soon) {
                Waited::Interrupted => {}
                waited => return waited,
            }
        }
    };
    let frame = || wait(&|waiting, soon| ring.wait_for_frame(waiting, soon));
    let room = || wait(&|waiting, soon| ring.wait_for_room(waiting, soon));
    assert_eq!(frame(), Waited::TimedOut);
    ring.put(0, &[]).unwrap();
    assert_eq!(frame(), Waited::Ready);
    assert_eq!(room(), Waited::TimedOut);
    take(&ring).unwrap();
    assert_eq!(room(), Waited::Ready);
}

#[test]
fn dismantling_frees_every_segment() {
    let arena = arena(4);
    let mut high_water = 0;
    for round in 0..5 {
        let ring = ring(arena, 0);
        for number in 0..2_000 {
            ring.put(0, &[&message(0, number, 8_000)]).unwrap();
        }
        ring.dismantle();
        match round {
            1 => high_water = arena.extent_bytes(),
            2.. => assert_eq!(arena.extent_bytes(), high_water),
            _ => {}
        }
    }
}

/// Where a ring's header begins in its arena, from its address.
fn offset_of(arena: &Arena<Mapping>, header: &RingHeader) -> u64 {
    let base = arena.backing().resolve(0, 1).unwrap().as_ptr().addr();
    (std::ptr::from_ref(header).addr() - base) as u64
}

fn words_of(header: &'static RingHeader) -> impl Iterator<Item = (usize, u32)> {
    let start = std::ptr::from_ref(header).cast::<std::sync::atomic::AtomicU32>();
    (0..size_of::<RingHeader>() / 4)
        .map(move |i| (i, support::atomic_at(start, i).load(std::sync::atomic::Ordering::Relaxed)))
}

fn stomp_header(header: &'static RingHeader, word: usize, value: u32) {
    let start = std::ptr::from_ref(header).cast::<std::sync::atomic::AtomicU32>();
    support::atomic_at(start, word).store(value, std::sync::atomic::Ordering::Relaxed);
}

/// Where a side's segment is named in a ring's header: behind a robust mutex; a side takes two cache lines.
const SIDES: [u64; 2] = [BEHIND_THE_LOCK, 128 + BEHIND_THE_LOCK];
const BEHIND_THE_LOCK: u64 = size_of::<RobustMutex>() as u64;
/// Where a segment names the next one.
const NEXT: u64 = 16;

/// Every segment of a sound ring, the consumers' first.
fn segments(arena: &Arena<Mapping>, ring: &Ring<Mapping>) -> Vec<u64> {
    let memory = arena.backing();
    let first = memory.word(offset_of(arena, ring.header()) + SIDES[1]);
    let next = |segment: &u64| Some(memory.word(segment + NEXT)).filter(|&next| next != 0);
    std::iter::successors(Some(first), next).collect()
}

/// Uses a damaged ring until it says so or is empty; bounded, and whatever comes out was inside the arena.
fn use_up(ring: &Ring<Mapping>) {
    let mut out = Vec::new();
    for round in 0..400 {
        out.clear();
        match ring.try_take(&mut out, Locking::Wait) {
            Ok(_) => assert!(out.len() <= MOST_INLINE_BYTES),
            Err(TakeError::Busy) => panic!("nobody holds the lock"),
            Err(TakeError::Empty | TakeError::Corrupted) => break,
        }
        match ring.put(round, &[b"into a damaged ring"]) {
            Ok(_) | Err(PutError::Corrupted | PutError::NoRoom | PutError::Full) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[test]
fn random_damage_in_segments_gives_errors_and_never_a_loop_or_a_wild_access() {
    for seed in 0..times(1_500) {
        let mut random = Random::new(seed);
        let arena = arena(1);
        let ring = ring(arena, 0);
        let count = random.below(60);
        for number in 0..count {
            ring.put(0, &[&message(0, number, 24 + random.below(8_000) as usize)]).unwrap();
        }
        for _ in 0..random.below(count + 1) {
            take(&ring).unwrap();
        }
        let segments = segments(&arena, &ring);
        assert!(!segments.is_empty());
        for _ in 0..=random.below(4) {
            let segment = segments[random.below(segments.len() as u64) as usize];
            // The header, and the first frames behind it.
            let at = segment + random.below(320 / 8) * 8;
            let value = match random.below(4) {
                0 => random.next(),
                1 => segments[random.below(segments.len() as u64) as usize],
                2 => random.below(1 << 20),
                _ => u64::MAX << random.below(64),
            };
            arena.backing().stomp(at, &value.to_le_bytes());
        }
        use_up(&ring);
        ring.dismantle();
        arena.backing().wipe();
    }
}

#[test]
fn segments_linked_in_a_circle_are_refused() {
    for how in 0..4 {
        let arena = arena(1);
        let ring = ring(arena, 0);
        while segments(&arena, &ring).len() < 2 {
            ring.put(0, &[&[1; 8_000]]).unwrap();
        }
        let [first, second] = segments(&arena, &ring)[..] else { panic!("two segments") };
        let next = NEXT;
        match how {
            // The drained first one leads to itself.
            0 => arena.backing().stomp(first + next, &first.to_le_bytes()),
            // The second leads back to the first.
            1 => arena.backing().stomp(second + next, &first.to_le_bytes()),
            // Both look empty, and lead to each other.
            2 => {
                for segment in [first, second] {
                    arena.backing().stomp(segment + 64, &[0; 128]);
                    arena.backing().stomp(segment, &(8u64 << 10).to_le_bytes());
                }
                arena.backing().stomp(second + next, &first.to_le_bytes());
            }
            // The link leads out of the arena.
            _ => arena.backing().stomp(first + next, &(1u64 << 50).to_le_bytes()),
        }
        use_up(&ring);
        ring.dismantle();
    }
}

#[test]
fn damage_in_one_ring_leaves_its_neighbour_alone() {
    let arena = arena(2);
    let (damaged, sound) = (ring(arena, 0), ring(arena, 0));
    for number in 0..50 {
        damaged.put(0, &[&message(1, number, 5_000)]).unwrap();
        sound.put(0, &[&message(2, number, 5_000)]).unwrap();
    }
    // Its head names the neighbour's segment; the counts do not agree with that.
    take(&sound).unwrap();
    let (ours, theirs) = (offset_of(&arena, damaged.header()), offset_of(&arena, sound.header()));
    for at in SIDES {
        assert!(
            segments(&arena, &damaged).contains(&arena.backing().word(ours + at)),
            "where a side's segment lies"
        );
        let other = arena.backing().word(theirs + at);
        arena.backing().stomp(ours + at, &other.to_le_bytes());
    }
    assert_eq!(take(&damaged), Err(TakeError::Corrupted));
    for number in 1..50 {
        assert_eq!(checked(&take(&sound).unwrap().1), (2, number));
    }
}

#[test]
fn a_segment_that_was_freed_behind_the_rings_back_costs_only_the_ring() {
    let arena = arena(1);
    let ring = ring(arena, 0);
    while segments(&arena, &ring).len() < 2 {
        ring.put(0, &[&[1; 8_000]]).unwrap();
    }
    let second = segments(&arena, &ring)[1];
    arena.free(Handle { offset: second, generation: 1 }).unwrap();
    while take(&ring).is_ok() {}
    ring.dismantle();
    let blocks = [arena.allocate(100_000).unwrap().share(), arena.allocate(100_000).unwrap().share()];
    assert_ne!(blocks[0].offset, blocks[1].offset, "no block is handed out twice");
}
