//! The memory's descriptor, had anew after other code of this program has closed it. What is found here is looked at by
//! its inode before it is used.

use super::OsError;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// What starting a child says that must be passed the memory.
pub(crate) const CLOSED: OsError = OsError {
    call: "other code of this program has closed the descriptor of manyhands' shared memory, as os.closerange does: it \
           cannot be passed to a child; start children before that, or by fork",
    errno: libc::EBADF,
};

fn open(path: PathBuf) -> Option<OwnedFd> {
    // Descriptors of the standard library are closed on exec.
    std::fs::OpenOptions::new().read(true).write(true).open(path).map(OwnedFd::from).ok()
}

/// What is mapped at an address: `/proc/self/map_files`, which is for administrators (`CAP_CHECKPOINT_RESTORE`).
pub(super) fn behind_mapping(address: usize) -> Option<OwnedFd> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let place = maps.lines().find_map(|line| {
        let place = line.split(' ').next()?;
        let (start, end) = place.split_once('-')?;
        let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
        range.contains(&address).then_some(place)
    })?;
    open(PathBuf::from(format!("/proc/self/map_files/{place}")))
}

/// Memory of that name that another process of this user has open.
pub(crate) fn of_process(pid: u32, name: &str) -> Vec<OwnedFd> {
    let wanted = format!("/memfd:{name} (deleted)");
    let Ok(listed) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let named =
        |path: &PathBuf| std::fs::read_link(path).is_ok_and(|target| target.as_os_str() == wanted.as_str());
    listed.flatten().map(|entry| entry.path()).filter(named).filter_map(open).collect()
}
