//! What becomes of a job when answers come, workers die, or the pool ends.

use super::functions::Used;
use super::job::{Accepted, Form, Outcome, PyJob};
use super::map;
use manyhands::pool::{Answer, Status, Task};
use pyo3::prelude::*;
use std::sync::atomic::Ordering;

/// What is left to do for a job whose outcome is known.
pub(super) struct Concluded {
    /// What it called, to be released.
    pub(super) used: Used,
    pub(super) owes_callback: bool,
}

impl PyJob {
    /// An answer came in.
    pub(super) fn accept(
        &self,
        py: Python<'_>,
        answer: Answer,
        value: PyResult<Bound<'_, PyAny>>,
    ) -> Accepted {
        let outcome = match (answer.status, value) {
            (Status::Returned, Ok(object)) => Ok(object.unbind()),
            (_, Ok(exception)) => Err(exception.unbind()),
            (_, Err(error)) => Err(error.into_value(py).into_any()),
        };
        let mut state = self.state();
        match &mut state.form {
            Form::Fresh | Form::Over => {
                drop(state);
                Accepted::default()
            }
            Form::Single => {
                drop(state);
                self.settle_single(outcome)
            }
            Form::Map(map) => {
                let Some((items, list)) = map.answered(py, answer) else {
                    drop(state);
                    return Accepted::default();
                };
                let keep = map.manner().keep;
                drop(state);
                let stored = outcome.and_then(|results| map::store(py, &list, answer.index, items, results));
                let stored = match stored {
                    Err(exception) if keep => map::fill(py, &list, answer.index, items, &exception),
                    stored => stored,
                };
                self.settle_map(py, items, stored.err())
            }
            Form::Stream(stream) => {
                let (items, dropped) = stream.accept(py, answer, outcome);
                let complete = stream.is_settled();
                drop(state);
                drop(dropped);
                Accepted { items, complete, flows: true }
            }
        }
    }

    /// The task of this job that begins there is to be given out again, item by item; whether there was one.
    pub(super) fn split(&self, index: u32) -> bool {
        match &mut self.state().form {
            Form::Map(map) => map.split(index),
            Form::Stream(stream) => stream.split(index),
            Form::Fresh | Form::Single | Form::Over => false,
        }
    }

    /// A worker died over a task of this job; `begun` items of it were begun.
    pub(super) fn lose(
        &self,
        py: Python<'_>,
        task: Task,
        begun: u32,
        died: impl FnOnce(Option<u32>) -> Py<PyAny>,
    ) -> Accepted {
        let mut state = self.state();
        match &mut state.form {
            Form::Fresh | Form::Over => Accepted::default(),
            Form::Single => {
                drop(state);
                self.settle_single(Err(died(None)))
            }
            Form::Map(map) => {
                let Some((lost, items)) = map.lose(task, begun) else { return Accepted::default() };
                let kept = map.manner().keep.then(|| map.results(py));
                drop(state);
                let mut exception = lost.map(|item| died(Some(item)));
                if let (Some(list), Some(item), Some(died)) = (kept, lost, &exception) {
                    exception = map::fill(py, &list, item, 1, died).err();
                }
                self.settle_map(py, items, exception)
            }
            Form::Stream(stream) => {
                let (lost, dropped) = stream.lose(task, begun);
                drop(state);
                drop(dropped);
                self.settle_stream(lost, died)
            }
        }
    }

    fn settle_single(&self, outcome: Outcome) -> Accepted {
        let mut state = self.state();
        if state.outcome.is_some() {
            drop(state);
            return Accepted::default();
        }
        state.outcome = Some(outcome);
        Accepted { items: 1, complete: true, flows: false }
    }

