//! Shared structures that keep only each other: a queue in which a message lies that carries the queue itself, say, once
//! nobody has it open. Counting alone would keep them until the family ends.
//!
//! # Protocol
//! A walk notes who refers to what. What no living member refers to, directly or through messages in what it refers to, is
//! out of reach: nobody can open it any more. The walk takes no lock, so it counts only if no reference was made or
//! released in between; that is looked up under the references' lock, where the structures are then claimed: the sweeper
//! owns each of them. If it dies, they are garbage of a dead owner, like anything else.
//!
//! Moving a message needs no reference and is not noticed, but changes nothing: who takes one out of a queue, or puts one
//! in, has that queue open, so it is within reach before and after.

use super::block::{BLOCK_HEADER_BYTES, BlockHeader, HELD, Handle};
use super::owner::Owner;
use super::{Arena, Backing, Kind};
use crate::primitive::Ordering;
use std::collections::{HashMap, HashSet};

/// Who refers to what, by offsets.
#[derive(Debug, Default)]
struct Reach {
    /// Shared structures.
    targets: HashMap<u64, (Kind, Handle)>,
    /// The owners of messages that carry something.
    carriers: HashMap<u64, Owner>,
    references: Vec<(Handle, Owner)>,
}

impl<B: Backing> Arena<B> {
    /// Claims the shared structures that no member can reach; the caller must free them with all that is in them.
    pub(super) fn claim_unreachable(&self) -> Vec<(Kind, Handle)> {
        let before = self.header.references.changes();
        let mut reach = Reach::default();
        // Regions are not dissolved meanwhile.
        let walking = self.header.room.lock(|| {});
        let complete = self.walk(|start, block, _| {
            reach.note(start, block);
            reach.references.extend(self.reference(start, block));
            true
        });
        drop(walking);
        let lost = reach.out_of_reach();
        // A walk that stopped half-way has not seen every reference.
        if lost.is_empty() || !complete {
            return Vec::new();
        }
        self.claim(before, lost)
    }
}

impl Reach {
    fn note(&mut self, start: u64, block: &BlockHeader) {
        if block.state.load(Ordering::Acquire) != HELD {
            return;
        }
        let offset = start + BLOCK_HEADER_BYTES;
        let owner = block.owner();
        if block.carried.load(Ordering::Relaxed) > 0 {
            self.carriers.insert(offset, owner);
        }
        let kind = Kind::of_list(block.list.load(Ordering::Relaxed));
        if let Some(kind @ (Kind::Ring | Kind::Pool)) = kind.filter(|_| owner == Owner::Shared) {
            let handle = Handle { offset, generation: block.generation() };
            self.targets.insert(offset, (kind, handle));
        }
    }

    fn out_of_reach(self) -> Vec<(Kind, Handle)> {
        let mut carried_in: HashMap<u64, Vec<u64>> = HashMap::new();
        let mut ahead: Vec<u64> = Vec::new();
        for (target, owner) in &self.references {
            match self.home_of(*owner) {
                Some(home) => carried_in.entry(home).or_default().push(target.offset),
                None => ahead.push(target.offset),
            }
        }
        let mut reached: HashSet<u64> = HashSet::new();
        while let Some(target) = ahead.pop() {
            if reached.insert(target) {
                ahead.extend(carried_in.remove(&target).unwrap_or_default());
            }
        }
        self.targets
            .into_iter()
            .filter(|(offset, _)| !reached.contains(offset))
            .map(|(_, lost)| lost)
            .collect()
    }

    /// In which structure the message lies that holds the reference; `None` when somebody living holds it, or may.
    fn home_of(&self, owner: Owner) -> Option<u64> {
        let Owner::Block(carrier) = owner else { return None };
        match self.carriers.get(&carrier.offset)? {
            Owner::Block(home) => Some(home.offset),
            _ => None,
        }
    }
}
