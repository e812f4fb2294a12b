//! Who acts for a pool at the moment: collects answers, buries and replaces workers.
//!
//! One thread at a time is the *leader*: a caller that waits for its own result, or the pool's driver thread when
//! nobody waits. Everybody else who waits *follows*: sleeps until its job is done or the leader resigns. A driver that
//! leads resigns as soon as somebody follows.
//!
//! A leader runs Python code: it unpickles, and a finalizer may run at any allocation. When such code waits on the same
//! pool, its thread leads *again*, within its own lead, and goes on where the lead around it stands. Only what that
//! lead has *in hand* (the job whose answer is being unpickled, say) cannot be waited for from within.
//!
//! Whether there is a driver is said by the driver thread alone: it arrives, and it leaves, whatever ends it. Whoever
//! starts or stops it waits for that.
//!
//! All who wait here wait for news: callers for those of leaders and drivers, the driver for what it is told. News are told
//! at each change but one: a leader that has slept in vain resigns for a look at signals, and tells nobody, since it leads
//! again at once. Should it stay away for long, in a handler, others find that out by themselves: followers at the end of a
//! sleep, when they look at signals, too; a driver that waits for the leader's end after [`LOOKS_AGAIN`]. A driver that waits
//! for nothing does not wake up by itself.

use manyhands::{Deadline, News, WaitKind, Waited, Waiting};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

/// In hand: nothing.
use super::calls::NO_JOB;

/// A driver that waits for the leader to resign looks after so long by itself.
const LOOKS_AGAIN: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Leadership {
    state: Mutex<State>,
    /// For callers: the leader resigns, jobs are done, a driver comes or goes, a callback is over.
    for_callers: News,
    /// For the driver: what it is told, callbacks that wait, a leader that resigns.
    for_driver: News,
    /// The job that the leader is busy with; its own thread alone stores and reads it.
    in_hand: AtomicU32,
    /// Whether callbacks wait to be run, or one is running: mostly not, and then no lock is needed to know.
    callbacks: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    leader: Option<ThreadId>,
    /// What the leads around the innermost one have in hand.
    held: Vec<u32>,
    followers: u32,
    /// What the driver is told, or will be when it comes.
    driver: Driver,
    /// The driver thread, from its arrival until it leaves.
    here: Option<Here>,
    /// Nothing will ever be left to do for a driver: the pool has ended. None comes any more.
    retired: bool,
    /// A thread is starting it: claimed and given back within one call of ours.
    starting: bool,
    /// How many threads have come to be the driver, and perhaps found one.
    arrivals: u32,
    /// How often somebody became the leader.
    terms: u32,
    /// The driver waits for the leader to resign.
    driver_waits: bool,
    /// Callbacks wait to be run.
    callbacks_due: bool,
    /// Who is in a callback at the moment, and of which job.
    calling: Vec<(ThreadId, u32)>,
}

/// The driver thread: by which Rust and the system know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Here {
    thread: ThreadId,
    system: i32,
}

/// What the driver thread is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Driver {
    /// Sleeps: there is nothing to do.
    #[default]
    Idle,
    /// There is work that nobody may be waiting for.
    Wanted,
    /// There is work that somebody waits for who cannot lead.
    Urgent,
    /// It must end.
    Stopping,
}

/// What an attempt to lead came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lead {
    /// This thread leads now.
    First,
    /// This thread leads already, further out; it leads again.
    Again,
    /// Another thread leads.
    Others,
}

/// What the driver is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    Lead,
    CallBack,
    End,
}

fn me() -> ThreadId {
    std::thread::current().id()
}

impl Leadership {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while this is held leaves plain flags, which are right after each statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Becomes the leader, if there is none, or again if this thread is the leader; [`Leadership::resign`] follows.
    pub(super) fn try_lead(&self) -> Lead {
        let mut state = self.state();
        match state.leader {
            None => {
                state.leader = Some(me());
                state.terms = state.terms.wrapping_add(1);
                Lead::First
            }
            Some(leader) if leader == me() => {
                state.held.push(self.in_hand.swap(NO_JOB, Ordering::Relaxed));
                Lead::Again
            }
            Some(_) => Lead::Others,
        }
    }

