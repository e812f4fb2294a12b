//! A thread's note of what it waits for, after a death at each step.

use super::support::{arena, known};
use super::{die_at, print_deaths, rounds};
use manyhands_sync::kill_point::KillPoint;
use manyhands_sync::notes::{NOTES_PER_MEMBER, Noted, Wait, WaitKind};

/// The steps tried here.
pub(super) const POINTS: &[KillPoint] =
    &[KillPoint::NoteClaimed, KillPoint::NoteWritten, KillPoint::NoteGivenBack];

#[test]
fn a_wait_note_is_whole_or_unreadable_after_a_death_at_each_step() {
    let arena = arena(1);
    let table = arena.process_table();
    let wait = |n: u64| Wait { kind: WaitKind::Room, object: n, thread: 7, since: 2 * n, deadline: 3 * n };
    for &point in POINTS {
        for round in 1..=rounds() {
            let slot = table.reserve(None).unwrap();
            assert!(table.register(slot, known(round, 1)));
            let notes = table.notes(slot.index);
            assert_eq!((notes.waits().count(), notes.unnoted()), (0, 0), "wiped for the next member");
            die_at(point, round, || {
                for n in 1.. {
                    let place = notes.begin_wait(wait(n));
                    notes.end_wait(place);
                }
            });
            let left: Vec<_> = notes.waits().collect();
            let expected = match point {
                KillPoint::NoteClaimed => vec![Noted::Unreadable],
                KillPoint::NoteWritten => vec![Noted::Wait(wait(u64::from(round)))],
                _ => vec![],
            };
            assert_eq!(left, expected, "{point:?}");
            // Another thread would go on with the notes that are left.
            let places: Vec<_> =
                (0..NOTES_PER_MEMBER - left.len()).map(|_| notes.begin_wait(wait(1))).collect();
            assert_eq!((notes.waits().count(), notes.unnoted()), (NOTES_PER_MEMBER, 0));
            places.into_iter().for_each(|place| notes.end_wait(place));
            assert!(table.end(slot));
        }
    }
    print_deaths(POINTS);
}
