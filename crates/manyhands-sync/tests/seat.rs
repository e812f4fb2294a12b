//! A seat and the task ring it takes from, in one process; deaths are in `kill_points.rs`.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used)]

mod support;

use manyhands_sync::ring::{Frame, Locking};
use manyhands_sync::seat::{INBOX_BYTES, Phase, Progress, Seat};
use support::{arena, checked, message, placed, ring};

#[test]
fn a_batch_goes_from_the_ring_through_the_inbox() {
    let arena = arena(1);
    let ring = ring(arena, 0);
    let (offset, seat) = placed(&arena, Seat::new());
    for number in 0..40 {
        ring.put(number as u32, &[&message(9, number, 24 + number as usize * 11)]).unwrap();
    }
    let mut expected = 0;
    while !ring.is_empty() {
        let mut taking = ring.taking_with(Locking::Wait, |_| panic!("nobody died")).unwrap();
        let first = taking.next_number();
        let (mut used, mut count) = (0, 0);
        while count < 7
            && let Some(Frame { tag, payload_bytes }) = taking.peek().unwrap()
        {
            let (at, end) = seat.place_task(offset, used, tag, payload_bytes).unwrap();
            taking.read_within(Frame { tag, payload_bytes }, at).unwrap();
            (used, count) = (end, count + 1);
        }
        let noted = Progress { first, count, ..Progress::default() };
        seat.note(noted);
        taking.commit_with(|| seat.note(Progress { taken: true, ..noted }));
        assert_eq!(seat.progress(), Progress { first, count, taken: true, started: 0, answered: 0 });
        let mut at = 0;
        for _ in 0..count {
            let mut out = Vec::new();
            let (tag, end) = seat.read_task(&arena, offset, at, &mut out).unwrap();
            assert_eq!((tag, checked(&out)), (expected as u32, (9, expected)));
            (at, expected) = (end, expected + 1);
        }
        assert_eq!(at, used);
    }
    assert_eq!(expected, 40);
}

#[test]
fn what_does_not_fit_into_the_inbox_is_refused_at_every_edge() {
    let arena = arena(1);
    let (offset, seat) = placed(&arena, Seat::new());
    let whole = INBOX_BYTES as u32;
    assert_eq!(seat.place_task(offset, 0, 0, whole - 8).unwrap().1, whole);
    for (used, payload) in
        [(0, whole - 7), (0, u32::MAX), (whole, 0), (whole - 8, 1), (u32::MAX, 0), (u32::MAX - 7, 8)]
    {
        assert_eq!(seat.place_task(offset, used, 0, payload), None, "{used} {payload}");
    }
    let mut out = Vec::new();
    for used in [whole, whole + 8, u32::MAX, u32::MAX - 7] {
        assert_eq!(seat.read_task(&arena, offset, used, &mut out), None);
    }
    // A length that leads out of the inbox.
    seat.place_task(offset, 0, 0, 100).unwrap();
    let header = offset + (size_of::<Seat>() - INBOX_BYTES) as u64 / 64 * 64;
    for at in (offset..=header).step_by(8) {
        arena.backing().stomp(at, &u64::MAX.to_le_bytes());
    }
    assert_eq!(seat.read_task(&arena, offset, 0, &mut out), None);
    assert!(out.is_empty());
}

#[test]
fn a_cleared_seat_is_as_new() {
    let arena = arena(1);
    let (_, seat) = placed(&arena, Seat::new());
    seat.enter(Phase::Ready);
    seat.begin_item(4);
    seat.note(Progress { first: 5, count: 2, taken: true, started: 1, answered: 1 });
    seat.clear();
    assert_eq!((seat.progress(), seat.item(), seat.phase()), (Progress::default(), 0, Phase::Starting));
}

#[test]
fn settling_is_decided_by_the_ring_and_done_once() {
    let arena = arena(1);
    let (_, seat) = placed(&arena, Seat::new());
    for first in [0, 7, u32::MAX - 1, u32::MAX] {
        for count in [1, 2, 64] {
            let noted = Progress { first, count, ..Progress::default() };
            seat.note(noted);
            seat.settle(first.wrapping_add(u32::from(count)));
            assert_eq!(seat.progress(), Progress { taken: true, ..noted });
            // A later repairer, after others have taken more, leaves it alone.
            seat.settle(first);
            seat.settle(first.wrapping_add(900));
            assert_eq!(seat.progress(), Progress { taken: true, ..noted });

            seat.note(noted);
            seat.settle(first);
            assert_eq!(seat.progress(), Progress::default());
            seat.settle(first.wrapping_add(u32::from(count)));
            assert_eq!(seat.progress(), Progress::default());
        }
    }
}
