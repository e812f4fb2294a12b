//! What the system allows this process.

use rustix::process::{Resource, getrlimit};

/// Whether this process may map only so much.
pub(crate) fn is_address_space_limited() -> bool {
    getrlimit(Resource::As).current.is_some()
}
