"""Programs whose limits are lowered under them; `tests/death/test_lowered_limits.py` runs each by itself."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import manyhands
import targets
from manyhands import _manyhands
from manyhands.futures import ProcessPoolExecutor


class Plain:
    """Of no class that goes without a pickler."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain)

    __hash__ = None  # type: ignore[assignment]


def raised(call: Callable[[], object]) -> BaseException:
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@contextmanager
def descriptors(limit: int) -> Iterator[None]:
    """No more may be opened, and no more be polled."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == limit
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def ticking() -> Iterator[list[int]]:
    """A handler that notes each of its signals."""
    ticks: list[int] = []
    signal.signal(signal.SIGALRM, lambda *_: ticks.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    yield ticks
    signal.setitimer(signal.ITIMER_REAL, 0)


def waits(ctx: Any, limit: int) -> None:
    """What waits for processes and connections goes on as before: it needs no descriptor more."""
    parent, child = ctx.Pipe()
    process = ctx.Process(target=targets.wait_for, args=(child,))
    process.start()
    silent, _silents = ctx.Pipe()
    pool = ctx.Pool(2)
    assert pool.map(abs, [-1, -2]) == [1, 2]
    executor = ProcessPoolExecutor(1, mp_context=ctx)
    assert executor.submit(abs, -3).result() == 3
    with descriptors(limit):
        process.join(0.05)
        assert process.is_alive()
        with ticking() as ticks:
            process.join(0.3)
        assert process.exitcode is None
        assert ticks
        assert not silent.poll(0.05)
        assert manyhands.connection.wait([silent, process.sentinel], 0.05) == []
        threading.Timer(0.1, parent.send, (None,)).start()
        assert manyhands.connection.wait([silent, process.sentinel], 30) == [process.sentinel]
        process.join(30)
        assert process.exitcode == 0
        assert pool.map(abs, range(-100, 0)) == list(range(100, 0, -1))
        assert executor.submit(abs, -4).result(30) == 4
        executor.shutdown()
        pool.terminate()
        pool.join()


def set_and_sleep(event: Any) -> None:
    event.set()
    time.sleep(100)


def endings(ctx: Any, limit: int) -> None:
    """Ends that are seen, and orders to end."""
    processes = [ctx.Process(target=time.sleep, args=(100,)) for _ in range(2)]
    for process in processes:
        process.start()
    pool = ctx.Pool(1)
    begun = ctx.Event()
    result = pool.apply_async(set_and_sleep, (begun,))
    executor = ProcessPoolExecutor(1, mp_context=ctx)
    call = executor.submit(os._exit, 3)
    assert begun.wait(30)
    with descriptors(limit):
        processes[0].terminate()
        os.kill(processes[1].pid, signal.SIGKILL)
        for process in processes:
            process.join(30)
        assert [process.exitcode for process in processes] == [-signal.SIGTERM, -signal.SIGKILL]
        # The item of a worker that is killed fails; another worker cannot be started yet.
        os.kill(pool._pool[0].pid, signal.SIGKILL)
        assert type(raised(lambda: result.get(30))).__name__ == "WorkerDied"
        assert type(raised(lambda: call.result(30))).__name__ == "WorkerDied"
        pool.terminate()
        pool.join()
        executor.shutdown(cancel_futures=True)


def put_under(limit: tuple[int, int], bounded: Any, back: Any) -> None:
    """In a child that has put nothing before: what a first use imports, and errors, need no descriptor."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    imported = "queue" in sys.modules
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[0], min(limit[1], before[1])))
    full = raised(lambda: bounded.put_nowait(1))
    also_full = raised(lambda: bounded.put(1, timeout=0.01))
    refused = None
    try:
        bounded.get(timeout=20)
        bounded.put(Plain())
    except OSError as error:
        refused = error.errno
        bounded.put(refused)
    told = [f"{type(error).__module__}.{type(error).__name__}" for error in (full, also_full)]
    known = "queue" in sys.modules and isinstance(full, sys.modules["queue"].Full)
    now = resource.getrlimit(resource.RLIMIT_NOFILE)
    back.put((told, known, imported, refused, now[0] == limit[0]))


def first_uses(ctx: Any, limit: int) -> None:
    # Lower than what is open: not even the numbers that are free can be had.
    for hard in (sys.maxsize, limit):
        bounded, back = ctx.Queue(1), ctx.SimpleQueue()
        bounded.put(1)
        process = ctx.Process(target=put_under, args=((limit, hard), bounded, back))
        process.start()
        told, known, imported, refused, same = back.get()
        process.join()
        assert process.exitcode == 0
        assert told == ["queue.Full"] * 2, told
        assert same
        if hard == sys.maxsize or imported:
            assert known
        if hard == sys.maxsize:
            assert (refused, bounded.get(timeout=20)) == (None, Plain())
        else:
            # A pickler that was not there before cannot be had; by fork it was.
            assert refused in (None, errno.EMFILE)


def full_table() -> None:
    """What cannot be started for want of a place says so as a `fork` that the kernel refuses for now."""
    # Each keeps a place, and two descriptors: a few thousand processes would take a minute.
    places: list[Any] = []
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    pool = manyhands.get_context("fork").Pool(1)
    assert pool.apply(abs, (-1,)) == 1
    contexts = [manyhands.get_context(method) for method in ("fork", "spawn", "forkserver")]
    for ctx in contexts:
        assert refuses(ctx) is None
    try:
        with contextlib.suppress(BlockingIOError):
            while True:
                places.append(_manyhands.Start())
        assert len(places) > 4000
        for ctx in contexts:
            for error in (
                refuses(ctx),
                raised(lambda ctx=ctx: ctx.Pool(2)),
                raised(lambda ctx=ctx: ProcessPoolExecutor(1, mp_context=ctx).submit(abs, -1)),
            ):
                assert isinstance(error, BlockingIOError), (ctx, repr(error))
                assert error.errno == errno.EAGAIN
                assert "as many processes as it can" in str(error)
        # The pool goes on, and tries again.
        result = pool.apply_async(os._exit, (3,))
        assert type(raised(lambda: result.get(30))).__name__ == "WorkerDied"
        waiting = pool.apply_async(abs, (-2,))
    finally:
        places.clear()
    assert waiting.get(60) == 2
    pool.terminate()
    pool.join()
    for ctx in contexts:
        assert refuses(ctx) is None


def refuses(ctx: Any) -> BaseException | None:
    process = ctx.Process(target=int)
    try:
        process.start()
    except Exception as error:
        return error
    process.join()
    assert process.exitcode == 0
    return None


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    if rest:
        globals()[name](manyhands.get_context(rest[0]), int(rest[1]))
    else:
        globals()[name]()
    for left in manyhands.active_children():
        left.kill()
        left.join()
