"""Programs with a fork server in need; `tests/death/test_server_in_need.py` runs them.

What they preload is made in a folder of the test's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import manyhands.forkserver
import targets
from processes import descendants, is_helper, is_reserve, is_running, wait_gone, wait_until

CTX: Any = manyhands.get_context("forkserver")


class Given(Exception):
    """Raised by a signal handler."""


def run_one(code: int = 0) -> None:
    process = CTX.Process(target=targets.leave, args=(code,))
    process.start()
    process.join(60)
    assert process.exitcode == code, process.exitcode
    process.close()


def server() -> int:
    pid = manyhands.forkserver._forkserver._forkserver_pid
    assert pid is not None
    return pid


def preload(folder: str, text: str) -> None:
    """Has the server import a module with this text."""
    Path(folder, "preloaded_by_test.py").write_text(text)
    sys.path.append(folder)
    CTX.set_forkserver_preload(["preloaded_by_test"])


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def strays() -> list[int]:
    return [pid for pid in descendants() if not is_helper(pid) and not is_reserve(pid)]


def raise_after(seconds: float) -> None:
    def handle(*_: Any) -> None:
        raise Given

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def must_raise(kind: type[BaseException], call: Callable[[], object]) -> BaseException:
    try:
        call()
    except kind as error:
        return error
    raise AssertionError("nothing was raised")


def stopped_runs_handlers(_folder: str) -> None:
    run_one()
    os.kill(server(), signal.SIGSTOP)
    came: list[int] = []
    others: list[int] = []

    def handle(*_: Any) -> None:
        came.append(1)
        if len(came) == 5:
            os.kill(server(), signal.SIGCONT)

    def work() -> None:
        while len(came) < 5:
            others.append(1)
            time.sleep(0.001)

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    thread = threading.Thread(target=work)
    thread.start()
    run_one(3)
    signal.setitimer(signal.ITIMER_REAL, 0)
    thread.join()
    assert len(came) >= 5
    assert len(others) > 5


def stopped_and_given_up(folder: str) -> None:
    run_one()
    mark = Path(folder, "mark")
    before = descriptors()
    for way in ("once", "many"):
        os.kill(server(), signal.SIGSTOP)
        for _ in range(1 if way == "once" else 20):
            process = CTX.Process(target=targets.touch, args=(str(mark),))
            raise_after(0.05)
            must_raise(Given, process.start)
        os.kill(server(), signal.SIGCONT)
        # Requests are carried out in their order: those are done with.
        run_one(4)
        assert not mark.exists(), "it was given up"
    assert descriptors() == before
    wait_until(lambda: not strays())


def given_up_when_it_had_begun(folder: str) -> None:
    text = """
import os, signal
stopped = []
def stop():
    if not stopped:
        stopped.append(1)
        os.kill(os.getpid(), signal.SIGSTOP)
os.register_at_fork(after_in_parent=stop)
"""
    preload(folder, text)
    begun = Path(folder, "begun")
    raise_after(1.5)
    must_raise(Given, CTX.Process(target=tell_pid_and_sleep, args=(str(begun),)).start)
    wait_until(begun.exists)
    pid = int(begun.read_text())
    assert is_running(pid)
    os.kill(server(), signal.SIGCONT)
    wait_gone([pid])
    run_one()
    wait_until(lambda: not strays())


def tell_pid_and_sleep(path: str) -> None:
    Path(path + ".part").write_text(str(os.getpid()))
    os.rename(path + ".part", path)
    time.sleep(60)


def interrupted_in_a_long_preload(folder: str) -> None:
    preload(folder, "import time; time.sleep(60)")
    threading.Timer(
        0.5, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    ).start()
    must_raise(KeyboardInterrupt, CTX.Process(target=targets.nothing).start)


def handler_starts_another(_folder: str) -> None:
    run_one()
    os.kill(server(), signal.SIGSTOP)

    def handle(*_: Any) -> None:
        os.kill(server(), signal.SIGCONT)
        run_one(5)

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    run_one(6)


def killed_at_random(_folder: str) -> None:
    source = random.Random(int(os.environ.get("SEED", "7")))
    done = threading.Event()

    def kill() -> None:
        while not done.wait(source.random() * 0.3):
            pid = manyhands.forkserver._forkserver._forkserver_pid
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    started, refused = [], 0
    end = time.monotonic() + float(os.environ.get("SECONDS", "5"))
    while time.monotonic() < end:
        process = CTX.Process(target=targets.leave, args=(len(started) % 3,))
        try:
            process.start()
        except BrokenPipeError:
            refused += 1
        else:
            started.append(process)
    done.set()
    thread.join()
    codes: list[int | None] = []
    for number, process in enumerate(started):
        process.join(30)
        codes.append(process.exitcode)
        # One that waited in reserve dies with its server; one that was killed so has noted nothing.
        assert process.exitcode in (number % 3, 255), process.exitcode
        process.close()
    if os.environ.get("SHOW"):
        print(len(started), "started", refused, "refused", codes.count(255), "unknown")
    assert len(started) > 10, (len(started), refused)
    run_one()
    wait_until(lambda: not strays())


def out_of_descriptors(_folder: str) -> None:
    run_one()
    few = (24, 24)
    resource.prlimit(server(), resource.RLIMIT_NOFILE, few)
    for _ in range(2):
        started = []

        def start_many(started: list[Any] = started) -> None:
            for _ in range(60):
                parent, child = CTX.Pipe()
                process = CTX.Process(target=targets.wait_for, args=(child,))
                process.start()
                child.close()
                started.append((process, parent))

        error = must_raise(OSError, start_many)
        assert isinstance(error, OSError)
        assert error.errno == errno.EMFILE, error
        assert "fork server" in str(error)
        assert started
        for process, parent in started:
            parent.send(None)
            process.join(30)
            assert process.exitcode == 0
        run_one(2)
    wait_until(lambda: not strays())


def no_descriptor_at_all(_folder: str) -> None:
    """The limit is below what the server has open: it cannot even take the channel on which it would say so."""
    run_one()
    gate, child_end = CTX.Pipe()
    process = CTX.Process(target=targets.wait_for, args=(child_end,))
    process.start()
    soft, hard = resource.prlimit(server(), resource.RLIMIT_NOFILE)
    for limit in (1, 3, 8, 0):
        resource.prlimit(server(), resource.RLIMIT_NOFILE, (limit, hard))
        # The one in reserve may be started yet.
        error = must_raise(OSError, lambda: [CTX.Process(target=targets.nothing).start() for _ in range(3)])
        assert isinstance(error, OSError)
        assert error.errno == errno.EMFILE, error
        if limit == 1:
            gate.send(None)
            process.join(60)
            assert process.exitcode == 0
        resource.prlimit(server(), resource.RLIMIT_NOFILE, (soft, hard))
        run_one(2)
    wait_until(lambda: not strays())


def stopped_with_a_full_socket(folder: str) -> None:
    run_one()
    mark = Path(folder, "mark")
    before = descriptors()
    os.kill(server(), signal.SIGSTOP)
    for _ in range(400):
        process = CTX.Process(target=targets.touch, args=(str(mark),))
        raise_after(0.01)
        must_raise(Given, process.start)
    assert descriptors() == before
    threading.Timer(0.2, lambda: os.kill(server(), signal.SIGCONT)).start()
    run_one(3)
    assert not mark.exists()
    wait_until(lambda: not strays())


def refused_forks(folder: str) -> None:
    text = f"""
