//! Long parts of a message that are used where they lie.
//!
//! The sender copies its bytes once, into a block of the arena; the message carries the block's handle; whoever receives
//! the message uses the bytes in place, writes to them as it likes, and is the only one who does. The block is free again
//! when the receiver drops it, or has died. A process that forks keeps its parcels for itself: see `sys/alone.rs`.

use super::block::SharedError;
use crate::family::{Extents, Family, Hold};
use crate::sys::changing::Changing;
use crate::sys::shared_bytes::SharedBytes;
use crate::sys::{alone, pages};
use manyhands_sync::arena::{Blank, Handle, Kind, ReferError};
use std::ptr::NonNull;

/// Bytes that came with a message, or are about to go with one: this process's alone.
#[derive(Debug)]
pub struct Parcel {
    bytes: SharedBytes,
    handle: Handle,
    hold: Option<Hold>,
    /// Whether it is about to be given to another process, and is this one's again if that comes to nothing.
    given: bool,
}

/// A parcel that is being filled, and that nobody holds yet; dropping it frees it.
#[derive(Debug)]
pub struct UnheldParcel {
    family: &'static Family,
    blank: Blank<Extents>,
    len: usize,
}

/// Where the bytes begin: on a page of their own, so that they can be mapped by themselves.
fn start_of(handle: Handle) -> u64 {
    handle.offset.next_multiple_of(pages::page_bytes())
}

/// How far behind the payload's beginning that is.
fn before_start(handle: Handle) -> usize {
    (start_of(handle) - handle.offset) as usize
}

/// How many bytes a block must have for so many, whole pages that begin at a page; `None` when that is absurd.
fn room_for(len: usize) -> Option<u64> {
    let page = pages::page_bytes();
    (len as u64).checked_next_multiple_of(page)?.checked_add(page)
}

impl UnheldParcel {
    /// Room for `len` bytes, whatever is in them.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(family: &'static Family, len: usize) -> Result<Self, SharedError> {
        let allocated = family.whole_arena().allocate_exactly(room_for(len).unwrap_or(u64::MAX));
        let blank = allocated.map_err(|error| SharedError::wanting(len, error))?;
        Ok(Self { family, blank, len })
    }

    /// How many bytes there is room for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is room for none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies bytes to their place, so many from the start; `false`, and nothing copied, when they do not fit.
    #[must_use]
    pub fn fill(&mut self, at: usize, from: &[u8]) -> bool {
        let fits = at.checked_add(from.len()).is_some_and(|end| end <= self.len);
        fits && self.blank.write(before_start(*self.blank) + at, from)
    }

    /// As [`UnheldParcel::fill`], of bytes that others may change meanwhile.
    #[must_use]
    pub fn fill_changing(&mut self, at: usize, from: Changing<'_>) -> bool {
        let fits = at.checked_add(from.len()).is_some_and(|end| end <= self.len);
        let start = before_start(*self.blank);
        fits && from.copy_into(&mut self.blank, start + at)
    }

    /// Room for more bytes, with the first `filled` of these in it.
    ///
    /// # Errors
    /// When there is no memory; nothing has changed then.
    pub fn grow(&mut self, filled: usize, len: usize) -> Result<(), SharedError> {
        let mut wider = Self::new(self.family, len)?;
        let (from, to) = (before_start(*self.blank), before_start(*wider.blank));
        if !wider.blank.write_from(to, &self.blank, from, filled.min(self.len)) {
            return Err(SharedError::Corrupted);
        }
        *self = wider;
        Ok(())
    }

    /// This process holds it from now on, the first `len` bytes of it.
    ///
    /// # Errors
    /// When there is no memory for the reference.
    pub fn hold(self, len: usize) -> Result<Parcel, SharedError> {
        let handle = self.blank.share();
        Parcel::open(self.family, handle, len.min(self.len)).inspect_err(|_| {
            // Nobody holds it, so it is still this process's.
            let _ = self.family.whole_arena().free(handle);
        })
    }
}

impl Parcel {
    /// The first `len` bytes of the parcel with that handle, which came with a message. To be opened by the message's one
    /// receiver, while the message is there.
    ///
    /// # Errors
    /// When there is no such parcel (any more), or it is shorter.
    pub fn open(family: &Family, handle: Handle, len: usize) -> Result<Self, SharedError> {
        let parcel = Self::find(family, handle, len)?;
        // It may have come back to who gave it, and has objects of it still that are not used any more.
        alone::take_back(parcel.bytes.start());
        Ok(parcel)
    }

    fn find(family: &Family, handle: Handle, len: usize) -> Result<Self, SharedError> {
        let arena = family.whole_arena();
        // Also what keeps the handle of a queue from being opened as bytes.
        let room = arena.payload_bytes(handle).map_err(|_| SharedError::not_found())?;
        let start = start_of(handle);
        let pages = (len as u64).checked_next_multiple_of(pages::page_bytes()).ok_or(SharedError::Stale)?;
        if (start - handle.offset).checked_add(pages).is_none_or(|end| end > room) {
            return Err(SharedError::Stale);
        }
        let hold = family.hold(Kind::Bytes, handle).map_err(|error| match error {
            ReferError::Stale => SharedError::not_found(),
            ReferError::Allocate(error) => SharedError::wanting(len, error),
        })?;
        let at = start - handle.offset;
        let bytes = SharedBytes::within(arena.backing(), handle.offset, room, at, len)
            .ok_or_else(SharedError::not_found)?;
        alone::enter(bytes.start(), handle, start, pages as usize);
        Ok(Self { bytes, handle, hold: Some(hold), given: false })
    }

