//! Results one by one: `imap` in order, `imap_unordered` as they come.

use super::job::{Manner, Outcome, Taken, task_kind};
use super::map::{Arguments, most_ahead_of};
use manyhands::pool::{Answer, Function, Task};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use std::collections::{HashMap, VecDeque};

/// Items given out ahead of their answers.
const MOST_AHEAD: usize = 2048;

#[derive(Debug)]
pub(super) struct Stream {
    ordered: bool,
    manner: Manner,
    function: Function,
    chunksize: usize,
    /// Items not given out yet, with the index of the first.
    waiting: VecDeque<Py<PyAny>>,
    first_waiting: u32,
    /// What dead workers left of their chunks.
    again: VecDeque<Pending>,
    /// Tasks given out, by where each begins.
    pending: HashMap<u32, Pending>,
    ahead: usize,
    /// Tasks given out at most.
    most_tasks: usize,
    arrived: HashMap<u32, Outcome>,
    arrivals: VecDeque<u32>,
    next: u32,
    /// No more items will be pushed.
    ended: bool,
    /// Outcomes there will be, as far as is known.
    total: u32,
    /// The outcome that is an exception of the iterable's, or of the pool's: raised whatever the manner.
    broken_at: Option<u32>,
    /// Out of order: the outcome that is the iterable's exception, until each item before it has its own. A loop over
    /// the results ends at the exception, and would lose them.
    held: Option<u32>,
}

#[derive(Debug)]
struct Pending {
    index: u32,
    items: Vec<Py<PyAny>>,
    /// How many of its items are answered: always the first ones.
    answered: u32,
}

