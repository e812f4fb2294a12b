//! How a pool's workers are started, and what follows when one cannot be.
//!
//! A signal's handler may raise anywhere in the Python code that starts a process (see `launched.rs`). Where the process is a fork of this one, signals are kept away meanwhile.

use super::workers::sentinel_of;
use super::{PyPool, driver};
use crate::error;
use crate::once::interned;
use manyhands::pool::Event;
use manyhands::{BlockedSignals, Signals};
use pyo3::Borrowed;
use pyo3::exceptions::{PyMemoryError, PyOSError};
use pyo3::prelude::*;

/// What is kept away from this thread while a worker is started: what `make` of [`super::Hooks`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KeptAway {
    /// SIGINT at least, which stays blocked in the worker until it lets it in.
    interrupt: bool,
    /// Every signal.
    all: bool,
}

impl FromPyObject<'_, '_> for KeptAway {
    type Error = PyErr;

    fn extract(said: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let py = said.py();
        let [interrupt, all] = [interned!(py, "interrupt"), interned!(py, "all")];
        Ok(Self { interrupt: said.getattr(interrupt)?.extract()?, all: said.getattr(all)?.extract()? })
    }
}

impl KeptAway {
    fn block(self) -> PyResult<Option<BlockedSignals>> {
        let signals = match self {
            Self { all: true, .. } => Signals::Asynchronous,
            Self { interrupt: true, .. } => Signals::Interrupt,
            _ => return Ok(None),
        };
        BlockedSignals::new(signals, self.interrupt).map(Some).map_err(error::os)
    }
}

/// Why a seat stays empty.
#[derive(Debug)]
struct Refused {
    error: PyErr,
    /// A process that was started all the same, by a class of the user's, and has nothing to be watched by.
    unwatched: Option<Py<PyAny>>,
}

impl From<PyErr> for Refused {
    fn from(error: PyErr) -> Self {
        Self { error, unwatched: None }
    }
}

