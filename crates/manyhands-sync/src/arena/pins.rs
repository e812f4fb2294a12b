//! Pins: counts without a reference. They keep a shared structure for a process for whom no reference could be had, when
//! memory is full: a pin needs none. A block is pinned while its pinner holds it, for somebody who cannot be asked before
//! each access whether he holds it: a forked child with raw memory in hand.
//!
//! # Protocol
//! Under the references' lock, so that the count is nobody else's meanwhile.
//!
//! | step | commit | its maker died before it | after it |
//! |---|---|---|---|
//! | pin | the target's count is stored | nothing is pinned | pinned, and nobody knows it: the block stays until the family ends |
//! | unpin | a new reference says that it is counted | as pinned as before; the reference is garbage | the pin is that reference: its maker releases it, or the next sweep |

use super::references::{ReferError, Reference};
use super::{Arena, Backing, Handle, Kind, Owner, StaleHandle};
use crate::kill_point;
use crate::memory::Placing;
use crate::primitive::Ordering;

impl<B: Backing> Arena<B> {
    /// Counts a holder of the shared structure that has no reference. Needs no memory.
    ///
    /// # Errors
    /// When the structure is gone, or not shared.
    pub fn pin(&self, target: Handle) -> Result<(), ReferError> {
        let log = &self.header.references;
        let _counting = log.lock(&self.backing)?;
        let block = self.held(target)?;
        let holders = block.holders.load(Ordering::Relaxed);
        let Some(more) = holders.checked_add(1).filter(|_| block.owner() == Owner::Shared && holders > 0)
        else {
            return Err(ReferError::Stale);
        };
        log.note_change();
        block.holders.store(more, Ordering::Relaxed);
        kill_point!(PinCounted);
        Ok(())
    }

    /// Makes a pin a reference of this process's, to be released like any other.
    ///
    /// # Errors
    /// When there is no memory for it, or the structure is gone: then nothing has changed.
    pub fn adopt_pin(&self, target: Handle) -> Result<Handle, ReferError> {
        let handle = self.allocate_kind(Kind::Reference, size_of::<Reference>() as u64)?.finish();
        let reference = self.backing.place_new(handle.offset, Reference::to(target));
        let adopted = reference.ok_or(StaleHandle).and_then(|reference| {
            self.held(target)?;
            kill_point!(PinReferred);
            reference.count_as_pinned();
            kill_point!(PinAdopted);
            Ok(handle)
        });
        if adopted.is_err() {
            let _ = self.free(handle);
        }
        Ok(adopted?)
    }
}
