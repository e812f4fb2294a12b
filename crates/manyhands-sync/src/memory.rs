//! From offsets in the arena to places in this process.
#![allow(unsafe_code)] // turns offsets that were checked into references and copies bytes
#![allow(clippy::disallowed_types)] // bytes that are copied are no protocol's words: loom does not watch them

use core::mem::{align_of, size_of};
use core::ptr::NonNull;
#[cfg(any(not(all(target_arch = "x86_64", not(miri))), test))]
use core::sync::atomic::{AtomicU8 as AtomicByte, AtomicU64 as AtomicWord, Ordering::Relaxed};

/// Marks types that may be laid in shared memory.
///
/// # Safety
/// `repr(C)` or `repr(transparent)`, no pointers, no `Drop`, only atomics, cells guarded by a lock in the same
/// type, and arrays of such; any bit pattern may be found in it, so its methods check what they read.
pub unsafe trait Shareable: Sync + 'static {}

/// Marks what a block of a kind holds: the arena gives out a reference to it only for a handle of that kind.
///
/// # Safety
/// A block of that kind holds nothing else, from its first byte on.
pub unsafe trait Placed: Shareable {
    /// The kind of the blocks in which it lies.
    const KIND: crate::arena::Kind;
}

/// Resolves offsets of one arena. What it resolves stays mapped until the process ends.
///
/// Having a `Memory` is no right to read or write: what lies where, and whose it is, only the [`Arena`](crate::arena::Arena)
/// knows. So all that touches bytes by their offset is unsafe here. Safe code writes through a [`Blank`](crate::arena::Blank).
///
/// # Safety
/// A returned pointer is valid for reads and writes of `len` bytes, at the same place, for the rest of the
/// process's life, and `offset` alignment (up to a page) carries over to the pointer.
pub unsafe trait Memory: Copy {
    /// Where `len` bytes from `offset` lie; `None` when this process cannot map them, or they are outside of the arena.
    fn resolve(&self, offset: u64, len: usize) -> Option<NonNull<u8>>;

    /// Copies `from` into the arena at `offset`; `false` when it does not fit into one extent.
    ///
    /// # Safety
    /// No other thread of this process reads or writes these bytes meanwhile, except by [`copy_racing`], and `from` does
    /// not lie among them.
    #[must_use]
    #[inline]
    unsafe fn copy_in(&self, offset: u64, from: &[u8]) -> bool {
        let Some(to) = self.resolve(offset, from.len()) else { return false };
        // SAFETY: resolve() vouches for the target, the borrow for the source; the caller says that they do not overlap
        // and that the target is its own.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(from).cast(), from.len()) };
        true
    }

    /// Writes one word at `offset`, which must be a multiple of 8; `false` when it is none or outside the arena.
    ///
    /// # Safety
    /// As for [`Memory::copy_in`].
    #[must_use]
    #[inline]
    unsafe fn write_word(&self, offset: u64, word: u64) -> bool {
        // SAFETY: the bytes are on the stack; the rest is the caller's promise.
        offset.is_multiple_of(8) && unsafe { self.copy_in(offset, &word.to_le_bytes()) }
    }

    /// Reads one word at `offset`, which must be a multiple of 8; `None` when it is none or outside the arena.
    ///
    /// # Safety
    /// No other thread of this process writes these bytes meanwhile.
    #[inline]
    unsafe fn read_word(&self, offset: u64) -> Option<u64> {
        let from = self.resolve(offset, size_of::<u64>()).filter(|_| offset.is_multiple_of(8))?;
        // SAFETY: resolve() vouches for eight readable bytes, and any bits are a u64; the caller, that nobody writes them.
        Some(u64::from_le(unsafe { from.cast::<u64>().read_unaligned() }))
    }

