//! What the kernel tells of any process of this user, under `/proc`. Only read.

use std::io::ErrorKind;
use std::path::PathBuf;

/// The longest command line that is shown, in characters.
const MOST_COMMAND: usize = 100;

/// What `/proc/PID/stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// Whether it has ended and is only kept for its parent.
    pub(super) ended: bool,
    /// When it was started, in clock ticks since the machine was.
    pub(super) started: u64,
}

/// `/proc/PID/stat`; `None` when there is no such process.
pub(super) fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, parentheses and spaces included.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    Some(Stat { ended: matches!(state, "Z" | "X"), started: fields.nth(18)?.parse().ok()? })
}

/// The process that a thread belongs to; `None` when it is gone.
pub(super) fn process_of(thread: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
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
    fn this_process_is_alive_and_known() {
        let own = std::process::id();
        let stat = stat(own).expect("this process");
        assert!(!stat.ended && stat.started > 0);
        assert!(!command(own).is_empty());
        assert_eq!(process_of(crate::sys::memory::own_thread()), Some(own));
    }

    #[test]
    fn what_is_shown_is_short_and_harmless() {
        assert_eq!(shown("a\x1b[31mb\n", 10), "a?[31mb?");
        assert_eq!(shown("abcdef", 3), "abc...");
    }
}