impl Stream {
    /// What it leads to, for the garbage collector.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let given = self.again.iter().chain(self.pending.values()).flat_map(|pending| &pending.items);
        self.waiting.iter().chain(given).try_for_each(|item| visit.call(item))?;
        self.arrived.values().try_for_each(|(Ok(outcome) | Err(outcome))| visit.call(outcome))
    }

    pub(super) fn new(function: Function, ordered: bool, manner: Manner, chunksize: usize) -> Self {
        Self {
            ordered,
            manner,
            function,
            chunksize: chunksize.max(1),
            waiting: VecDeque::new(),
            first_waiting: 0,
            again: VecDeque::new(),
            pending: HashMap::new(),
            ahead: 0,
            most_tasks: MOST_AHEAD,
            arrived: HashMap::new(),
            arrivals: VecDeque::new(),
            next: 0,
            ended: false,
            total: 0,
            broken_at: None,
            held: None,
        }
    }

    pub(super) fn push(&mut self, items: Vec<Py<PyAny>>, last: bool) {
        self.total += items.len() as u32;
        self.waiting.extend(items);
        self.ended |= last;
    }

    /// The exception stands where the item would have stood; out of order, it comes when all before it have come.
    pub(super) fn push_error(&mut self, exception: Py<PyAny>) {
        let index = self.total;
        self.total += 1;
        self.broken_at = Some(index);
        self.ended = true;
        self.arrived.insert(index, Err(exception));
        if !self.ordered {
            self.held = Some(index);
            self.release_held();
        }
    }

    pub(super) fn next_task(&mut self, py: Python<'_>, job: u32) -> Option<(Task, Arguments)> {
        if self.ahead >= MOST_AHEAD || self.pending.len() >= self.most_tasks {
            return None;
        }
        let pending = self.again.pop_front().or_else(|| self.take_waiting())?;
        let items = pending.items.len();
        let kind = task_kind(items, false, true, false);
        let task = Task { job, index: pending.index, items: items as u32, kind, function: self.function };
        let arguments = pending.items.iter().map(|item| item.clone_ref(py)).collect();
        self.ahead += items;
        self.pending.insert(task.index, pending);
        Some((task, Arguments::Items(arguments)))
    }

    /// As [`super::map::Map::weigh`].
    pub(super) fn weigh(&mut self, bytes: usize, workers: usize) {
        self.most_tasks = self.most_tasks.min(most_ahead_of(bytes, workers));
    }

    fn take_waiting(&mut self) -> Option<Pending> {
        let enough = if self.ended { 1 } else { self.chunksize };
        if self.waiting.len() < enough {
            return None;
        }
        let count = self.chunksize.min(self.waiting.len());
        let index = self.first_waiting;
        self.first_waiting += count as u32;
        Some(Pending { index, items: self.waiting.drain(..count).collect(), answered: 0 })
    }

    /// An answer: how many items it settles, and items that nobody needs any more, to be dropped with no lock held.
    pub(super) fn accept(
        &mut self,
        py: Python<'_>,
        answer: Answer,
        outcome: Outcome,
    ) -> (usize, Vec<Py<PyAny>>) {
        // An outcome that is nobody's comes back to be dropped, too.
        let nobodys = |outcome: Outcome| (0, vec![outcome.unwrap_or_else(|exception| exception)]);
        let Some(start) = self.task_of(answer.index) else { return nobodys(outcome) };
        let Some(pending) = self.pending.get_mut(&start) else { return nobodys(outcome) };
        let items = answer.items.min(start + pending.items.len() as u32 - answer.index);
        pending.answered = answer.index + items - start;
        let finished = pending.answered as usize == pending.items.len();
        let dropped = if finished { self.pending.remove(&start) } else { None };
        self.ahead -= items as usize;
        self.settle_all(py, answer.index, items, outcome);
        (items as usize, dropped.map(|pending| pending.items).unwrap_or_default())
    }

    /// Several items have one outcome only when their task could not even be read.
    fn settle_all(&mut self, py: Python<'_>, first: u32, items: u32, outcome: Outcome) {
        if let Err(exception) = &outcome {
            let copies: Vec<_> = (1..items).map(|_| exception.clone_ref(py)).collect();
            for (index, copy) in (first + 1..).zip(copies) {
                self.settle(index, Err(copy));
            }
        }
        self.settle(first, outcome);
    }

    /// The task that begins there is to be given out again, item by item; whether there was one.
    pub(super) fn split(&mut self, index: u32) -> bool {
        let Some(pending) = self.pending.remove(&index) else { return false };
        self.ahead -= pending.items.len() - pending.answered as usize;
        let items = (index..).zip(pending.items).skip(pending.answered as usize);
        self.again.extend(items.map(|(index, item)| Pending { index, items: vec![item], answered: 0 }));
        true
    }

    fn task_of(&self, index: u32) -> Option<u32> {
        if self.pending.contains_key(&index) {
            return Some(index);
        }
        let holds = |p: &&Pending| p.index <= index && index < p.index + p.items.len() as u32;
        self.pending.values().find(holds).map(|p| p.index)
    }

    pub(super) fn settle(&mut self, index: u32, outcome: Outcome) {
        self.arrived.insert(index, outcome);
        if !self.ordered {
            self.arrivals.push_back(index);
            self.release_held();
        }
    }

    fn release_held(&mut self) {
        // What was taken and what is to be taken: an item that a dying worker was at is neither until it is settled.
        let settled = self.next as usize + self.arrivals.len();
        if let Some(index) = self.held.take_if(|index| settled >= *index as usize) {
            self.arrivals.push_back(index);
        }
    }

    /// A worker died over a task: the item it was at is lost, those behind it are given out again. Which item, if any, and
    /// what is to be dropped with no lock held.
    pub(super) fn lose(&mut self, task: Task, begun: u32) -> (Option<u32>, Vec<Py<PyAny>>) {
        let Some(mut pending) = self.pending.remove(&task.index) else { return (None, Vec::new()) };
        let count = pending.items.len() as u32;
        self.ahead -= (count - pending.answered) as usize;
        // Died between an answer and the next item: nothing is lost.
        let in_progress = begun.clamp(1, count) > pending.answered;
        let first_left = pending.answered + u32::from(in_progress);
        let rest = pending.items.split_off(first_left as usize);
        if !rest.is_empty() {
            self.again.push_back(Pending { index: pending.index + first_left, items: rest, answered: 0 });
        }
        (in_progress.then_some(pending.index + pending.answered), pending.items)
    }

    /// Every item that has no outcome gets this one; what is to be dropped with no lock held.
    pub(super) fn abandon(&mut self, mut reason: impl FnMut() -> Py<PyAny>) -> Vec<Py<PyAny>> {
        let mut left: Vec<u32> = Vec::new();
        let mut dropped = Vec::new();
        for (_, pending) in self.pending.drain() {
            left.extend(pending.index + pending.answered..pending.index + pending.items.len() as u32);
            dropped.extend(pending.items);
        }
        for pending in self.again.drain(..) {
            left.extend(pending.index..pending.index + pending.items.len() as u32);
            dropped.extend(pending.items);
        }
        left.extend((self.first_waiting..).take(self.waiting.len()));
        self.first_waiting += self.waiting.len() as u32;
        dropped.extend(self.waiting.drain(..));
        left.sort_unstable();
        self.broken_at = left.first().copied().or(self.broken_at);
        for index in left {
            self.settle(index, Err(reason()));
        }
        self.ahead = 0;
        if !self.ended {
            let broken_at = self.broken_at;
            self.push_error(reason());
            self.broken_at = broken_at.or(self.broken_at);
        }
        dropped
    }

    /// Whether no more items will be pushed.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn has_next(&self) -> bool {
        let here =
            if self.ordered { self.arrived.contains_key(&self.next) } else { !self.arrivals.is_empty() };
        here || (self.ended && self.next >= self.total)
    }

    pub(super) fn take(&mut self) -> Taken {
        let index = if self.ordered { Some(self.next) } else { self.arrivals.pop_front() };
        if let Some(index) = index
            && let Some(outcome) = self.arrived.remove(&index)
        {
            self.next += 1;
            let kept = self.manner.keep && self.broken_at.is_none_or(|broken| index < broken);
            return Taken::Outcome(if kept {
                Ok(outcome.unwrap_or_else(|exception| exception))
            } else {
                outcome
            });
        }
        if self.ended && self.next >= self.total { Taken::End } else { Taken::NotYet }
    }

    /// Whether every item has its outcome and no more will come.
    pub(super) fn is_settled(&self) -> bool {
        self.ended && self.pending.is_empty() && self.again.is_empty() && self.waiting.is_empty()
    }
}
