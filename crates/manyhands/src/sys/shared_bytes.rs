//! Bytes that other processes change at any time: never a reference to them, only copies, made of atomic accesses.
#![allow(unsafe_code)] // turns an offset that was checked into atomics

use super::Extents;
use super::plain::Plain;
use manyhands_sync::memory::Memory;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// A range of the arena, where this process has mapped it: for as long as it lives.
#[derive(Clone, Copy, Debug)]
pub struct SharedBytes {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: only the address of memory that is mapped for every thread until the process ends; every access is atomic.
unsafe impl Send for SharedBytes {}
// SAFETY: through a shared reference, too, every access is atomic.
unsafe impl Sync for SharedBytes {}

impl SharedBytes {
    /// The `len` bytes at `offset`; `None` when they do not lie in one extent, or not at a multiple of 64.
    pub(crate) fn resolve(extents: &Extents, offset: u64, len: usize) -> Option<Self> {
        let start = extents.resolve(offset, len)?;
        start.addr().get().is_multiple_of(64).then_some(Self { start, len })
    }

    /// The `len` bytes that begin `at` so many behind the start of a block of `block_bytes`: asked for with their whole
    /// block, they have one address for as long as it lives, wherever it lies. `None` as [`SharedBytes::resolve`].
    pub(crate) fn within(
        extents: &Extents,
        block: u64,
        block_bytes: u64,
        at: u64,
        len: usize,
    ) -> Option<Self> {
        let whole = Self::resolve(extents, block, usize::try_from(block_bytes).ok()?)?;
        let at =
            usize::try_from(at).ok().filter(|&at| at.checked_add(len).is_some_and(|end| end <= whole.len))?;
        // SAFETY: inside the block, checked just now.
        let start = unsafe { whole.start.add(at) };
        start.addr().get().is_multiple_of(64).then_some(Self { start, len })
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where the `T` lies that begins `at` so many bytes; `None` when it is not inside, or misaligned.
    #[inline]
    pub(crate) fn place<T: Plain>(&self, at: usize) -> Option<NonNull<T>> {
        let fits = at.checked_add(size_of::<T>())? <= self.len && at.is_multiple_of(align_of::<T>());
        // SAFETY: `at` is inside the range, checked just now.
        fits.then(|| unsafe { self.start.add(at) }.cast())
    }

    /// Copies a `T` out.
    #[inline]
    pub(crate) fn load<T: Plain>(&self, at: usize) -> Option<T> {
        let from = self.place::<T>(at)?;
        let mut value = MaybeUninit::<T>::uninit();
        let to = NonNull::from(&mut value).cast::<T>();
        match align_of::<T>() {
            8.. => load_units::<u64, T>(from, to),
            4 => load_units::<u32, T>(from, to),
            2 => load_units::<u16, T>(from, to),
            _ => load_units::<u8, T>(from, to),
        }
        // SAFETY: all bytes were written above, and any bytes are a `T`, says Plain.
        Some(unsafe { value.assume_init() })
    }

    /// Copies a `T` in; `false`, and nothing done, when it would not be inside, or misaligned.
    #[inline]
    pub(crate) fn store<T: Plain>(&self, at: usize, value: T) -> bool {
        let Some(to) = self.place::<T>(at) else { return false };
        let from = NonNull::from(&value);
        match align_of::<T>() {
            8.. => store_units::<u64, T>(from, to),
            4 => store_units::<u32, T>(from, to),
            2 => store_units::<u16, T>(from, to),
            _ => store_units::<u8, T>(from, to),
        }
        true
    }
}

/// What is read and written whole.
trait Unit: Copy {
    /// # Safety
    /// `shared` is valid for reads and writes, aligned for the unit, and accessed by atomics alone meanwhile.
    unsafe fn load(shared: NonNull<Self>) -> Self;
    /// # Safety
    /// As for [`Unit::load`].
    unsafe fn store(shared: NonNull<Self>, value: Self);
}

macro_rules! unit {
    ($($type:ty => $atomic:ty),*) => { $(
        impl Unit for $type {
            #[inline]
            unsafe fn load(shared: NonNull<Self>) -> Self {
                // SAFETY: valid, aligned and accessed by atomics alone, by this function's contract.
                unsafe { <$atomic>::from_ptr(shared.as_ptr()) }.load(Ordering::Relaxed)
            }

            #[inline]
            unsafe fn store(shared: NonNull<Self>, value: Self) {
                // SAFETY: valid, aligned and accessed by atomics alone, by this function's contract.
                unsafe { <$atomic>::from_ptr(shared.as_ptr()) }.store(value, Ordering::Relaxed);
            }
        }
    )* };
}

unit!(u8 => AtomicU8, u16 => AtomicU16, u32 => AtomicU32, u64 => AtomicU64);

/// Copies a `T` out of shared memory in units of `U`; the alignment of `T` is at least that of `U`.
#[inline]
fn load_units<U: Unit, T: Plain>(from: NonNull<T>, to: NonNull<T>) {
    each_unit::<U, T>(from, to, |from, to| {
        // SAFETY: each_unit() passes a part of a `T` in shared memory: place() has checked that it is inside and aligned, and
        // what lies in a shared block is accessed by atomics alone.
        let unit = unsafe { U::load(from) };
        // SAFETY: and a part of the caller's own `T`.
        unsafe { to.write(unit) };
    });
}

/// Copies a `T` into shared memory, as [`load_units`].
#[inline]
fn store_units<U: Unit, T: Plain>(from: NonNull<T>, to: NonNull<T>) {
    each_unit::<U, T>(from, to, |from, to| {
        // SAFETY: each_unit() passes a part of the caller's own `T`; Plain says that none of it is padding.
        let unit = unsafe { from.read() };
        // SAFETY: and a part of a `T` in shared memory: place() has checked that it is inside and aligned, and what lies in a
        // shared block is accessed by atomics alone.
        unsafe { U::store(to, unit) };
    });
}

#[inline]
fn each_unit<U, T>(from: NonNull<T>, to: NonNull<T>, each: impl Fn(NonNull<U>, NonNull<U>)) {
    let (from, to) = (from.cast::<U>(), to.cast::<U>());
    for unit in 0..size_of::<T>() / size_of::<U>() {
        // SAFETY: the unit is inside the `T`, whose size is a multiple of its alignment.
        let from = unsafe { from.add(unit) };
        // SAFETY: so it is on the other side, where there is a `T`, too.
        let to = unsafe { to.add(unit) };
        each(from, to);
    }
}
