//! A list in, a list out: `map`, `starmap` and their asynchronous forms.

use super::job::{Manner, Outcome, task_kind};
use crate::worker::kind;
use manyhands::pool::{Answer, ChunkPlan, Function, Task};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

/// Tasks given out ahead when sizes follow what is measured: one running and one waiting per worker.
const GUIDED_AHEAD_PER_WORKER: usize = 2;
/// Tasks given out ahead when sizes are fixed.
const FIXED_AHEAD: usize = 2048;
/// How many bytes may lie in shared memory for tasks ahead, beyond what keeps the workers busy.
const BYTES_AHEAD: usize = 64 << 20;

/// How many tasks with so many bytes are given out ahead at most: memory that is used again at once is filled much
/// faster than fresh memory.
pub(super) fn most_ahead_of(bytes: usize, workers: usize) -> usize {
    (BYTES_AHEAD / bytes.max(1)).max(GUIDED_AHEAD_PER_WORKER * workers)
}

#[derive(Debug)]
pub(super) struct Map {
    items: Py<PyList>,
    results: Py<PyList>,
    star: bool,
    manner: Manner,
    function: Function,
    plan: ChunkPlan,
    most_ahead: usize,
    workers: usize,
    /// What a dead worker left of its chunk.
    again: VecDeque<Range<usize>>,
    /// Tasks given out, by their first item that is not answered.
    pending: HashMap<u32, Pending>,
    unsettled: usize,
    first_error: Option<Py<PyAny>>,
    /// The size of chunks that was asked for, or the standard library's: four for each worker.
    counted_by: usize,
}

/// A task that was given out.
#[derive(Clone, Copy, Debug)]
struct Pending {
    /// How many of its items are not answered: always the last ones.
    left: u32,
    items: u32,
}

