//! What `/proc/PID/stat` says of a process: the one place that reads it.
//!
//! `/proc` may be missing, hide processes, or be that of another pid namespace, in which the same number is another
//! process. So it is opened once for each round of questions, and looked at whether it is of this process's own
//! namespace. What cannot be read says nothing of the process.

use rustix::fs::{Mode, OFlags};
use std::io::Read;
use std::os::fd::OwnedFd;

/// A line of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Whether every thread of it has ended; it is kept only for its parent.
    pub(crate) ended: bool,
    /// When it was started, in clock ticks since the machine was.
    pub(crate) started: u64,
    /// Where its stack begins: `exec` puts it elsewhere. 0 when this process may not know.
    pub(crate) image: u64,
}

/// A `/proc` in which pids mean what they mean to this process.
#[derive(Debug)]
pub(crate) struct Proc(OwnedFd);

impl Proc {
    /// Opens it; `None` when there is none, or it is another pid namespace's.
    pub(crate) fn open() -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open("/proc", flags, Mode::empty()).ok()?;
        let is_proc = rustix::fs::fstatfs(&folder).is_ok_and(|fs| fs.f_type == rustix::fs::PROC_SUPER_MAGIC);
        let proc = is_proc.then_some(Self(folder))?;
        is_own(&proc.read("self/status")?, std::process::id()).then_some(proc)
    }

    /// What it says of that process; `None` when it says nothing: there is none, or it is hidden.
    pub(crate) fn stat(&self, pid: u32) -> Option<Stat> {
        parse(&self.read(&format!("{pid}/stat"))?)
    }

    /// The process that a thread belongs to; `None` when it does not say.
    pub(crate) fn process_of(&self, thread: u32) -> Option<u32> {
        field(&self.read(&format!("{thread}/status"))?, "Tgid:")?.parse().ok()
    }

    fn read(&self, path: &str) -> Option<String> {
        let file = rustix::fs::openat(&self.0, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut bytes = Vec::with_capacity(1024);
        std::fs::File::from(file).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// What `/proc` says of that process, for one question; `None` as for [`Proc::stat`].
pub(crate) fn of(pid: u32) -> Option<Stat> {
    Proc::open()?.stat(pid)
}

/// What program this process runs: [`Stat::image`]; 0 when it cannot know.
pub(crate) fn own_image() -> u64 {
    // Whichever namespace's `/proc` it is, `self` is this process.
    let own = std::fs::read("/proc/self/stat").ok();
    own.and_then(|line| parse(&String::from_utf8_lossy(&line))).map_or(0, |stat| stat.image)
}

fn parse(line: &str) -> Option<Stat> {
    // The name may hold anything, parentheses and spaces included.
    let fields: Vec<_> = line.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    // A first thread that has ended looks like a process that has, while others run.
    let ended = matches!(*fields.first()?, "Z" | "X") && number(17)? <= 1;
    Some(Stat { ended, started: number(19)?, image: number(25)? })
}

/// Whether a `/proc` that has this in `self/status` is of the namespace in which the process has that pid: it lists a
/// process's pids from its own namespace down to the process's.
fn is_own(status: &str, pid: u32) -> bool {
    // A kernel without pid namespaces has no such line.
    let pids = field(status, "NSpid:").or_else(|| field(status, "Pid:"));
    pids.is_some_and(|pids| pids == pid.to_string())
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whatever_the_name_holds() {
        let rest = "1 1 1 0 -1 4194560 100 0 0 0 1 1 0 0 20 0 3 0 777 1000 100 1 2 3 140737488";
        let line = |state| format!("12 (a) b (c)) {state} {rest} 1 2");
        assert_eq!(parse(&line("S")), Some(Stat { ended: false, started: 777, image: 140_737_488 }));
        assert!(!parse(&line("Z")).expect("whole").ended, "two of its threads run");
        assert!(parse(&line("Z").replace(" 20 0 3 ", " 20 0 1 ")).expect("whole").ended);
        for cut in ["", "12 (a", "12 (a) S 1", "12 (a) S 1 x"] {
            assert_eq!(parse(cut), None);
        }
    }

    #[test]
    fn this_process_is_there() {
        let proc = Proc::open().expect("the tests have a /proc");
        let own = proc.stat(std::process::id()).expect("this process");
        assert!(!own.ended && own.started > 0 && own.image > 0);
        assert_eq!(own.image, own_image());
        assert_eq!(proc.process_of(crate::sys::memory::own_thread()), Some(std::process::id()));
        assert_eq!((proc.stat(0), proc.process_of(0)), (None, None));
    }

    #[test]
    fn another_namespaces_proc_is_told_by_the_pids_it_lists() {
        assert!(is_own("Name:\tx\nPid:\t17\nNSpid:\t17\n", 17));
        assert!(is_own("Name:\tNSpid: 3\nPid:\t17\n", 17), "a kernel without pid namespaces");
        // The outer one's, be the number the same there by chance; an unrelated one's.
        assert!(!is_own("Pid:\t17\nNSpid:\t17\t17\n", 17) && !is_own("Pid:\t99\nNSpid:\t99\t17\n", 17));
        assert!(!is_own("Pid:\t99\nNSpid:\t99\n", 17) && !is_own("", 17));
    }
}
