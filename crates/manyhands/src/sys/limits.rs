//! What the system allows this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// While it lives, descriptors up to a number may be named, where the hard limit lets this process say so: the C library
/// refuses numbers from the limit on, and one that was lowered since leaves older descriptors above it.
#[derive(Debug)]
pub(crate) struct Numbers {
    before: Option<Rlimit>,
}

impl Numbers {
    /// `setrlimit(RLIMIT_NOFILE)`, if the number is not below it. A refusal leaves it as it is.
    pub(crate) fn up_to(number: u64) -> Self {
        let before = getrlimit(Resource::Nofile);
        if before.current.is_none_or(|current| number < current) {
            return Self { before: None };
        }
        let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(number + 1), ..before });
        Self { before: raised.is_ok().then_some(before) }
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            let _ = setrlimit(Resource::Nofile, before);
        }
    }
}

/// The largest file this process may make, once it has raised its limit for it.
pub(crate) fn largest_file() -> u64 {
    getrlimit(Resource::Fsize).maximum.unwrap_or(u64::MAX)
}

/// A limit that is raised to the hard one while anybody needs it so, in whatever threads. What other code sets meanwhile
/// stays.
struct Raised {
    resource: Resource,
    by: Mutex<By>,
}

/// How many need it so, and the limit before the first of them.
type By = Option<(u32, Rlimit)>;

static DESCRIPTORS: Raised = Raised::new(Resource::Nofile);
static FILE_SIZES: Raised = Raised::new(Resource::Fsize);

impl Raised {
    const fn new(resource: Resource) -> Self {
        Self { resource, by: Mutex::new(None) }
    }

    /// One more needs it so, if what there is without that is not `enough`; whether it counts. `setrlimit`: a refusal leaves
    /// it as it is.
    fn begin(&self, enough: impl FnOnce(Rlimit) -> bool) -> bool {
        match &mut *self.lock() {
            Some((count, _)) => *count += 1,
            none => {
                let before = getrlimit(self.resource);
                if enough(before) {
                    return false;
                }
                let _ = setrlimit(self.resource, Rlimit { current: before.maximum, ..before });
                *none = Some((1, before));
            }
        }
        true
    }

    fn end(&self) {
        let mut by = self.lock();
        match &mut *by {
            Some((count, _)) if *count > 1 => *count -= 1,
            _ => self.put_back(&mut by),
        }
    }

    fn put_back(&self, by: &mut By) {
        let Some((_, before)) = by.take() else { return };
        let now = getrlimit(self.resource);
        if now.current == now.maximum && now.maximum == before.maximum {
            let _ = setrlimit(self.resource, before);
        }
    }

    fn lock(&self) -> MutexGuard<'_, By> {
        self.by.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The locks of limits that are raised, over a fork.
#[derive(Debug)]
pub(crate) struct Locked {
    descriptors: MutexGuard<'static, By>,
    file_sizes: MutexGuard<'static, By>,
}

/// Before a fork: no other thread of this process is in the middle of raising a limit.
pub(crate) fn lock_for_fork() -> Locked {
    Locked { descriptors: DESCRIPTORS.lock(), file_sizes: FILE_SIZES.lock() }
}

impl Locked {
    /// In the forked child: the threads that needed a limit raised are not there.
    pub(crate) fn put_back_in_child(mut self) {
        DESCRIPTORS.put_back(&mut self.descriptors);
        FILE_SIZES.put_back(&mut self.file_sizes);
    }
}

/// While one of these lives, this process may make a file of a size, where the hard limit lets it. The limit is for files on
/// disks, and the kernel holds shared memory to it, too.
#[derive(Debug)]
pub(crate) struct FileSize {
    counts: bool,
}

impl FileSize {
    /// `None` when the hard limit is below that size: growing a file beyond it is answered with a signal that may kill.
    pub(crate) fn up_to(bytes: u64) -> Option<Self> {
        if bytes > largest_file() {
            return None;
        }
        let counts = FILE_SIZES.begin(|now| now.current.is_none_or(|most| bytes <= most));
        Some(Self { counts })
    }
}

impl Drop for FileSize {
    fn drop(&mut self) {
        if self.counts {
            FILE_SIZES.end();
        }
    }
}

/// While one of these lives, this process may have as many descriptors as its hard limit allows: for the one or two that an
/// error or a first use needs.
#[derive(Debug)]
pub struct MoreDescriptors(());

impl MoreDescriptors {
    /// `setrlimit(RLIMIT_NOFILE)`. A refusal leaves it as it is.
    #[must_use]
    pub fn for_now() -> Self {
        DESCRIPTORS.begin(|_| false);
        Self(())
    }
}

impl Drop for MoreDescriptors {
    fn drop(&mut self) {
        DESCRIPTORS.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_size_is_allowed_for_a_moment() {
        let all = getrlimit(Resource::Fsize);
        setrlimit(Resource::Fsize, Rlimit { current: Some(1 << 30), ..all }).expect("lower");
        let first = FileSize::up_to(1 << 31);
        let second = FileSize::up_to(1 << 31);
        assert!(first.is_some() && second.is_some());
        assert_eq!(getrlimit(Resource::Fsize).current, all.maximum);
        drop(first);
        assert_eq!(getrlimit(Resource::Fsize).current, all.maximum, "the second needs it");
        drop(second);
        assert_eq!(getrlimit(Resource::Fsize).current, Some(1 << 30));
        setrlimit(Resource::Fsize, all).expect("as it was");
    }

    #[test]
    fn a_lowered_limit_is_in_force_again_afterwards() {
        let all = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(900), ..all }).expect("lower");
        let raised = Numbers::up_to(900);
        assert_eq!(getrlimit(Resource::Nofile).current, Some(901));
        drop(raised);
        assert_eq!(getrlimit(Resource::Nofile).current, Some(900));
        drop(Numbers::up_to(899));
        assert_eq!(getrlimit(Resource::Nofile).current, Some(900));
        let more = [MoreDescriptors::for_now(), MoreDescriptors::for_now()];
        for each in more {
            assert_eq!(getrlimit(Resource::Nofile).current, all.maximum);
            drop(each);
        }
        assert_eq!(getrlimit(Resource::Nofile).current, Some(900));
        setrlimit(Resource::Nofile, all).expect("as it was");
    }
}
