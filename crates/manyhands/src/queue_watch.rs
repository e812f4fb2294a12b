//! A descriptor that is readable while a queue has something for whoever receives: for `poll`, `select`, `epoll`.
//!
//! A ring has no descriptor, and a process cannot be given one after it was started. So the process that asks makes an
//! eventfd of its own, and a thread of its own that sleeps on the queue's wait words and keeps the eventfd as the queue is.
//! Who receives in this process has [`Doorbell::look`] run afterwards, so that the descriptor is right when the call has
//! returned; after somebody else has received, it is right soon.
//!
//! The threads end with their doorbells, and before every fork; in the parent they begin again after it. A forked child has
//! no thread and lets go of the descriptor: it makes its own when it asks.

use crate::queue::Queue;
use crate::sys::{OsError, bell, quiet_thread};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;

/// A queue's doorbell in this process.
#[derive(Debug)]
pub struct Doorbell {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Queue,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bell: Option<OwnedFd>,
    /// Whether the descriptor is readable.
    rung: bool,
    thread: Option<Watcher>,
}

#[derive(Debug)]
struct Watcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Every doorbell of this process: a fork concerns them all.
static DOORBELLS: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

fn doorbells() -> MutexGuard<'static, Vec<Weak<Shared>>> {
    DOORBELLS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Doorbell {
    /// A doorbell for that queue. It has no descriptor before somebody asks for it.
    #[must_use]
    pub fn new(queue: &Queue) -> Self {
        let shared = Arc::new(Shared { queue: queue.clone(), state: Mutex::default() });
        let mut all = doorbells();
        all.retain(|each| each.strong_count() > 0);
        all.push(Arc::downgrade(&shared));
        Self { shared }
    }

    /// The number of the descriptor, which is readable as the queue is at this moment, and goes with the doorbell. Whoever
    /// polls it must not read it.
    ///
    /// # Errors
    /// When there can be no descriptor or no thread.
    pub fn descriptor(&self) -> Result<RawFd, OsError> {
        let mut state = self.shared.state();
        let number = match &state.bell {
            Some(bell) => bell.as_raw_fd(),
            None => {
                let bell = bell::create()?;
                let number = bell.as_raw_fd();
                *state = State { bell: Some(bell), rung: false, thread: None };
                number
            }
        };
        if state.thread.is_none() {
            state.thread = Some(self.shared.start()?);
        }
        self.shared.look(&mut state);
        Ok(number)
    }

    /// Makes the descriptor, if there is one, as the queue is.
    pub fn look(&self) {
        self.shared.look(&mut self.shared.state());
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        self.shared.end_thread();
        self.shared.state().bell = None;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, state: &mut State) -> bool {
        let ready = self.queue.is_ready();
        if let Some(bell) = &state.bell
            && ready != state.rung
        {
            if ready {
                bell::ring(bell);
            } else {
                bell::silence(bell);
            }
            state.rung = ready;
        }
        ready
    }

    fn start(self: &Arc<Self>) -> Result<Watcher, OsError> {
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (self.clone(), stop.clone());
        let thread = quiet_thread::spawn("manyhands-bell", move || shared.watch(&stopped))?;
        Ok(Watcher { stop, thread })
    }

    fn watch(&self, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            let ready = self.look(&mut self.state());
            self.queue.watch(ready, || stop.load(Ordering::Acquire));
        }
    }

    /// The thread is gone when this returns.
    fn end_thread(&self) {
        // Not under the lock: the thread takes it.
        let Some(watcher) = self.state().thread.take() else { return };
        watcher.stop.store(true, Ordering::Release);
        self.queue.wake_watchers();
        let _ = watcher.thread.join();
    }
}

/// A descriptor that is always writable, for those who want one of a queue that takes messages at any time.
///
/// # Errors
/// When there can be no descriptor.
pub fn always_writable() -> Result<OwnedFd, OsError> {
    bell::create()
}

/// Before a fork: no thread is left that the child would have half of.
pub fn before_fork() {
    for shared in doorbells().iter().filter_map(Weak::upgrade) {
        shared.end_thread();
    }
}

/// After a fork, in the parent: the threads begin again.
pub fn after_fork_in_parent() {
    for shared in doorbells().iter().filter_map(Weak::upgrade) {
        let mut state = shared.state();
        if state.bell.is_some() && state.thread.is_none() {
            // Without one the descriptor is right whenever somebody asks for it or receives here.
            state.thread = shared.start().ok();
        }
    }
}

/// In a forked child: the descriptors are the parent's.
pub fn after_fork_in_child() {
    for shared in doorbells().iter().filter_map(Weak::upgrade) {
        *shared.state() = State::default();
    }
}
