//! What a thread starts while it listens: for who starts a process by Python code that may be interrupted. When that
//! raises, nobody else may have heard of the process.

use manyhands::process::{self, Sentinel};
use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    /// Nothing while the thread does not listen.
    static HEARD: RefCell<Option<Vec<Arc<Sentinel>>>> = const { RefCell::new(None) };
}

/// A process was started; by its sentinel.
pub(crate) fn note(sentinel: &Arc<Sentinel>) {
    HEARD.with_borrow_mut(|heard| {
        if let Some(heard) = heard {
            heard.push(Arc::clone(sentinel));
        }
    });
}

/// This thread listens from now on, until this is dropped.
#[derive(Debug)]
pub(crate) struct Listening(());

impl Listening {
    pub(crate) fn new() -> Self {
        HEARD.set(Some(Vec::new()));
        Self(())
    }

    /// The last process that was started meanwhile.
    pub(crate) fn heard(self) -> Option<Arc<Sentinel>> {
        HEARD.take().and_then(|mut heard| heard.pop())
    }
}

/// Ends a process of which nobody else has heard.
pub(crate) fn end(sentinel: &Sentinel) {
    // One that cannot be signalled or reaped is gone, or somebody else's to reap.
    let _ = process::end(sentinel);
}

impl Drop for Listening {
    fn drop(&mut self) {
        HEARD.set(None);
    }
}