    /// Stops leading; after the outermost lead, somebody who follows takes over. Whether it was the outermost.
    pub(super) fn resign(&self) -> bool {
        let outermost = self.resign_for_a_look();
        if outermost {
            self.tell_resigned();
        }
        outermost
    }

    /// As [`Leadership::resign`], by one that has slept in vain and leads again at once, but for handlers of signals: nobody is
    /// woken for that. Should one run, and for long, others take over when they look again by themselves; should it raise,
    /// [`Leadership::tell_resigned`] follows.
    pub(super) fn resign_for_a_look(&self) -> bool {
        let mut state = self.state();
        if let Some(before) = state.held.pop() {
            self.in_hand.store(before, Ordering::Relaxed);
            return false;
        }
        self.in_hand.store(NO_JOB, Ordering::Relaxed);
        state.leader = None;
        true
    }

    /// Nobody leads: those who wait for that hear of it.
    pub(super) fn tell_resigned(&self) {
        let mut state = self.state();
        let (followed, awaited) = (state.followers > 0, std::mem::take(&mut state.driver_waits));
        drop(state);
        if followed {
            self.for_callers.tell();
        }
        if awaited {
            self.for_driver.tell();
        }
    }

    /// The leader turns to this job.
    #[inline]
    pub(super) fn take_in_hand(&self, job: u32) {
        self.in_hand.store(job, Ordering::Relaxed);
    }

    /// For a thread that leads again: whether a lead around this one has the job in hand.
    pub(super) fn is_held(&self, job: u32) -> bool {
        self.state().held.contains(&job)
    }

    /// Whether this thread leads.
    pub(super) fn leads_here(&self) -> bool {
        self.state().leader == Some(me())
    }

    /// Whether anybody leads.
    pub(super) fn is_led(&self) -> bool {
        self.state().leader.is_some()
    }

    /// Jobs are done: followers look at theirs.
    pub(super) fn tell_followers(&self) {
        if self.has_followers() {
            self.for_callers.tell();
        }
    }

    /// Whether somebody waits behind the leader.
    pub(super) fn has_followers(&self) -> bool {
        self.state().followers > 0
    }

