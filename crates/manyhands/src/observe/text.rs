//! A report as text, for people: what is stuck, on what, since when.

use super::arena::{PoolReport, QueueReport, RingReport, User};
use super::{Life, Member, Parent, Report, Waiting, proc};
use crate::pool::{Phase, SeatSight};
use crate::sys::liveness::is_nobody;
use manyhands_sync::mutex::Holder;
use manyhands_sync::notes::{Role, WaitKind};
use manyhands_sync::process_table::MOST_MEMBERS;
use std::fmt::{Display, Formatter, Result};
use std::time::Duration;

/// Dead members beyond these are only counted.
const MOST_DEAD: usize = 20;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let alive = self.members.iter().filter(|member| member.life == Life::Alive).count();
        write!(f, "manyhands family {:016x}: {}", self.family, count(alive, "process"))?;
        if self.unknown() > 0 {
            write!(f, " and {} of unknown life", self.unknown())?;
        }
        write!(f, ", {}, {}", count(self.queues.len(), "queue"), count(self.pools.len(), "pool"))?;
        for (number, what) in [(self.locks.len(), "lock"), (self.semaphores.len(), "semaphore")] {
            if number > 0 {
                write!(f, ", {}", count(number, what))?;
            }
        }
        writeln!(f)?;
        self.write_cycles(f)?;
        self.write_members(f)?;
        if !self.queues.is_empty() {
            writeln!(f, "\nQueues")?;
        }
        for (number, queue) in (1..).zip(&self.queues) {
            self.write_queue(f, number, queue)?;
        }
        if !self.pools.is_empty() {
            writeln!(f, "\nPools")?;
        }
        for (number, pool) in (1..).zip(&self.pools) {
            self.write_pool(f, number, pool)?;
        }
        self.write_locks(f)?;
        self.write_meetings(f)?;
        self.write_arena(f)
    }
}

