//! Starting processes, as Python sees it. The three ways meet in [`PyStart`]; what each does in Python is in
//! `popen_fork.py`, `popen_spawn_posix.py` and `popen_forkserver.py`.

use crate::arguments::Limit;
use crate::blocking::{self, on_signal};
use crate::error;
use crate::forks::caller;
use crate::launched;
use crate::pickling;
use manyhands::family::{Family, FamilyError, Place};
use manyhands::launch::{self, Asked, Request, Start, Zygote, ZygoteClient};
use manyhands::process::{self, Look, Process, Sentinel};
use manyhands::{BlockedSignals, Deadline, Handle, OsError, Remembered, Signals, Waited, adopt_descriptor};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyCFunction};
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A handle as Python sees it: offset and generation.
type Named = (u64, u32);

/// A child about to be started; it can be started once.
#[pyclass(name = "Start", module = "manyhands._manyhands")]
#[derive(Debug)]
pub(crate) struct PyStart(Option<Start>);

#[pymethods]
impl PyStart {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self(Some(Start::prepare().map_err(error::launch)?)))
    }

    /// The child's place in the process table.
    #[getter]
    fn place(&self) -> PyResult<u64> {
        Ok(self.start()?.place())
    }

    /// Takes references to queues along for the child, as `carrying` names them.
    fn pack(&self, carried: Vec<Named>) -> PyResult<()> {
        let carried: Vec<_> =
            carried.into_iter().map(|(offset, generation)| Handle { offset, generation }).collect();
        self.start()?.pack(&carried).map_err(error::launch)
    }

    /// The child's end of its life pipe.
    #[getter]
    fn life(&self) -> PyResult<i32> {
        self.start()?.life().map(|life| life.as_raw_fd()).map_err(error::os)
    }

    /// In a forked child: takes the slot; the life pipe is the caller's from then on.
    fn in_child(&mut self) -> PyResult<i32> {
        let life =
            self.start()?.life().and_then(|life| adopt_descriptor(life.as_raw_fd())).map_err(error::os)?;
        let place = self.start()?.place();
        self.0 = None;
        take_place(Family::current().map_err(error::family)?, place)?;
        Ok(life.into_raw_fd())
    }

    /// Forks by `fork`: `os.fork`, or what somebody else has put there; `None` in the child. No Python code is between the
    /// fork and what the parent does next, and to the child no signal comes until it calls `let_signals_in`: so no
    /// signal's handler raises there. `intent` is where the standard library's resource tracker looks, by `preserve_fd`, whether a fork makes a
    /// process of multiprocessing: the child of any other has a tracker of its own, which destroys what that child has
    /// opened when it ends.
    fn fork(
        slf: &Bound<'_, Self>,
        fork: &Bound<'_, PyAny>,
        intent: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<PyProcess>> {
        let standing = intent.map(Standing::for_a_process).transpose()?;
        slf.borrow().announce(fork)?;
        let forked = fork.call0().and_then(|pid| pid.extract::<u32>());
        // In both processes: what they fork next is not this one.
        let back = standing.map_or(Ok(()), Standing::end);
        match forked {
            Ok(0) => {
                keep_handlers_away(fork.py());
                Ok(None)
            }
            // Noted before anything is raised.
            Ok(pid) => {
                let process = slf.borrow_mut().take()?.forked(pid).map(PyProcess::from);
                back.and(process.map(Some).map_err(error::launch))
            }
            Err(refused) => {
                slf.borrow().start()?.withdraw();
                Err(refused)
            }
        }
    }

    /// In a forked child, which can be interrupted from now on.
    #[staticmethod]
    fn let_signals_in() {
        manyhands::take_on_in_child();
    }

    /// Has `start` start the child, as a debugger or a tracer does that has replaced how programs are started; its result
    /// is the child's pid.
    fn start_by(&mut self, start: &Bound<'_, PyAny>) -> PyResult<PyProcess> {
        let pid = start.call0()?.extract()?;
        self.take()?.forked(pid).map(PyProcess::from).map_err(error::launch)
    }

    /// Starts a program with this process's environment; it inherits the descriptors with the numbers in `passed`. It
    /// begins with SIGINT blocked unless it is `interruptible`.
    #[pyo3(signature = (program, argv, passed, interruptible=true))]
    fn spawn(
        &mut self,
        program: OsString,
        argv: Vec<OsString>,
        passed: Vec<i32>,
        interruptible: bool,
    ) -> PyResult<PyProcess> {
        let block = || BlockedSignals::new(Signals::Interrupt, true).map_err(error::os);
        let _inherited = if interruptible { None } else { Some(block()?) };
        let (program, environment) = (text(program)?, environment()?);
        let argv = argv.into_iter().map(text).collect::<PyResult<Vec<_>>>()?;
        let process = self.take()?.spawn(&program, &argv, &environment, &passed);
        process.map(PyProcess::from).map_err(error::launch)
    }

    /// Has a fork server start it; `job` and the descriptors in `passed` reach the child. When a signal handler raises
    /// meanwhile, there is no child, or it is ended.
    fn request(
        &mut self,
        py: Python<'_>,
        zygote: &PyZygoteClient,
        job: &PyJobDescriptor,
        passed: Vec<i32>,
    ) -> PyResult<PyProcess> {
        let mut asked = self.take()?.ask(&zygote.client, &job.0).map_err(error::launch)?;
        loop {
            // With the GIL: no fork in another thread takes along the server's end of the channel.
            send(&mut asked, &passed)?;
            if py.detach(|| asked.wait(Deadline::NEVER)).map_err(error::launch)? == Waited::Ready {
                return asked.finish().map(PyProcess::from).map_err(error::launch);
            }
            py.check_signals()?;
        }
    }
}

