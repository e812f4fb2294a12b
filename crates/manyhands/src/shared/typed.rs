//! Shared memory that holds values of one type.

use super::block::{SharedBlock, SharedError};
use crate::family::Family;
use crate::sys::plain::{Integer, Plain};
use manyhands_sync::arena::Handle;
use std::marker::PhantomData;

/// One `T` that several processes read and write; zero at first. Clones are the same one.
///
/// Numbers of up to eight bytes are read and written whole. Between two processes nothing is ordered by `load` and
/// `store`: whoever needs to see what was written before uses the operations of integers, or a lock.
///
/// ```
/// use manyhands::{Shared, family::Family};
///
/// let counter = Shared::new(Family::current()?, 40u32)?;
/// let same = Shared::<u32>::open(Family::current()?, counter.handle())?;
/// assert_eq!(same.fetch_add(2), 40);
/// assert_eq!(counter.load(), 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Shared<T> {
    block: SharedBlock,
    what: PhantomData<T>,
}

/// Values of `T`, one behind the other, that several processes read and write; zero at first. Clones are the same ones.
/// What is said of [`Shared`] holds for each.
///
/// ```
/// use manyhands::{SharedSlice, family::Family};
///
/// let row = SharedSlice::<f64>::new(Family::current()?, 1_000)?;
/// row.write(10, &[1.5, 2.5]);
/// assert_eq!(row.load(11), Some(2.5));
/// assert_eq!(row.load(1_000), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SharedSlice<T> {
    block: SharedBlock,
    what: PhantomData<T>,
}

impl<T: Plain> Shared<T> {
    /// A new one.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(family: &'static Family, value: T) -> Result<Self, SharedError> {
        let shared = Self { block: SharedBlock::create(family, size_of::<T>())?, what: PhantomData };
        shared.store(value);
        Ok(shared)
    }

    /// The one with that handle.
    ///
    /// # Errors
    /// When nobody holds it any more, or it is shorter than a `T`.
    pub fn open(family: &Family, handle: Handle) -> Result<Self, SharedError> {
        Ok(Self { block: SharedBlock::open(family, handle, size_of::<T>())?, what: PhantomData })
    }

    /// By what another member opens it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.block.handle()
    }

    /// What is in it.
    #[must_use]
    pub fn load(&self) -> T {
        self.block.load(0).expect("the block was made or opened for a T, and blocks are aligned")
    }

    /// Puts a value into it.
    pub fn store(&self, value: T) {
        let stored = self.block.store(0, value);
        debug_assert!(stored, "the block was made or opened for a T, and blocks are aligned");
    }
}

impl<T: Integer> Shared<T> {
    /// Adds, wrapping around, and returns what was there before, in one step.
    pub fn fetch_add(&self, value: T) -> T {
        self.block.fetch_add(0, value).expect("as in load()")
    }

    /// Puts a value into it and returns what was there before, in one step.
    pub fn exchange(&self, value: T) -> T {
        self.block.exchange(0, value).expect("as in load()")
    }

    /// Puts `new` into it if `expected` is there, in one step.
    ///
    /// # Errors
    /// What was there in its place.
    pub fn compare_exchange(&self, expected: T, new: T) -> Result<T, T> {
        self.block.compare_exchange(0, expected, new).expect("as in load()")
    }
}

