//! The functions of a pool's jobs: each is sent once, and withdrawn when it is not needed any more.
//!
//! A function whose pickle is nothing but its name is the same for every call: it stays published for later jobs, while
//! there are not too many of them. Anything else (a partial, a bound method, a function that travels by value) may
//! change from call to call: it is published for one job and withdrawn with it.

use super::PyPool;
use crate::error;
use crate::once::class_name;
use crate::pickling;
use manyhands::pool::Function;
use manyhands::{Handle, Message};
use pyo3::prelude::*;
use std::collections::HashMap;

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
    /// A function that is known by this key.
    Known(usize),
}

/// The functions that pickle by name, by their identity.
#[derive(Debug, Default)]
pub(super) struct Functions {
    known: HashMap<usize, Known>,
    next: u32,
}

#[derive(Debug)]
pub(super) struct Known {
    /// Keeps the identity from being another's.
    pub(super) object: Py<PyAny>,
    function: Function,
    users: usize,
}

impl Functions {
    fn begin_use(&mut self, key: usize) -> Option<Function> {
        let known = self.known.get_mut(&key)?;
        known.users += 1;
        Some(known.function)
    }

    fn end_use(&mut self, key: usize) {
        if let Some(known) = self.known.get_mut(&key) {
            known.users = known.users.saturating_sub(1);
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
        self.known.drain().map(|(_, known)| known).collect()
    }

    /// The objects, for the garbage collector.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Py<PyAny>> {
        self.known.values().map(|known| &known.object)
    }
}

impl PyPool {
    /// A function that pickles by name, for a single call; nothing for any other, which travels with its arguments.
    pub(super) fn function_for_call(&self, func: &Bound<'_, PyAny>) -> PyResult<(Function, Used)> {
        let key = func.as_ptr() as usize;
        if let Some(function) = self.state().functions.begin_use(key) {
            return Ok((function, Used::Known(key)));
        }
        if !may_pickle_by_name(func)? {
            return Ok((NO_FUNCTION, Used::Nothing));
        }
        let pickled = pickling::pickle(func)?;
        if !is_a_name(pickled.as_bytes()) {
            return Ok((NO_FUNCTION, Used::Nothing));
        }
        let function = self.publish_known(func, pickled.as_bytes())?;
        Ok((function, Used::Known(key)))
    }

    /// As [`PyPool::function_for_call`], for an executor's calls: the function stays published as long as the executor is
    /// there.
    pub(super) fn function_of_calls(&self, func: &Bound<'_, PyAny>) -> PyResult<Option<Function>> {
        Ok(match self.function_for_call(func)? {
            (function, Used::Known(_)) => Some(function),
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
        if !own && let Some(function) = self.state().functions.begin_use(key) {
            return Ok(Some((function, Used::Known(key))));
        }
        let (pickled, noted) = pickling::dumps_for_many(func)?;
        if !noted.offers.is_empty() {
            return Ok(None);
        }
        if !own && may_pickle_by_name(func)? && is_a_name(pickled.as_bytes()) {
            let function = self.publish_known(func, pickled.as_bytes())?;
            return Ok(Some((function, Used::Known(key))));
        }
        let function = self.publish(pickled.as_bytes(), &noted.handles)?;
        Ok(Some((function, Used::Own(function))))
    }

    /// Publishes a function for all jobs; the caller is its first user.
    fn publish_known(&self, func: &Bound<'_, PyAny>, pickled: &[u8]) -> PyResult<Function> {
        let key = func.as_ptr() as usize;
        let function = self.publish(pickled, &[])?;
        let mut state = self.state();
        if let Some(before) = state.functions.begin_use(key) {
            // Another thread was faster, while pickling ran Python code.
            drop(state);
            self.engine.withdraw(function);
            return Ok(before);
        }
        let idle = state.functions.take_idle();
        state.functions.known.insert(key, Known { object: func.clone().unbind(), function, users: 1 });
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
            Used::Known(key) => self.state().functions.end_use(key),
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
