//! Gathering: free blocks of all lists become free units again, so that memory that was freed serves every size.
//!
//! Allocating and freeing know nothing of it: a freed block stays on the list of its class, warm, for the next one who
//! wants that size. Only who finds neither a free block nor free units looks through all regions, before the arena grows.
//!
//! # Protocol
//! One member gathers at a time, under the `room` lock, which nobody takes who finds a block; so it may be held for
//! milliseconds, and a few system calls. Regions all of whose blocks are free are noted without a lock. Then their blocks
//! are taken off their lists like any others, and belong to the gatherer; what lies on the way is put back after it, as
//! it was. A region is dissolved (`region.rs`) when the gatherer has all of its blocks.
//!
//! Regions of a kind are dissolved under the references' lock: a member that counts a reference writes into its header
//! and its target's, and a sweep may free both meanwhile. Everybody else who uses a block of a kind holds a reference to it.
//!
//! | the gatherer dies | then |
//! |---|---|
//! | with blocks that it has taken | they belong to a dead member: the next sweep frees them, one by one |
//! | before it has put the others back | as above |
//! | after a region was dissolved | its units are free |
//!
//! Who finds the list empty meanwhile comes to the `room` lock as well, and looks again once it has it: so nobody is told
//! that there is no memory because somebody gathers.

use super::block::{BlockHeader, FREE, Handle, next_generation};
use super::keep::LARGE_BYTES;
use super::region::Emptied;
use super::units::{UNIT_BYTES, Unit, Use};
use super::{Arena, BLOCK_HEADER_BYTES, Backing, CHUNK_BYTES, CLASS_COUNT, KIND_COUNT, SHARDS, SizeClass};
use crate::kill_point;
use crate::memory::Placing;
use crate::mutex::LockError;
use crate::primitive::Ordering;
use std::collections::BTreeMap;

/// While fewer bytes than this part of the arena were handed out since the last gathering, it grows instead.
const WORTHWHILE_PART: u64 = 16;

/// Gathering for something that stays takes this part of the time at most,
const PART_OF_TIME: u64 = 10;
/// and happens so many milliseconds after the last one at the earliest.
const PAUSE: u64 = 10;

/// What is common to the blocks of a list.
#[derive(Clone, Copy, Debug)]
struct Sort {
    list: usize,
    /// How many bytes they have, at least if it is a kind's.
    bytes: u64,
    /// The first of the shelves that they lie on when they are free, and how many there are.
    shelf: usize,
    shelves: usize,
}

impl Sort {
    fn of(list: usize) -> Self {
        match SizeClass::from_index(list) {
            Some(class) => Self { list, bytes: class.block_bytes(), shelf: list * SHARDS, shelves: SHARDS },
            None => {
                let shelf = CLASS_COUNT * SHARDS + (list - CLASS_COUNT);
                Self { list, bytes: 2 * BLOCK_HEADER_BYTES, shelf, shelves: 1 }
            }
        }
    }

    fn is_kind(self) -> bool {
        self.list >= CLASS_COUNT
    }
}

/// A region to be dissolved: what was seen of it, and its blocks that were taken off their lists.
#[derive(Debug)]
struct Candidate {
    seen: Unit,
    blocks: u64,
    taken: Vec<Handle>,
}

impl<B: Backing> Arena<B> {
    /// Whether so much was handed out since the last gathering that another one, or a sweep, may find something.
    pub(super) fn wants_gathering(&self) -> bool {
        let handed = self.header.handed_units.load(Ordering::Relaxed).saturating_mul(UNIT_BYTES);
        handed >= (self.extent_bytes() / WORTHWHILE_PART).max(CHUNK_BYTES / 4)
    }

    /// Dissolves the regions of which no block is held; how many units that gave. Under the `room` lock.
    pub(super) fn gather(&self) -> u64 {
        self.header.handed_units.store(0, Ordering::Relaxed);
        let began = self.backing.milliseconds();
        let mut lists: BTreeMap<usize, BTreeMap<u64, Candidate>> = BTreeMap::new();
        self.walk_regions(|number, unit| {
            if let Some((list, blocks)) = self.free_blocks_of(number, unit) {
                let candidate = Candidate { seen: unit, blocks, taken: Vec::new() };
                lists.entry(list).or_default().insert(number, candidate);
            }
        });
        let gathered = lists.into_iter().map(|(list, candidates)| self.take_apart(list, candidates)).sum();
        self.give_back_excess();
        let ended = self.backing.milliseconds();
        let pause = PAUSE.saturating_add(ended.saturating_sub(began).saturating_mul(PART_OF_TIME));
        self.header.next_gathering.store(ended.saturating_add(pause), Ordering::Relaxed);
        gathered
    }

    /// Before a block is allocated that will outlive messages. Memory was full, so free blocks lie wherever messages were,
    /// and one that stays would part what is free there: the units that are free by now are taken back from the lists first.
    #[inline]
    pub fn prepare_for_what_stays(&self) {
        if self.header.refused.load(Ordering::Relaxed) != 0 {
            self.gather_for_what_stays();
        }
    }