    /// Appends `len` bytes of the arena from `offset` to `out`; `false` when they do not lie in one extent.
    ///
    /// # Safety
    /// No other thread of this process writes these bytes meanwhile.
    #[must_use]
    unsafe fn copy_out(&self, offset: u64, len: usize, out: &mut Vec<u8>) -> bool {
        let Some(from) = self.resolve(offset, len) else { return false };
        out.reserve(len);
        // SAFETY: resolve() vouches for the source, reserve() for `len` bytes of spare room, which are this vector's alone
        // and so not in the arena; the caller, that nobody writes the source.
        unsafe { from.copy_to_nonoverlapping(NonNull::from(out.spare_capacity_mut()).cast(), len) };
        // SAFETY: the bytes up to the new length were initialised by the copy above.
        unsafe { out.set_len(out.len() + len) };
        true
    }

    /// As [`Memory::copy_out`], of bytes that others may be writing, each word as it is at some moment.
    ///
    /// # Safety
    /// Other threads of this process write these bytes meanwhile only by atomic accesses or by [`copy_racing`].
    #[must_use]
    unsafe fn copy_out_racing(&self, offset: u64, len: usize, out: &mut Vec<u8>) -> bool {
        let Some(from) = self.resolve(offset, len) else { return false };
        out.reserve(len);
        // SAFETY: resolve() vouches for the source, reserve() for the target, which is this vector's alone; the caller for
        // what others do.
        unsafe { copy_racing(from, NonNull::from(out.spare_capacity_mut()).cast(), len) };
        // SAFETY: the bytes up to the new length were initialised by the copy above.
        unsafe { out.set_len(out.len() + len) };
        true
    }

    /// Copies `len` bytes of the arena to a place in this process.
    ///
    /// # Safety
    /// `to` is valid for writes of `len` bytes and does not lie in the arena; no other thread of this process writes the
    /// arena's bytes meanwhile.
    #[must_use]
    unsafe fn copy_out_to(&self, offset: u64, len: usize, to: NonNull<u8>) -> bool {
        let Some(from) = self.resolve(offset, len) else { return false };
        // SAFETY: resolve() vouches for the source; the caller for the target, and that nobody writes either.
        unsafe { from.copy_to_nonoverlapping(to, len) };
        true
    }

    /// Copies `len` bytes from one place of the arena to another, in words that others may read or write meanwhile; `false`
    /// when either is not inside one extent or they overlap.
    ///
    /// # Safety
    /// No other thread of this process accesses either range meanwhile, except by atomic accesses of the same words.
    #[must_use]
    unsafe fn copy_within(&self, from: u64, to: u64, len: usize) -> bool {
        let apart = from.abs_diff(to) >= len as u64;
        let (Some(source), Some(target), true) = (self.resolve(from, len), self.resolve(to, len), apart)
        else {
            return false;
        };
        // SAFETY: resolve() vouches for both; distinct offsets of one arena are distinct bytes, and `apart` says
        // that the ranges do not overlap; the rest is the caller's promise.
        unsafe { copy_racing(source, target, len) };
        true
    }
}

/// The `T` at `offset`; `None` when it is misaligned or outside the arena.
///
/// # Safety
/// A `T` lies there, or zeroes or damage in place of one, for as long as the reference is used: no other thread of this
/// process accesses the bytes in any other way.
#[inline]
pub unsafe fn place<T: Shareable, M: Memory>(memory: &M, offset: u64) -> Option<&'static T> {
    if offset == 0 || !offset.is_multiple_of(align_of::<T>() as u64) {
        return None;
    }
    let place = memory.resolve(offset, size_of::<T>())?.cast::<T>();
    // SAFETY: resolve() guarantees validity for the process's life; alignment was checked above (extents are
    // page-aligned); Shareable guarantees that shared references under concurrent change are sound; that it is a `T`
    // is the caller's promise.
    Some(unsafe { place.as_ref() })
}

