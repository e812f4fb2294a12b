//! What a report says of locks and semaphores.

use super::locks::{LockHolder, LockReport, Waiter, cycles};
use super::text::{count, times, write_waiting};
use super::{Report, SemaphoreReport};
use manyhands_sync::lock::OnOwnerDeath;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::semaphore::MOST;
use std::fmt::{Formatter, Result};

/// More locks than these are only counted.
const MOST_SHOWN: usize = 50;

impl Report {
    pub(super) fn lock_name(&self, offset: u64) -> String {
        let place = self.locks.iter().position(|lock| lock.handle.offset == offset);
        place.map_or_else(|| format!("a lock that is gone ({offset:#x})"), |at| format!("lock {}", at + 1))
    }

    pub(super) fn semaphore_name(&self, offset: u64) -> String {
        let place = self.semaphores.iter().position(|semaphore| semaphore.handle.offset == offset);
        let gone = || format!("a semaphore that is gone ({offset:#x})");
        place.map_or_else(gone, |at| format!("semaphore {}", at + 1))
    }

    /// Those that are held or waited for, or whose holders were killed; the others are only counted.
    pub(super) fn write_locks(&self, f: &mut Formatter<'_>) -> Result {
        if !self.locks.is_empty() {
            writeln!(f, "\nLocks")?;
        }
        let idle = |lock: &LockReport| {
            lock.holder == LockHolder::Nobody
                && lock.deaths == 0
                && self.waiting(WaitKind::Lock, lock.handle.offset).is_empty()
        };
        let of_interest: Vec<_> = (1..).zip(&self.locks).filter(|(_, lock)| !idle(lock)).collect();
        for (number, lock) in of_interest.iter().take(MOST_SHOWN) {
            self.write_lock(f, *number, lock)?;
        }
        if of_interest.len() > MOST_SHOWN {
            writeln!(f, "  and {} more", count(of_interest.len() - MOST_SHOWN, "lock"))?;
        }
        let free = self.locks.len() - of_interest.len();
        if free > 0 {
            writeln!(f, "  {} free", count(free, "lock"))?;
        }
        self.write_semaphores(f)
    }

    fn write_lock(&self, f: &mut Formatter<'_>, number: usize, lock: &LockReport) -> Result {
        let sort = if lock.nature.recursive { "recursive lock" } else { "lock" };
        let often = if lock.count > 1 { format!(" {}", times(lock.count)) } else { String::new() };
        let holder = match (lock.holder, lock.nature.on_owner_death) {
            (LockHolder::Nobody, _) => "free".to_owned(),
            (LockHolder::Thread { pid, thread }, _) => format!("held{often} by {}", thread_name(pid, thread)),
            (LockHolder::Ended, _) => {
                "left locked by a process that has ended: until somebody releases it".to_owned()
            }
            (LockHolder::Dead(pid), OnOwnerDeath::Block) => {
                format!("held by {}, for ever", dead_name(pid))
            }
            (LockHolder::Dead(pid), _) => {
                format!("held by {}: whoever wants it next finds that", dead_name(pid))
            }
        };
        writeln!(f, "  {sort} {number} ({:#x}): {holder}", lock.handle.offset)?;
        if lock.deaths > 0 {
            writeln!(f, "    a process that held it was killed {}", times(lock.deaths))?;
        }
        write_waiting(f, &self.waiting(WaitKind::Lock, lock.handle.offset), "for it")
    }

    fn write_semaphores(&self, f: &mut Formatter<'_>) -> Result {
        if !self.semaphores.is_empty() {
            writeln!(f, "\nSemaphores")?;
        }
        let waited_for = |semaphore: &SemaphoreReport| {
            !self.waiting(WaitKind::Semaphore, semaphore.handle.offset).is_empty()
        };
        let of_interest: Vec<_> = (1..).zip(&self.semaphores).filter(|(_, s)| waited_for(s)).collect();
        for (number, semaphore) in of_interest.iter().take(MOST_SHOWN) {
            let bound = match semaphore.most {
                MOST => String::new(),
                most => format!(" of {most}"),
            };
            writeln!(
                f,
                "  semaphore {number} ({:#x}): {}{bound} left",
                semaphore.handle.offset, semaphore.count
            )?;
            write_waiting(f, &self.waiting(WaitKind::Semaphore, semaphore.handle.offset), "for it")?;
        }
        let others = self.semaphores.len() - of_interest.len().min(MOST_SHOWN);
        if others > 0 {
            writeln!(f, "  {} that nobody waits for", count(others, "semaphore"))?;
        }
        Ok(())
    }

    /// Who waits for each other, first of all: none of them will go on by itself.
    pub(super) fn write_cycles(&self, f: &mut Formatter<'_>) -> Result {
        for cycle in cycles(&self.members, &self.locks) {
            let steps: Vec<_> = (0..cycle.len()).map(|at| self.step(&cycle, at)).collect();
            writeln!(f, "\nDEADLOCK: {}", steps.join("; "))?;
        }
        Ok(())
    }

    fn step(&self, cycle: &[Waiter], at: usize) -> String {
        let (waiter, holder) = (cycle[at], cycle[(at + 1) % cycle.len()]);
        let who = thread_name(waiter.pid, waiter.thread);
        let holds = if waiter == holder {
            "it holds itself".to_owned()
        } else {
            format!("{} holds", thread_name(holder.pid, holder.thread))
        };
        format!("{who} waits for {}, which {holds}", self.lock_name(waiter.lock))
    }
}

fn thread_name(pid: u32, thread: u32) -> String {
    if thread == pid || thread == 0 {
        format!("process {pid}")
    } else {
        format!("thread {thread} of process {pid}")
    }
}

fn dead_name(pid: u32) -> String {
    match pid {
        0 => "a process that was killed".to_owned(),
        pid => format!("process {pid}, which was killed"),
    }
}
