//! Whether a member lives: the one place that says so, for slots, locks, barriers and whatever looks from outside.
//!
//! There are three answers. **Dead** takes evidence; what could not be found out is **unknown**, and nothing is ever taken
//! from a process of which that is so.
//!
//! | asked | says "dead" | says "alive" | says nothing |
//! |---|---|---|---|
//! | `kill(pid, 0)` | `ESRCH` | | anything else: the pid may be another process's by now |
//! | `/proc/PID/stat` | no thread runs; it was started after the member took its slot; it runs another program | otherwise | it cannot be read, or `/proc` is another namespace's |
//! | a pidfd opened now | it is readable: the process that had the pid has ended, and the member before that | | it cannot be opened, or is not readable |
//!
//! All three mean a pid of this process's own pid namespace. Of a member of another one, or of an unknown one, nothing is
//! asked, unless the parent that forked it has said which pid it has here ([`View::of_forked`]). Times of another time namespace are not compared. `kill` comes first: it needs no descriptor.

use super::stat::{Proc, Stat};
use super::{namespaces, pidfd};
use manyhands_sync::process_table::{Member, Namespaces};
use rustix::io::Errno;
use rustix::process::Pid;
use std::cell::OnceCell;
use std::os::fd::AsFd;

/// What is known of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Liveness {
    /// It runs, or is stopped.
    Alive,
    /// It has ended, or runs another program since.
    Dead,
    /// Nobody told.
    Unknown,
}

/// What this process can ask of others, for one round of questions. Not to be kept: a fork, another root folder or another
/// `/proc` makes it another view.
#[derive(Debug)]
pub(crate) struct View {
    namespaces: Namespaces,
    /// Opened by the first question that needs it.
    proc: OnceCell<Option<Proc>>,
}

impl View {
    /// From here and now.
    pub(crate) fn now() -> Self {
        Self { namespaces: namespaces::own(), proc: OnceCell::new() }
    }

    /// Whether that member lives.
    pub(crate) fn of(&self, member: &Member) -> Liveness {
        judge(member, self)
    }

    /// As [`View::of`], of a member that has that pid in that namespace, besides its own ones.
    pub(crate) fn of_forked(&self, member: &Member, pid: u32, pids: u32) -> Liveness {
        let namespaces = Namespaces { pids, ..member.namespaces };
        judge(&Member { pid, namespaces, ..*member }, self)
    }

    /// What `/proc` says of a member that counts its pids as this process does.
    pub(crate) fn stat_of(&self, member: &Member) -> Option<Stat> {
        let pid = pid_of(member, self.namespaces)?;
        self.stat(pid)
    }

    fn proc(&self) -> Option<&Proc> {
        self.proc.get_or_init(Proc::open).as_ref()
    }
}

/// Whether there is no process, and no thread, with that number in this process's pid namespace.
pub(crate) fn is_nobody(pid: u32) -> bool {
    to_pid(pid).is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(Errno::SRCH))
}

fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// The sources of the table above.
trait Sources {
    fn namespaces(&self) -> Namespaces;
    /// `kill(pid, 0)`: whether it says that there is none.
    fn is_nobody(&self, pid: Pid) -> bool;
    fn stat(&self, pid: Pid) -> Option<Stat>;
    /// Whether a pidfd says that the process with that pid has ended.
    fn has_ended(&self, pid: Pid) -> bool;
}

impl Sources for View {
    fn namespaces(&self) -> Namespaces {
        self.namespaces
    }

    fn is_nobody(&self, pid: Pid) -> bool {
        rustix::process::test_kill_process(pid) == Err(Errno::SRCH)
    }

    fn stat(&self, pid: Pid) -> Option<Stat> {
        self.proc()?.stat(pid.as_raw_nonzero().get().unsigned_abs())
    }

    fn has_ended(&self, pid: Pid) -> bool {
        match pidfd::open(pid.as_raw_nonzero().get().unsigned_abs()) {
            Ok(Some(pidfd)) => pidfd::has_ended(pidfd.as_fd()) == Ok(true),
            // Gone meanwhile, perhaps: `kill` can tell.
            Ok(None) => self.is_nobody(pid),
            Err(_) => false,
        }
    }
}

/// The member's pid, if it means the same process here. A pid that no process can have comes of damaged memory.
fn pid_of(member: &Member, here: Namespaces) -> Option<Pid> {
    let shared = here.pids != 0 && here.pids == member.namespaces.pids;
    shared.then(|| to_pid(member.pid)).flatten()
}

fn judge(member: &Member, sources: &impl Sources) -> Liveness {
    let here = sources.namespaces();
    let Some(pid) = pid_of(member, here) else { return Liveness::Unknown };
    if sources.is_nobody(pid) {
        return Liveness::Dead;
    }
    let Some(stat) = sources.stat(pid) else {
        return if sources.has_ended(pid) { Liveness::Dead } else { Liveness::Unknown };
    };
    let clock = here.clock != 0 && here.clock == member.namespaces.clock;
    let registered = member.registered_at.filter(|_| clock);
    // Both are counted in ticks, and the time of registration is rounded up: of a pid that is given away and taken again
    // within one tick it is not seen.
    let is_later = registered.is_some_and(|registered| stat.started > registered);
    let is_other = member.image != 0 && stat.image != 0 && member.image != stat.image;
    if stat.ended || is_later || is_other {
        return Liveness::Dead;
    }
    if registered.is_some() { Liveness::Alive } else { Liveness::Unknown }
}

#[cfg(test)]
mod tests {
    use super::Liveness::{Alive, Dead, Unknown};
    use super::*;