/// Writes a new `T` at `offset`; `None` when it would be misaligned or outside the arena.
///
/// # Safety
/// Nobody else accesses the bytes until the caller has published the `T`, and then only as a `T`.
pub unsafe fn place_new<T: Shareable, M: Memory>(memory: &M, offset: u64, value: T) -> Option<&'static T> {
    if offset == 0 || !offset.is_multiple_of(align_of::<T>() as u64) {
        return None;
    }
    let place = memory.resolve(offset, size_of::<T>())?.cast::<T>();
    // SAFETY: resolve() vouches for the place, the check above for its alignment; the caller, that it is its own.
    unsafe { place.write(value) };
    // SAFETY: written just now; the caller vouches for what comes later.
    Some(unsafe { place.as_ref() })
}

/// What the modules of this crate place by their offsets. Private to the crate: each of them places at an offset what the
/// protocol says lies there, and nobody outside can.
pub(crate) trait Placing: Memory {
    /// The `T` at `offset`; `None` when it is misaligned or outside the arena.
    #[inline]
    fn place<T: Shareable>(&self, offset: u64) -> Option<&'static T> {
        // SAFETY: of the offsets that this crate passes, block headers lie where the arena carved them, references in
        // blocks of their kind, segments where a ring leads; an offset that was damaged leads to bytes that another thread
        // of this process may use otherwise, which is why all of these are atomics, checked before they are believed.
        unsafe { place(self, offset) }
    }

    /// Writes a new `T` at `offset`, in a block that this thread has just carved or allocated.
    fn place_new<T: Shareable>(&self, offset: u64, value: T) -> Option<&'static T> {
        // SAFETY: the callers pass a block that nobody else can know of yet.
        unsafe { place_new(self, offset, value) }
    }
}

impl<M: Memory> Placing for M {}

/// From here on the processor's own copy of any length is faster than one by registers; it takes some thirty nanoseconds
/// to begin.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const LONG_COPY: usize = 4 << 10;

/// Copies bytes of which others may write the source, or read and write the target, meanwhile: each word is read once and
/// written once, by a relaxed atomic access, and is what it was at some moment.
///
/// # Safety
/// `from` is valid for reads and `to` for writes of `len` bytes, they do not overlap, and other threads of this process
/// access them meanwhile only by atomic accesses or by this function.
pub unsafe fn copy_racing(from: NonNull<u8>, to: NonNull<u8>, len: usize) {
    // SAFETY: what this function's caller promises.
    unsafe { copy_racing_as_here(from, to, len) }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
use copy_racing_anywhere as copy_racing_as_here;

/// The processor's own loads and stores, which need no alignment.
///
/// # Safety
/// As for [`copy_racing`].
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn copy_racing_as_here(from: NonNull<u8>, to: NonNull<u8>, len: usize) {
    if len >= LONG_COPY {
        // SAFETY: the ranges are those that the caller vouches for. To the compiler this is code that it cannot see, and that
        // does what relaxed atomic accesses of each byte would: nothing is read or written twice, or made up.
        unsafe {
            core::arch::asm!(
                "rep movsb",
                inout("rcx") len => _,
                inout("rsi") from.as_ptr() => _,
                inout("rdi") to.as_ptr() => _,
                options(nostack, preserves_flags),
            );
        }
        return;
    }
    // SAFETY: the ranges are those that the caller vouches for: 64 bytes are copied while so many are left, then 8, then
    // each. To the compiler this is code that it cannot see, and that does what relaxed atomic accesses of each byte would:
    // nothing is read or written twice, or made up.
    unsafe {
        core::arch::asm!(
            "cmp {len}, 64",
            "jb 3f",
            "2:",
            "movdqu {a}, [{from}]",
            "movdqu {b}, [{from} + 16]",
            "movdqu {c}, [{from} + 32]",
            "movdqu {d}, [{from} + 48]",
            "movdqu [{to}], {a}",
            "movdqu [{to} + 16], {b}",
            "movdqu [{to} + 32], {c}",
            "movdqu [{to} + 48], {d}",
            "add {from}, 64",
            "add {to}, 64",
            "sub {len}, 64",
            "cmp {len}, 64",
            "jae 2b",
            "3:",
            "sub {len}, 8",
            "jb 5f",
            "4:",
            "mov {word}, [{from}]",
            "mov [{to}], {word}",
            "add {from}, 8",
            "add {to}, 8",
            "sub {len}, 8",
            "jae 4b",
            "5:",
            "add {len}, 8",
            "jz 7f",
            "6:",
            "movzx {word:e}, byte ptr [{from}]",
            "mov byte ptr [{to}], {word:l}",
            "inc {from}",
            "inc {to}",
            "dec {len}",
            "jnz 6b",
            "7:",
            len = inout(reg) len => _,
            from = inout(reg) from.as_ptr() => _,
            to = inout(reg) to.as_ptr() => _,
            word = out(reg) _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack),
        );
    }
}

