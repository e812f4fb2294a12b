"""What every test gets: a context to run under, a deadline against hangs, and a search for whatever it left behind."""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import faulthandler
import fcntl
import gc
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest
import targets
from processes import descendants, describe, held_elsewhere, is_helper, reap_adopted

METHODS = ("fork", "forkserver", "spawn")

# Against hangs only, never a measure of speed: a loaded machine may be ten times slower than an idle one.
DEADLINE_SECONDS = 120.0
# How long what a test started may take to be gone after it.
GRACE_SECONDS = 10.0
LEAST_LOOKS = 50

_PR_SET_CHILD_SUBREAPER = 36


# --- contexts: one instance of a test per start method, and for standard behaviour per implementation ---


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "ctx" not in metafunc.fixturenames:
        return
    standard = metafunc.definition.get_closest_marker("standard") is not None
    ours_only = metafunc.definition.get_closest_marker("ours_only") is not None
    only = metafunc.definition.get_closest_marker("methods")
    methods = only.args if only else METHODS
    instances = [pytest.param(("manyhands", method), id=method) for method in methods]
    if standard and not ours_only:
        # The standard library forks while its own helper threads run, and warns of itself from 3.12 on.
        excused = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
        instances += [
            pytest.param(("multiprocessing", method), id=f"stdlib-{method}", marks=excused)
            for method in methods
        ]
    metafunc.parametrize("ctx", instances, indirect=True)


@pytest.fixture
def ctx(request: pytest.FixtureRequest) -> BaseContext:
    """A context of manyhands, or in files marked `standard` also of the standard library."""
    implementation, method = request.param
    module: Any = multiprocessing
    if implementation == "manyhands":
        import manyhands

        module = manyhands
    context: BaseContext = module.get_context(method)
    return context


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Call with a line of text to have a measured figure shown in pytest's summary, whether or not the test passes."""

    def show(text: str) -> None:
        request.node.user_properties.append(("figure", text))

    return show


# What the tests of all lanes told; empty in a lane, which shows nothing by itself.
_figures: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "teardown":
        name = report.nodeid.split("::", 1)[-1]
        _figures.extend(f"{name}: {text}" for kind, text in report.user_properties if kind == "figure")


_STDERR: pytest.StashKey[int] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    # A copy from before pytest captures it: the stacks of a hanging test are for the person who waits.
    config.stash[_STDERR] = os.dup(2)
    # Orphans come to us in place of init, so that what outlives its parent is found, not just what is our child.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def pytest_collection_finish(session: pytest.Session) -> None:
    # The collections before and after each test then pass over what pytest and the tests' modules are made of.
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_STDERR])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _figures:
        terminalreporter.section("figures")
        for line in sorted(_figures):
            terminalreporter.write_line(line)
    # A second try hides nothing.
    for report in terminalreporter.getreports("rerun"):
        terminalreporter.section(f"failed at first: {report.nodeid} ({report.when})")
        terminalreporter.write_line(str(report.longrepr))


# --- deadlines ---


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    """First a signal, whose handler shows all stacks and fails the test; if even that does not get through, the end."""
    marker = item.get_closest_marker("deadline")
    seconds = float(marker.args[0]) if marker else DEADLINE_SECONDS
    stderr = item.config.stash[_STDERR]

    def too_late(_signal: int, _frame: Any) -> None:
        os.write(stderr, f"\n{item.nodeid}: not done after {seconds:.0f} s\n".encode())
        faulthandler.dump_traceback(stderr, all_threads=True)
        for pid in descendants():
            os.write(stderr, f"{describe(pid)}\n".encode())
        pytest.fail(f"not done after {seconds:.0f} s; the stacks are on standard error", pytrace=True)

    before = signal.signal(signal.SIGALRM, too_late)
    faulthandler.dump_traceback_later(2 * seconds, exit=True, file=stderr)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def late_signal() -> Iterator[Callable[[], None]]:
    """Sets off a signal that no sleep of this thread notices, since none is sent to it; its handler raises.

    It is as if the signal had come just before the sleep. What is raised is an `OverflowError`.
    """

    def handle(_signal: int, _frame: Any) -> None:
        raise OverflowError("a signal")

    before = signal.signal(signal.SIGUSR1, handle)
    timer = threading.Timer(0.3, _thread.interrupt_main, (signal.SIGUSR1,))
    yield timer.start
    timer.join()
    signal.signal(signal.SIGUSR1, before)


# --- nothing is left behind ---

_warmed: set[tuple[str, str]] = set()


def _warm_up(context: BaseContext) -> None:
    """Has what a start method keeps (fork server, resource tracker, arena) in place before anything is counted."""
    key = (type(context).__module__, context.get_start_method())
    if key in _warmed:
        ours: Any = sys.modules.get("manyhands.forkserver")
        # A test may have ended its fork server.
        if key != ("manyhands.context", "forkserver") or ours._forkserver._process is not None:
            return
    _warmed.add(key)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        process = context.Process(target=targets.nothing)
        process.start()
        process.join()
        process.close()
        queue = context.SimpleQueue()
        queue.put(None)
        queue.get()
        queue.close()
        # The standard library keeps the memory of what was shared once.
        context.RawArray("c", 1 << 18)