impl PyPool {
    /// Starts a worker for every seat; when one cannot be started, those that were end.
    pub(super) fn start_all(&self, py: Python<'_>) -> PyResult<()> {
        let seats = self.state().workers.seats();
        let (mut unwatched, mut refused) = (Vec::new(), None);
        for seat in 0..seats {
            match self.start_one(py, seat) {
                Ok(()) => {}
                // Perhaps the next one is refused, which says more.
                Err(Refused { error, unwatched: Some(process) }) => unwatched.push((process, error)),
                Err(Refused { error, unwatched: None }) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        let held = self.raise_held();
        let refused = refused.or_else(|| unwatched.first().map(|(_, error)| error.clone_ref(py)));
        let Err(refused) = refused.map_or(held, Err) else { return Ok(()) };
        // What signals raise meanwhile is less than what is raised here.
        self.end_unwatched(py, unwatched.into_iter().map(|(process, _)| process).collect());
        let _ = self.end_all(py, false, 0.0);
        drop(self.interrupts.take());
        Err(refused)
    }

    /// Starts a worker for an empty seat. What a signal's handler raises when it has been started is held.
    pub(super) fn start_worker(&self, py: Python<'_>, seat: usize) -> PyResult<()> {
        self.start_one(py, seat).map_err(|Refused { error, unwatched }| {
            self.end_unwatched(py, unwatched.into_iter().collect());
            error
        })
    }

    /// Ends processes that were started and cannot be watched: nobody would hear of them.
    fn end_unwatched(&self, py: Python<'_>, processes: Vec<Py<PyAny>>) {
        for how in ["terminate", "join"] {
            for process in &processes {
                let _ = self.interrupts.stubbornly(py, || process.bind(py).call_method0(how));
            }
        }
    }

    fn start_one(&self, py: Python<'_>, seat: usize) -> Result<(), Refused> {
        let (process, kept_away): (Bound<'_, PyAny>, (bool, bool)) =
            self.hooks.make(py)?.bind(py).call1((seat, self.bell())).and_then(|made| made.extract())?;
        let (interrupt, all) = kept_away;
        let blocked = KeptAway { interrupt, all }.block()?;
        let prepared = blocked.as_ref().map_or(Ok(()), |blocked| {
            process.setattr("_lets_sigint_in", blocked.let_sigint_in())?;
            // One that came before: its handler runs now, and not in the middle.
            py.check_signals()
        });
        let begun = prepared.and_then(|()| process.call_method0("start"));
        let started = match (begun, sentinel_of(&process)) {
            (Ok(_), Ok(sentinel)) => Ok((sentinel, None)),
            (Ok(_), Err(error)) => Err(Refused { error, unwatched: Some(process.clone().unbind()) }),
            // Started all the same, and at work perhaps; one whose own start has raised is ended by that.
            (Err(raised), Ok(sentinel)) if matches!(sentinel.has_ended(), Ok(false)) => {
                Ok((sentinel, Some(raised)))
            }
            (Err(error), _) => Err(Refused::from(error)),
        };
        let (sentinel, raised) = match started {
            Ok(started) => started,
            Err(refused) => {
                drop(blocked);
                driver::come_back(py);
                return Err(refused);
            }
        };
        let before = self.state().workers.seat(seat, Some((process.unbind(), sentinel)));
        drop((before, blocked));
        driver::come_back(py);
        // What was kept away comes in now: the worker is there all the same.
        if let Some(raised) = raised.or_else(|| py.check_signals().err()) {
            self.interrupts.hold(raised);
        }
        Ok(())
    }

    /// Starts a worker for an empty seat; the scheduler hears whether there is one now.
    pub(super) fn replace_worker(&self, py: Python<'_>, seat: usize) {
        let (event, reason) = match self.interrupts.unless_refused(py, || self.start_worker(py, seat)) {
            Ok(()) => (Event::Started { seat }, None),
            Err(refused) => {
                if !is_refusal(py, &refused) {
                    // Of a signal's handler, perhaps: somebody wants to know of it.
                    self.interrupts.hold(refused.clone_ref(py));
                }
                (Event::StartRefused { seat }, Some(reason_of(py, &refused)))
            }
        };
        let (before, actions) = {
            let mut state = self.state();
            (std::mem::replace(&mut state.refused, reason), state.scheduler.on(event))
        };
        drop(before);
        self.carry_out(py, actions);
    }

    /// When the pause after a refused start is over: the next try.
    pub(super) fn try_starts_again(&self, py: Python<'_>) {
        let actions = {
            let mut state = self.state();
            if !state.retry.is_some_and(|retry| retry.passed()) {
                return;
            }
            state.retry = None;
            state.scheduler.on(Event::PauseOver)
        };
        self.carry_out(py, actions);
    }
}

/// Why a start was refused, to be kept. Not its traceback: the frames in it, and those that have called them, have all
/// that the start was made of, and what began it: descriptors, arguments, the pool itself.
pub(super) fn reason_of(py: Python<'_>, refused: &PyErr) -> Py<PyAny> {
    // `into_value` gives the exception its traceback, before 3.12: after that it can be taken away.
    let reason = refused.clone_ref(py).into_value(py).into_any();
    if is_refusal(py, refused) {
        let mut each = Some(reason.bind(py).clone());
        for _ in 0..MOST_REASONS {
            let Some(error) = each else { break };
            // One that does not let it be taken is of a class of the user's own.
            let _ = error.setattr("__traceback__", py.None());
            each = error.getattr("__context__").ok().filter(|before| !before.is_none());
        }
    }
    reason
}

/// How many errors are looked at that were raised one while another was handled.
const MOST_REASONS: usize = 16;

/// Whether it says that there was no room for a process: no descriptor, no memory, no place.
pub(super) fn is_refusal(py: Python<'_>, error: &PyErr) -> bool {
    let numbered = || error.value(py).getattr("errno").is_ok_and(|errno| !errno.is_none());
    error.is_instance_of::<PyMemoryError>(py) || (error.is_instance_of::<PyOSError>(py) && numbered())
}