    #[cold]
    fn gather_for_what_stays(&self) {
        // It helps, and is not necessary: so it takes but a part of anybody's time, and waits for nobody.
        if self.backing.milliseconds() < self.header.next_gathering.load(Ordering::Relaxed) {
            return;
        }
        let Ok(_making_room) = self.header.room.try_lock(|| {}) else { return };
        self.gather();
        let (mut free, mut all) = (0, 0);
        self.walk_regions(|_, unit| {
            free += u64::from(unit.using == Use::Free);
            all += unit.units();
        });
        if free > all / 4 * 3 {
            self.header.refused.store(0, Ordering::Relaxed);
        }
    }

    /// The list of a region and how many blocks it has, if all of them are free.
    fn free_blocks_of(&self, number: u64, unit: Unit) -> Option<(usize, u64)> {
        let list = match unit.using {
            Use::Free => return None,
            Use::Whole { list, .. } | Use::Small { list, .. } => list,
        };
        if list >= CLASS_COUNT + KIND_COUNT {
            return None;
        }
        let mut blocks = 0;
        let all_free = self.walk_region(number, unit, &mut |_, header, _| {
            blocks += 1;
            header.state.load(Ordering::Acquire) == FREE
        });
        all_free.then_some((list, blocks))
    }

    /// Takes the blocks of these regions off their list, and dissolves those of which it gets all.
    fn take_apart(&self, list: usize, mut candidates: BTreeMap<u64, Candidate>) -> u64 {
        let sort = Sort::of(list);
        let mut wanted: u64 = candidates.values().map(|candidate| candidate.blocks).sum();
        for shelf in sort.shelf..sort.shelf + sort.shelves {
            if wanted == 0 {
                break;
            }
            wanted -= self.take_from(shelf, sort, &mut candidates, wanted);
        }
        kill_point!(GatherTaken);
        let mut gathered = 0;
        for (number, candidate) in candidates {
            let emptied = self.emptied(number, sort, &candidate);
            if emptied.is_some_and(|emptied| self.dissolve_of(sort, emptied) == Ok(true)) {
                gathered += candidate.seen.units();
            } else {
                self.put_back(&self.header.lists[sort.shelf], candidate.taken);
            }
        }
        gathered
    }

    fn dissolve_of(&self, sort: Sort, emptied: Emptied) -> Result<bool, LockError> {
        let counting = if sort.is_kind() { Some(self.header.references.lock(&self.backing)?) } else { None };
        let dissolved = self.dissolve(emptied);
        drop(counting);
        dissolved
    }

    /// Takes from one shelf what belongs to these regions, `most` blocks at most; how many it got.
    fn take_from(
        &self,
        shelf: usize,
        sort: Sort,
        candidates: &mut BTreeMap<u64, Candidate>,
        most: u64,
    ) -> u64 {
        let shelf = &self.header.lists[shelf];
        let (list, bytes, me) = (sort.list as u32, sort.bytes, self.backing.me());
        let (mut got, mut others) = (0, Vec::new());
        // Others may free blocks all the while.
        for _ in 0..=self.extent_bytes() / bytes {
            if got == most || others.try_reserve(1).is_err() {
                break;
            }
            let Ok(Some(handle)) = shelf.pop(&self.backing, self.units, list, bytes, me) else { break };
            match candidates.get_mut(&(handle.offset / UNIT_BYTES)) {
                Some(candidate) => {
                    candidate.taken.push(handle);
                    got += 1;
                }
                None => others.push(handle),
            }
        }
        kill_point!(GatherSetAside);
        self.put_back(shelf, others);
        got
    }

    /// Puts blocks back that were taken off a list, so that it is as it was.
    fn put_back(&self, shelf: &super::FreeList, mut blocks: Vec<Handle>) {
        let me = self.backing.me();
        while let Some(handle) = blocks.pop() {
            let start = handle.offset - BLOCK_HEADER_BYTES;
            if let Some(block) = self.backing.place::<BlockHeader>(start) {
                let _ = shelf.push(&self.backing, start, block, me);
            }
        }
    }

    /// What is to be known of a region for dissolving it, if all of its blocks are here.
    fn emptied(&self, number: u64, sort: Sort, candidate: &Candidate) -> Option<Emptied> {
        if candidate.taken.len() as u64 != candidate.blocks {
            return None;
        }
        let (bytes, units) = (sort.bytes, candidate.seen.units());
        let large = bytes >= LARGE_BYTES;
        let (mut floor, mut kept_bytes) = (candidate.seen.floor, 0);
        // The pages of a kind's blocks are never given back while they are blocks.
        let is_whole = matches!(candidate.seen.using, Use::Whole { .. });
        let mut dirty_units = if is_whole && !sort.is_kind() { 0 } else { units };
        for handle in &candidate.taken {
            let block = self.backing.place::<BlockHeader>(handle.offset - BLOCK_HEADER_BYTES)?;
            floor = floor.max(next_generation(handle.generation));
            if large && block.kept.load(Ordering::Relaxed) == 1 {
                kept_bytes += bytes;
                let certain = u64::from(block.committed_mib.load(Ordering::Relaxed)) << 20;
                let dirty = if certain == 0 { units } else { certain.div_ceil(UNIT_BYTES) };
                dirty_units = dirty_units.max(dirty.min(units));
            }
        }
        kill_point!(GatherEmptied);
        Some(Emptied { number, seen: candidate.seen, floor, dirty_units, kept_bytes })
    }
}
