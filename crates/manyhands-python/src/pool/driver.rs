//! The pool's driver thread: how it comes and goes.
//!
//! A signal's handler may raise between any two steps of Python code. So the thread is started and stopped by steps of
//! ours alone, and that it is there is said by itself (see `leadership.rs`). It ends before this process forks and comes
//! back afterwards, so that a fork meets no thread of ours.

use super::PyPool;
use super::leadership::{Departure, Leadership};
use crate::blocking::on_signal;
use manyhands::pool::Pool;
use manyhands::{BlockedSignals, Deadline};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyWeakrefMethods, PyWeakrefReference};
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// How long a driver that is in a callback may take to end before a fork goes on beside it.
const SECONDS_TO_END: Duration = Duration::from_secs(2);
/// How long a thread that was made may take to come, or to be forgotten by the system: bounds, hardly ever reached.
const TO_COME: Duration = Duration::from_secs(5);
const TO_BE_FORGOTTEN: Duration = Duration::from_millis(500);
/// How often to look whether the system has forgotten a thread that has left.
const BETWEEN_LOOKS: Duration = Duration::from_micros(20);

/// The pools of this process that have had a driver: a fork concerns them all. Locked only with the GIL held, and so never
/// at the moment of a fork.
static DRIVEN: Mutex<Driven> = Mutex::new(Driven { all: Vec::new(), forks: 0 });

struct Driven {
    all: Vec<Enrolled>,
    /// Forks under way: drivers have ended, and none is started.
    forks: u32,
}

struct Enrolled {
    leadership: Weak<Leadership>,
    engine: Weak<Pool>,
    pool: Py<PyWeakrefReference>,
    /// To be started when no fork is under way any more.
    stopped: bool,
}

fn driven() -> MutexGuard<'static, Driven> {
    DRIVEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PyPool {
    /// There is work that nobody may wait for: a driver is told so, or comes. Without a thread to be had, whoever waits
    /// does what it would do.
    pub(super) fn want_driver_of(slf: &Bound<'_, Self>, after_all: bool) {
        let leadership = &slf.get().leadership;
        if !leadership.want_driver(after_all) {
            Self::start_driver(slf);
        }
    }

    fn start_driver(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let leadership = Arc::clone(&slf.get().leadership);
        let Some(start) = leadership.claim_start() else { return };
        if !enroll(slf) {
            return;
        }
        if slf.getattr("_drive").and_then(|body| start_thread(&body, &[])).is_ok() {
            py.detach(|| start.await_arrival(Deadline::after(TO_COME)));
        }
    }

    /// The body of the driver thread.
    pub(super) fn drive_here(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let system = py.import("_thread").and_then(|thread| thread.call_method0("get_native_id"));
        let system = system.and_then(|number| number.extract()).unwrap_or(0);
        let refused = {
            let mut driven = driven();
            let forking = driven.forks > 0;
            if forking {
                driven.stop(&this.leadership);
            }
            forking
        };
        let Some(presence) = this.leadership.arrive(system, refused) else { return Ok(()) };
        // Neither matters to the work.
        let _ = introduce(py);
        this.serve(py);
        let _ = take_leave(py);
        this.write_held(py);
        drop(presence);
        Ok(())
    }

    /// As [`PyPool::end_driver`], and none comes any more: the pool has ended.
    pub(super) fn retire_driver(&self, py: Python<'_>) -> PyResult<()> {
        self.leadership.retire_driver();
        self.end_driver(py)
    }

    /// Ends the driver, if there is one, and waits until the system has forgotten its thread. One that is in a callback for
    /// longer than a moment ends later, and so does the thread that calls this, if it is the driver.
    pub(super) fn end_driver(&self, py: Python<'_>) -> PyResult<()> {
        if !self.leadership.stop_driver() {
            return Ok(());
        }
        self.engine.ring();
        if self.leadership.drives_here() {
            return Ok(());
        }
        py.detach(|| await_departure(&self.leadership, Deadline::after(SECONDS_TO_END), on_signal))
    }
}

/// Starts a thread by one call of C: it is made, or it is not. (`Thread.start` is many steps.)
pub(super) fn start_thread<'py>(body: &Bound<'py, PyAny>, arguments: &[Bound<'py, PyAny>]) -> PyResult<()> {
    let arguments = PyTuple::new(body.py(), arguments)?;
    body.py().import("_thread")?.call_method1("start_new_thread", (body, arguments)).map(drop)
}