impl PyStart {
    /// The interpreter's own fork is called from the code that runs now: the next one from there is the child. An
    /// `os.fork` of somebody else's calls it from other code: then it is the next one of this thread.
    fn announce(&self, fork: &Bound<'_, PyAny>) -> PyResult<()> {
        let caller = if fork.is_exact_instance_of::<PyCFunction>() { caller(fork.py()) } else { 0 };
        self.start()?.announce(caller).map_err(error::launch)
    }

    fn start(&self) -> PyResult<&Start> {
        self.0.as_ref().ok_or_else(already_started)
    }

    fn take(&mut self) -> PyResult<Start> {
        self.0.take().ok_or_else(already_started)
    }
}

/// While a fork makes a process of multiprocessing. A hook of the fork may start a process itself.
struct Standing<'a, 'py> {
    intent: &'a Bound<'py, PyAny>,
    before: Bound<'py, PyAny>,
}

impl<'a, 'py> Standing<'a, 'py> {
    fn for_a_process(intent: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        let before = match intent.getattr_opt("preserve_fd")? {
            Some(before) => before,
            None => PyBool::new(intent.py(), false).to_owned().into_any(),
        };
        intent.setattr("preserve_fd", true)?;
        Ok(Self { intent, before })
    }

    fn end(self) -> PyResult<()> {
        self.intent.setattr("preserve_fd", self.before)
    }
}

/// In a forked child: until it is ready for signals. It goes on in the frames of its parent's program, out of which nothing
/// may raise.
fn keep_handlers_away(py: Python<'_>) {
    // It cannot fail; should it, signals come a moment too early.
    let _ = manyhands::keep_away_in_child();
    // What has come since the fork.
    while let Err(raised) = py.check_signals() {
        raised.write_unraisable(py, None);
    }
}

/// Sends a request, unless it was sent. The numbers are made descriptors for this one call: while it waits for room, the
/// user may close them.
fn send(asked: &mut Asked<'_>, passed: &[i32]) -> PyResult<()> {
    if asked.is_sent() {
        return Ok(());
    }
    let passed: Result<Vec<_>, _> = passed.iter().map(|&number| adopt_descriptor(number)).collect();
    let passed = passed.map_err(error::os)?;
    let passed: Vec<_> = passed.iter().map(AsFd::as_fd).collect();
    asked.send(&passed).map_err(error::launch)
}

fn already_started() -> PyErr {
    PyValueError::new_err("this start was carried out already")
}