impl<T: Plain> SharedSlice<T> {
    /// `count` new ones.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(family: &'static Family, count: usize) -> Result<Self, SharedError> {
        Ok(Self { block: SharedBlock::create(family, bytes_of::<T>(count))?, what: PhantomData })
    }

    /// The first `count` of those with that handle.
    ///
    /// # Errors
    /// When nobody holds them any more, or there are fewer.
    pub fn open(family: &Family, handle: Handle, count: usize) -> Result<Self, SharedError> {
        Ok(Self { block: SharedBlock::open(family, handle, bytes_of::<T>(count))?, what: PhantomData })
    }

    /// By what another member opens them, together with their number.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.block.handle()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.block.len() / size_of::<T>().max(1)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.block.is_empty()
    }

    /// What is at that place; `None` behind the end.
    #[must_use]
    pub fn load(&self, index: usize) -> Option<T> {
        self.block.load(index.checked_mul(size_of::<T>())?)
    }

    /// Puts a value at that place; `false` behind the end.
    #[must_use]
    pub fn store(&self, index: usize, value: T) -> bool {
        index.checked_mul(size_of::<T>()).is_some_and(|at| self.block.store(at, value))
    }

    /// Copies `out.len()` values from `first` on.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn read(&self, first: usize, out: &mut [T]) {
        self.check(first, out.len());
        for (index, value) in (first..).zip(out) {
            *value = self.load(index).expect("checked above");
        }
    }

    /// Writes these values from `first` on.
    ///
    /// # Panics
    /// When there is no room for so many.
    pub fn write(&self, first: usize, values: &[T]) {
        self.check(first, values.len());
        for (index, &value) in (first..).zip(values) {
            assert!(self.store(index, value), "checked above");
        }
    }

    fn check(&self, first: usize, count: usize) {
        let inside = first.checked_add(count).is_some_and(|end| end <= self.len());
        assert!(inside, "{count} values from {first} on are not inside of {}", self.len());
    }
}

impl<T: Integer> SharedSlice<T> {
    /// Adds to the one at that place, as [`Shared::fetch_add`]; `None` behind the end.
    #[must_use]
    pub fn fetch_add(&self, index: usize, value: T) -> Option<T> {
        self.block.fetch_add(index.checked_mul(size_of::<T>())?, value)
    }

    /// As [`Shared::exchange`]; `None` behind the end.
    #[must_use]
    pub fn exchange(&self, index: usize, value: T) -> Option<T> {
        self.block.exchange(index.checked_mul(size_of::<T>())?, value)
    }

    /// As [`Shared::compare_exchange`]; `None` behind the end.
    #[must_use]
    pub fn compare_exchange(&self, index: usize, expected: T, new: T) -> Option<Result<T, T>> {
        self.block.compare_exchange(index.checked_mul(size_of::<T>())?, expected, new)
    }
}

/// More than there is when it cannot be said.
fn bytes_of<T>(count: usize) -> usize {
    count.saturating_mul(size_of::<T>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_threads_add_and_none_is_lost() {
        let family = Family::current().expect("memory");
        let sum = Shared::new(family, 0u64).expect("memory");
        let places = SharedSlice::<i16>::new(family, 3).expect("memory");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        sum.fetch_add(3);
                        assert!(places.fetch_add(2, -1).is_some());
                    }
                });
            }
        });
        assert_eq!(sum.load(), 240_000);
        assert_eq!(places.load(2), Some(80_000u32.wrapping_neg() as i16));
        assert_eq!(places.load(1), Some(0));
    }

    #[test]
    fn arrays_and_slices_come_back_as_they_went_in() {
        let family = Family::current().expect("memory");
        let pair = Shared::new(family, [1.25f32, -7.5, 3.0]).expect("memory");
        assert_eq!(pair.load(), [1.25, -7.5, 3.0]);
        let slice = SharedSlice::<u16>::new(family, 1_000).expect("memory");
        let values: Vec<u16> = (0..998).collect();
        slice.write(1, &values);
        let mut out = vec![0; 1_000];
        slice.read(0, &mut out);
        assert_eq!((out[0], &out[1..999], out[999]), (0, &values[..], 0));
        let other = SharedSlice::<u16>::open(family, slice.handle(), 5).expect("it is there");
        assert_eq!((other.len(), other.load(4), other.load(5)), (5, Some(3), None));
        assert!(SharedSlice::<u64>::open(family, slice.handle(), usize::MAX).is_err());
    }
}
