//! Which types may lie in memory that other processes write: those of which any bytes are a value.
#![allow(unsafe_code)] // vouches for the standard number types, and calls their atomics

use super::shared_bytes::SharedBytes;
use std::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering,
};

/// A type that may lie in shared memory.
///
/// # Safety
/// Any bytes of its size are a value of it (no references, no `bool`, `char` or enum), it has no padding, and its
/// alignment is at most 64.
pub unsafe trait Plain: Copy + Send + 'static {}

mod sealed {
    /// Only the integers of this crate.
    pub trait Sealed {}
}

/// An integer that is changed in one step, seen by all processes. Every operation is sequentially consistent.
pub trait Integer: Plain + sealed::Sealed {
    #[doc(hidden)]
    fn fetch_add(bytes: &SharedBytes, at: usize, value: Self) -> Option<Self>;
    #[doc(hidden)]
    fn exchange(bytes: &SharedBytes, at: usize, value: Self) -> Option<Self>;
    #[doc(hidden)]
    fn compare_exchange(
        bytes: &SharedBytes,
        at: usize,
        expected: Self,
        new: Self,
    ) -> Option<Result<Self, Self>>;
}

macro_rules! plain {
    ($($type:ty),*) => { $(
        // SAFETY: a number: every bit pattern is a value, no padding, aligned to at most 8.
        unsafe impl Plain for $type {}
    )* };
}

plain!(i8, u8, i16, u16, i32, u32, i64, u64, f32, f64, i128, u128);

// SAFETY: an array has no padding of its own, and is aligned as what it is of.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

macro_rules! integer {
    ($($type:ty => $atomic:ty),*) => { $(
        impl sealed::Sealed for $type {}

        impl Integer for $type {
            fn fetch_add(bytes: &SharedBytes, at: usize, value: Self) -> Option<Self> {
                Some(place::<Self, $atomic>(bytes, at)?.fetch_add(value, Ordering::SeqCst))
            }

            fn exchange(bytes: &SharedBytes, at: usize, value: Self) -> Option<Self> {
                Some(place::<Self, $atomic>(bytes, at)?.swap(value, Ordering::SeqCst))
            }

            fn compare_exchange(
                bytes: &SharedBytes,
                at: usize,
                expected: Self,
                new: Self,
            ) -> Option<Result<Self, Self>> {
                let place = place::<Self, $atomic>(bytes, at)?;
                Some(place.compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst))
            }
        }
    )* };
}

integer!(
    i8 => AtomicI8, u8 => AtomicU8, i16 => AtomicI16, u16 => AtomicU16,
    i32 => AtomicI32, u32 => AtomicU32, i64 => AtomicI64, u64 => AtomicU64
);

/// The atomic `A` in which the integer `T` lies.
fn place<T: Plain, A>(bytes: &SharedBytes, at: usize) -> Option<&A> {
    const { assert!(size_of::<T>() == size_of::<A>() && align_of::<T>() == align_of::<A>()) };
    let place = bytes.place::<T>(at)?.cast::<A>();
    // SAFETY: place() vouches that `at` is inside and aligned for `T`, whose size and alignment are those of `A`, an
    // atomic integer: any bits are one. The memory is mapped until the process ends.
    Some(unsafe { place.as_ref() })
}
