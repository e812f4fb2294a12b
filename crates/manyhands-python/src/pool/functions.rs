//! The functions of a pool's jobs: each is sent once, and withdrawn when it is not needed any more.
//!
//! A function whose pickle is nothing but its name is the same for every call: it stays published for later jobs, while
//! there are not too many of them, and while all that it uses of the main module's functions and classes is what it was
//! (else it may go by value now): these names are looked up at each call. Anything else (a partial, a bound method, a
//! function that travels by value) may change from call to call: it is published for one job and withdrawn with it.

use super::PyPool;
use crate::error;
use crate::once::class_name;
use crate::pickling;
use manyhands::pool::Function;
use manyhands::{Handle, Message};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::collections::HashMap;
use std::sync::Arc;

/// In a task that carries its function with its arguments.
pub(super) const NO_FUNCTION: Function = Function::none(u32::MAX);
/// Functions that pickle by name and are kept published though no job uses them.
const MOST_IDLE: usize = 64;

/// What a job calls.
#[derive(Debug, Default)]
pub(super) enum Used {
    /// Nothing that was published.
    #[default]
    Nothing,
    /// A function that was published for this job alone.
    Own(Function),
    /// A function that is known by this key, with its number.
    Known(usize, u32),
}

/// The functions that pickle by name, by their identity.
#[derive(Debug, Default)]
pub(super) struct Functions {
    known: HashMap<usize, Known>,
    /// Those that use something else by now, while jobs have them yet.
    outdated: Vec<Known>,
    next: u32,
}

#[derive(Debug)]
pub(super) struct Known {
    /// Keeps the identity from being another's.
    pub(super) object: Py<PyAny>,
    function: Function,
    users: usize,
    /// Of one of the main module's.
    uses: Option<Arc<Uses>>,
}

/// What a function of the main module uses there, itself included.
#[derive(Debug)]
struct Uses {
    /// The module's names.
    names: Py<PyAny>,
    used: Vec<(Py<PyString>, Py<PyAny>)>,
}

impl Uses {
    /// `None` for what is not of the main module.
    fn of(func: &Bound<'_, PyAny>) -> PyResult<Option<Arc<Self>>> {
        let pickler = func.py().import("manyhands._pickler")?;
        let found = pickler.call_method1("used_of_main", (func,))?;
        if found.is_none() {
            return Ok(None);
        }
        let (names, used) = found.extract()?;
        Ok(Some(Arc::new(Self { names, used })))
    }

