//! The calls of an executor, from `submit` until their futures are settled. Plain data behind a lock that is never held
//! while Python code runs; what is done with it stands in `calling.rs`.

use super::job::Outcome;
use manyhands::pool::{Answer, Function};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::collections::{HashMap, VecDeque};
use std::thread::ThreadId;
use std::time::Duration;

/// In a task or an answer: it belongs to a call, not to a job. Jobs are numbered from 1.
pub(super) const NO_JOB: u32 = 0;

/// Calls that lie in the task ring ahead of the workers, beyond one for each: as in the standard library. They can no
/// longer be cancelled.
const EXTRA_AHEAD: usize = 1;
/// Short calls go further ahead: as many for each worker as take about this long, and no more than [`MOST_AHEAD`].
const WORTH_AHEAD: Duration = Duration::from_millis(2);
const MOST_AHEAD: u64 = 512;

/// One call that was submitted.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) future: Py<PyAny>,
    pub(super) func: Py<PyAny>,
    /// Where workers find the function, if it pickles by name.
    pub(super) function: Option<Function>,
    pub(super) args: Py<PyTuple>,
    pub(super) kwargs: Option<Py<PyDict>>,
}

/// A call that workers may have.
#[derive(Debug)]
struct Given {
    future: Py<PyAny>,
    /// The number of its function, if it has one.
    function: Option<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Not given out: these can be cancelled.
    waiting: VecDeque<Call>,
    /// Given out and not answered, by number.
    given: HashMap<u32, Given>,
    /// Answered; their futures do not know it yet.
    settled: VecDeque<(Py<PyAny>, Outcome)>,
    next_number: u32,
    /// Answers that no later call has made up for: as many workers are free, as the standard library counts.
    free: usize,
    /// How many nanoseconds calls of a function take.
    paces: HashMap<u32, u64>,
    /// One thread gives calls out at a time, so that they keep their order.
    feeding: bool,
    /// Calls that wait are to be cancelled.
    cancelling: bool,
    /// The thread that settles futures now; callbacks run in it.
    delivering: Option<ThreadId>,
}

/// What to do next about the calls that wait.
#[derive(Debug)]
pub(super) enum Feed {
    Give(Call),
    Cancel(Call),
    /// Nothing waits, or enough is ahead of the workers.
    Enough,
}

impl Calls {
    /// The futures of calls that have no outcome: first of those that workers may have, and how many these are.
    pub(super) fn unsettled(&self, py: Python<'_>) -> (usize, Vec<Py<PyAny>>) {
        let mut given: Vec<_> = self.given.iter().map(|(number, given)| (*number, &given.future)).collect();
        given.sort_by_key(|(number, _)| *number);
        let futures = given.into_iter().map(|(_, future)| future);
        let futures = futures.chain(self.waiting.iter().map(|call| &call.future));
        (self.given.len(), futures.map(|future| future.clone_ref(py)).collect())
    }

