"""Programs in which somebody else collects the children's statuses; `tests/death/test_reapers.py` runs them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import connection
from typing import Any

import manyhands
import targets

#: What an exit code may be that only the kernel knew: it still tells since Linux 6.15.
UNKNOWN = 255


def reap_all() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def reap_in_handler() -> None:
    signal.signal(signal.SIGCHLD, lambda *_: reap_all())


def ignore() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def nothing() -> None:
    """The program was started with SIGCHLD ignored."""
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN


def reap_in_thread() -> None:
    def loop() -> None:
        while True:
            reap_all()
            time.sleep(0.0005)

    threading.Thread(target=loop, daemon=True).start()


REAPERS: dict[str, Callable[[], None]] = {
    "handler": reap_in_handler,
    "ignored": ignore,
    "inherited": nothing,
    "thread": reap_in_thread,
}


def everything(ctx: Any, reaper: str) -> None:
    REAPERS[reaper]()
    processes(ctx)
    pools(ctx)
    executors(ctx)
    wait_ends(ctx)
    assert ctx.active_children() == []


def processes(ctx: Any) -> None:
    started = []
    for number in range(12):
        process = ctx.Process(target=targets.leave, args=(number % 4,))
        process.start()
        started.append(process)
    for number, process in enumerate(started):
        process.join(30)
        assert (process.exitcode, process.is_alive()) == (number % 4, False)
        process.close()
    hard = ctx.Process(target=targets.leave_hard, args=(7,))
    hard.start()
    hard.join(30)
    assert hard.exitcode in (7, UNKNOWN)
    killed = ctx.Process(target=targets.sleep, args=(60,))
    killed.start()
    assert killed.is_alive()
    assert killed.exitcode is None
    killed.kill()
    killed.join(30)
    assert killed.exitcode in (-signal.SIGKILL, UNKNOWN)
    assert not killed.is_alive()


def pools(ctx: Any) -> None:
    squares = [number * number for number in range(40)]
    with ctx.Pool(2, maxtasksperchild=3) as pool:
        assert pool.map_async(targets.square, range(40), 1).get(60) == squares
        pool.close()
        pool.join()
    with ctx.Pool(2) as pool:
        lost = pool.apply_async(targets.leave_hard, (3,))
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        lost.wait(60)
        assert lost.ready()
        assert not lost.successful()
        assert pool.map_async(targets.square, range(40)).get(60) == squares


def executors(ctx: Any) -> None:
    with manyhands.ProcessPoolExecutor(2, mp_context=ctx) as executor:
        assert list(executor.map(targets.square, range(20))) == [number * number for number in range(20)]


def wait_ends(ctx: Any) -> None:
    waiting = [ctx.Process(target=targets.sleep, args=(0.05 * number,)) for number in range(3)]
    for process in waiting:
        process.start()
    left = {process.sentinel: process for process in waiting}
    while left:
        for sentinel in connection.wait(list(left), 30):
            assert left.pop(sentinel).exitcode == 0  # type: ignore[call-overload]


@contextlib.contextmanager
def reaped_before_start_returns() -> Iterator[None]:
    """Every child that is forked in between has ended and was reaped before its parent's `os.fork` returns."""
    on = True

    def reap() -> None:
        if on:
            os.waitpid(-1, 0)

    os.register_at_fork(after_in_parent=reap)
    yield
    on = False


def gone_at_once(ctx: Any) -> None:
    with reaped_before_start_returns():
        processes = [ctx.Process(target=targets.leave, args=(code,)) for code in (0, 5)]
        for process in processes:
            process.start()
        killed = ctx.Process(target=targets.signal_self, args=(signal.SIGKILL,))
        killed.start()
    for process, code in zip(processes, (0, 5), strict=True):
        assert connection.wait([process.sentinel], 0) == [process.sentinel]
        assert select.select([process.sentinel], [], [], 0)[0] == [process.sentinel]
        with select.epoll() as epoll:
            epoll.register(process.sentinel, select.EPOLLIN)
            assert epoll.poll(0)
        assert not process.is_alive()
        # Nothing happens to somebody else who has its number.
        process.terminate()
        process.kill()
        process.join()
        assert process.exitcode == code
        assert process.pid not in [child.pid for child in ctx.active_children()]
        process.close()
    assert killed.exitcode == UNKNOWN
    killed.close()


def subprocesses_beside(ctx: Any) -> None:
    """What is started beside ours is not reaped by us, and nobody takes it for ours."""
    import subprocess

    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            assert subprocess.run(["sh", "-c", "exit 9"]).returncode == 9

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for number in range(20):
            process = ctx.Process(target=targets.leave, args=(number % 4,))
            process.start()
            process.join(30)
            assert process.exitcode == number % 4
    finally:
        stop.set()
        thread.join()