    /// From now on this thread follows; `None` when nobody leads. What it waits for may have come just before: it looks once
    /// more.
    pub(super) fn follow(&self) -> Option<Following<'_>> {
        let mut state = self.state();
        let leader = state.leader?;
        let behind_driver = state.here.is_some_and(|here| here.thread == leader);
        state.followers += 1;
        Some(Following { leadership: self, known: self.for_callers.so_far(), behind_driver })
    }

    /// Tells the driver what to do; whether there is one to hear it.
    pub(super) fn tell_driver(&self, what: Driver) -> bool {
        let mut state = self.state();
        if state.driver == Driver::Stopping {
            return state.here.is_some();
        }
        if state.driver != what && (state.driver, what) != (Driver::Urgent, Driver::Wanted) {
            state.driver = what;
            self.for_driver.tell();
        }
        state.here.is_some()
    }

    /// The driver is wanted; whether there is one. `after_all`: one that was told to end, and has not, goes on.
    pub(super) fn want_driver(&self, after_all: bool) -> bool {
        let mut state = self.state();
        if state.retired {
            return state.here.is_some();
        }
        let wanted = matches!(state.driver, Driver::Wanted | Driver::Urgent);
        let ending = state.driver == Driver::Stopping && state.here.is_some();
        if !wanted && (!ending || after_all) {
            state.driver = Driver::Wanted;
            self.for_driver.tell();
        }
        state.here.is_some()
    }

    /// The driver shall end; whether there is one.
    pub(super) fn stop_driver(&self) -> bool {
        let mut state = self.state();
        state.driver = Driver::Stopping;
        self.for_driver.tell();
        state.here.is_some() || state.starting
    }

    /// The pool has ended: from now on no driver comes, whoever wants one: one that ended for a fork would come back, and find
    /// nothing to do for ever.
    pub(super) fn retire_driver(&self) {
        self.state().retired = true;
    }

    /// What the driver is told now.
    pub(super) fn driver(&self) -> Driver {
        self.state().driver
    }

    /// Whether this thread is the driver.
    pub(super) fn drives_here(&self) -> bool {
        self.state().here.is_some_and(|here| here.thread == me())
    }

    /// Claims the start of a driver: `None` when there is one, or another thread is about to start it.
    pub(super) fn claim_start(&self) -> Option<Start<'_>> {
        let mut state = self.state();
        if state.retired || state.here.is_some() || std::mem::replace(&mut state.starting, true) {
            return None;
        }
        Some(Start { leadership: self, arrivals: state.arrivals })
    }

    /// This thread, by which the system knows it so, is the driver until what this returns is dropped; unless there is one,
    /// or `refused`, or the pool has ended.
    pub(super) fn arrive(&self, system: i32, refused: bool) -> Option<Presence<'_>> {
        let mut state = self.state();
        state.arrivals = state.arrivals.wrapping_add(1);
        self.for_callers.tell();
        if refused || state.retired || state.here.is_some() {
            return None;
        }
        state.here = Some(Here { thread: me(), system });
        Some(Presence { leadership: self })
    }

    /// Waits until there is no driver and nobody starts one, at most until the deadline; the system's number of the one
    /// that was there. `on_signal` as in all waits.
    pub(super) fn await_departure<E>(
        &self,
        deadline: Deadline,
        mut on_signal: impl FnMut() -> Result<(), E>,
    ) -> Result<Departure, E> {
        let mut system = None;
        loop {
            let known = {
                let state = self.state();
                system = state.here.map(|here| here.system).or(system);
                if state.here.is_none() && !state.starting {
                    return Ok(Departure::Gone(system));
                }
                self.for_callers.so_far()
            };
            if !self.for_callers.wait_interruptibly(known, deadline, &mut on_signal)? {
                return Ok(Departure::NotYet);
            }
        }
    }

    /// Says whether callbacks wait to be run.
    pub(super) fn set_callbacks_due(&self, due: bool) {
        let mut state = self.state();
        let come = std::mem::replace(&mut state.callbacks_due, due) != due && due;
        self.note_callbacks(&state);
        if come {
            self.for_driver.tell();
            // Without a driver they are a follower's to run.
            self.for_callers.tell();
        }
    }

    fn note_callbacks(&self, state: &State) {
        self.callbacks.store(state.callbacks_due || !state.calling.is_empty(), Ordering::Release);
    }

    /// Whether callbacks wait to be run.
    pub(super) fn are_callbacks_due(&self) -> bool {
        self.callbacks.load(Ordering::Acquire) && self.state().callbacks_due
    }

    /// Whether callbacks that wait are this thread's to run: the driver's, or anybody's when there is no driver. Who waits
    /// inside a callback runs those that come meanwhile.
    pub(super) fn calls_back_here(&self) -> bool {
        let state = self.state();
        state.here.is_none() || state.calling.iter().any(|(thread, _)| *thread == me())
    }

    /// This thread runs the callback of that job.
    pub(super) fn begin_callback(&self, job: u32) {
        let mut state = self.state();
        state.calling.push((me(), job));
        self.note_callbacks(&state);
    }

    /// The callback that this thread began last is over.
    pub(super) fn end_callback(&self) {
        let mut state = self.state();
        if let Some(place) = state.calling.iter().rposition(|(thread, _)| *thread == me()) {
            state.calling.remove(place);
        }
        self.note_callbacks(&state);
        if state.followers > 0 {
            self.for_callers.tell();
        }
    }

    /// Whether this thread is inside a callback: of that job, or of any.
    pub(super) fn is_in_callback(&self, of: Option<u32>) -> bool {
        if !self.callbacks.load(Ordering::Acquire) {
            return false;
        }
        let state = self.state();
        let mut here = state.calling.iter().filter(|(thread, _)| *thread == me());
        here.any(|(_, job)| of.is_none_or(|of| of == *job))
    }

    /// Whether no callback waits and none is running.
    pub(super) fn is_quiet(&self) -> bool {
        let state = self.state();
        !state.callbacks_due && state.calling.is_empty()
    }

    /// The driver sleeps until there is something for it to do: callbacks at once; to lead when it is wanted and nobody
    /// leads.
    ///
    /// Unless it is urgent it gives callers `grace` to lead themselves, and again as long as they do so: a caller who
    /// submits and waits, over and over, does not wake the driver each time.
    pub(super) fn await_errand(&self, grace: Duration) -> Errand {
        let mut waiting = Waiting::undisturbed(WaitKind::Answers);
        loop {
            let (known, lets_lead) = {
                let mut state = self.state();
                let free = state.leader.is_none();
                let lets_lead = match state.driver {
                    Driver::Stopping => return Errand::End,
                    _ if state.callbacks_due => return Errand::CallBack,
                    Driver::Urgent if free => return Errand::Lead,
                    Driver::Wanted if free => Some(state.terms),
                    Driver::Wanted | Driver::Urgent => {
                        state.driver_waits = true;
                        None
                    }
                    Driver::Idle => None,
                };
                (self.for_driver.so_far(), lets_lead)
            };
            let end = match (lets_lead, self.driver()) {
                (Some(_), _) => Deadline::after(grace),
                (None, Driver::Idle) => Deadline::NEVER,
                // A leader that has resigned for a look only tells nobody.
                (None, _) => Deadline::after(LOOKS_AGAIN),
            };
            let waited = self.for_driver.park(known, 0, &mut waiting, end);
            if waited == Waited::TimedOut && lets_lead.is_some_and(|terms| self.is_left_alone(terms)) {
                return Errand::Lead;
            }
        }
    }

    /// Whether the driver is wanted and nobody has led since that many terms.
    fn is_left_alone(&self, terms: u32) -> bool {
        let state = self.state();
        let wanted = state.driver == Driver::Wanted && !state.callbacks_due;
        wanted && state.leader.is_none() && state.terms == terms
    }
}

