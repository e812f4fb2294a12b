//! A family that has as many processes as it can, some of which nobody can find out whether they live.
#![allow(unsafe_code)] // makes members up
#![allow(clippy::unwrap_used)]

use manyhands::family::{Family, FamilyError, Place};
use manyhands::observe::{Life, Observer};
use manyhands_sync::process_table::{MOST_MEMBERS, Member, Namespaces};

/// 2 to the 22nd is the highest pid that a kernel gives: nobody has this one.
const NOBODY: u32 = (1 << 22) + 7;

#[test]
fn places_of_unknown_life_are_kept_counted_and_named() {
    let family = Family::current().unwrap();
    let own = family.own_slot().unwrap();
    // SAFETY: only places of members that have ended, or that this test made up, are given back.
    let table = unsafe { family.arena().process_table() };
    let (_, me) = table.members().find(|(seen, _)| seen.place().index.get() == own).unwrap();
    let join = |pid, namespaces| -> Place {
        let place = table.reserve(None).unwrap();
        let member = Member { pid, namespaces, registered_at: Some(1), image: 0 };
        assert!(table.register(place, member));
        place
    };
    let elsewhere = Namespaces { pids: me.namespaces.pids ^ 1, ..me.namespaces };
    let unknown: Vec<_> = [elsewhere, Namespaces::default(), elsewhere].map(|n| join(NOBODY, n)).to_vec();
    let text = Observer::own().unwrap().report().to_string();
    assert!(text.contains("1 process and 3 of unknown life"), "{text}");
    assert!(
        text.contains(&format!("{NOBODY}  member that joined by itself: unknown whether it lives")),
        "{text}"
    );
    assert!(
        text.contains("3 of the 4096 places belong to processes of which this one cannot find out"),
        "{text}"
    );

    // Children that this process waits for: nobody else's to give back.
    let children: Vec<_> = (0..MOST_MEMBERS - 4).map(|_| family.reserve_slot().unwrap()).collect();
    let refused = family.reserve_slot().unwrap_err();
    assert_eq!(refused, FamilyError::Full { unknown: 3 });
    assert_eq!(
        refused.to_string(),
        "the family has as many processes as it can; 3 of the 4096 places belong to processes of which nobody can \
         find out whether they live"
    );
    assert!(unknown.iter().all(|&place| table.lives(place)));

    // One that is known dead, and a living one with the pid of a dead one's.
    drop(children);
    let (dead, reused) = (join(NOBODY, me.namespaces), join(std::process::id(), me.namespaces));
    let report = Observer::own().unwrap().report();
    let lives: Vec<_> = report.members.iter().map(|member| member.life).collect();
    assert_eq!(lives[1..], [Life::Unknown, Life::Unknown, Life::Unknown, Life::Gone, Life::Gone]);
    family.sweep();
    assert!(!table.lives(dead) && !table.lives(reused) && unknown.iter().all(|&place| table.lives(place)));

    let children: Vec<_> = (0..MOST_MEMBERS - 4).map(|_| family.reserve_slot().unwrap()).collect();
    unknown.iter().for_each(|&place| assert!(table.end(place)));
    drop(children);
    let all: Vec<_> = (0..MOST_MEMBERS - 1).map(|_| family.reserve_slot().unwrap()).collect();
    let refused = family.reserve_slot().unwrap_err();
    assert_eq!(refused.to_string(), "the family has as many processes as it can");
    drop(all);
}