# Names in /dev/shm of tests that run elsewhere on the machine. They are random: what is another's once stays so.
_of_others: set[str] = set()


def _tell_names_apart(names: set[str]) -> None:
    """What appears when a test is over is another's, and so is what its processes have mapped."""
    _of_others.update(set(os.listdir("/dev/shm")) - names)
    _of_others.update(held_elsewhere(names - _of_others))


class _Belongings:
    """What this process and its descendants hold at a moment."""

    def __init__(self) -> None:
        self.descriptors = _descriptors()
        self.shared_names = set(os.listdir("/dev/shm"))
        self.processes = set(descendants())
        self.threads = set(threading.enumerate())

    def left_since(self, before: _Belongings) -> list[str]:
        left = [
            f"descriptor {number} -> {target}"
            for number, target in sorted(self.descriptors.items())
            if before.descriptors.get(number) != target
        ]
        left += [f"/dev/shm/{name}" for name in sorted(self.shared_names - before.shared_names - _of_others)]
        left += [describe(pid) for pid in sorted(self.processes - before.processes) if not is_helper(pid)]
        left += [repr(thread) for thread in self.threads - before.threads]
        return left


# The threads that were there at a fork. The interpreter's own warning of them does not serve: made an error, os.fork
# swallows it, and the watchdog of faulthandler is a thread, too. Hooks run last in, first out: this one after ours.
_beside_a_fork: set[str] = set()


def _note_threads() -> None:
    # A driver that replaces a worker forks itself.
    mine = threading.current_thread()
    _beside_a_fork.update(thread.name for thread in threading.enumerate() if thread is not mine)


os.register_at_fork(before=_note_threads)


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        # The one that lists the folder has gone again.
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test after which a process, a descriptor, a thread or a name in /dev/shm is left."""
    if "ctx" in request.fixturenames:
        _warm_up(request.getfixturevalue("ctx"))
    gc.collect()
    before = _Belongings()
    _beside_a_fork.clear()
    yield
    if "PoolDriver" in _beside_a_fork:
        pytest.fail("a pool's driver ran during a fork", pytrace=False)
    names = set(os.listdir("/dev/shm")) - before.shared_names
    # pytest keeps the values of a test's fixtures until later; what only they hold is not left behind.
    request.node.funcargs.clear()
    if request.node.stash.get(_FAILED, False):
        # The traceback of a failed test holds its objects: one failure, one report.
        _end_what_is_left(before)
        return
    deadline = time.monotonic() + GRACE_SECONDS
    left = _left_since(before)
    looks = 1
    # On a machine that is busy beyond measure, the time alone may be one look or two.
    while left and (time.monotonic() < deadline or looks < LEAST_LOOKS):
        looks += 1
        _tell_names_apart(before.shared_names | names)
        # There is nothing to wait on for the general case: what is looked for is what nobody should hold any more.
        time.sleep(0.02)
        left = _left_since(before)
    if left:
        _end_what_is_left(before)
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)


_FAILED: pytest.StashKey[bool] = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


def _left_since(before: _Belongings) -> list[str]:
    gc.collect()
    # Both implementations collect children that have ended here.
    multiprocessing.active_children()
    ours = sys.modules.get("manyhands")
    if ours is not None and hasattr(ours, "active_children"):
        ours.active_children()
    reap_adopted(before.processes)
    return _Belongings().left_since(before)


def _end_what_is_left(before: _Belongings) -> None:
    """So that one test's leftovers are not reported again by each that follows."""
    for pid in descendants():
        if pid not in before.processes and not is_helper(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The helpers that may live as long as the session must be gone with it."""
    if not session.config.pluginmanager.hasplugin("dsession"):
        _end_helpers()
        _left_by_sessions.extend(describe(pid) for pid in descendants())
    # A lane tells the process that runs the lanes.
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left behind"] = _left_by_sessions
    elif _left_by_sessions:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        sys.stderr.write("left behind by the session:\n  " + "\n  ".join(_left_by_sessions) + "\n")


_left_by_sessions: list[str] = []


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _left_by_sessions.extend(getattr(node, "workeroutput", {}).get("left behind", []))


def _end_helpers() -> None:
    from multiprocessing import forkserver, resource_tracker

    ours: Any = sys.modules.get("manyhands.forkserver")
    # What the interpreter's own tests do at their end. Both fork servers hold the tracker's pipe, so they come first.
    helpers: list[Any] = [forkserver._forkserver, resource_tracker._resource_tracker]  # type: ignore[attr-defined]
    # It has none where what was collected could not be imported.
    if hasattr(ours, "_forkserver"):
        helpers.insert(0, ours._forkserver)
    for helper in helpers:
        with contextlib.suppress(Exception):
            helper._stop()
    reap_adopted(set())


@pytest.fixture
def much_memory() -> Iterator[None]:
    """For what takes gibibytes, or looks whether there are as many: one such test of the machine at a time."""
    with open(Path(tempfile.gettempdir(), f"manyhands-tests-{os.getuid()}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture
def root() -> Path:
    """The top of the source tree."""
    return Path(__file__).resolve().parent.parent
