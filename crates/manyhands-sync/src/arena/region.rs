//! Regions: runs of units that a list takes to make blocks of, and gives back when all of those blocks are free.
//!
//! Blocks of less than a unit are carved one behind the other from a region of one unit; each larger block is a region of
//! its own. Everything here happens under the growth lock, in steps of one store each:
//!
//! | step | commit | its maker died before it | after it |
//! |---|---|---|---|
//! | a new extent | `next_chunk` | nothing happened | there are more free units |
//! | a region of small blocks | its unit's word | nothing happened | a region without blocks: the next gathering dissolves it |
//! | a small block | the word's count | nothing happened | the block is held by a dead member |
//! | a region of one block | its first unit's word | nothing happened | the block is held by a dead member |
//! | dissolving a region | its first unit's word | its blocks are held by a dead member | its units are free |
//!
//! What is counted beside the words (which unit is the first free one, how many are dirty) is never wrong in the direction
//! that would lose memory: it is changed before the word in one direction, and after it in the other.

use super::block::{BLOCK_HEADER_BYTES, BlockHeader};
use super::header::ArenaHeader;
use super::keep::LARGE_BYTES;
use super::taking::Taken;
use super::units::{UNIT_BYTES, UNITS_A_CHUNK, Unit, Use, first_generation};
use super::{Arena, Backing, CLASS_COUNT, Handle, MOST_CHUNKS, PAGE_BYTES};
use crate::kill_point;
use crate::memory::Placing;
use crate::mutex::LockError;
use crate::primitive::Ordering;

/// How far to go for free units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// To what is free within one extent, at a good place.
    Extent,
    /// To a new extent.
    Growth,
    /// To what is free at any place; over the borders of extents, which each process that uses the block must map once
    /// more; and to what the limit leaves behind them.
    Anywhere,
}

/// Where so many free units are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// From this one on.
    At(u64),
    /// Where this process cannot map them.
    OutOfReach,
    /// Nowhere. The free ones at the very end begin here.
    Nowhere(u64),
}

/// A region all of whose blocks are held by the one who dissolves it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Emptied {
    pub(super) number: u64,
    /// What its word was when its blocks were counted.
    pub(super) seen: Unit,
    /// One more than the highest generation of its blocks.
    pub(super) floor: u32,
    /// Of its units, so many from the first on may hold pages.
    pub(super) dirty_units: u64,
    /// How many bytes of its blocks were counted as kept.
    pub(super) kept_bytes: u64,
}

impl<B: Backing> Arena<B> {
    /// A new block of memory that belongs to no other. `None` when there is none within that reach, or this process cannot
    /// map or touch it.
    pub(super) fn carve(&self, list: usize, bytes: u64, reach: Reach) -> Result<Option<Taken>, LockError> {
        let _growing = self.header.growth.lock(|| {})?;
        let taken = match bytes {
            0..UNIT_BYTES => self.carve_small(list, bytes, reach, u64::MAX),
            _ => self.carve_whole(list, bytes, reach),
        };
        Ok(taken)
    }

    /// A new block of less than a unit, in a unit before that one.
    pub(super) fn carve_before(
        &self,
        list: usize,
        bytes: u64,
        before: u64,
    ) -> Result<Option<Taken>, LockError> {
        let _growing = self.header.growth.lock(|| {})?;
        Ok(self.carve_small(list, bytes, Reach::Extent, before))
    }

    fn carve_small(&self, list: usize, bytes: u64, reach: Reach, before: u64) -> Option<Taken> {
        let current = &self.header.current[list];
        let number = u64::from(current.load(Ordering::Relaxed));
        let (number, unit, carved) = match (self.units.get(number), self.units.get(number).using) {
            (unit, Use::Small { list: of, carved })
                if of == list && carved + bytes <= UNIT_BYTES && number < before =>
            {
                (number, unit, carved)
            }
            _ => {
                let (number, unit) = self.region_of_small_blocks(list, reach, before)?;
                current.store(number as u32, Ordering::Relaxed);
                (number, unit, 0)
            }
        };
        let start = number * UNIT_BYTES + carved;
        self.place_header(start, list, bytes, unit.floor)?;
        kill_point!(ArenaHeaderWritten);
        self.units.set(number, Unit { using: Use::Small { list, carved: carved + bytes }, ..unit });
        Some(taken(start, unit.floor, if unit.dirty { bytes } else { 0 }))
    }

