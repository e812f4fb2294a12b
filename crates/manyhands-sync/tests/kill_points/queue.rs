//! A queue's end and its unfinished items after a death at each step: counts are exact, and nobody waits for the dead one.

use super::support::{Mapping, arena};
use super::{die_at, print_deaths, rounds};
use manyhands_sync::arena::{Arena, Kind};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::kill_point::KillPoint::{self, *};
use manyhands_sync::notes::WaitKind;
use manyhands_sync::queue_header::{NotDone, QueueHeader};
use manyhands_sync::ring::{Locking, Ring};
use manyhands_sync::wait_word::Waiting;
use std::time::Duration;

/// The steps tried here.
pub(super) const POINTS: &[KillPoint] = &[QueueShut, QueueDiscardCounted, QueueShutAtOnce, QueueTaskDone];

const ITEMS: u32 = 5;

fn queue(arena: Arena<Mapping>) -> (&'static QueueHeader, Ring<Mapping>) {
    let place = arena.allocate_kind(Kind::Ring, size_of::<QueueHeader>() as u64).unwrap().share();
    let header = QueueHeader::new(Ring::new_header(&arena, 0).unwrap());
    let header = arena.backing().place_new(place.offset, header).unwrap();
    let ring = Ring::found(arena, &header.ring, place);
    for number in 0..ITEMS {
        ring.put(number, &[b"item"]).unwrap();
    }
    (header, ring)
}

fn take(ring: &Ring<Mapping>) -> u32 {
    ring.try_take(&mut Vec::new(), Locking::Wait).unwrap()
}

/// Waits as `join` does, beside a victim; both are done when this returns.
fn joined_beside(header: &QueueHeader, ring: &Ring<Mapping>, victim: impl FnOnce()) {
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut waiting = Waiting::new(WaitKind::AllDone);
            while header.all_done(ring, Locking::Wait) != Some(true) {
                header.wait_for_all_done(ring, &mut waiting, Deadline::NEVER, |_| ());
            }
        });
        // Most often asleep by then; right in either case.
        std::thread::sleep(Duration::from_millis(2));
        victim();
        waiter.join().unwrap();
    });
}

#[test]
fn a_queue_survives_a_death_at_each_step_of_its_end_and_of_its_items() {
    let arena = arena(4);
    for &point in POINTS {
        for round in 0..rounds() {
            let (header, ring) = queue(arena);
            let taken = round % 3;
            (0..taken).for_each(|number| assert_eq!(take(&ring), number));
            if point == QueueTaskDone {
                (taken..ITEMS).for_each(|number| assert_eq!(take(&ring), number));
                (1..ITEMS).for_each(|_| header.task_done(&ring, Locking::Wait).unwrap());
                // The last one is done with by somebody who dies before the wake.
                joined_beside(header, &ring, || {
                    die_at(point, 1, || _ = header.task_done(&ring, Locking::Wait))
                });
            } else {
                die_at(point, 1, || _ = header.shut(&ring, true, Locking::Wait));
                assert!(header.is_shut());
                assert_eq!(header.is_shut_at_once(), point == QueueShutAtOnce);
                // Shut, but not at once: what lies there is still there.
                let unfinished = if point == QueueShutAtOnce { taken } else { ITEMS };
                assert_eq!(header.unfinished(&ring), unfinished);
                if point == QueueShut {
                    assert_eq!(take(&ring), taken);
                }
                let taken = taken + u32::from(point == QueueShut);
                header.shut(&ring, true, Locking::Wait).unwrap();
                joined_beside(header, &ring, || {
                    (0..taken).for_each(|_| header.task_done(&ring, Locking::Wait).unwrap())
                });
            }
            assert_eq!(
                (header.unfinished(&ring), header.task_done(&ring, Locking::Wait)),
                (0, Err(NotDone::TooMany))
            );
        }
    }
    print_deaths(POINTS);
}
