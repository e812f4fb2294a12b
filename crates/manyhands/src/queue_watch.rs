//! A descriptor that is readable while a queue has something for whoever receives: for `poll`, `select`, `epoll`.
//!
//! A ring has no descriptor, and a process cannot be given one after it was started. So the process that asks makes an
//! eventfd of its own, and a thread of its own that sleeps on the queue's wait words and keeps the eventfd as the queue is.
//! Who receives in this process calls [`look_at`] afterwards, by whichever value of the queue, so that the descriptor is
//! right when the call has returned; after somebody else has received, it is right soon.
//!
//! The threads end with their doorbells, and before every fork; in the parent they begin again after it, and none begins
//! while a fork is under way. A forked child has no thread and lets go of the descriptor: it makes its own when it asks.
//!
//! The lock of the list of doorbells is taken before that of one's state, and by no thread of theirs.

use crate::queue::Queue;
use crate::sys::{OsError, Remembered, bell, quiet_thread};
use manyhands_sync::arena::Handle;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    /// Whether the descriptor is readable. Changed under the lock of `state`.
    rung: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    bell: Option<Remembered>,
    thread: Option<Watcher>,
}

#[derive(Debug)]
struct Watcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// The doorbells of this process: a fork concerns them all, and a message those of its queue.
#[derive(Debug)]
struct Doorbells {
    all: Vec<(Handle, Weak<Shared>)>,
    /// Forks under way: their threads have ended, and other threads of this process may still run.
    forks: u32,
}

static DOORBELLS: Mutex<Doorbells> = Mutex::new(Doorbells { all: Vec::new(), forks: 0 });

/// How many doorbells there are: who receives where nobody polls pays for one load.
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn doorbells() -> MutexGuard<'static, Doorbells> {
    DOORBELLS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Doorbells {
    fn change(&mut self, change: impl FnOnce(&mut Vec<(Handle, Weak<Shared>)>)) {
        change(&mut self.all);
        COUNT.store(self.all.len(), Ordering::Release);
    }

    fn each(&self) -> impl Iterator<Item = Arc<Shared>> {
        self.all.iter().filter_map(|(_, shared)| shared.upgrade())
    }
}

/// After this process has received from that queue, or tried: its descriptors are as the queue is.
#[inline]
pub fn look_at(queue: &Queue) {
    if COUNT.load(Ordering::Acquire) != 0 {
        look_at_those_of(queue.handle());
    }
}

#[cold]
fn look_at_those_of(handle: Handle) {
    let of_queue = |entry: &&(Handle, Weak<Shared>)| entry.0 == handle;
    // Not under the list's lock: more threads receive than one.
    let found: Vec<_> = doorbells().all.iter().filter(of_queue).map(|(_, shared)| shared.clone()).collect();
    found.iter().filter_map(Weak::upgrade).for_each(|shared| shared.look_for_the_watcher());
}

impl Doorbell {
    /// A doorbell for that queue. It has no descriptor before somebody asks for it.
    #[must_use]
    pub fn new(queue: &Queue) -> Self {
        let (state, rung) = (Mutex::default(), AtomicBool::new(false));
        let shared = Arc::new(Shared { queue: queue.clone(), state, rung });
        doorbells().change(|all| all.push((queue.handle(), Arc::downgrade(&shared))));
        Self { shared }
    }

    /// The number of the descriptor, which is readable as the queue is at this moment, and goes with the doorbell. Whoever
    /// polls it must not read it.
    ///
    /// # Errors
    /// When there can be no descriptor or no thread.
    pub fn descriptor(&self) -> Result<RawFd, OsError> {
        let doorbells = doorbells();
        let mut state = self.shared.state();
        let number = match &state.bell {
            Some(bell) if bell.is_ours() => bell.number(),
            // None yet, or other code of this program has closed it.
            _ => {
                let bell = bell::create()?;
                let number = bell.number();
                self.shared.rung.store(false, Ordering::Release);
                state.bell = Some(bell);
                number
            }
        };
        // A thread that begins while a fork is under way might be in the middle of something when the child is made;
        // it begins after that.
        if state.thread.is_none() && doorbells.forks == 0 {
            state.thread = Some(self.shared.start()?);
        }
        drop(state);
        drop(doorbells);
        self.shared.look_for_the_watcher();
        Ok(number)
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        let own = Arc::as_ptr(&self.shared);
        doorbells().change(|all| all.retain(|(_, each)| each.as_ptr() != own));
        self.shared.end_thread();
        self.shared.state().bell = None;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the descriptor, if there is one, as the queue is; how that is, and whether it was another way.
    fn look(&self) -> (bool, bool) {
        let state = self.state();
        let ready = self.queue.is_ready();
        let Some(bell) = &state.bell else { return (ready, false) };
        let changed = ready != self.rung.load(Ordering::Acquire);
        if changed {
            if ready {
                bell::ring(bell);
            } else {
                bell::silence(bell);
            }
            self.rung.store(ready, Ordering::Release);
        }
        (ready, changed)
    }

    /// As [`Shared::look`], in another thread than the watcher's. That one may sleep until the opposite of what was found
    /// here comes about, and what comes next would not wake it.
    fn look_for_the_watcher(&self) {
        if self.look().1 {
            self.queue.wake_watchers();
        }
    }

    fn start(self: &Arc<Self>) -> Result<Watcher, OsError> {
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (self.clone(), stop.clone());
        let thread = quiet_thread::spawn("manyhands-bell", move || shared.watch(&stopped))?;
        Ok(Watcher { stop, thread })
    }

    fn watch(&self, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            let (ready, _) = self.look();
            self.queue
                .watch(ready, || stop.load(Ordering::Acquire) || self.rung.load(Ordering::Acquire) != ready);
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
pub fn always_writable() -> Result<Remembered, OsError> {
    bell::create()
}

/// Before a fork: no thread is left that the child would have half of.
pub fn before_fork() {
    let mut doorbells = doorbells();
    doorbells.forks = doorbells.forks.saturating_add(1);
    doorbells.each().for_each(|shared| shared.end_thread());
}

/// After a fork, in the parent: the threads begin again.
pub fn after_fork_in_parent() {
    let mut doorbells = doorbells();
    doorbells.forks = doorbells.forks.saturating_sub(1);
    if doorbells.forks > 0 {
        // Another thread forks too, and its own call begins them.
        return;
    }
    for shared in doorbells.each() {
        let mut state = shared.state();
        if state.bell.is_some() && state.thread.is_none() {
            // Without one the descriptor is right whenever somebody asks for it or receives here.
            state.thread = shared.start().ok();
        }
    }
}

/// In a forked child: the descriptors are the parent's.
pub fn after_fork_in_child() {
    let mut doorbells = doorbells();
    doorbells.forks = 0;
    for shared in doorbells.each() {
        *shared.state() = State::default();
    }
}
