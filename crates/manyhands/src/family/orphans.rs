//! Members that nobody waits for, and what becomes of their slots.
//!
//! A parent holds its child's pidfd and frees the slot itself. A slot without a parent, or whose parent is dead, is freed
//! by any process that finds its member dead ([`liveness`](crate::sys::liveness)), as it was seen. A slot stays while the
//! member's life or the parent's is unknown: such slots are counted, and named where the table is full.

use super::member::own_place;
use super::{FAMILY, Family};
use crate::sys::liveness::{Liveness, View};
use crate::sys::namespaces;
use manyhands_sync::kill_point;
use manyhands_sync::process_table::{Place, ProcessTable, Seen, State};
use manyhands_sync::taker::OwnerName;
use std::collections::BTreeMap;

impl Family {
    /// Gives back the slots of members that are dead, and of children that never came, where no living parent will do it;
    /// how many are left of which that could not be found out. What they have left is noted, for a sweep to come.
    pub(super) fn release_the_dead(&self) -> u32 {
        let table = self.process_table();
        let mut round = Round::of(self);
        let unknown = table.used().filter(|&index| {
            let seen = table.look(index);
            let held = table.holds(seen.place());
            let known = round.settle(seen);
            if held && seen.state() != State::Free && !table.lives(seen.place()) {
                self.whole_arena().note_left_behind();
            }
            !known
        });
        unknown.count() as u32
    }

    /// This process's own place, if this is its family, and not one that it looks into.
    pub(crate) fn own_place_here(&self) -> Option<Place> {
        let own = FAMILY.get().is_some_and(|own| own.id() == self.id());
        own.then(own_place).flatten()
    }

    /// The pid namespace of this process; 0 when nobody can tell. It is the same for a process's whole life, so what was
    /// noted when it became a member holds.
    pub(crate) fn own_pid_namespace(&self) -> u32 {
        let table = self.process_table();
        let noted = self.own_place_here().and_then(|place| table.identity(table.look(place.index)));
        noted
            .map(|own| own.namespaces.pids)
            .filter(|&pids| pids != 0)
            .unwrap_or_else(|| namespaces::own().pids)
    }
}

/// Whether this process's family has, or may have, a member whose threads have other numbers here, or none: in another pid
/// namespace, or in one that nobody could name. A place that waits for its child has nobody yet who could hold anything.
pub(super) fn may_have_unseen_members() -> bool {
    let Some(family) = Family::existing() else { return false };
    let (table, here) = (family.process_table(), namespaces::own().pids);
    table.used().map(|index| table.look(index)).any(|seen| match seen.state() {
        State::Free | State::Reserved => false,
        State::Registering | State::Live => {
            table.identity(seen).is_none_or(|member| here == 0 || member.namespaces.pids != here)
        }
    })
}

/// One look at members, by one process.
#[derive(Debug)]
pub(crate) struct Round {
    table: &'static ProcessTable,
    view: View,
    /// It does not judge itself.
    own: Option<Place>,
    /// Many have the same parent.
    parents: BTreeMap<u32, Liveness>,
}

impl Round {
    /// From here and now.
    pub(crate) fn of(family: &Family) -> Self {
        let (table, own) = (family.process_table(), family.own_place_here());
        Self { table, view: View::now(), own, parents: BTreeMap::new() }
    }

    /// Whether the member that has the slot as it was seen lives. A place that was given up has a dead member, and one that
    /// waits for its child an unknown one.
    pub(crate) fn of_member(&self, seen: Seen) -> Liveness {
        if Some(seen.place()) == self.own {
            return Liveness::Alive;
        }
        match seen.state() {
            State::Free => Liveness::Dead,
            State::Reserved => Liveness::Unknown,
            State::Registering | State::Live => match self.table.identity(seen) {
                Some(member) => match (self.view.of(&member), self.table.forked_as(seen)) {
                    (Liveness::Unknown, Some((pid, pids))) => self.view.of_forked(&member, pid, pids),
                    (known, _) => known,
                },
                // The slot has changed since, or its words are damaged.
                None if !self.table.lives(seen.place()) => Liveness::Dead,
                None => Liveness::Unknown,
            },
        }
    }

    /// Whether the member with that name lives.
    pub(crate) fn of_name(&self, name: OwnerName) -> Liveness {
        // A word without a slot is damaged.
        let Some(slot) = name.slot() else { return Liveness::Unknown };
        let seen = self.table.look(slot);
        if name.is_of(seen.place().life) { self.of_member(seen) } else { Liveness::Dead }
    }

    /// What can be seen of processes from here.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    fn of_parent(&mut self, seen: Seen) -> Liveness {
        let Some(name) = seen.parent() else { return Liveness::Dead };
        if let Some(&known) = self.parents.get(&name.to_number()) {
            return known;
        }
        let found = self.of_name(name);
        self.parents.insert(name.to_number(), found);
        found
    }

    /// Releases the slot if nobody lives that it belongs to; `false` when it is kept because that is unknown.
    fn settle(&mut self, seen: Seen) -> bool {
        if seen.state() == State::Free || Some(seen.place()) == self.own {
            return true;
        }
        let parent = self.of_parent(seen);
        if parent == Liveness::Alive {
            return true;
        }
        let orphan = parent == Liveness::Dead;
        if seen.state() == State::Reserved {
            // A child that comes at this moment has its slot, or ends.
            let _ = orphan && self.table.cancel(seen.place());
            return orphan;
        }
        match self.of_member(seen) {
            Liveness::Alive => true,
            Liveness::Dead if orphan => {
                kill_point!(SlotJudged);
                // Another process may have released it meanwhile, and a third have it: as it was seen, or not at all.
                self.table.release(seen);
                true
            }
            Liveness::Dead | Liveness::Unknown => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use manyhands_sync::process_table::{Member, Namespaces};

    #[test]
    fn a_member_of_another_namespace_may_be_unseen() {
        let family = Family::current().expect("a family");
        family.own_slot().expect("a slot");
        let (table, here) = (family.process_table(), namespaces::own());
        // Tests of this process run beside this one: nobody else's members are elsewhere.
        assert!(!may_have_unseen_members());
        for (pids, unseen) in [(here.pids, false), (here.pids ^ 1, true), (0, true)] {
            let place = table.reserve(None).expect("room");
            assert!(!may_have_unseen_members(), "nobody has come");
            let namespaces = Namespaces { pids, ..here };
            let member =
                Member { pid: std::process::id(), namespaces, registered_at: Some(u64::MAX), image: 0 };
            assert!(table.register(place, member));
            assert_eq!(may_have_unseen_members(), unseen);
            assert!(table.end(place));
        }
    }
}