/// Atomics of Rust's: words where both sides can be aligned at once, bytes elsewhere.
///
/// # Safety
/// As for [`copy_racing`].
#[cfg(any(not(all(target_arch = "x86_64", not(miri))), test))]
unsafe fn copy_racing_anywhere(from: NonNull<u8>, to: NonNull<u8>, len: usize) {
    const WORD: usize = size_of::<u64>();
    let mut at = 0;
    if from.addr().get() % WORD == to.addr().get() % WORD {
        let head = from.align_offset(WORD).min(len);
        // SAFETY: the first `head` of the bytes that the caller vouches for.
        unsafe { copy_bytes(from, to, 0..head) };
        at = head;
        while at + WORD <= len {
            let (source, target) = (from.as_ptr().wrapping_add(at), to.as_ptr().wrapping_add(at));
            // SAFETY: inside what the caller vouches for, as `at + WORD <= len`, and aligned, as the head was copied by bytes;
            // accessed by atomics alone meanwhile, says the caller.
            let source = unsafe { AtomicWord::from_ptr(source.cast()) };
            // SAFETY: as the source is, on the other side.
            let target = unsafe { AtomicWord::from_ptr(target.cast()) };
            target.store(source.load(Relaxed), Relaxed);
            at += WORD;
        }
    }
    // SAFETY: the rest of the bytes that the caller vouches for.
    unsafe { copy_bytes(from, to, at..len) };
}

/// # Safety
/// As for [`copy_racing`], with the range inside `len`.
#[cfg(any(not(all(target_arch = "x86_64", not(miri))), test))]
unsafe fn copy_bytes(from: NonNull<u8>, to: NonNull<u8>, range: core::ops::Range<usize>) {
    for at in range {
        let (source, target) = (from.as_ptr().wrapping_add(at), to.as_ptr().wrapping_add(at));
        // SAFETY: inside what the caller vouches for, and a byte is always aligned; accessed by atomics alone meanwhile.
        let source = unsafe { AtomicByte::from_ptr(source) };
        // SAFETY: as the source is, on the other side.
        let target = unsafe { AtomicByte::from_ptr(target) };
        target.store(source.load(Relaxed), Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn both_ways_copy_each_byte_and_no_other() {
        let source: Vec<u8> = (0..10_000u32).map(|i| (i * 7 + i / 256) as u8).collect();
        for len in (0..300).chain([1023, 1024, 1060, 4095, 4096, 4097, 8200]) {
            for (at, to) in [(0, 0), (1, 1), (3, 8), (8, 5), (15, 15)] {
                for way in [copy_racing, copy_racing_anywhere] {
                    let mut target = vec![0xee; 10_000];
                    let (from, into) = (NonNull::from(&source[at..]), NonNull::from(&mut target[to..]));
                    // SAFETY: both have more bytes than that, and are this test's alone.
                    unsafe { way(from.cast(), into.cast(), len) };
                    assert_eq!(target[to..to + len], source[at..at + len], "{len} {at} {to}");
                    let untouched = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0xee);
                    assert!(untouched(&target[..to]) && untouched(&target[to + len..]), "{len} {at} {to}");
                }
            }
        }
    }
}