fn text(string: OsString) -> PyResult<CString> {
    CString::new(string.into_vec()).map_err(|_| PyValueError::new_err("embedded null byte"))
}

/// This process's environment as it is now: what Python has set through `os.environ` included.
fn environment() -> PyResult<Vec<CString>> {
    std::env::vars_os()
        .map(|(name, value)| {
            let mut entry = name.into_vec();
            entry.push(b'=');
            entry.extend(value.into_vec());
            text(OsString::from_vec(entry))
        })
        .collect()
}

/// A process that was started.
#[pyclass(name = "Process", module = "manyhands._manyhands", frozen)]
#[derive(Debug)]
pub(crate) struct PyProcess {
    pid: u32,
    /// Apart from the process, so that waiting holds no lock.
    sentinel: Arc<Sentinel>,
    process: Mutex<Process>,
}

impl From<Process> for PyProcess {
    fn from(process: Process) -> Self {
        let sentinel = Arc::clone(process.sentinel());
        launched::note(&sentinel);
        Self { pid: process.pid(), sentinel, process: Mutex::new(process) }
    }
}

#[pymethods]
impl PyProcess {
    /// Its process id.
    #[getter]
    fn pid(&self) -> u32 {
        self.pid
    }

    /// A descriptor that becomes readable when the process has ended.
    #[getter(sentinel)]
    fn sentinel_number(&self) -> i32 {
        self.sentinel.number()
    }

    /// The exit code, or minus the signal; `None` while it runs.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<i32>> {
        loop {
            let look = self.process().look().map_err(error::os)?;
            let (channel, deadline) = match look {
                Look::Runs => return Ok(None),
                Look::Ended(status) => return Ok(Some(status)),
                Look::Awaited(channel, deadline) => (channel, deadline),
            };
            let wait = || process::wait_for_zygote_interruptibly(&channel, deadline, on_signal);
            py.detach(wait)?.map_err(error::os)?;
        }
    }

    /// Waits for the end, at most `timeout` seconds; then as `poll`.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<i32>> {
        let limit = Limit::of_poll(timeout)?;
        let deadline = limit.deadline()?.unwrap_or_else(|| blocking::after(0.0));
        loop {
            if let Some(status) = self.poll(py)? {
                return Ok(Some(status));
            }
            let wait = || process::wait_for_interruptibly(&self.sentinel, deadline, on_signal);
            if !py.detach(wait)?.map_err(error::os)? {
                return self.poll(py);
            }
        }
    }

    /// Sends a signal; nothing happens when the process has ended.
    fn signal(&self, signal: i32) -> PyResult<()> {
        self.process().signal(signal).map_err(error::os)
    }
}