impl Map {
    /// What it leads to, for the garbage collector.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.items)?;
        visit.call(&self.results)?;
        visit.call(&self.first_error)
    }

    pub(super) fn new(
        py: Python<'_>,
        items: Bound<'_, PyList>,
        star: bool,
        manner: Manner,
        function: Function,
        workers: usize,
        chunksize: Option<usize>,
    ) -> PyResult<Self> {
        let total = items.len();
        let plan = ChunkPlan::new(total, workers, chunksize);
        let most_ahead = if plan.is_guided() { GUIDED_AHEAD_PER_WORKER * workers } else { FIXED_AHEAD };
        // Filled in place, slice by slice, as answers come.
        let results = PyList::new(py, [py.None()])?.as_sequence().repeat(total)?.cast_into::<PyList>()?;
        Ok(Self {
            items: items.unbind(),
            results: results.unbind(),
            star,
            manner,
            function,
            plan,
            most_ahead,
            workers,
            again: VecDeque::new(),
            pending: HashMap::new(),
            unsettled: total,
            first_error: None,
            counted_by: chunksize.unwrap_or(total.div_ceil(4 * workers.max(1))),
        })
    }

    /// WAYPOINT task 2/9: the next items become a task, by chunk; `None` while enough are given out, or all.
    pub(super) fn next_task(&mut self, py: Python<'_>, job: u32) -> Option<(Task, Arguments)> {
        if self.pending.len() >= self.most_ahead {
            return None;
        }
        let chunk = self.again.pop_front().or_else(|| self.plan.next_chunk())?;
        let items = chunk.len();
        // Answers of their own for items whose exceptions are kept: then each item's outcome outlives its worker.
        let of_list = if items == 1 && !self.manner.keep { kind::OF_LIST } else { 0 };
        let kind = task_kind(items, self.star, self.manner.keep, self.manner.fail_fast) | of_list;
        let task =
            Task { job, index: chunk.start as u32, items: items as u32, kind, function: self.function };
        self.pending.insert(task.index, Pending { left: task.items, items: task.items });
        Some((task, Arguments::Slice(self.items.clone_ref(py), chunk)))
    }

    /// The task that was given out last has so many bytes of long parts: of long tasks fewer are given out ahead.
    pub(super) fn weigh(&mut self, bytes: usize) {
        self.most_ahead = self.most_ahead.min(most_ahead_of(bytes, self.workers));
    }

    /// An answer: how many items it is for, and the list to put results into. `None` when they were answered before.
    pub(super) fn answered(&mut self, py: Python<'_>, answer: Answer) -> Option<(u32, Py<PyList>)> {
        let pending = self.pending.remove(&answer.index)?;
        let items = answer.items.clamp(1, pending.left);
        let left = pending.left - items;
        if left > 0 {
            self.pending.insert(answer.index + items, Pending { left, ..pending });
        } else {
            // The time is the whole task's.
            self.plan.learn(pending.items as usize, Duration::from_nanos(answer.nanoseconds));
        }
        Some((items, self.results.clone_ref(py)))
    }

    /// The task that begins there is to be given out again, item by item; whether there was one.
    pub(super) fn split(&mut self, index: u32) -> bool {
        let Some(Pending { left, .. }) = self.pending.remove(&index) else { return false };
        let items = index as usize..(index + left) as usize;
        self.again.extend(items.map(|item| item..item + 1));
        true
    }

    /// So many items have their outcome; the first exception is kept, any other comes back to be dropped.
    pub(super) fn settle(&mut self, items: u32, exception: Option<Py<PyAny>>) -> Option<Py<PyAny>> {
        self.unsettled -= items as usize;
        match (&self.first_error, exception) {
            (None, first) => {
                self.first_error = first;
                None
            }
            (Some(_), later) => later,
        }
    }

    /// A worker died over a task: the item it was at is lost, those behind it are given out again. Which item, if any,
    /// and how many are settled by it; `None` when the task was answered.
    pub(super) fn lose(&mut self, task: Task, begun: u32) -> Option<(Option<u32>, u32)> {
        let mut places = task.index..task.index.saturating_add(task.items);
        let first = places.find(|place| self.pending.contains_key(place))?;
        let end = first + self.pending.remove(&first)?.left;
        let at = task.index + begun.clamp(1, task.items.max(1)) - 1;
        // Died between an answer and the next item: nothing is lost.
        let lost = (first <= at && at < end).then_some(at);
        let rest = lost.map_or(first, |at| at + 1);
        if rest < end {
            self.again.push_back(rest as usize..end as usize);
        }
        Some((lost, rest - first))
    }

    /// The first failing item ends it all: nothing more is given out, and what is out is not waited for. How many items
    /// are settled by that.
    pub(super) fn give_up(&mut self) -> u32 {
        self.plan.skip_rest();
        self.again.clear();
        self.pending.clear();
        std::mem::take(&mut self.unsettled) as u32
    }

    pub(super) fn is_settled(&self) -> bool {
        self.unsettled == 0
    }

    pub(super) fn results(&self, py: Python<'_>) -> Py<PyList> {
        self.results.clone_ref(py)
    }

    /// How many items go into a chunk, for those who count them.
    pub(super) fn counted_by(&self) -> usize {
        self.counted_by
    }

    /// How many items have no outcome.
    pub(super) fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// Whether no item has failed so far, and the results, or the first exception.
    pub(super) fn so_far(&self, py: Python<'_>) -> (bool, Py<PyAny>) {
        match &self.first_error {
            Some(exception) => (false, exception.clone_ref(py)),
            None => (true, self.results.clone_ref(py).into_any()),
        }
    }

    pub(super) fn manner(&self) -> Manner {
        self.manner
    }

    pub(super) fn outcome(&mut self, py: Python<'_>) -> Outcome {
        match self.first_error.take() {
            Some(exception) => Err(exception),
            None => Ok(self.results.clone_ref(py).into_any()),
        }
    }
}

/// Puts results in their places.
pub(super) fn store(
    py: Python<'_>,
    list: &Py<PyList>,
    index: u32,
    items: u32,
    results: Py<PyAny>,
) -> Result<(), Py<PyAny>> {
    let (start, end) = (index as usize, (index + items) as usize);
    let list = list.bind(py);
    let stored = match items {
        1 => list.set_item(start, results),
        _ => list.set_slice(start, end, results.bind(py)),
    };
    stored.map_err(|error| error.into_value(py).into_any())
}

/// A task's arguments, to be pickled with no lock held.
#[derive(Debug)]
pub(super) enum Arguments {
    /// Items of a list.
    Slice(Py<PyList>, Range<usize>),
    /// Items of a stream.
    Items(Vec<Py<PyAny>>),
}

impl Arguments {
    /// What is to be pickled: an item, or a list of them.
    pub(super) fn object<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Slice(list, range) if range.len() == 1 => list.bind(py).get_item(range.start),
            Self::Slice(list, range) => Ok(list.bind(py).get_slice(range.start, range.end).into_any()),
            Self::Items(items) => match items.as_slice() {
                [item] => Ok(item.bind(py).clone()),
                several => Ok(PyList::new(py, several)?.into_any()),
            },
        }
    }
}

/// Puts an exception in the places of the items that it is the outcome of.
pub(super) fn fill(
    py: Python<'_>,
    list: &Py<PyList>,
    index: u32,
    items: u32,
    exception: &Py<PyAny>,
) -> Result<(), Py<PyAny>> {
    let list = list.bind(py);
    let mut places = index as usize..(index + items) as usize;
    let filled = places.try_for_each(|place| list.set_item(place, exception));
    filled.map_err(|error| error.into_value(py).into_any())
}