    /// What each source says; by default that of a process that runs.
    #[derive(Clone, Copy)]
    struct Told {
        here: Namespaces,
        nobody: bool,
        stat: Option<Stat>,
        ended: bool,
    }

    const HOME: Namespaces = Namespaces { pids: 7, clock: 8 };
    const RUNS: Stat = Stat { ended: false, started: 100, image: 5 };
    const ALIVE: Told = Told { here: HOME, nobody: false, stat: Some(RUNS), ended: false };
    const MEMBER: Member = Member { pid: 12, namespaces: HOME, registered_at: Some(100), image: 5 };

    impl Sources for Told {
        fn namespaces(&self) -> Namespaces {
            self.here
        }
        fn is_nobody(&self, _: Pid) -> bool {
            self.nobody
        }
        fn stat(&self, _: Pid) -> Option<Stat> {
            self.stat
        }
        fn has_ended(&self, _: Pid) -> bool {
            self.ended
        }
    }

    #[test]
    fn a_member_is_dead_where_something_says_so() {
        let stat = |stat| Told { stat: Some(stat), ..ALIVE };
        let hidden = Told { stat: None, ..ALIVE };
        let table = [
            (ALIVE, Alive),
            (Told { nobody: true, ..ALIVE }, Dead),
            // A tick is long: a process that was started in the one before is the member.
            (stat(Stat { started: 99, ..RUNS }), Alive),
            (stat(Stat { started: 101, ..RUNS }), Dead),
            (stat(Stat { ended: true, ..RUNS }), Dead),
            (stat(Stat { image: 6, ..RUNS }), Dead),
            (stat(Stat { image: 0, ..RUNS }), Alive),
            // Without a stat: hidden, no /proc, no descriptor left.
            (hidden, Unknown),
            (Told { ended: true, ..hidden }, Dead),
            (Told { nobody: true, stat: None, ..ALIVE }, Dead),
        ];
        for (number, (told, expected)) in table.into_iter().enumerate() {
            assert_eq!(judge(&MEMBER, &told), expected, "line {number}");
        }
    }

    #[test]
    fn nothing_is_said_of_a_member_whose_pid_means_another_process_here() {
        let dead = Told { nobody: true, ended: true, ..ALIVE };
        assert_eq!(judge(&MEMBER, &dead), Dead);
        for pids in [0, 6] {
            let elsewhere = Member { namespaces: Namespaces { pids, ..HOME }, ..MEMBER };
            assert_eq!(judge(&elsewhere, &dead), Unknown);
            assert_eq!(judge(&MEMBER, &Told { here: Namespaces { pids, ..HOME }, ..dead }), Unknown);
            // Two that are not known are not the same.
            let nowhere = Told { here: Namespaces { pids, ..HOME }, ..dead };
            let both = judge(&elsewhere, &nowhere);
            assert_eq!(both, if pids == 0 { Unknown } else { Dead });
        }
        for pid in [0, 1 << 31, u32::MAX] {
            assert_eq!(judge(&Member { pid, ..MEMBER }, &dead), Unknown, "a damaged word");
        }
    }

    #[test]
    fn times_are_compared_within_a_time_namespace_only() {
        let later = Told { stat: Some(Stat { started: 101, ..RUNS }), ..ALIVE };
        for clock in [0, 9] {
            let member = Member { namespaces: Namespaces { clock, ..HOME }, ..MEMBER };
            assert_eq!(judge(&member, &later), Unknown);
            assert_eq!(judge(&Member { image: 6, ..member }, &later), Dead);
            assert_eq!(judge(&member, &Told { nobody: true, ..ALIVE }), Dead);
        }
        let registering = Member { registered_at: None, image: 0, ..MEMBER };
        assert_eq!(judge(&registering, &ALIVE), Unknown);
        assert_eq!(judge(&registering, &Told { nobody: true, ..ALIVE }), Dead);
    }

    /// This process as the kernel shows it.
    fn own() -> Member {
        let namespaces = namespaces::own();
        let registered_at = Some(crate::sys::clock::ticks_since_boot());
        Member { pid: std::process::id(), namespaces, registered_at, image: crate::sys::stat::own_image() }
    }

    #[test]
    fn the_kernel_is_asked() {
        let own = own();
        assert_eq!(View::now().of(&own), Alive);
        // 2 to the 22nd is the highest pid that a kernel gives.
        assert_eq!(View::now().of(&Member { pid: (1 << 22) + 1, ..own }), Dead);
        assert_eq!(View::now().of(&Member { registered_at: Some(0), ..own }), Dead, "started later");
        assert_eq!(View::now().of(&Member { image: 1, ..own }), Dead, "another program");
        assert!(is_nobody((1 << 22) + 1) && !is_nobody(own.pid) && !is_nobody(0));
    }

    #[test]
    fn a_zombie_is_dead_to_a_stat_and_to_a_pidfd() {
        let mut child = std::process::Command::new("true").spawn().expect("a program");
        let zombie = Member { pid: child.id(), image: 0, ..own() };
        let view = View::now();
        while view.stat_of(&zombie).is_some_and(|stat| !stat.ended) {
            std::thread::yield_now();
        }
        assert_eq!(view.of(&zombie), Dead);
        let pid = to_pid(child.id()).expect("a pid");
        assert!(!Sources::is_nobody(&view, pid) && view.has_ended(pid));
        assert!(!view.has_ended(to_pid(std::process::id()).expect("a pid")));
        child.wait().expect("a child");
        assert!(Sources::is_nobody(&view, pid) && view.has_ended(pid));
    }
}
