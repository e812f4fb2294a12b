//! Descriptors that a pickle offers to its receiver: this process holds a copy of each until the receiver asks for it.
//!
//! A message that is not sent, or lies in a queue or pool that is gone, is asked for by nobody: its offers are withdrawn,
//! so that the other end of a pipe sees its end. Python's half is `manyhands._descriptors`.

use crate::imports::import_at_need;
use manyhands::Handle;
use manyhands::family::Family;
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Offers that are withdrawn with this value, unless they are sent.
#[derive(Debug, Default)]
pub(crate) struct Offers(Vec<Py<PyAny>>);

/// Offers that lie in queues and pools; the handle is of what they lie in.
static IN_FLIGHT: Mutex<Vec<(Handle, Offers)>> = Mutex::new(Vec::new());
/// Whether there are any, for the many who send none.
static ARE_SOME_IN_FLIGHT: AtomicBool = AtomicBool::new(false);
/// In place of the handle of a queue that is gone.
const NOWHERE: Handle = Handle { offset: 0, generation: 0 };
/// So many are looked through for some that were taken.
const MANY: usize = 64;

impl Offers {
    pub(crate) fn push(&mut self, offer: Py<PyAny>) {
        self.0.push(offer);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn extend(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    /// Those from that one on.
    pub(crate) fn split_off(&mut self, at: usize) -> Self {
        Self(self.0.split_off(at.min(self.0.len())))
    }

    /// They are on their way, to somebody of whom nothing more is known.
    pub(crate) fn sent(mut self) {
        self.0.clear();
    }

    /// They are on their way, and lie in that queue or pool until they are taken; whose receiver asks for them while it
    /// unpickles, with the queue in its hands. An offer that is an object of the sender's own is asked for at any time: that
    /// one is left to whoever gets it, as in the standard library.
    pub(crate) fn sent_into(mut self, py: Python<'_>, home: Handle) {
        if self.is_empty() {
            return;
        }
        let own: Vec<_> = self.0.extract_if(.., |offer| is_kept(py, offer)).collect();
        Self(own).sent();
        if self.is_empty() {
            return;
        }
        let many = {
            let mut in_flight = in_flight();
            in_flight.push((home, self));
            in_flight.len().is_power_of_two() && in_flight.len() >= MANY
        };
        ARE_SOME_IN_FLIGHT.store(true, Ordering::Relaxed);
        if many {
            look_again(py, true);
        }
    }

    /// What nobody has asked for so far.
    fn still_offered(&self, py: Python<'_>) -> PyResult<Self> {
        let left = descriptors(py)?.call_method1("still_offered", (self.listed(py)?,))?;
        Ok(Self(left.extract()?))
    }

    fn listed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, &self.0)
    }

    /// Withdraws them; what could not be withdrawn now is looked at again later.
    fn withdraw(&self, py: Python<'_>) -> PyResult<()> {
        let left: Vec<_> = descriptors(py)?.call_method1("withdraw", (self.listed(py)?,))?.extract()?;
        if !left.is_empty() {
            in_flight().push((NOWHERE, Self(left)));
            ARE_SOME_IN_FLIGHT.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Drop for Offers {
    fn drop(&mut self) {
        if self.is_empty() {
            return;
        }
        // Without an interpreter there is nobody who could ask for them.
        Python::try_attach(|py| {
            // An exception may be on its way.
            let raised = PyErr::take(py);
            // At the interpreter's end the kernel closes them.
            if !is_ending(py)
                && let Err(error) = self.withdraw(py)
            {
                error.write_unraisable(py, None);
            }
            self.0.clear();
            if let Some(raised) = raised {
                raised.restore(py);
            }
        });
    }
}

/// Whether somebody has the object that was pickled as an offer.
fn is_kept(py: Python<'_>, offer: &Py<PyAny>) -> bool {
    let object = offer.bind(py).get_item(0).and_then(|reference| reference.call0());
    object.is_ok_and(|object| !object.is_none())
}

fn in_flight() -> MutexGuard<'static, Vec<(Handle, Offers)>> {
    IN_FLIGHT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the interpreter is taking its modules apart.
fn is_ending(py: Python<'_>) -> bool {
    let ending = py.import("sys").and_then(|sys| sys.call_method0("is_finalizing")?.extract());
    ending.unwrap_or(true)
}

fn descriptors(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    import_at_need(py, "manyhands._descriptors")
}

/// A queue or pool may be gone: withdraws the offers that lay in it.
pub(crate) fn home_may_be_gone(py: Python<'_>) {
    if ARE_SOME_IN_FLIGHT.load(Ordering::Relaxed) {
        look_again(py, false);
    }
}

/// Withdraws what lies in what is gone; forgets what was `taken`, if asked to look for it.
fn look_again(py: Python<'_>, taken: bool) {
    let Some(family) = Family::existing() else { return };
    // Without the lock: withdrawing runs Python code, which may come here.
    let all = std::mem::take(&mut *in_flight());
    let mut kept = Vec::with_capacity(all.len());
    for (home, offers) in all {
        if family.arena().kind(home).is_err() {
            drop(offers);
        } else if !taken {
            kept.push((home, offers));
        } else if let Ok(left) = offers.still_offered(py) {
            offers.sent();
            if !left.is_empty() {
                kept.push((home, left));
            }
        } else {
            kept.push((home, offers));
        }
    }
    let mut in_flight = in_flight();
    in_flight.append(&mut kept);
    ARE_SOME_IN_FLIGHT.store(!in_flight.is_empty(), Ordering::Relaxed);
}

/// In a forked child: what its parent offers is its parent's.
pub(crate) fn forget_all() {
    let all = std::mem::take(&mut *in_flight());
    all.into_iter().for_each(|(_, offers)| offers.sent());
    ARE_SOME_IN_FLIGHT.store(false, Ordering::Relaxed);
}