    /// What the calls lead to, for the garbage collector.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for Call { future, func, args, kwargs, .. } in &self.waiting {
            visit.call(future)?;
            visit.call(func)?;
            visit.call(args)?;
            visit.call(kwargs)?;
        }
        self.given.values().try_for_each(|given| visit.call(&given.future))?;
        self.settled.iter().try_for_each(|(future, Ok(outcome) | Err(outcome))| {
            visit.call(future)?;
            visit.call(outcome)
        })
    }

    pub(super) fn wait(&mut self, call: Call) {
        self.waiting.push_back(call);
    }

    /// Whether this thread shall give calls out; it goes on until [`Calls::end_feeding`].
    pub(super) fn begin_feeding(&mut self) -> bool {
        !self.waiting.is_empty() && !std::mem::replace(&mut self.feeding, true)
    }

    pub(super) fn end_feeding(&mut self) {
        self.feeding = false;
    }

    /// What to do next, when so many tasks are ahead of so many workers.
    pub(super) fn next_feed(&mut self, ahead: usize, workers: usize) -> Feed {
        let Some(first) = self.waiting.front() else { return Feed::Enough };
        if !self.cancelling && ahead >= self.most_ahead(first.function, workers) {
            return Feed::Enough;
        }
        match self.waiting.pop_front() {
            Some(call) if self.cancelling => Feed::Cancel(call),
            Some(call) => Feed::Give(call),
            None => Feed::Enough,
        }
    }

    fn most_ahead(&self, function: Option<Function>, workers: usize) -> usize {
        let pace = function.and_then(|function| self.paces.get(&function.id));
        let short = pace.map_or(0, |&pace| WORTH_AHEAD.as_nanos() as u64 / pace.max(1));
        workers + EXTRA_AHEAD + workers * short.min(MOST_AHEAD) as usize
    }

    /// Notes that a call goes to the workers; its number.
    pub(super) fn give(&mut self, future: Py<PyAny>, function: Option<Function>) -> u32 {
        // Numbers come round after four billion calls; one that is still out is left out.
        while self.given.contains_key(&self.next_number) {
            self.next_number = self.next_number.wrapping_add(1);
        }
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        self.given.insert(number, Given { future, function: function.map(|function| function.id) });
        number
    }

    /// The future of a call that gets no answer; `None` when it had one before.
    pub(super) fn take_back(&mut self, number: u32) -> Option<Py<PyAny>> {
        self.given.remove(&number).map(|given| given.future)
    }

    /// One more call: whether a worker is free for it.
    pub(super) fn claim_worker(&mut self) -> bool {
        let free = self.free > 0;
        self.free -= usize::from(free);
        free
    }

    /// A worker is free, or another one in its place.
    pub(super) fn free_worker(&mut self) {
        self.free += 1;
    }

    /// An answer came; whose, and whether it is anybody's.
    pub(super) fn answered(&mut self, answer: Answer) -> Option<Py<PyAny>> {
        let given = self.given.remove(&answer.index)?;
        self.free_worker();
        if let Some(function) = given.function {
            let pace = self.paces.entry(function).or_insert(0);
            // A long call counts at once, short ones gradually: too few ahead cost less than too many.
            let ran = answer.nanoseconds.max(1);
            *pace = if ran > *pace { ran } else { *pace - (*pace - ran) / 4 };
        }
        Some(given.future)
    }

    pub(super) fn settle(&mut self, future: Py<PyAny>, outcome: Outcome) {
        self.settled.push_back((future, outcome));
    }

    pub(super) fn next_settled(&mut self) -> Option<(Py<PyAny>, Outcome)> {
        self.settled.pop_front()
    }

    pub(super) fn has_settled(&self) -> bool {
        !self.settled.is_empty()
    }

    /// Says which thread delivers; who did before.
    pub(super) fn set_delivering(&mut self, thread: Option<ThreadId>) -> Option<ThreadId> {
        std::mem::replace(&mut self.delivering, thread)
    }

    /// Whether this thread is settling futures: it runs a callback.
    pub(super) fn is_delivering_here(&self) -> bool {
        self.delivering == Some(std::thread::current().id())
    }

    /// Whether nothing is left to tell anybody, apart from what this thread is telling.
    pub(super) fn is_quiet(&self) -> bool {
        let elsewhere = self.delivering.is_some() && !self.is_delivering_here();
        self.waiting.is_empty() && self.given.is_empty() && self.settled.is_empty() && !elsewhere
    }

    pub(super) fn cancel_waiting(&mut self) {
        self.cancelling = true;
    }

    /// Everything that has no outcome, to be failed.
    pub(super) fn take_all(&mut self) -> (Vec<Call>, Vec<Py<PyAny>>) {
        let waiting = self.waiting.drain(..).collect();
        (waiting, self.given.drain().map(|(_, given)| given.future).collect())
    }

    pub(super) fn has_given(&self) -> bool {
        !self.given.is_empty()
    }
}