import errno, os
fork, path = os.fork, {folder!r} + "/refuse"
def refusing():
    if os.path.exists(path):
        with open(path) as file:
            raise OSError(int(file.read()), "as the test wants it")
    return fork()
os.fork = refusing
"""
    preload(folder, text)
    refuse = Path(folder, "refuse")
    for number in (errno.EAGAIN, errno.ENOMEM):
        # A server whose `os.fork` somebody has replaced forks no child in reserve.
        run_one()
        refuse.write_text(str(number))
        for _ in range(3):
            error = must_raise(OSError, CTX.Process(target=targets.nothing).start)
            assert isinstance(error, OSError)
            assert error.errno == number, error
        refuse.unlink()
        run_one(2)


def client_out_of_descriptors(_folder: str) -> None:
    run_one()
    before = descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 40, hard))
    for free in range(14):
        filling: list[int] = []
        try:
            while True:
                filling.append(os.dup(0))
        except OSError:
            pass
        for _ in range(free):
            os.close(filling.pop())
        process = CTX.Process(target=targets.leave, args=(3,))
        refused = None
        try:
            process.start()
        except OSError as error:
            refused = error.errno
        assert refused in (None, errno.EMFILE)
        if refused is None:
            process.join(30)
            assert process.exitcode == 3
            process.close()
        for number in filling:
            os.close(number)
        del process
        assert descriptors() == before, free
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    run_one()
    wait_until(lambda: not strays())


def children_have_the_clients_limit(_folder: str) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    for _ in range(3):
        parent, child = CTX.Pipe()
        process = CTX.Process(target=send_limit, args=(child,))
        process.start()
        assert parent.recv() == (64, hard)
        process.join()


def send_limit(conn: Any) -> None:
    conn.send(resource.getrlimit(resource.RLIMIT_NOFILE))


def preloaded_reaper(folder: str) -> None:
    text = """
import os, signal, threading, time
def reap(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
signal.signal(signal.SIGCHLD, reap)
if os.environ.get("IN_A_THREAD"):
    def loop():
        while True:
            reap()
            time.sleep(0.0002)
    threading.Thread(target=loop, daemon=True).start()
"""
    preload(folder, text)
    for number in range(30):
        run_one(number % 3)
    parent, child = CTX.Pipe()
    process = CTX.Process(target=send_handler, args=(child,))
    process.start()
    # As in the standard library, a child has the handler that the modules set.
    assert parent.recv() == "reap"
    process.join()


def send_handler(conn: Any) -> None:
    handler = signal.getsignal(signal.SIGCHLD)
    conn.send(getattr(handler, "__name__", repr(handler)))


def stopped_server_and_a_status(_folder: str) -> None:
    """A server that stands still cannot tell how its child ended: what that noted itself counts, and handlers run."""
    run_one()
    parent, child = CTX.Pipe()
    process = CTX.Process(target=targets.wait_for, args=(child,))
    process.start()
    os.kill(server(), signal.SIGSTOP)
    came: list[int] = []
    signal.signal(signal.SIGALRM, lambda *_: came.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    parent.send(None)
    process.join(60)
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert process.exitcode == 0
    assert len(came) > 3
    os.kill(server(), signal.SIGCONT)
    run_one()
