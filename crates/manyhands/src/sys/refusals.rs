//! Mappings that the system has refused to this thread.
//!
//! Who asks for a place in the arena gets none when its extent cannot be mapped here (an address space that is limited, or
//! full of mappings), as when the offset makes no sense. What a caller makes of "none" is an error that says "damaged" or
//! "gone"; before it is told, it is asked here whether memory was all that was missing.

use manyhands_sync::arena::AllocateError;
use std::cell::Cell;

/// A mapping that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// How many bytes were to be mapped.
    pub(crate) wanted_bytes: u64,
    /// How many the whole arena has.
    pub(crate) limit_bytes: u64,
}

thread_local! {
    /// The last one that nobody was told of.
    static LAST: Cell<Option<Refusal>> = const { Cell::new(None) };
}

/// The system has just refused to map so many bytes of an arena of that size.
pub(crate) fn note(wanted_bytes: u64, limit_bytes: u64) {
    LAST.set(Some(Refusal { wanted_bytes, limit_bytes }));
}

/// The refusal that nobody was told of so far, for who tells of it.
pub(crate) fn take() -> Option<Refusal> {
    LAST.take()
}

/// What `work` was refused, if anything.
pub(crate) fn during<T>(work: impl FnOnce() -> T) -> (T, Option<Refusal>) {
    LAST.set(None);
    let done = work();
    (done, take())
}

/// The error as it is if nothing was refused: memory that could not be mapped is not damaged.
pub(crate) fn explain(error: AllocateError) -> AllocateError {
    match error {
        AllocateError::Corrupted => take().map_or(error, |refusal| AllocateError::OutOfMemory {
            wanted_bytes: refusal.wanted_bytes,
            limit_bytes: refusal.limit_bytes,
        }),
        AllocateError::OutOfMemory { .. } => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_refused_is_called_so_and_once() {
        assert_eq!(explain(AllocateError::Corrupted), AllocateError::Corrupted);
        note(5, 9);
        let out_of_memory = AllocateError::OutOfMemory { wanted_bytes: 5, limit_bytes: 9 };
        assert_eq!(explain(AllocateError::Corrupted), out_of_memory);
        assert_eq!(explain(AllocateError::Corrupted), AllocateError::Corrupted);
        note(5, 9);
        assert_eq!(during(|| 1), (1, None));
        assert_eq!(during(|| note(7, 9)).1, Some(Refusal { wanted_bytes: 7, limit_bytes: 9 }));
        assert_eq!(take(), None);
    }
}