impl PyProcess {
    /// For who waits while somebody else polls.
    pub(crate) fn sentinel(&self) -> Arc<Sentinel> {
        Arc::clone(&self.sentinel)
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The client's end of a connection to a fork server.
#[pyclass(name = "ZygoteClient", module = "manyhands._manyhands", frozen)]
#[derive(Debug)]
pub(crate) struct PyZygoteClient {
    client: ZygoteClient,
    servers_end: Mutex<Option<OwnedFd>>,
}

#[pymethods]
impl PyZygoteClient {
    #[new]
    fn new() -> PyResult<Self> {
        let (client, servers) = ZygoteClient::new().map_err(error::os)?;
        Ok(Self { client, servers_end: Mutex::new(Some(servers)) })
    }

    /// The number of the socket that the fork server must inherit.
    #[getter]
    fn servers_end(&self) -> Option<i32> {
        self.end().as_ref().map(AsRawFd::as_raw_fd)
    }

    /// The fork server is that process, and has its socket: this process needs it no more.
    fn started(&self, server: &PyProcess) {
        self.client.watch(&server.process());
        self.end().take();
    }
}

impl PyZygoteClient {
    fn end(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.servers_end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fork server's end.
#[pyclass(name = "Zygote", module = "manyhands._manyhands")]
#[derive(Debug)]
pub(crate) struct PyZygote {
    /// Nothing in a child.
    zygote: Option<Zygote>,
    request: Option<Request>,
    /// From just before the fork of a child in reserve on: the zygote's end of its channel, and the child's.
    channel: Option<(OwnedFd, OwnedFd)>,
}

#[pymethods]
impl PyZygote {
    #[new]
    fn new(socket: i32, kept_for: f64) -> PyResult<Self> {
        let kept_for =
            Duration::try_from_secs_f64(kept_for).map_err(|why| PyValueError::new_err(why.to_string()))?;
        let socket = adopt_descriptor(socket).map_err(error::os)?;
        Ok(Self { zygote: Some(Zygote::new(socket, kept_for)), request: None, channel: None })
    }

    /// Waits for a request; `False` when the client is gone.
    fn next_request(&mut self, py: Python<'_>) -> PyResult<bool> {
        let zygote = self.zygote()?;
        let request = py.detach(|| zygote.next_request());
        self.request = request;
        Ok(self.request.is_some())
    }

    /// Has the child in reserve carry out the request; `False` when there is none, and one must be forked for it.
    fn hand_over(&mut self) -> PyResult<bool> {
        let request = self.request.take().ok_or_else(already_started)?;
        self.request = self.zygote()?.hand_over(request);
        Ok(self.request.is_none())
    }

    /// In the zygote: a child is about to be forked for the request.
    fn make_room(&mut self) -> PyResult<()> {
        self.zygote()?.make_room().map_err(error::os)
    }

    /// In the zygote: the request became this child.
    fn forked(&mut self, pid: u32) -> PyResult<()> {
        let request = self.request.take().ok_or_else(already_started)?;
        self.zygote()?.forked(request, pid);
        Ok(())
    }

    /// In the zygote: no child can be forked for the request.
    fn refuse(&mut self, errno: i32) -> PyResult<()> {
        let request = self.request.take().ok_or_else(already_started)?;
        self.zygote()?.refuse(request, OsError { call: "fork", errno });
        Ok(())
    }

    /// In the zygote: whether the next child is to be forked before there is a request for it.
    fn wants_reserve(&mut self) -> PyResult<bool> {
        Ok(self.zygote()?.wants_reserve())
    }

    /// In the zygote: the next child is forked before there is a request for it.
    fn prepare_reserve(&mut self) -> PyResult<()> {
        self.channel = Some(self.zygote()?.channel().map_err(error::os)?);
        Ok(())
    }

    /// In the zygote: this child waits in reserve.
    fn reserved(&mut self, pid: u32) -> PyResult<()> {
        let (socket, _) = self.channel.take().ok_or_else(already_started)?;
        self.zygote()?.reserved(pid, socket);
        Ok(())
    }

    /// In the zygote: none was forked.
    fn not_reserved(&mut self) {
        self.channel = None;
    }

    /// In the child, which keeps nothing of the zygote's: its request. A child in reserve waits for it; `None` when nobody
    /// wants it any more. The slot is taken; the descriptors of the job, the life pipe and what was passed are the caller's.
    fn in_child(&mut self, py: Python<'_>) -> PyResult<Option<(i32, i32, Vec<i32>)>> {
        if let Some(zygote) = self.zygote.take() {
            zygote.let_go();
        }
        let request = match (self.request.take(), self.channel.take()) {
            (None, Some((zygotes, socket))) => {
                drop(zygotes);
                py.detach(|| Zygote::await_request(&socket)).map_err(error::os)?
            }
            (request, _) => request,
        };
        let Some(request) = request else { return Ok(None) };
        let place = Place::from_number(request.place).ok_or(FamilyError::Unwanted);
        match place.and_then(|place| Family::current()?.take_slot(place)) {
            // Its client has given it up: a handler of a signal raised, or the zygote is gone.
            Err(FamilyError::Unwanted) => return Ok(None),
            taken => taken.map_err(error::family)?,
        }
        let passed = request.passed.into_iter().map(IntoRawFd::into_raw_fd).collect();
        Ok(Some((request.job.into_raw_fd(), request.life.into_raw_fd(), passed)))
    }
}

impl PyZygote {
    fn zygote(&mut self) -> PyResult<&mut Zygote> {
        self.zygote.as_mut().ok_or_else(already_started)
    }
}

/// The number of the family's descriptor; founds the family if there is none.
#[pyfunction]
pub(crate) fn family_descriptor() -> PyResult<i32> {
    let family = Family::current().map_err(error::family)?;
    family.descriptor().map(Remembered::number).map_err(error::os)
}

/// Joins the family behind an inherited descriptor, on the slot the parent reserved.
#[pyfunction]
pub(crate) fn join_family(descriptor: i32, place: u64) -> PyResult<()> {
    take_place(Family::join_number(descriptor).map_err(error::family)?, place)
}

fn take_place(family: &Family, place: u64) -> PyResult<()> {
    let place = Place::from_number(place).ok_or(FamilyError::Unwanted);
    place.and_then(|place| family.take_slot(place)).map_err(error::family)
}

/// In a child that has opened what it was sent: what it was packed is not needed any more.
#[pyfunction]
pub(crate) fn unpack() {
    if let Some(family) = Family::existing() {
        family.unpack();
    }
}

/// Calls `pickle` and returns what it returns, and the queues that it has pickled. For the standard library, what is
/// pickled meanwhile in this thread is for the child that `popen` starts.
#[pyfunction]
pub(crate) fn carrying<'py>(
    pickle: &Bound<'py, PyAny>,
    popen: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyAny>, Vec<Named>)> {
    let spawning = pickle.py().import("multiprocessing.context")?.getattr("_tls")?;
    // That of a start around this one: a handler may start a process while another is pickled.
    let around = spawning.getattr_opt(SPAWNING)?.map_or_else(|| pickle.py().None(), Bound::unbind);
    spawning.setattr(SPAWNING, popen)?;
    let pickled = pickling::carrying(|| pickle.call0());
    spawning.setattr(SPAWNING, around)?;
    let (pickled, carried) = pickled?;
    carried.offers.sent();
    Ok((pickled, carried.handles.into_iter().map(|handle| (handle.offset, handle.generation)).collect()))
}

const SPAWNING: &str = "spawning_popen";

/// A descriptor from which a child reads its job.
#[pyclass(name = "JobDescriptor", module = "manyhands._manyhands", frozen)]
#[derive(Debug)]
pub(crate) struct PyJobDescriptor(Remembered);

#[pymethods]
impl PyJobDescriptor {
    #[new]
    fn new(bytes: &[u8]) -> PyResult<Self> {
        launch::job_descriptor(bytes).and_then(Remembered::new).map(Self).map_err(error::os)
    }

    /// Its number.
    #[getter]
    fn number(&self) -> PyResult<i32> {
        self.0.get().map(|job| job.as_raw_fd()).map_err(error::os)
    }
}

/// The number of a descriptor behind which this process's children keep something for one another.
#[pyfunction]
pub(crate) fn notebook_descriptor() -> PyResult<i32> {
    launch::notebook_descriptor().map_err(error::os)
}

/// Whether a number means the file of that device and inode at this moment.
#[pyfunction]
pub(crate) fn is_file(number: i32, device: u64, inode: u64) -> bool {
    manyhands::is_file(number, device, inode)
}

/// Whether a number that was passed to this process is such a descriptor, and no user's file.
#[pyfunction]
pub(crate) fn is_notebook(number: i32) -> bool {
    launch::is_notebook(number)
}

/// The kernel kills this process when its parent is gone; `False` when it is gone already.
#[pyfunction]
pub(crate) fn die_with_parent(life: i32) -> PyResult<bool> {
    // The descriptor is made asynchronous, not its duplicate: both are the same pipe end.
    let life = adopt_descriptor(life).map_err(error::os)?;
    launch::die_with_parent(life.as_fd()).map_err(error::os)
}

/// This process ends in an orderly way, now: the locks that it holds stay locked.
#[pyfunction]
pub(crate) fn keep_locks() {
    if let Some(family) = Family::existing() {
        family.keep_locks();
    }
}

/// Notes the status this process is about to end with, for a parent from whom the kernel's is taken.
#[pyfunction]
pub(crate) fn note_exit(status: i32) -> PyResult<()> {
    Family::current().map_err(error::family)?.note_exit(status);
    Ok(())
}
