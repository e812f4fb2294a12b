//! What the system allows this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::{Mutex, PoisonError};

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

/// While it lives, this process may make a file of a size, where the hard limit lets it. The limit is for files on disks, and
/// the kernel holds shared memory to it, too.
#[derive(Debug)]
pub(crate) struct FileSize {
    before: Option<Rlimit>,
}

impl FileSize {
    /// `setrlimit(RLIMIT_FSIZE)`, if it is below that size; `None` when it still is: growing a file beyond it is answered with a
    /// signal that may kill.
    pub(crate) fn up_to(bytes: u64) -> Option<Self> {
        let before = getrlimit(Resource::Fsize);
        if before.current.is_none_or(|current| bytes <= current) {
            return Some(Self { before: None });
        }
        let raised = setrlimit(Resource::Fsize, Rlimit { current: Some(bytes), ..before });
        raised.is_ok().then_some(Self { before: Some(before) })
    }
}

impl Drop for FileSize {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            let _ = setrlimit(Resource::Fsize, before);
        }
    }
}

/// Those that live, and the limit before the first of them.
static RAISED: Mutex<Option<(u32, Rlimit)>> = Mutex::new(None);

/// While one of these lives, this process may have as many descriptors as its hard limit allows: for the one or two that an
/// error or a first use needs. A limit that other code sets meanwhile stays.
#[derive(Debug)]
pub struct MoreDescriptors(());

impl MoreDescriptors {
    /// `setrlimit(RLIMIT_NOFILE)`. A refusal leaves it as it is.
    #[must_use]
    pub fn for_now() -> Self {
        let mut raised = RAISED.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *raised {
            Some((lives, _)) => *lives += 1,
            none => {
                let before = getrlimit(Resource::Nofile);
                let _ = setrlimit(Resource::Nofile, Rlimit { current: before.maximum, ..before });
                *none = Some((1, before));
            }
        }
        Self(())
    }
}

impl Drop for MoreDescriptors {
    fn drop(&mut self) {
        let mut raised = RAISED.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((lives, before)) = &mut *raised else { return };
        *lives -= 1;
        if *lives > 0 {
            return;
        }
        let now = getrlimit(Resource::Nofile);
        if now.current == now.maximum && now.maximum == before.maximum {
            let _ = setrlimit(Resource::Nofile, Rlimit { ..*before });
        }
        *raised = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_size_is_allowed_for_a_moment() {
        let all = getrlimit(Resource::Fsize);
        setrlimit(Resource::Fsize, Rlimit { current: Some(1 << 30), ..all }).expect("lower");
        let raised = FileSize::up_to(1 << 31);
        assert!(raised.is_some());
        assert_eq!(getrlimit(Resource::Fsize).current, Some(1 << 31));
        drop(raised);
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