    /// Whether this process has so many parcels that it should copy the next ones out and drop them.
    #[must_use]
    pub fn are_too_many() -> bool {
        alone::is_full()
    }

    /// By what the receiver of a message opens it, together with its length.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where it begins in this process. Valid for `len` bytes until the process ends; whoever uses it while this value
    /// is gone may use memory that has become something else's.
    #[must_use]
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.bytes.start()
    }

    /// The parcel in which `len` bytes at `address` lie, to be given to another process as it is, and where in it they
    /// begin; `None` when they lie in none, or in one that cannot be given away (again): this process has forked since it
    /// received it, so that the bytes are in two processes. Who gives a parcel away must not use it any more, once it is
    /// [sent](Self::note_sent); dropped before that, it is this process's as before.
    #[must_use]
    pub fn give(family: &Family, address: usize, len: usize) -> Option<(Self, usize)> {
        let (handle, at) = alone::give(address, len)?;
        match Self::find(family, handle, at + len) {
            Ok(mut parcel) => {
                parcel.given = true;
                Some((parcel, at))
            }
            Err(_) => {
                alone::take_back(NonNull::new(std::ptr::with_exposed_provenance_mut(address - at))?);
                None
            }
        }
    }

    /// The message that it goes with is where its receiver finds it.
    pub fn note_sent(&mut self) {
        self.given = false;
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if self.given {
            alone::take_back(self.bytes.start());
        }
        if !alone::leave(self.bytes.start()) {
            // Its addresses mean something else here than in the arena: nobody may get them.
            std::mem::forget(self.hold.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family() -> &'static Family {
        Family::current().expect("memory")
    }

    fn parcel(bytes: &[u8]) -> Parcel {
        let mut parcel = UnheldParcel::new(family(), bytes.len()).expect("memory");
        assert!(parcel.fill(0, bytes));
        parcel.hold(bytes.len()).expect("memory")
    }

    #[test]
    fn what_was_filled_in_is_there_at_a_page_of_its_own() {
        for len in [0, 1, 4_095, 4_096, 70_000, 3_000_000] {
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let parcel = parcel(&bytes);
            let same = Parcel::open(family(), parcel.handle(), len).expect("held");
            assert_eq!(same.as_ptr(), parcel.as_ptr());
            assert!(parcel.as_ptr().addr().get().is_multiple_of(4_096));
            assert_eq!(parcel.bytes.load::<u8>(len.max(1) - 1), bytes.last().copied());
        }
    }

    #[test]
    fn handles_of_others_and_lengths_that_are_not_there_are_refused() {
        let parcel = parcel(&[7; 100_000]);
        let handle = parcel.handle();
        for len in [10_000_000, usize::MAX, usize::MAX - 4_096] {
            assert_eq!(Parcel::open(family(), handle, len).err(), Some(SharedError::Stale));
        }
        let queue = crate::Queue::create(family(), 0).expect("memory");
        assert!(Parcel::open(family(), queue.handle(), 1).is_err());
        drop(parcel);
        assert_eq!(Parcel::open(family(), handle, 1).err(), Some(SharedError::Stale));
    }

    #[test]
    fn a_parcel_is_given_away_once_and_whole_or_in_part() {
        let parcel = parcel(&[5; 200_000]);
        let address = parcel.as_ptr().addr().get();
        assert!(Parcel::give(family(), address, 10_000_000).is_none());
        assert!(Parcel::give(family(), std::ptr::from_ref(&address).addr(), 8).is_none());
        let (given, at) = Parcel::give(family(), address + 100, 5_000).expect("it is this process's alone");
        assert_eq!((given.handle(), given.len(), at), (parcel.handle(), 5_100, 100));
        assert!(Parcel::give(family(), address, 1).is_none());
        // It did not go: it can be given again, until it does.
        drop(given);
        let (mut given, _) = Parcel::give(family(), address, 1).expect("it is this process's alone");
        given.note_sent();
        drop(given);
        assert!(Parcel::give(family(), address, 1).is_none());
        assert_eq!(parcel.bytes.load::<u8>(199_999), Some(5));
    }

    #[test]
    fn a_parcel_grows_with_what_is_in_it() {
        let mut growing = UnheldParcel::new(family(), 5_000).expect("memory");
        assert!(growing.fill(0, &[1; 5_000]));
        assert!(!growing.fill(1, &[2; 5_000]));
        growing.grow(5_000, 500_000).expect("memory");
        assert!(growing.fill(5_000, &[2; 495_000]));
        let parcel = growing.hold(500_000).expect("memory");
        assert_eq!((parcel.bytes.load::<u8>(4_999), parcel.bytes.load::<u8>(5_000)), (Some(1), Some(2)));
    }
}