impl Report {
    fn write_members(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "\nProcesses")?;
        let mut dead = 0;
        for member in &self.members {
            dead += usize::from(!member.life.may_be_alive());
            if member.life.may_be_alive() || dead <= MOST_DEAD {
                self.write_member(f, member)?;
            }
        }
        if self.coming > 0 {
            writeln!(f, "  {} for processes that are about to start", count(self.coming, "place"))?;
        }
        if dead > MOST_DEAD {
            writeln!(f, "  and {} dead ones more", dead - MOST_DEAD)?;
        }
        if self.unknown() > 0 {
            let places = format!("{} of the {MOST_MEMBERS} places", self.unknown());
            writeln!(
                f,
                "  {places} belong to processes of which this one cannot find out whether they live"
            )?;
        }
        Ok(())
    }

    /// How many processes it is not known of whether they live.
    fn unknown(&self) -> usize {
        self.members.iter().filter(|member| member.life == Life::Unknown).count()
    }

    fn write_member(&self, f: &mut Formatter<'_>, member: &Member) -> Result {
        let role = self.role(member);
        let parent = match member.parent {
            Parent::Nobody => String::new(),
            Parent::Process(pid) => format!(" of {pid}"),
            Parent::Gone => " of a process that is gone".to_owned(),
        };
        let life = match member.life {
            Life::Alive => "alive",
            Life::Ended => "DEAD, its parent has not collected it",
            Life::Gone => "DEAD",
            Life::Unknown => "unknown whether it lives",
        };
        writeln!(f, "  {:<8} {role}{parent}: {life}; joined {} ago", member.pid, Span(member.age))?;
        // A forked child's command line is its parent's, and a spawned one's says little: its own word counts more.
        let runs = if member.label.is_empty() { &member.command } else { &member.label };
        if !runs.is_empty() {
            writeln!(f, "           runs {runs}")?;
        }
        for wait in &member.waits {
            self.write_wait(f, member, wait)?;
        }
        let dead = !member.life.may_be_alive();
        let unreadable = member.unreadable_waits;
        if unreadable > 0 && !dead {
            writeln!(f, "           {} unreadable", count(unreadable as usize, "wait note"))?;
        }
        if member.further_waits > 0 && !dead {
            writeln!(f, "           and {} more", count(member.further_waits as usize, "waiting thread"))?;
        }
        if let Role::Worker { pool, seat } = member.role
            && member.life.may_be_alive()
            && let Some(sight) = self.seat(pool, seat)
            && sight.work.is_some()
        {
            writeln!(f, "           works on {}", self.work(sight))?;
        }
        Ok(())
    }

    fn write_wait(&self, f: &mut Formatter<'_>, member: &Member, wait: &Waiting) -> Result {
        let what = self.awaited(wait);
        let thread =
            if wait.thread == member.pid { String::new() } else { format!(" (thread {})", wait.thread) };
        if !member.life.may_be_alive() {
            // Its note is as it left it: it began so long ago, and ended when the process did.
            return writeln!(
                f,
                "           died while it waited {what}{thread}, begun {} ago",
                Span(wait.lasting)
            );
        }
        let left = match wait.left {
            None => "without a time limit".to_owned(),
            Some(left) => format!("at most {} more", Span(left)),
        };
        writeln!(f, "           has waited {} {what}, {left}{thread}", Span(wait.lasting))
    }

    fn awaited(&self, wait: &Waiting) -> String {
        match wait.kind {
            WaitKind::Message => format!("for a message in {}", self.queue_name(wait.object)),
            WaitKind::Room => format!("for room in {}", self.queue_name(wait.object)),
            WaitKind::Connection => "for a connection".to_owned(),
            WaitKind::AllDone => format!("for all items of {} to be done", self.queue_name(wait.object)),
            WaitKind::Tasks => format!("for tasks of {}", self.pool_name(wait.object)),
            WaitKind::Answers => format!("for answers from {}", self.pool_name(wait.object)),
            WaitKind::End => format!("for process {} to end", wait.object),
            WaitKind::Requests => "for processes to start".to_owned(),
            WaitKind::Lock => format!("for {}", self.lock_name(wait.object)),
            WaitKind::Semaphore => format!("for {}", self.semaphore_name(wait.object)),
            kind @ (WaitKind::Event | WaitKind::Condition | WaitKind::Barrier) => {
                format!("for {}", self.meeting_name(kind, wait.object))
            }
        }
    }

    fn role(&self, member: &Member) -> String {
        match member.role {
            Role::Founder => "founder".to_owned(),
            Role::Zygote => "fork server".to_owned(),
            Role::Child if member.parent == Parent::Nobody => "member that joined by itself".to_owned(),
            Role::Child => "child".to_owned(),
            Role::Worker { pool, seat } => {
                format!("worker on seat {seat} of {}, child", self.pool_name(pool))
            }
        }
    }

    fn queue_name(&self, offset: u64) -> String {
        let place = self.queues.iter().position(|queue| queue.handle.offset == offset);
        place.map_or_else(|| format!("a queue that is gone ({offset:#x})"), |at| format!("queue {}", at + 1))
    }

    fn pool_name(&self, offset: u64) -> String {
        let place = self.pools.iter().position(|pool| pool.handle.offset == offset);
        place.map_or_else(|| format!("a pool that is gone ({offset:#x})"), |at| format!("pool {}", at + 1))
    }

    fn seat(&self, pool: u64, seat: u32) -> Option<&SeatSight> {
        self.pools.iter().find(|of| of.handle.offset == pool)?.seats.get(seat as usize)
    }

    fn work(&self, seat: &SeatSight) -> String {
        let Some(work) = seat.work else { return String::new() };
        let since = match work.started_at {
            0 => String::new(),
            at => format!(", for {} now", Span(Duration::from_nanos(self.seen_at.saturating_sub(at)))),
        };
        let items = match work.task {
            None => "unreadable".to_owned(),
            Some(task) if task.items <= 1 => format!("item {} of job {}", task.index, task.job),
            Some(task) => format!(
                "items {} to {} of job {}, {} of them begun",
                task.index,
                task.index.saturating_add(task.items - 1),
                task.job,
                work.begun
            ),
        };
        let behind = match seat.waiting {
            0 => String::new(),
            waiting => format!("; {} taken and not begun", count(usize::from(waiting), "task")),
        };
        format!("task {} ({items}){since}{behind}", work.number)
    }

    fn write_queue(&self, f: &mut Formatter<'_>, number: usize, queue: &QueueReport) -> Result {
        let bound = match queue.ring.bound {
            0 => "no bound".to_owned(),
            bound => format!("bound {bound}"),
        };
        let waiting = |kind| self.waiting(kind, queue.handle.offset);
        let (getters, putters) = (waiting(WaitKind::Message), waiting(WaitKind::Room));
        writeln!(f, "  queue {number} ({:#x}): {}, {bound}", queue.handle.offset, Filling(&queue.ring))?;
        write_users(f, &queue.users)?;
        write_waiting(f, &getters, "for a message")?;
        write_waiting(f, &putters, "for room")?;
        write_holders(f, &queue.ring, ["put", "get"])
    }

    fn write_pool(&self, f: &mut Formatter<'_>, number: usize, pool: &PoolReport) -> Result {
        let dismissed = if pool.dismissed { "; its workers were told to leave" } else { "" };
        writeln!(
            f,
            "  pool {number} ({:#x}): {}; tasks that nobody has taken: {}; answers that nobody has collected: \
             {}{dismissed}",
            pool.handle.offset,
            count(pool.seats.len(), "worker"),
            Filling(&pool.tasks),
            Filling(&pool.answers)
        )?;
        for (number, seat) in pool.seats.iter().enumerate() {
            self.write_seat(f, pool, number, seat)?;
        }
        write_holders(f, &pool.tasks, ["submit", "take"])?;
        write_holders(f, &pool.answers, ["answer", "collect"])
    }

    fn write_seat(
        &self,
        f: &mut Formatter<'_>,
        pool: &PoolReport,
        number: usize,
        seat: &SeatSight,
    ) -> Result {
        let own = Role::Worker { pool: pool.handle.offset, seat: number as u32 };
        // The last one that sat down: a dead one's slot may still be kept.
        let worker = self.members.iter().filter(|member| member.role == own).min_by_key(|member| member.age);
        let who = match worker {
            None => "nobody yet".to_owned(),
            Some(member) if member.life.may_be_alive() => format!("process {}", member.pid),
            Some(member) => format!("process {}, DEAD", member.pid),
        };
        let doing = match (seat.phase, seat.work) {
            (_, Some(_)) => self.work(seat),
            (Phase::Starting, None) => "not ready".to_owned(),
            (Phase::Ready, None) => "no task".to_owned(),
            (Phase::Leaving, None) => "has left, or is about to".to_owned(),
        };
        writeln!(f, "    seat {number}: {who}: {doing}")
    }

    /// The members that wait so, but for dead ones.
    pub(super) fn waiting(&self, kind: WaitKind, object: u64) -> Vec<u32> {
        let waits = |member: &&Member| {
            member.life.may_be_alive()
                && member.waits.iter().any(|wait| wait.kind == kind && wait.object == object)
        };
        self.members.iter().filter(waits).map(|member| member.pid).collect()
    }

    fn write_arena(&self, f: &mut Formatter<'_>) -> Result {
        let arena = &self.arena;
        writeln!(
            f,
            "\nMemory\n  {} in {}, {} in {}; {} of at most {} handed out",
            Size(arena.held_bytes),
            count(arena.held_blocks as usize, "held block"),
            Size(arena.free_bytes),
            count(arena.free_blocks as usize, "free block"),
            Size(arena.extent_bytes),
            Size(arena.limit_bytes)
        )?;
        if arena.left_blocks > 0 {
            let left = format!("{} in {} of these", Size(arena.left_bytes), arena.left_blocks);
            writeln!(
                f,
                "  {left} were left by dead processes: the next sweep frees them, and what only they kept"
            )?;
        }
        if !arena.complete {
            writeln!(f, "  not everything could be read: queues, pools and locks may be missing above")?;
        }
        Ok(())
    }
}

