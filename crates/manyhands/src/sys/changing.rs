//! Bytes of this process that others may change while they are copied: what an object of Python's lends, which may lie in
//! shared memory itself.
#![allow(unsafe_code)] // copies from a pointer

use super::Extents;
use manyhands_sync::arena::Blank;
use manyhands_sync::memory::copy_racing;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// A place and a length, for as long as `'a`. Never a slice: that would promise that nobody writes. Each copy has, of each
/// byte, what was there at some moment.
#[derive(Clone, Copy, Debug)]
pub struct Changing<'a> {
    start: NonNull<u8>,
    len: usize,
    lives: PhantomData<&'a ()>,
}

// SAFETY: the bytes are at their place for every thread; they are only ever copied, word by word.
unsafe impl Send for Changing<'_> {}
// SAFETY: as for Send: through a shared reference they are only copied.
unsafe impl Sync for Changing<'_> {}

impl<'a> Changing<'a> {
    /// The `len` bytes from `start`.
    ///
    /// # Safety
    /// They are mapped and readable for as long as `'a`. Others that write them meanwhile are other processes, or code that
    /// is no Rust, or write them by atomic accesses.
    #[must_use]
    pub unsafe fn new(start: NonNull<u8>, len: usize) -> Self {
        Self { start, len, lives: PhantomData }
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Where they begin.
    #[must_use]
    pub fn address(self) -> usize {
        self.start.addr().get()
    }

    /// Copies the first bytes to `to`, as many as fit; how many.
    pub fn copy_to(self, to: &mut [MaybeUninit<u8>]) -> usize {
        let len = self.len.min(to.len());
        // SAFETY: `new`'s caller vouches for the source; the target is borrowed mutably, so it is nobody else's, and none
        // of the source, which somebody lends.
        unsafe { copy_racing(self.start, NonNull::from(to).cast(), len) };
        len
    }

    /// Copies all of them into a new block, so many bytes from its start; `false`, and nothing copied, when they do not fit.
    #[must_use]
    pub(crate) fn copy_into(self, blank: &mut Blank<Extents>, at: usize) -> bool {
        // SAFETY: `new`'s caller vouches for the source.
        unsafe { blank.write_racing(at, self.start, self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

    /// What is copied while somebody writes is what was there, byte by byte, wherever both begin and end.
    #[test]
    fn every_byte_of_a_copy_was_there_at_some_moment() {
        let bytes: Vec<AtomicU8> = (0..10_000).map(|_| AtomicU8::new(1)).collect();
        let done = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for value in [2, 1] {
                        bytes.iter().for_each(|byte| byte.store(value, Ordering::Relaxed));
                    }
                }
            });
            for len in [0, 1, 7, 8, 9, 63, 64, 65, 1_000, 2_047, 2_048, 5_000] {
                for (from, to) in [(0, 0), (1, 1), (3, 5), (8, 1), (0, 7), (13, 13)] {
                    let start = NonNull::from(&bytes[from]).cast::<u8>();
                    // SAFETY: inside the vector, which outlives this; its bytes are atomics.
                    let changing = unsafe { Changing::new(start, len) };
                    let mut copy = vec![MaybeUninit::new(9); 6_000];
                    assert_eq!(changing.copy_to(&mut copy[to..to + len]), len);
                    // SAFETY: initialised two lines above.
                    let copy: Vec<u8> = copy.into_iter().map(|byte| unsafe { byte.assume_init() }).collect();
                    assert!(copy[..to].iter().chain(&copy[to + len..]).all(|&byte| byte == 9));
                    assert!(
                        copy[to..to + len].iter().all(|&byte| byte == 1 || byte == 2),
                        "{len} {from} {to}"
                    );
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