    fn settle_map(&self, py: Python<'_>, items: u32, exception: Option<Py<PyAny>>) -> Accepted {
        let mut state = self.state();
        let Form::Map(map) = &mut state.form else {
            drop(state);
            return Accepted::default();
        };
        let ends_it = map.manner().fail_fast && exception.is_some();
        let dropped = map.settle(items, exception);
        let items = if ends_it { items + map.give_up() } else { items };
        let complete = map.is_settled();
        if complete {
            state.outcome = Some(map.outcome(py));
        }
        drop(state);
        drop(dropped);
        Accepted { items: items as usize, complete, flows: false }
    }

    fn settle_stream(&self, lost: Option<u32>, died: impl FnOnce(Option<u32>) -> Py<PyAny>) -> Accepted {
        let exception = lost.map(|item| (item, died(Some(item))));
        let mut state = self.state();
        let Form::Stream(stream) = &mut state.form else { return Accepted::default() };
        let items = usize::from(exception.is_some());
        if let Some((item, exception)) = exception {
            stream.settle(item, Err(exception));
        }
        Accepted { items, complete: stream.is_settled(), flows: true }
    }

    /// A map over nothing is complete at once; whether this is one.
    pub(super) fn settle_empty(&self, py: Python<'_>) -> bool {
        self.settle_map(py, 0, None).complete
    }

    /// Nothing of this job will be done any more.
    pub(super) fn abandon(&self, py: Python<'_>, reason: &Py<PyAny>) {
        let mut state = self.state();
        let dropped = match &mut state.form {
            Form::Stream(stream) => stream.abandon(|| reason.clone_ref(py)),
            _ => {
                state.outcome.get_or_insert_with(|| Err(reason.clone_ref(py)));
                Vec::new()
            }
        };
        drop(state);
        drop(dropped);
    }

    /// Nobody is to be called back.
    pub(super) fn forget_callbacks(&self) {
        let mut state = self.state();
        let callbacks = (state.callback.take(), state.error_callback.take());
        drop(state);
        drop(callbacks);
    }

    /// The outcome is known: waiters see it, unless a callback is to be run before.
    pub(super) fn conclude(&self) -> Concluded {
        let mut state = self.state();
        let owes_callback = match &state.outcome {
            Some(Ok(_)) => state.callback.is_some(),
            Some(Err(_)) => state.error_callback.is_some(),
            None => false,
        };
        // Items are not kept alive by a result that somebody keeps; they are dropped with no lock held.
        let over = if matches!(state.form, Form::Stream(_)) {
            None
        } else {
            Some(std::mem::replace(&mut state.form, Form::Over))
        };
        let used = std::mem::take(&mut state.function);
        let held = if owes_callback {
            (None, None, None)
        } else {
            self.done.store(true, Ordering::Release);
            (state.callback.take(), state.error_callback.take(), state.keeper.take())
        };
        drop(state);
        drop((over, held));
        Concluded { used, owes_callback }
    }

    /// Runs the callback that the outcome asks for; then waiters see that the job is done.
    pub(super) fn call_back(&self, py: Python<'_>) {
        let (callback, argument) = {
            let mut state = self.state();
            match &state.outcome {
                Some(Ok(result)) => {
                    let result = result.clone_ref(py);
                    (state.callback.take(), Some(result))
                }
                Some(Err(exception)) => {
                    let exception = exception.clone_ref(py);
                    (state.error_callback.take(), Some(exception))
                }
                None => (None, None),
            }
        };
        if let (Some(callback), Some(argument)) = (callback, argument)
            && let Err(error) = callback.bind(py).call1((argument,))
        {
            // Somebody else's mistake stops nothing.
            error.write_unraisable(py, Some(callback.bind(py)));
        }
        self.finish(py);
    }

    /// The job is done: waiters see it, and it keeps nothing alive but its outcome.
    pub(super) fn finish(&self, _py: Python<'_>) {
        self.done.store(true, Ordering::Release);
        let mut state = self.state();
        let held = (state.callback.take(), state.error_callback.take(), state.keeper.take());
        drop(state);
        drop(held);
    }
}