pub(super) fn write_waiting(f: &mut Formatter<'_>, pids: &[u32], what: &str) -> Result {
    match pids {
        [] => Ok(()),
        [pid] => writeln!(f, "    process {pid} waits {what}"),
        pids => {
            let list: Vec<_> = pids.iter().map(u32::to_string).collect();
            writeln!(f, "    processes {} wait {what}", list.join(", "))
        }
    }
}

/// Who keeps a queue; most queues have few of each.
fn write_users(f: &mut Formatter<'_>, users: &[User]) -> Result {
    const MOST: usize = 8;
    let mut pids: Vec<u32> = Vec::new();
    let (mut coming, mut messages, mut dead) = (0, 0, 0);
    for user in users {
        match user {
            User::Process(pid) => pids.push(*pid),
            User::Coming => coming += 1,
            User::Message => messages += 1,
            User::Dead => dead += 1,
        }
    }
    pids.sort_unstable();
    let mut texts: Vec<String> = pids.iter().take(MOST).map(|pid| format!("process {pid}")).collect();
    let counts = [
        (pids.len().saturating_sub(MOST), "other process"),
        (coming, "process that is about to start"),
        (messages, "message"),
        (dead, "process that was killed"),
    ];
    texts.extend(counts.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} x {what}")));
    writeln!(f, "      kept by {}", if texts.is_empty() { "nobody".to_owned() } else { texts.join(", ") })
}