/// Enters the pool into the list; `false` while a fork is under way: its driver comes after that.
fn enroll(pool: &Bound<'_, PyPool>) -> bool {
    let this = pool.get();
    let known =
        |enrolled: &Enrolled| std::ptr::eq(enrolled.leadership.as_ptr(), Arc::as_ptr(&this.leadership));
    let mut gone = Vec::new();
    let may_start = {
        let mut driven = driven();
        if !driven.all.iter().any(known) {
            drop(driven);
            // It may run Python code.
            let Ok(reference) = PyWeakrefReference::new(pool) else { return false };
            driven = self::driven();
            gone.extend(driven.all.extract_if(.., |each| each.leadership.strong_count() == 0));
            driven.all.push(Enrolled {
                leadership: Arc::downgrade(&this.leadership),
                engine: Arc::downgrade(&this.engine),
                pool: reference.unbind(),
                stopped: false,
            });
        }
        let forking = driven.forks > 0;
        if forking {
            driven.stop(&this.leadership);
        }
        !forking
    };
    drop(gone);
    may_start
}

impl Driven {
    /// The driver of that pool is to come back.
    fn stop(&mut self, leadership: &Arc<Leadership>) {
        for enrolled in &mut self.all {
            enrolled.stopped |= std::ptr::eq(enrolled.leadership.as_ptr(), Arc::as_ptr(leadership));
        }
    }
}

/// Waits until the driver has left and the system has forgotten its thread, or the deadline.
fn await_departure<E>(
    leadership: &Leadership,
    deadline: Deadline,
    on_signal: impl FnMut() -> Result<(), E>,
) -> Result<(), E> {
    let Departure::Gone(system) = leadership.await_departure(deadline, on_signal)? else { return Ok(()) };
    let end = Deadline::after(TO_BE_FORGOTTEN);
    if let Some(system) = system {
        let folder = format!("/proc/self/task/{system}");
        while Path::new(&folder).exists() && !end.passed() {
            std::thread::sleep(BETWEEN_LOOKS);
        }
    }
    Ok(())
}

/// The thread has a name, and is traced as those of `threading` are.
fn introduce(py: Python<'_>) -> PyResult<()> {
    let (threading, sys) = (py.import("threading")?, py.import("sys")?);
    threading.call_method0("current_thread")?.setattr("name", "PoolDriver")?;
    for (asked, told) in [("gettrace", "settrace"), ("getprofile", "setprofile")] {
        let function = threading.call_method0(asked)?;
        if !function.is_none() {
            sys.call_method1(told, (function,))?;
        }
    }
    Ok(())
}

/// `threading` forgets the thread.
fn take_leave(py: Python<'_>) -> PyResult<()> {
    let threading = py.import("threading")?;
    let number = py.import("_thread")?.call_method0("get_ident")?;
    threading.getattr("_active")?.call_method1("pop", (number, py.None())).map(drop)
}

/// Before a fork: drivers end. One that forks itself, to replace a worker, goes on.
pub(crate) fn drivers_before_fork(py: Python<'_>) {
    let ending: Vec<_> = {
        let mut driven = driven();
        driven.forks = driven.forks.saturating_add(1);
        let all = driven.all.iter_mut();
        all.filter_map(|each| {
            let (leadership, engine) = (each.leadership.upgrade()?, each.engine.upgrade()?);
            if leadership.drives_here() || !leadership.stop_driver() {
                return None;
            }
            each.stopped = true;
            Some((leadership, engine))
        })
        .collect()
    };
    if ending.is_empty() {
        return;
    }
    ending.iter().for_each(|(_, engine)| engine.ring());
    py.detach(|| {
        let end = Deadline::after(SECONDS_TO_END);
        for (leadership, _) in &ending {
            let Ok(()) = await_departure(leadership, end, || Ok::<_, Infallible>(()));
        }
    });
}

/// After a fork, in the parent, whether there is a child or not: drivers come back.
pub(crate) fn drivers_after_fork_in_parent(py: Python<'_>) {
    {
        let mut driven = driven();
        driven.forks = driven.forks.saturating_sub(1);
    }
    come_back(py);
}

/// Drivers come back that ended for a fork: not while there is another one, whose own call starts them; and not with the
/// mask of a thread from which signals are kept away, who calls this again.
pub(super) fn come_back(py: Python<'_>) {
    let pools: Vec<_> = {
        let mut driven = driven();
        if driven.forks > 0 || BlockedSignals::are_held() {
            return;
        }
        let all = driven.all.iter_mut();
        all.filter_map(|each| std::mem::take(&mut each.stopped).then(|| each.pool.clone_ref(py))).collect()
    };
    for pool in pools {
        if let Some(pool) = pool.bind(py).upgrade()
            && let Ok(pool) = pool.cast_into::<PyPool>()
        {
            PyPool::want_driver_of(&pool, true);
        }
    }
}

/// In a forked child: the pools are its parent's. Signals that were kept from the parent during the fork come in.
pub(crate) fn drivers_after_fork_in_child() {
    manyhands::take_on_in_child();
    let dropped = {
        let mut driven = driven();
        driven.forks = 0;
        std::mem::take(&mut driven.all)
    };
    drop(dropped);
}
