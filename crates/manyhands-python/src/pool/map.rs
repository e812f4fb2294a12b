//! A list in, a list out: `map`, `starmap` and their asynchronous forms.

use super::job::{Outcome, task_kind};
use crate::pickling;
use manyhands::pool::{Answer, ChunkPlan, Function, Task};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

/// Tasks given out ahead when sizes follow what is measured: one running and one waiting per worker.
const GUIDED_AHEAD_PER_WORKER: usize = 2;
/// Tasks given out ahead when sizes are fixed.
const FIXED_AHEAD: usize = 2048;

#[derive(Debug)]
pub(super) struct Map {
    items: Py<PyList>,
    results: Py<PyList>,
    star: bool,
    function: Function,
    plan: ChunkPlan,
    most_ahead: usize,
    /// What a dead worker left of its chunk.
    again: VecDeque<Range<usize>>,
    /// Tasks given out: where each begins, and how many items it has.
    pending: HashMap<u32, u32>,
    unsettled: usize,
    first_error: Option<Py<PyAny>>,
}

impl Map {
    pub(super) fn new(
        py: Python<'_>,
        items: Bound<'_, PyList>,
        star: bool,
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
            function,
            plan,
            most_ahead,
            again: VecDeque::new(),
            pending: HashMap::new(),
            unsettled: total,
            first_error: None,
        })
    }

    /// WAYPOINT task 2/9: the next items become a task, by chunk; `None` while enough are given out, or all.
    pub(super) fn next_task(&mut self, py: Python<'_>, job: u32) -> Option<(Task, Arguments)> {
        if self.pending.len() >= self.most_ahead {
            return None;
        }
        let chunk = self.again.pop_front().or_else(|| self.plan.next_chunk())?;
        let items = chunk.len();
        let kind = task_kind(items, self.star, false);
        let task =
            Task { job, index: chunk.start as u32, items: items as u32, kind, function: self.function };
        self.pending.insert(task.index, task.items);
        Some((task, Arguments::Slice(self.items.clone_ref(py), chunk)))
    }

    /// The task that an answer is for is answered: how many items it had, and the list to put results into. `None` when
    /// it was answered before.
    pub(super) fn answered(&mut self, py: Python<'_>, answer: Answer) -> Option<(u32, Py<PyList>)> {
        let items = self.pending.remove(&answer.index)?;
        self.plan.learn(items as usize, Duration::from_nanos(answer.nanoseconds));
        Some((items, self.results.clone_ref(py)))
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

    /// A worker died over a task: the item it was at is lost, those behind it are given out again. Which item, and how
    /// many are settled by it; `None` when the task was answered.
    pub(super) fn lose(&mut self, task: Task, begun: u32) -> Option<(u32, u32)> {
        let items = self.pending.remove(&task.index)?;
        let at = begun.clamp(1, items) - 1;
        let lost = task.index + at;
        let rest = lost as usize + 1..(task.index + items) as usize;
        if !rest.is_empty() {
            self.again.push_back(rest);
        }
        Some((lost, at + 1))
    }

    pub(super) fn is_settled(&self) -> bool {
        self.unsettled == 0
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
    pub(super) fn encode<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let object = match self {
            Self::Slice(list, range) if range.len() == 1 => list.bind(py).get_item(range.start)?,
            Self::Slice(list, range) => list.bind(py).get_slice(range.start, range.end).into_any(),
            Self::Items(items) => match items.as_slice() {
                [item] => item.bind(py).clone(),
                several => PyList::new(py, several)?.into_any(),
            },
        };
        pickling::dumps(&object)
    }
}
