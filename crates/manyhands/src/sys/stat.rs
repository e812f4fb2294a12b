//! What `/proc` says of a process, to tell whether it is the one that was meant.

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

/// Reads it; `None` when there is no such process, or it is hidden from this user.
pub(crate) fn of(pid: u32) -> Option<Stat> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(line: &str) -> Option<Stat> {
    // The name may hold anything, parentheses and spaces included.
    let fields: Vec<_> = line.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    // A first thread that has ended looks like a process that has, while others run.
    let ended = matches!(*fields.first()?, "Z" | "X") && number(17)? <= 1;
    Some(Stat { ended, started: number(19)?, image: number(25)? })
}

/// Whether there is no process with that id: it is not only hidden.
pub(crate) fn is_unknown(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_none_or(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
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
        assert_eq!(parse("12 (a) S 1"), None);
    }

    #[test]
    fn this_process_is_there() {
        let own = of(std::process::id()).expect("this process");
        assert!(!own.ended && own.started > 0 && own.image > 0);
        assert!(!is_unknown(std::process::id()) && is_unknown(0));
    }
}