    /// Whether the names mean what they meant. To be asked with no lock held: keys of others' may run Python code.
    fn are_the_same(&self, py: Python<'_>) -> PyResult<bool> {
        let names = self.names.bind(py).cast::<PyDict>()?;
        for (name, object) in &self.used {
            if !names.get_item(name.bind(py))?.is_some_and(|now| now.is(object)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Functions {
    fn begin_use(&mut self, key: usize) -> Option<(Function, Option<Arc<Uses>>)> {
        let known = self.known.get_mut(&key)?;
        known.users += 1;
        Some((known.function, known.uses.clone()))
    }

    /// What is to be withdrawn, and dropped with no lock held.
    fn end_use(&mut self, key: usize, number: u32) -> Option<Known> {
        if let Some(known) = self.known.get_mut(&key).filter(|known| known.function.id == number) {
            known.users = known.users.saturating_sub(1);
            return None;
        }
        let at = self.outdated.iter().position(|known| known.function.id == number)?;
        let known = self.outdated.get_mut(at)?;
        known.users = known.users.saturating_sub(1);
        (known.users == 0).then(|| self.outdated.swap_remove(at))
    }

    /// No later call has that one, which the caller uses.
    fn outdate(&mut self, key: usize, number: u32) {
        if self.known.get(&key).is_some_and(|known| known.function.id == number) {
            self.outdated.extend(self.known.remove(&key));
        }
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// Those that no job uses, when there are too many; to be withdrawn, and dropped with no lock held.
    fn take_idle(&mut self) -> Vec<Known> {
        if self.known.len() < MOST_IDLE {
            return Vec::new();
        }
        let idle: Vec<_> = self.known.iter().filter(|(_, k)| k.users == 0).map(|(key, _)| *key).collect();
        idle.iter().filter_map(|key| self.known.remove(key)).collect()
    }

    /// All of them.
    pub(super) fn take_all(&mut self) -> Vec<Known> {
        self.known.drain().map(|(_, known)| known).chain(self.outdated.drain(..)).collect()
    }

    /// The objects, for the garbage collector.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Py<PyAny>> {
        self.known.values().chain(&self.outdated).flat_map(|known| {
            let uses = known.uses.iter().flat_map(|uses| {
                std::iter::once(&uses.names).chain(uses.used.iter().map(|(_, object)| object))
            });
            std::iter::once(&known.object).chain(uses)
        })
    }
}

impl PyPool {
    /// A function that pickles by name, for a single call; nothing for any other, which travels with its arguments.
    pub(super) fn function_for_call(&self, func: &Bound<'_, PyAny>) -> PyResult<(Function, Used)> {
        let key = func.as_ptr() as usize;
        if let Some(function) = self.known_for(func.py(), key)? {
            return Ok((function, Used::Known(key, function.id)));
        }
        if !may_pickle_by_name(func)? {
            return Ok((NO_FUNCTION, Used::Nothing));
        }
        let pickled = pickling::pickle(func)?;
        if !is_a_name(pickled.as_bytes()) {
            return Ok((NO_FUNCTION, Used::Nothing));
        }
        let function = self.publish_known(func, pickled.as_bytes())?;
        Ok((function, Used::Known(key, function.id)))
    }

    /// A function that is published already, while it is what it was; the caller is a user of it.
    fn known_for(&self, py: Python<'_>, key: usize) -> PyResult<Option<Function>> {
        let Some((function, uses)) = self.state().functions.begin_use(key) else { return Ok(None) };
        let same = uses.map_or(Ok(true), |uses| uses.are_the_same(py));
        if matches!(same, Ok(true)) {
            return Ok(Some(function));
        }
        self.state().functions.outdate(key, function.id);
        self.release(Used::Known(key, function.id));
        same.map(|_| None)
    }

    /// As [`PyPool::function_for_call`], for an executor's calls: the function stays published as long as the executor is
    /// there.
    pub(super) fn function_of_calls(&self, func: &Bound<'_, PyAny>) -> PyResult<Option<Function>> {
        Ok(match self.function_for_call(func)? {
            (function, Used::Known(..)) => Some(function),
            _ => None,
        })
    }

    /// WAYPOINT task 1/9: the function is sent once for all jobs, or once for this job and withdrawn with it. A job that
    /// may be given up has one of its own in any case: workers see by its end that the job's items are not wanted. `None` for
    /// one that offers descriptors, each of which one receiver gets: it has to go with each task.
    pub(super) fn function_for_job(
        &self,
        func: &Bound<'_, PyAny>,
        own: bool,
    ) -> PyResult<Option<(Function, Used)>> {
        let key = func.as_ptr() as usize;
        if !own && let Some(function) = self.known_for(func.py(), key)? {
            return Ok(Some((function, Used::Known(key, function.id))));
        }
        let (pickled, noted) = pickling::dumps_for_many(func)?;
        if !noted.offers.is_empty() {
            return Ok(None);
        }
        if !own && may_pickle_by_name(func)? && is_a_name(pickled.as_bytes()) {
            let function = self.publish_known(func, pickled.as_bytes())?;
            return Ok(Some((function, Used::Known(key, function.id))));
        }
        let function = self.publish(pickled.as_bytes(), &noted.handles)?;
        Ok(Some((function, Used::Own(function))))
    }

    /// Publishes a function for all jobs; the caller is its first user.
    fn publish_known(&self, func: &Bound<'_, PyAny>, pickled: &[u8]) -> PyResult<Function> {
        let key = func.as_ptr() as usize;
        let uses = Uses::of(func)?;
        let function = self.publish(pickled, &[])?;
        let mut state = self.state();
        if let Some((before, _uses)) = state.functions.begin_use(key) {
            // Another thread was faster, while pickling ran Python code.
            drop(state);
            self.engine.withdraw(function);
            return Ok(before);
        }
        let idle = state.functions.take_idle();
        state.functions.known.insert(key, Known { object: func.clone().unbind(), function, users: 1, uses });
        drop(state);
        for known in idle {
            self.engine.withdraw(known.function);
        }
        Ok(function)
    }

    fn publish(&self, pickled: &[u8], carried: &[Handle]) -> PyResult<Function> {
        let id = self.state().functions.number();
        let function = Message { parts: &[pickled], carried };
        self.engine.publish_message(id, function).map_err(error::send)
    }

    /// A job is done with its function.
    pub(super) fn release(&self, used: Used) {
        match used {
            Used::Nothing => {}
            Used::Own(function) => self.engine.withdraw(function),
            Used::Known(key, number) => {
                let outdated = self.state().functions.end_use(key, number);
                if let Some(known) = outdated {
                    self.engine.withdraw(known.function);
                }
            }
        }
    }

    /// Withdraws every function: no worker is left.
    pub(super) fn withdraw_all(&self) {
        let all = self.state().functions.take_all();
        for known in all {
            self.engine.withdraw(known.function);
        }
    }
}

/// Plain functions and classes; not bound methods, partials and instances, whose state may differ from one call to the
/// next.
fn may_pickle_by_name(func: &Bound<'_, PyAny>) -> PyResult<bool> {
    let kind = class_name(func)?;
    let by_name = match kind.to_str()? {
        "function" | "type" => true,
        "builtin_function_or_method" => {
            let of = func.getattr("__self__")?;
            of.is_none() || of.is_instance_of::<pyo3::types::PyModule>()
        }
        _ => false,
    };
    Ok(by_name)
}

/// Whether a pickle says nothing but a name: its last step before the end (and perhaps a note in the memo) looks the
/// object up. A function that was pickled by value ends with a call instead.
fn is_a_name(pickle: &[u8]) -> bool {
    const STACK_GLOBAL: u8 = 0x93;
    const MEMOIZE: u8 = 0x94;
    matches!(pickle, [.., STACK_GLOBAL, b'.'] | [.., STACK_GLOBAL, MEMOIZE, b'.'])
}
