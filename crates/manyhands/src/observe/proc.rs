//! What the kernel tells of any process of this user, under `/proc`. Only read.

use crate::sys::stat::Proc;
use std::io::ErrorKind;
use std::path::PathBuf;

/// The longest command line that is shown, in characters.
const MOST_COMMAND: usize = 100;

/// The process that a thread belongs to; `None` when nobody says.
pub(super) fn process_of(thread: u32) -> Option<u32> {
    Proc::open()?.process_of(thread)
}

/// The command line, shortened, without what could disturb a terminal; empty when it cannot be had.
pub(super) fn command(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments: Vec<_> = bytes.split(|&byte| byte == 0).map(String::from_utf8_lossy).collect();
    shown(arguments.join(" ").trim_end(), MOST_COMMAND)
}

/// A text of another process's, fit to be printed.
pub(super) fn shown(text: &str, most: usize) -> String {
    let clean = |c: char| if c.is_control() { '?' } else { c };
    let mut shown: String = text.chars().map(clean).take(most).collect();
    if text.chars().nth(most).is_some() {
        shown.push_str("...");
    }
    shown
}

/// The descriptors of a process that are a memfd of that name.
pub(super) fn descriptors_named(pid: u32, name: &str) -> Result<Vec<PathBuf>, ErrorKind> {
    let wanted = format!("/memfd:{name} (deleted)");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).map_err(|error| error.kind())? {
        let Ok(entry) = entry else { continue };
        // One that is closed meanwhile is none of interest.
        if std::fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known() {
        let own = std::process::id();
        assert!(!command(own).is_empty());
        assert_eq!(process_of(crate::sys::memory::own_thread()), Some(own));
    }

    #[test]
    fn what_is_shown_is_short_and_harmless() {
        assert_eq!(shown("a\x1b[31mb\n", 10), "a?[31mb?");
        assert_eq!(shown("abcdef", 3), "abc...");
    }
}