    fn region_of_small_blocks(&self, list: usize, reach: Reach, before: u64) -> Option<(u64, Unit)> {
        let kept_for_kinds = if list < CLASS_COUNT { None } else { self.free_unit_for_kinds() };
        let number =
            kept_for_kinds.or_else(|| self.free_units(1, reach)).filter(|&number| number < before)?;
        let was = self.units.get(number);
        let unit = Unit { using: Use::Small { list, carved: 0 }, ..was };
        self.units.set(number, unit);
        kill_point!(ArenaRegionMade);
        self.note_taken(number, 1, u64::from(was.dirty));
        Some((number, unit))
    }

    /// The first free one of the units that are kept for kinds.
    fn free_unit_for_kinds(&self) -> Option<u64> {
        let is_free = |number: &u64| self.units.get(*number).using == Use::Free;
        (self.header.first_unit()..self.header.first_common_unit()).find(is_free)
    }

    fn carve_whole(&self, list: usize, bytes: u64, reach: Reach) -> Option<Taken> {
        let units = bytes.div_ceil(UNIT_BYTES);
        let number = self.free_units(units, reach)?;
        let (start, before) = (number * UNIT_BYTES, self.units.get(number));
        self.place_header(start, list, bytes, before.floor)?;
        kill_point!(ArenaHeaderWritten);
        let is_dirty = |number: &u64| self.units.get(*number).dirty;
        let dirty = (number..number + units).filter(is_dirty).count() as u64;
        let last = (number..number + units).rev().find(is_dirty);
        self.units.set(number, Unit { using: Use::Whole { list, units }, ..before });
        kill_point!(ArenaRegionMade);
        self.note_taken(number, units, dirty);
        let dirty_bytes = last.map_or(0, |last| ((last + 1 - number) * UNIT_BYTES).min(bytes));
        Some(taken(start, before.floor, dirty_bytes))
    }

    fn place_header(&self, start: u64, list: usize, bytes: u64, floor: u32) -> Option<()> {
        // The first touch of a large block must not meet a full system.
        if bytes >= LARGE_BYTES {
            self.backing.commit(start, BLOCK_HEADER_BYTES).ok()?;
        }
        let header = BlockHeader::new(list as u32, bytes, self.backing.me(), first_generation(floor));
        self.backing.place_new(start, header).map(|_| ())
    }

    /// So many free units in a row.
    fn free_units(&self, units: u64, reach: Reach) -> Option<u64> {
        // Large blocks begin at multiples of a quarter of their size as long as there is memory for that: so the holes
        // between them have sizes that others fit into, and huge pages fit into the blocks.
        let step = (units / 4).max(1).next_power_of_two();
        let end = self.end_of_units();
        let found = match reach {
            Reach::Extent | Reach::Growth => self.find_free(units, step, false),
            Reach::Anywhere => match self.find_free(units, 1, false) {
                Found::Nowhere(_) => self.find_free(units, 1, true),
                found => found,
            },
        };
        let first = match (found, reach) {
            (Found::At(first), _) => return Some(first),
            (Found::OutOfReach, _) | (_, Reach::Extent) => return None,
            (Found::Nowhere(_), Reach::Growth) => end,
            (Found::Nowhere(last), Reach::Anywhere) => last,
        };
        let more = (first + units).saturating_sub(end).div_ceil(UNITS_A_CHUNK);
        self.header.new_extent(&self.backing, more).map(|()| first)
    }

    /// The first place at a multiple of `step` with so many free units in a row, in one extent or over their borders, that
    /// this process can map.
    fn find_free(&self, units: u64, step: u64, over_borders: bool) -> Found {
        let (mut at, end) = (self.first_free_unit(), self.end_of_units());
        let (mut first, mut out_of_reach) = (at, None);
        while at < end {
            let unit = self.units.get(at);
            if unit.using != Use::Free {
                at += unit.units();
                first = at;
                continue;
            }
            if !over_borders && self.begins_extent(at) {
                first = at;
            }
            at += 1;
            let place = first.max(out_of_reach.unwrap_or(0)).next_multiple_of(step);
            if at >= place + units {
                if self.backing.resolve(place * UNIT_BYTES, (units * UNIT_BYTES) as usize).is_some() {
                    return Found::At(place);
                }
                // This process's own limit. Each extent is tried once.
                out_of_reach = Some((place / UNITS_A_CHUNK + 1) * UNITS_A_CHUNK);
            }
        }
        if out_of_reach.is_some() { Found::OutOfReach } else { Found::Nowhere(first.min(end)) }
    }