/// A thread that follows.
#[derive(Debug)]
pub(super) struct Following<'a> {
    leadership: &'a Leadership,
    /// What was told when it began.
    known: u32,
    /// The leader is the driver.
    behind_driver: bool,
}

impl Following<'_> {
    /// Whether the driver led when this began. Unlike a caller, it leads for nobody, and resigns when it sees that somebody
    /// follows; one that begins to lead later sees it before it sleeps.
    pub(super) fn is_behind_driver(&self) -> bool {
        self.behind_driver
    }

    /// Parks once, as a wait for `object`: until the leader resigns, jobs are done, the deadline passes, a signal arrives or
    /// the sleep has come to its end.
    pub(super) fn park(&self, object: u64, waiting: &mut Waiting, deadline: Deadline) -> Waited {
        self.leadership.for_callers.park(self.known, object, waiting, deadline)
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.leadership.state().followers -= 1;
    }
}

/// What became of a driver that was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Departure {
    /// It has left; by what the system knows its thread.
    Gone(Option<i32>),
    /// It is busy, with a callback perhaps, and leaves later.
    NotYet,
}

/// The right to start a driver.
#[derive(Debug)]
pub(super) struct Start<'a> {
    leadership: &'a Leadership,
    arrivals: u32,
}

impl Start<'_> {
    /// The thread was made: waits until it has come, for a bounded time. (It comes in any case: later is only later.)
    pub(super) fn await_arrival(&self, deadline: Deadline) {
        let Leadership { for_callers, .. } = self.leadership;
        let undisturbed = || Ok::<_, Infallible>(());
        loop {
            let known = {
                let state = self.leadership.state();
                if state.arrivals != self.arrivals {
                    return;
                }
                for_callers.so_far()
            };
            let Ok(told) = for_callers.wait_interruptibly(known, deadline, undisturbed);
            if !told {
                return;
            }
        }
    }
}

impl Drop for Start<'_> {
    fn drop(&mut self) {
        self.leadership.state().starting = false;
        self.leadership.for_callers.tell();
    }
}

/// A driver thread that is there.
#[derive(Debug)]
pub(super) struct Presence<'a> {
    leadership: &'a Leadership,
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.leadership.state().here = None;
        self.leadership.for_callers.tell();
    }
}
