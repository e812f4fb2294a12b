//! A walk over every block. It writes nothing, takes no lock and trusts nothing that it reads; blocks and regions come and
//! go meanwhile. What is there from its beginning to its end it shows: a region that holds a block is not dissolved. Who
//! only looks may find bytes of a message where a region was dissolved meanwhile, and takes them for damage or for a block
//! that it describes wrongly; who acts on what it finds holds the `room` lock during the walk.

use super::block::{BLOCK_HEADER_BYTES, BlockHeader, HELD, Handle};
use super::owner::Owner;
use super::units::{UNIT_BYTES, Unit, Use};
use super::{Arena, Backing, Kind, SizeClass};
use crate::memory::Placing;
use crate::primitive::Ordering;

impl<B: Backing> Arena<B> {
    /// Shows every unit that is free or begins a region, as (its number, what it is).
    pub(super) fn walk_regions(&self, mut visit: impl FnMut(u64, Unit)) {
        let (mut number, end) = (self.header.first_unit(), self.end_of_units());
        while number < end {
            let unit = self.units.get(number);
            visit(number, unit);
            number += unit.units();
        }
    }

    /// Shows every block, as (where its header begins, the header, its bytes), until `visit` says `false`. Whether every
    /// region was walked to its end.
    pub(super) fn walk(&self, mut visit: impl FnMut(u64, &BlockHeader, u64) -> bool) -> bool {
        let mut complete = true;
        self.walk_regions(|number, unit| complete &= self.walk_region(number, unit, &mut visit));
        complete
    }

    /// The shared structures of these kinds that are referred to, at about this moment.
    pub(crate) fn shared_of(&self, kinds: &[Kind]) -> Vec<(Kind, Handle)> {
        let mut found = Vec::new();
        self.walk_regions(|number, unit| {
            let list = match unit.using {
                Use::Free => return,
                Use::Small { list, .. } | Use::Whole { list, .. } => list,
            };
            let Some(kind) = Kind::of_list(list as u32).filter(|kind| kinds.contains(kind)) else { return };
            self.walk_region(number, unit, &mut |start, block, _| {
                if block.state.load(Ordering::Acquire) == HELD && block.owner() == Owner::Shared {
                    let generation = block.generation();
                    found.push((kind, Handle { offset: start + BLOCK_HEADER_BYTES, generation }));
                }
                true
            });
        });
        found
    }

    pub(super) fn walk_region(
        &self,
        number: u64,
        unit: Unit,
        visit: &mut impl FnMut(u64, &BlockHeader, u64) -> bool,
    ) -> bool {
        let (list, end) = match unit.using {
            Use::Free => return true,
            Use::Small { list, carved } => (list, carved),
            Use::Whole { list, units } => (list, units * UNIT_BYTES),
        };
        let class_bytes = SizeClass::from_index(list).map(SizeClass::block_bytes);
        let mut within = 0;
        while within < end {
            let start = number * UNIT_BYTES + within;
            let Some(block) = self.backing.place::<BlockHeader>(start) else { return false };
            let bytes = block.bytes.load(Ordering::Relaxed);
            let sound = block.is_header()
                && block.list.load(Ordering::Relaxed) as usize == list
                && class_bytes.unwrap_or(bytes) == bytes
                && bytes > BLOCK_HEADER_BYTES
                && bytes.is_multiple_of(BLOCK_HEADER_BYTES)
                && bytes <= end - within;
            if !sound || !visit(start, block, bytes) {
                return false;
            }
            // A large block is alone in its region.
            within = if matches!(unit.using, Use::Whole { .. }) { end } else { within + bytes };
        }
        true
    }
}
