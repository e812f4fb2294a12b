//! What the system allows this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Whether this process may map only so much.
pub(crate) fn is_address_space_limited() -> bool {
    getrlimit(Resource::As).current.is_some()
}

/// A limit that was in force before this process raised it for itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptors {
    before: Option<u64>,
}

impl Descriptors {
    /// `setrlimit(RLIMIT_NOFILE)`: as many as this process can have. A refusal leaves it as it is.
    pub(crate) fn raise() -> Self {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        Self { before: current }
    }

    /// In a forked child: the limit is as it was before. One that was lowered meanwhile for good stays low.
    pub(crate) fn restore(self) {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // Of the two the lower; no number is the highest there is.
        let current =
            self.before.map_or(maximum, |before| Some(maximum.map_or(before, |most| before.min(most))));
        let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
    }
}
