//! Blocks over the borders of extents: mapped once more, as a whole.
//!
//! Extents are mapped where there is room, each by itself, so two that are neighbours in the arena are none in a process. A
//! block that lies in both gets a mapping of its own, of all chunks that it touches, as well; what was mapped before stays
//! where it is. That happens only when the family's memory is nearly used up: else blocks lie in one extent.
//!
//! The list of these mappings only grows, at its end, and the first one that fits is taken: so a block has the same address
//! for as long as it lives, if it is always asked for as a whole.
#![allow(unsafe_code)] // follows a list that is never freed

use super::OsError;
use manyhands_sync::arena::CHUNK_BYTES;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};

/// One mapping of several chunks, and where the next one is known.
#[derive(Debug)]
struct Wide {
    first: u64,
    chunks: u64,
    place: NonNull<u8>,
    next: WideList,
}

/// All mappings of this kind, in a process. A forked child inherits the list with the mappings.
#[derive(Debug, Default)]
pub(super) struct WideList(AtomicPtr<Wide>);

impl WideList {
    /// Where `len` bytes at `offset` lie in one of these mappings; maps the chunks that they touch if they lie in none.
    ///
    /// # Errors
    /// Those of `map`, which maps `len` bytes from an offset on, for ever; `unmap` takes back what nobody knows of.
    pub(super) fn resolve(
        &self,
        offset: u64,
        len: usize,
        map: impl FnOnce(u64, usize) -> Result<NonNull<u8>, OsError>,
        unmap: impl FnOnce(NonNull<u8>, usize),
    ) -> Result<NonNull<u8>, OsError> {
        let too_large = OsError { call: "mmap", errno: libc::ENOMEM };
        let first = offset / CHUNK_BYTES;
        let end = offset.checked_add(len as u64).ok_or(too_large)?;
        let chunks = end.div_ceil(CHUNK_BYTES) - first;
        let within = (offset % CHUNK_BYTES) as usize;
        let mut list = match self.find(first, chunks) {
            // SAFETY: the range lies inside the chunks that are mapped at `place`.
            Ok(place) => return Ok(unsafe { place.add(within) }),
            Err(last) => last,
        };
        let bytes = usize::try_from(chunks * CHUNK_BYTES).map_err(|_| too_large)?;
        let place = map(first * CHUNK_BYTES, bytes)?;
        let new = Box::into_raw(Box::new(Wide { first, chunks, place, next: Self::default() }));
        let place = loop {
            let null = std::ptr::null_mut();
            if list.0.compare_exchange(null, new, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                break place;
            }
            // Another thread has mapped something meanwhile: perhaps this.
            match list.find(first, chunks) {
                Ok(theirs) => {
                    // SAFETY: made by Box::into_raw above, and nobody has seen it.
                    drop(unsafe { Box::from_raw(new) });
                    unmap(place, bytes);
                    break theirs;
                }
                Err(last) => list = last,
            }
        };
        // SAFETY: as above.
        Ok(unsafe { place.add(within) })
    }

    /// The first mapping from here on that has these chunks; the end of the list when there is none.
    fn find(&self, first: u64, chunks: u64) -> Result<NonNull<u8>, &Self> {
        let mut list = self;
        // SAFETY: what was put on the list is never freed.
        while let Some(wide) = unsafe { list.0.load(Ordering::Acquire).as_ref() } {
            if wide.first <= first && first + chunks <= wide.first + wide.chunks {
                // SAFETY: the chunk is one of those that are mapped there.
                return Ok(unsafe { wide.place.add(((first - wide.first) * CHUNK_BYTES) as usize) });
            }
            list = &wide.next;
        }
        Err(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn a_block_has_one_address_whoever_asks_and_whatever_is_mapped_later() {
        let (list, mapped) = (WideList::default(), AtomicUsize::new(0));
        let resolve = |offset: u64, len: u64| {
            let map = |_: u64, bytes: usize| {
                let number = mapped.fetch_add(1, Ordering::Relaxed) + 1;
                assert!(bytes.is_multiple_of(CHUNK_BYTES as usize));
                // Never followed.
                Ok(NonNull::without_provenance((number << 40).try_into().expect("not 0")))
            };
            list.resolve(offset, len as usize, map, |_, _| ()).expect("mapped").addr().get()
        };
        let chunk = CHUNK_BYTES;
        let one = resolve(3 * chunk + 100, chunk);
        assert_eq!(one % CHUNK_BYTES as usize, 100);
        let longer = resolve(3 * chunk + 50, 2 * chunk);
        let other = resolve(5 * chunk + 7, chunk);
        assert_eq!(mapped.load(Ordering::Relaxed), 3);
        assert_eq!(resolve(3 * chunk + 100, chunk), one);
        assert_eq!(resolve(3 * chunk + 50, 2 * chunk), longer);
        assert_eq!(resolve(5 * chunk + 8, chunk - 1), other + 1);
        // A part of a block lies in what the block was mapped with.
        assert_eq!(resolve(4 * chunk + 10, chunk), longer + CHUNK_BYTES as usize - 40);
        assert_eq!(mapped.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn what_cannot_be_mapped_is_an_error_and_forgotten() {
        let list = WideList::default();
        let full = OsError { call: "mmap", errno: libc::ENOMEM };
        assert_eq!(list.resolve(10, CHUNK_BYTES as usize, |_, _| Err(full), |_, _| ()), Err(full));
        assert!(list.resolve(u64::MAX - 5, 10, |_, _| Ok(NonNull::dangling()), |_, _| ()).is_err());
        assert!(list.resolve(10, CHUNK_BYTES as usize, |_, _| Ok(NonNull::dangling()), |_, _| ()).is_ok());
    }
}