    fn first_free_unit(&self) -> u64 {
        u64::from(self.header.first_free.load(Ordering::Relaxed)).max(self.header.first_common_unit())
    }

    /// Behind the last unit of the last extent.
    pub(super) fn end_of_units(&self) -> u64 {
        let chunks = u64::from(self.header.next_chunk.load(Ordering::Acquire));
        chunks.min(MOST_CHUNKS as u64) * UNITS_A_CHUNK
    }

    fn begins_extent(&self, number: u64) -> bool {
        let chunk = (number / UNITS_A_CHUNK) as usize;
        number.is_multiple_of(UNITS_A_CHUNK)
            && self.header.extents.get(chunk).is_some_and(|extent| extent.load(Ordering::Relaxed) != 0)
    }

    /// After the commit: these units are no free ones any more.
    fn note_taken(&self, number: u64, units: u64, dirty: u64) {
        let header: &ArenaHeader = self.header;
        if u64::from(header.first_free.load(Ordering::Relaxed)) == number {
            header.first_free.store((number + units) as u32, Ordering::Relaxed);
        }
        header.handed_units.fetch_add(units, Ordering::Relaxed);
        if dirty > 0 {
            self.note_dirty(0, dirty);
        }
    }

    /// So many more and so many fewer free units may hold pages. Under the growth lock.
    pub(super) fn note_dirty(&self, more: u64, fewer: u64) {
        let dirty = &self.header.dirty_units;
        let count = u64::from(dirty.load(Ordering::Relaxed)) + more;
        dirty.store(count.saturating_sub(fewer) as u32, Ordering::Relaxed);
        self.header.kept_bytes.fetch_add(more * UNIT_BYTES, Ordering::Relaxed);
        self.discount(fewer * UNIT_BYTES);
    }

    /// The units of a region belong to nobody again; `false`, and nothing is done, when a block was carved from it since it
    /// was counted.
    pub(super) fn dissolve(&self, region: Emptied) -> Result<bool, LockError> {
        let Emptied { number, seen, floor, dirty_units, kept_bytes } = region;
        let _growing = self.header.growth.lock(|| {})?;
        if self.units.get(number) != seen {
            return Ok(false);
        }
        let end = number + seen.units();
        // Nobody looks at the later ones before the first is free.
        for later in number + 1..end {
            let floor = self.units.get(later).floor;
            self.units.set(later, Unit::free(floor, later < number + dirty_units));
        }
        let header: &ArenaHeader = self.header;
        if number >= header.first_common_unit()
            && u64::from(header.first_free.load(Ordering::Relaxed)) > number
        {
            header.first_free.store(number as u32, Ordering::Relaxed);
        }
        self.discount(kept_bytes);
        self.note_dirty(dirty_units.max(1), 0);
        self.units.set(number, Unit::free(floor, true));
        kill_point!(ArenaRegionDissolved);
        // The page with the header stayed when the others were given back.
        if dirty_units == 0 {
            self.backing.give_back(number * UNIT_BYTES, PAGE_BYTES);
            self.units.set(number, Unit::free(floor, false));
            self.note_dirty(0, 1);
        }
        Ok(true)
    }

    /// Gives back the pages of free units, so many bytes at most; how many bytes that were, and whether there are more.
    pub(super) fn strip_units(&self, most: u64) -> Result<(u64, bool), LockError> {
        let header: &ArenaHeader = self.header;
        let mut given = 0;
        let _growing = header.growth.lock(|| {})?;
        let (mut at, end) = (header.first_unit(), self.end_of_units());
        while at < end && header.dirty_units.load(Ordering::Relaxed) > 0 {
            let unit = self.units.get(at);
            if unit.using == Use::Free && unit.dirty {
                if given >= most {
                    return Ok((given, true));
                }
                self.backing.give_back(at * UNIT_BYTES, UNIT_BYTES);
                kill_point!(ArenaUnitStripped);
                self.units.set(at, Unit::free(unit.floor, false));
                self.note_dirty(0, 1);
                given += UNIT_BYTES;
            }
            at += unit.units();
            if at == header.first_common_unit() {
                at = self.first_free_unit();
            }
        }
        // None is left: were more counted, somebody has died.
        header.dirty_units.store(0, Ordering::Relaxed);
        Ok((given, false))
    }
}

fn taken(start: u64, floor: u32, dirty_bytes: u64) -> Taken {
    let handle = Handle { offset: start + BLOCK_HEADER_BYTES, generation: first_generation(floor) };
    Taken { handle, dirty_bytes }
}