fn write_holders(f: &mut Formatter<'_>, ring: &RingReport, sides: [&str; 2]) -> Result {
    for (side, holder) in sides.iter().zip(ring.holders) {
        match holder {
            None => {}
            Some(Holder::Dead) => {
                writeln!(
                    f,
                    "    its lock to {side} was held by somebody who died: the next one who needs it repairs"
                )?;
            }
            Some(Holder::Thread(thread)) => {
                let process = match proc::process_of(thread) {
                    Some(pid) if pid == thread => format!("process {pid}"),
                    Some(pid) => format!("process {pid} (thread {thread})"),
                    None if is_nobody(thread) => {
                        format!("thread {thread}, of which nothing is seen from here")
                    }
                    None => format!("thread {thread}"),
                };
                writeln!(f, "    its lock to {side} is held by {process}, for longer than anybody needs it")?;
            }
        }
    }
    if ring.recoveries > 0 {
        writeln!(f, "    somebody was killed at it {} and it was repaired", times(ring.recoveries))?;
    }
    Ok(())
}

pub(super) fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

pub(super) fn count(count: usize, what: &str) -> String {
    let plural = match (count, what.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{count} {what}{plural}")
}

/// How full a ring is.
struct Filling<'a>(&'a RingReport);

impl Display for Filling<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.0.bytes {
            None => f.write_str("unreadable"),
            Some(_) if self.0.messages == 0 => f.write_str("empty"),
            Some(bytes) => write!(f, "{} ({})", self.0.messages, Size(bytes)),
        }
    }
}

struct Size(u64);

impl Display for Size {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
        let power = (64 - self.0.leading_zeros()).saturating_sub(1) / 10;
        let power = (power as usize).min(units.len() - 1);
        let value = self.0 as f64 / (1u64 << (10 * power)) as f64;
        let digits = usize::from(power > 0 && value < 100.0);
        write!(f, "{value:.digits$} {}", units[power])
    }
}

/// A length of time, as short as it can be said.
struct Span(Duration);

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..60 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            60..3600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            3600..86_400 => write!(f, "{} h {} min", seconds / 3600, seconds % 3600 / 60),
            _ => write!(f, "{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_times_and_counts_read_well() {
        let sizes = [0, 1, 1023, 1024, 1536, 64 << 20, 15 << 30, u64::MAX].map(|size| Size(size).to_string());
        assert_eq!(
            sizes,
            [
                "0 bytes",
                "1 bytes",
                "1023 bytes",
                "1.0 KiB",
                "1.5 KiB",
                "64.0 MiB",
                "15.0 GiB",
                "16777216 TiB"
            ]
        );
        let spans = [0, 61, 7300, 200_000, u64::MAX].map(|s| Span(Duration::from_secs(s)).to_string());
        assert_eq!(spans[..4], ["0.0 s", "1 min 1 s", "2 h 1 min", "2 d 7 h"]);
        assert_eq!(
            [count(1, "process"), count(2, "process"), count(0, "queue")],
            ["1 process", "2 processes", "0 queues"]
        );
    }
}
