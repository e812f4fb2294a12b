//! The process that this thread has started last, for who starts one by Python code that may be interrupted: when that
//! raises, nobody else may have heard of the process.

use manyhands::process;
use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

thread_local! {
    static LAST: RefCell<Option<Arc<OwnedFd>>> = const { RefCell::new(None) };
}

/// A process was started; by its sentinel.
pub(crate) fn note(sentinel: &Arc<OwnedFd>) {
    LAST.set(Some(Arc::clone(sentinel)));
}

/// Nothing was started yet that this thread has not heard of.
pub(crate) fn forget() {
    LAST.set(None);
}

/// Ends what was started since [`forget`].
pub(crate) fn end_last() {
    if let Some(sentinel) = LAST.take() {
        // One that cannot be signalled or reaped is gone, or somebody else's to reap.
        let _ = process::end(sentinel.as_fd());
    }
}
