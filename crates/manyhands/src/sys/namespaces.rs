//! Which namespaces this process's pid and clock mean something in.
#![allow(unsafe_code)] // asks the kernel by ioctl

use super::pidfd;
use manyhands_sync::process_table::Namespaces;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The only time namespace of a kernel that has none: the kernel's own numbers are large.
const NO_TIME_NAMESPACES: u32 = 1;

/// This process's, asked anew: a forked child may have others.
///
/// A number that was given to a later namespace misleads nobody: all processes of the earlier one are gone then.
pub(crate) fn own() -> Namespaces {
    let pids = number_at(PID_NAMESPACE).or_else(|| by_pidfd(PIDFD_GET_PID_NAMESPACE)).unwrap_or(0);
    Namespaces { pids, clock: own_clock() }
}

/// The one in which this process counts time, asked anew: `setns` can change it.
pub(crate) fn own_clock() -> u32 {
    if let Some(clock) = number_at(TIME_NAMESPACE) {
        return clock;
    }
    // The folder is there, and this one is not in it.
    if number_at(PID_NAMESPACE).is_some() && !std::path::Path::new(TIME_NAMESPACE).is_symlink() {
        return NO_TIME_NAMESPACES;
    }
    by_pidfd(PIDFD_GET_TIME_NAMESPACE).unwrap_or(0)
}

const PID_NAMESPACE: &str = "/proc/self/ns/pid";
const TIME_NAMESPACE: &str = "/proc/self/ns/time";

/// Those that a child of this thread's next fork will have, if they can be told. Asked here, where the kernel has the
/// names at hand: a child that asked for its own would pay for its folder in `/proc`, ten times as much.
pub(crate) fn of_children() -> Option<Namespaces> {
    let pids = number_at("/proc/thread-self/ns/pid_for_children")?;
    let clock = number_at("/proc/thread-self/ns/time_for_children")?;
    Some(Namespaces { pids, clock })
}

/// The kernel numbers namespaces by 32 bits. The link says the number, as `pid:[4026531836]`: to look behind it would take
/// the kernel twice as long.
fn number_at(path: &str) -> Option<u32> {
    let link = std::fs::read_link(path).ok()?;
    let (_, number) = link.to_str()?.strip_suffix(']')?.split_once(":[")?;
    number.parse().ok()
}

/// `_IO(0xff, 5)` and `_IO(0xff, 7)` of `linux/pidfd.h`, since 6.11.
const PIDFD_GET_PID_NAMESPACE: libc::Ioctl = 0xff05;
const PIDFD_GET_TIME_NAMESPACE: libc::Ioctl = 0xff07;

/// Without `/proc`.
fn by_pidfd(question: libc::Ioctl) -> Option<u32> {
    let pidfd = pidfd::open(std::process::id()).ok()??;
    // SAFETY: the request takes no argument and touches no memory; a kernel that does not know it refuses.
    let namespace = unsafe { libc::ioctl(pidfd.as_raw_fd(), question, 0) };
    if namespace < 0 {
        return None;
    }
    // SAFETY: the kernel has just opened the descriptor for this call, and nobody else knows it.
    let namespace = unsafe { OwnedFd::from_raw_fd(namespace) };
    u32::try_from(rustix::fs::fstat(&namespace).ok()?.st_ino).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn children_have_their_parents() {
        // A kernel before 5.6 does not tell.
        assert!(of_children().is_none_or(|children| children == own()));
    }

    #[test]
    fn all_ways_tell_the_same() {
        let own = own();
        assert!(own.pids > NO_TIME_NAMESPACES && own.clock >= NO_TIME_NAMESPACES);
        for (path, known) in [(PID_NAMESPACE, own.pids), (TIME_NAMESPACE, own.clock)] {
            // A kernel before 5.6 has no second one.
            let behind = std::fs::metadata(path).ok().map(|behind| behind.ino());
            assert!(behind.is_none_or(|number| number == known.into()));
        }
        for (question, known) in [(PIDFD_GET_PID_NAMESPACE, own.pids), (PIDFD_GET_TIME_NAMESPACE, own.clock)]
        {
            // A kernel before 6.11 knows one way only.
            assert!(by_pidfd(question).is_none_or(|told| told == known));
        }
    }
}
