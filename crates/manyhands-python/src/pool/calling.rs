//! The way of an executor's calls: out to the workers, back to their futures.
//!
//! Futures are settled, and their callbacks run, only by whoever leads, and only between two looks at the rings: a
//! callback may submit, wait for another future and shut the executor down. `submit` never runs a callback, because
//! its caller may hold a lock that the callback wants.

use super::PyPool;
use super::calls::{Call, Calls, Feed, NO_JOB};
use super::future;
use super::job::{Outcome, call_arguments};
use super::leadership::Driver;
use super::starting::{is_refusal, reason_of};
use crate::error;
use crate::offers::Offers;
use crate::pickling::{self, Carried, Dumped};
use crate::worker::kind;
use manyhands::pool::{Action, Answer, Event, State, Status, Task, TaskBatch};
use manyhands::{Deadline, Message};
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::prelude::*;
use std::sync::{MutexGuard, PoisonError};

/// Calls put into the ring at a time: few, so that workers have something to do while the next ones are pickled.
const GIVEN_TOGETHER: usize = 16;

/// Stands for all calls of an executor where a job is asked for: which of them a callback belongs to does not matter.
const CALLS: u32 = u32::MAX;

impl PyPool {
    /// The executor's calls; `None` for a pool that is no executor's.
    fn executor_calls(&self) -> Option<MutexGuard<'_, Calls>> {
        let executor = self.executor.get()?;
        Some(executor.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn with_calls<T: Default>(&self, change: impl FnOnce(&mut Calls) -> T) -> T {
        self.executor_calls().map(|mut calls| change(&mut calls)).unwrap_or_default()
    }

    /// As [`Calls::unsettled`].
    pub(super) fn unsettled_calls(&self, py: Python<'_>) -> (usize, Vec<Py<PyAny>>) {
        self.with_calls(|calls| calls.unsettled(py))
    }

    /// One more call will be submitted, and has a worker.
    pub(super) fn admit_call(&self, py: Python<'_>) -> PyResult<()> {
        self.check_owner()?;
        let broken = {
            let mut state = self.state();
            if state.broken.is_none() && (state.scheduler.state() != State::Running || state.destroyed) {
                return Err(PyRuntimeError::new_err("cannot schedule new futures after shutdown"));
            }
            if state.broken.is_none() {
                state.scheduler.on(Event::Submitted { tasks: 1 });
            }
            state.broken.as_ref().map(|reason| reason.clone_ref(py))
        };
        match broken {
            Some(reason) => Err(PyErr::from_value(self.broken_executor(py, &reason)?.into_bound(py))),
            None => self.staff(py),
        }
    }

    /// Starts a worker when none is free for one more call, and there is room for one.
    fn staff(&self, py: Python<'_>) -> PyResult<()> {
        let free = self.with_calls(Calls::claim_worker);
        let demanded = {
            let mut state = self.state();
            let nobody = state.scheduler.staffed() == 0;
            if free && !nobody { Vec::new() } else { state.scheduler.on(Event::WorkerDemanded) }
        };
        for action in demanded {
            let Action::Start { seat } = action else { continue };
            match self.start_worker(py, seat) {
                Ok(()) => self.worker_is_there(py, seat),
                Err(refused) => self.start_refused(py, seat, refused)?,
            }
        }
        Ok(())
    }

    fn worker_is_there(&self, py: Python<'_>, seat: usize) {
        let actions = self.state().scheduler.on(Event::Started { seat });
        self.carry_out(py, actions);
    }

    /// The very first worker cannot be started, and no other call counts on it: the call is refused, as in the standard
    /// library, and the next one may have more luck. Otherwise the start is tried again.
    fn start_refused(&self, py: Python<'_>, seat: usize, refused: PyErr) -> PyResult<()> {
        let (alone, before, actions) = {
            let mut state = self.state();
            let alone = state.scheduler.staffed() == 1 && state.scheduler.outstanding() == 1;
            if alone {
                let mut actions = state.scheduler.on(Event::StartGivenUp { seat });
                actions.extend(state.scheduler.on(Event::Answered { tasks: 1 }));
                (true, None, actions)
            } else {
                (false, state.refused.take(), state.scheduler.on(Event::StartRefused { seat }))
            }
        };
        drop(before);
        if !alone {
            let reason = reason_of(py, &refused);
            let before = self.state().refused.replace(reason);
            drop(before);
        }
        self.carry_out(py, actions);
        if alone {
            return Err(refused);
        }
        if !is_refusal(py, &refused) {
            self.interrupts.hold(refused);
        }
        Ok(())
    }

    /// A call that was admitted waits for its turn, which may be now.
    pub(super) fn submit_call_of(&self, py: Python<'_>, mut call: Call) -> PyResult<()> {
        match self.function_of_calls(call.func.bind(py)) {
            Ok(function) => {
                call.function = function;
                self.with_calls(|calls| calls.wait(call));
            }
            Err(refused) => self.settle_call(call.future, Err(refused.into_value(py).into_any())),
        }
        self.feed_calls(py)
    }

    /// The future of a call will be told its outcome by [`PyPool::deliver`].
    fn settle_call(&self, future: Py<PyAny>, outcome: Outcome) {
        self.with_calls(|calls| calls.settle(future, outcome));
    }

    /// Counted before the future is told: a callback may wait until nothing is outstanding.
    fn note_answered(&self, py: Python<'_>) {
        let actions = self.state().scheduler.on(Event::Answered { tasks: 1 });
        self.carry_out(py, actions);
    }

    /// Gives out as many calls as may be ahead of the workers, in order.
    pub(super) fn feed_calls(&self, py: Python<'_>) -> PyResult<()> {
        if !self.with_calls(Calls::begin_feeding) {
            return Ok(());
        }
        let fed = self.feed_while_there_is_room(py);
        if fed.is_err() {
            self.with_calls(Calls::end_feeding);
        }
        fed
    }

    fn feed_while_there_is_room(&self, py: Python<'_>) -> PyResult<()> {
        let workers = self.state().workers.seats();
        let mut batch = TaskBatch::default();
        let mut given = Vec::new();
        let interrupted_before = self.interrupts.any();
        loop {
            let ahead = self.engine.tasks_waiting() + batch.len();
            let next = {
                let Some(mut calls) = self.executor_calls() else { return Ok(()) };
                let next = calls.next_feed(ahead, workers);
                if matches!(next, Feed::Enough) && batch.is_empty() {
                    // Under the lock under which nothing was found: a call that comes now finds nobody feeding.
                    calls.end_feeding();
                    return Ok(());
                }
                next
            };
            let nothing_more = matches!(next, Feed::Enough);
            let fed = match next {
                Feed::Give(call) => self.give_call(py, call, &mut batch, &mut given),
                Feed::Cancel(call) => self.cancel_call(py, &call),
                Feed::Enough => Ok(()),
            };
            let enough = nothing_more || batch.len() >= GIVEN_TOGETHER;
            let interrupted = !interrupted_before && self.interrupts.any();
            if fed.is_err() || enough || interrupted {
                self.submit_given(py, &mut batch, &mut given);
            }
            fed?;
            if interrupted {
                // This thread raises it; the rest is left to whoever leads next.
                self.with_calls(Calls::end_feeding);
                return Ok(());
            }
        }
    }

    /// Sends what was given out. Without memory for it, it fails.
    fn submit_given(&self, py: Python<'_>, batch: &mut TaskBatch, given: &mut Vec<(u32, Offers)>) {
        if let Err(refused) = self.engine.submit(batch) {
            self.engine.take_back(batch);
            *batch = TaskBatch::default();
            let reason = error::send(refused).into_value(py).into_any();
            for (number, _withdrawn) in given.drain(..) {
                if let Some(future) = self.with_calls(|calls| calls.take_back(number)) {
                    self.settle_call(future, Err(reason.clone_ref(py)));
                }
            }
        }
        for (_, offers) in given.drain(..) {
            offers.sent_into(py, self.engine.handle());
        }
    }

    /// Encodes a call; arguments that cannot be pickled fail it.
    fn give_call(
        &self,
        py: Python<'_>,
        call: Call,
        batch: &mut TaskBatch,
        given: &mut Vec<(u32, Offers)>,
    ) -> PyResult<()> {
        let future = call.future.bind(py);
        let begun = future::begin(future).or_else(|raised| {
            // By a signal's handler, perhaps: the call is off the list already, and must not be lost.
            let begun = self.interrupts.stubbornly(py, || future::begin_again(future))?;
            self.interrupts.hold(raised);
            Ok(begun)
        });
        match begun {
            Ok(true) => {}
            Ok(false) => {
                self.note_answered(py);
                self.leadership.tell_followers();
                return Ok(());
            }
            Err(error) => {
                self.note_answered(py);
                return Err(error);
            }
        }
        let (bytes, mut carried) = match self.interrupts.firmly(py, || encode(py, &call)) {
            Ok(bytes) => bytes,
            Err(refused) => return self.refuse_call(py, call.future, refused),
        };
        let (function, kind) = match call.function {
            Some(function) => (function, kind::CALL),
            None => (super::functions::NO_FUNCTION, kind::WHOLE),
        };
        let arguments = Message { parts: &[bytes.as_bytes()], carried: &carried };
        let number = self.with_calls(|calls| calls.give(call.future, call.function));
        let task = Task { job: NO_JOB, index: number, items: 1, kind: kind | kind::OF_EXECUTOR, function };
        match self.engine.batch_message(batch, task, arguments) {
            Ok(()) => given.push((number, carried.take_offers())),
            Err(refused) => {
                if let Some(future) = self.with_calls(|calls| calls.take_back(number)) {
                    return self.refuse_call(py, future, error::send(refused));
                }
            }
        }
        Ok(())
    }

    fn refuse_call(&self, py: Python<'_>, future: Py<PyAny>, refused: PyErr) -> PyResult<()> {
        let stops = !refused.is_instance_of::<PyException>(py);
        let exception = refused.clone_ref(py).into_value(py).into_any();
        self.settle_call(future, Err(exception));
        // Nobody leads, perhaps: the driver tells the future.
        self.leadership.tell_driver(Driver::Urgent);
        if stops { Err(refused) } else { Ok(()) }
    }

    fn cancel_call(&self, py: Python<'_>, call: &Call) -> PyResult<()> {
        self.note_answered(py);
        let cancelled = future::cancel(call.future.bind(py));
        self.leadership.tell_followers();
        cancelled
    }

    /// An answer to a call; its future is settled by [`PyPool::tend_calls`].
    pub(super) fn call_answered(&self, py: Python<'_>, answer: Answer, value: PyResult<Bound<'_, PyAny>>) {
        let outcome = match (answer.status, value) {
            (Status::Returned, Ok(object)) => Ok(object.unbind()),
            (_, Ok(exception)) => Err(exception.unbind()),
            (_, Err(error)) => Err(error.into_value(py).into_any()),
        };
        if let Some(future) = self.with_calls(|calls| calls.answered(answer)) {
            self.settle_call(future, outcome);
        }
    }

    /// The worker of a call has died.
    pub(super) fn call_lost(&self, number: u32, died: impl FnOnce() -> Py<PyAny>) {
        if let Some(future) = self.with_calls(|calls| calls.take_back(number)) {
            self.with_calls(Calls::free_worker);
            self.settle_call(future, Err(died()));
        }
    }

    /// Nothing of the executor's will be done any more.
    pub(super) fn abandon_calls(&self, py: Python<'_>, reason: &Py<PyAny>) -> PyResult<()> {
        if self.executor.get().is_none() {
            return Ok(());
        }
        let exception = self.broken_executor(py, reason)?;
        let (waiting, given) = self.with_calls(Calls::take_all);
        for call in waiting {
            // One that was cancelled is told so.
            match future::begin(call.future.bind(py)) {
                Ok(true) => self.settle_call(call.future, Err(exception.clone_ref(py))),
                Ok(false) | Err(_) => self.note_answered(py),
            }
        }
        for future in given {
            self.settle_call(future, Err(exception.clone_ref(py)));
        }
        Ok(())
    }

    fn broken_executor(&self, py: Python<'_>, reason: &Py<PyAny>) -> PyResult<Py<PyAny>> {
        match self.executor.get() {
            Some(executor) => executor.broken.call1(py, (reason,)),
            None => Ok(reason.clone_ref(py)),
        }
    }

    /// Gives out calls and settles futures; only the leader does so, when nothing of the pool is being changed.
    pub(super) fn tend_calls(&self, py: Python<'_>) -> PyResult<()> {
        if self.executor.get().is_none() {
            return Ok(());
        }
        let fed = self.feed_calls(py);
        self.give_up_what_nobody_does(py)?;
        self.deliver(py).and(fed)
    }

    /// What was in the ring when the last worker of an executor was ended by force.
    fn give_up_what_nobody_does(&self, py: Python<'_>) -> PyResult<()> {
        let deserted = {
            let state = self.state();
            state.scheduler.state() == State::Terminating && state.scheduler.is_deserted()
        };
        if deserted && self.with_calls(|calls| calls.has_given()) {
            self.abandon_calls(py, &py.None())?;
        }
        Ok(())
    }

    fn deliver(&self, py: Python<'_>) -> PyResult<()> {
        if !self.with_calls(|calls| calls.has_settled()) {
            return Ok(());
        }
        let before = self.with_calls(|calls| calls.set_delivering(Some(std::thread::current().id())));
        let mut delivered = Ok(());
        // A callback that waits delivers what is left here, and finds this queue empty.
        while let Some((future, outcome)) = self.with_calls(Calls::next_settled) {
            self.note_answered(py);
            if let Err(error) = future::settle(future.bind(py), outcome) {
                delivered = Err(error);
            }
            self.leadership.tell_followers();
        }
        self.with_calls(|calls| calls.set_delivering(before));
        self.leadership.tell_followers();
        delivered
    }

    /// Whether this thread runs a callback of one of the executor's futures.
    pub(super) fn is_delivering(&self) -> bool {
        self.with_calls(|calls| calls.is_delivering_here())
    }

    /// As `wait_until`; from a callback, too: this thread leads already.
    pub(super) fn wait_for_calls(
        &self,
        py: Python<'_>,
        done: &(dyn Fn() -> bool + Sync),
        deadline: Deadline,
    ) -> PyResult<bool> {
        self.wait_until(py, Some(CALLS), done, deadline)
    }

    /// Whether the executor's calls give the driver something to do.
    pub(super) fn has_call_duties(&self) -> bool {
        let Some(calls) = self.executor_calls() else { return false };
        let quiet = calls.is_quiet();
        drop(calls);
        let state = self.state();
        !quiet || (state.scheduler.state() != State::Running && !state.scheduler.is_deserted())
    }

    /// Whether nothing will ever happen any more: the executor takes no calls, and its workers are gone.
    pub(super) fn is_over(&self) -> bool {
        let Some(calls) = self.executor_calls() else { return false };
        let quiet = calls.is_quiet();
        drop(calls);
        let state = self.state();
        quiet && state.scheduler.state() != State::Running && state.scheduler.is_deserted()
    }

    pub(super) fn cancel_waiting_calls(&self) {
        self.with_calls(Calls::cancel_waiting);
    }
}

fn encode<'py>(py: Python<'py>, call: &Call) -> PyResult<(Dumped<'py>, Carried)> {
    let kwargs = call.kwargs.as_ref().map(|kwargs| kwargs.bind(py));
    let pair = call_arguments(py, call.args.bind(py), kwargs)?;
    if call.function.is_some() {
        return pickling::dumps_carrying(&pair);
    }
    let whole = (&call.func, pair.get_item(0)?, pair.get_item(1)?).into_pyobject(py)?;
    pickling::dumps_carrying(&whole)
}
