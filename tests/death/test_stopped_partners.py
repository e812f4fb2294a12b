"""A partner of a queue that was stopped (SIGSTOP, a debugger, a freezer) while it holds the queue's side.

Nobody passes it before it goes on; but timeouts and signals are heard meanwhile, and afterwards every message has come
once.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, Full
from typing import Any

import pytest
import stopped
from manyhands.queues import ShutDown

#: A call that heard nothing comes back when the partner goes on, by itself, after so many seconds.
RESCUE_SECONDS = 20.0
SHORT = 0.05


class Heard(Exception):
    """What a signal's handler raises."""


@pytest.fixture(autouse=True)
def no_sharer() -> Iterator[None]:
    """The thread that hands out descriptors is the standard library's, and stays until it is told to stop."""
    yield
    from multiprocessing import resource_sharer

    resource_sharer.stop(timeout=30)  # type: ignore[attr-defined]


@pytest.fixture
def alarm() -> Iterator[Callable[[], None]]:
    """Sends a signal soon, whose handler raises [`Heard`]."""

    def handle(_signal: int, _frame: Any) -> None:
        raise Heard

    before = signal.signal(signal.SIGUSR2, handle)
    timers: list[threading.Timer] = []

    def set_off() -> None:
        timers.append(threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR2)))
        timers[-1].start()

    yield set_off
    for timer in timers:
        timer.join()
    signal.signal(signal.SIGUSR2, before)


@contextmanager
def partner(ctx: Any, target: Callable[..., None], queue: Any) -> Iterator[tuple[Any, Any]]:
    near, far = ctx.Pipe()
    process = ctx.Process(target=target, args=(queue, far))
    process.start()
    far.close()
    assert near.recv() == "ready"
    try:
        yield process, near
    except BaseException:
        process.kill()
        raise
    finally:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
        near.close()
        process.join(60)
        process.close()


def while_stopped(pid: int, call: Callable[[], Any], raised: type[BaseException]) -> BaseException:
    """The call raises that, and the partner is stopped still."""
    rescue = threading.Timer(RESCUE_SECONDS, os.kill, (pid, signal.SIGCONT))
    rescue.start()
    try:
        with pytest.raises(raised) as info:
            call()
        assert stopped.is_stopped(pid), "heard when the partner went on, not before"
        return info.value
    finally:
        rescue.cancel()
        rescue.join()


def test_getting_behind_a_stopped_getter(ctx: Any, alarm: Callable[[], None]) -> None:
    queue = ctx.Queue()
    with partner(ctx, stopped.get_until_told, queue) as (process, near):
        sent, got = 0, []

        def is_held() -> bool:
            nonlocal sent
            queue.put(sent)
            sent += 1
            try:
                got.append(queue.get_nowait())
            except Empty:
                return True
            return False

        stopped.stop_holding(process.pid, is_held)
        for call in (
            lambda: queue.get(timeout=SHORT),
            lambda: queue.get(False),
            lambda: queue.get_many(timeout=SHORT),
            lambda: queue.get_many(block=False),
        ):
            while_stopped(process.pid, call, Empty)
        for call in (queue.get, queue.get_many, lambda: queue.shutdown(immediate=True)):
            alarm()
            while_stopped(process.pid, call, Heard)
        os.kill(process.pid, signal.SIGCONT)
        near.send("stop")
        got += near.recv()
        # What was shut is shut for putting alone: `immediate` could not be done.
        with suppress(ShutDown):
            while True:
                got.append(queue.get(timeout=1))
    assert sorted(got) == list(range(sent))
    queue.close()


def test_a_handler_that_returns_does_not_disturb_the_wait_behind_a_stopped_getter(ctx: Any) -> None:
    queue = ctx.Queue()
    with partner(ctx, stopped.get_until_told, queue) as (process, near):
        sent, got, heard = 0, [], []

        def is_held() -> bool:
            nonlocal sent
            queue.put(sent)
            sent += 1
            with suppress(Empty):
                got.append(queue.get_nowait())
                return False
            return True

        before = signal.signal(signal.SIGUSR2, lambda *_: heard.append(stopped.is_stopped(process.pid)))
        stopped.stop_holding(process.pid, is_held)
        timers = [threading.Timer(0.1 * n, os.kill, (os.getpid(), signal.SIGUSR2)) for n in range(1, 4)]
        timers.append(threading.Timer(1.5, os.kill, (process.pid, signal.SIGCONT)))
        for timer in timers:
            timer.start()
        near.send("stop")
        # The partner goes on in the meantime, and may be the one who gets it.
        with suppress(Empty):
            got.append(queue.get(timeout=5))
        for timer in timers:
            timer.join()
        signal.signal(signal.SIGUSR2, before)
        assert heard == [True] * 3
        got += near.recv()
        while not queue.empty():
            got.append(queue.get())
    assert sorted(got) == list(range(sent))
    queue.close()


def test_putting_behind_a_stopped_putter(ctx: Any, alarm: Callable[[], None]) -> None:
    queue = ctx.JoinableQueue()
    with partner(ctx, stopped.put_until_told, queue) as (process, near):
        # Made now: a forked partner would have both ends, too.
        offered, kept = ctx.Pipe()
        sent: list[Any] = []
        got: list[Any] = []
        numbers = iter(range(10**9))

        def is_held() -> bool:
            item = ("tested", next(numbers))
            try:
                queue.put_nowait(item)
            except Full:
                return True
            sent.append(item)
            # As empty as it can be: the partner is to put, not to wait.
            with suppress(Empty):
                while True:
                    got.extend(queue.get_many(block=False))
            return False

        while len(got) < stopped.FIRST:
            got.extend(queue.get_many())
        stopped.stop_holding(process.pid, is_held)
        long = ("never", b"x" * 200_000)
        for call in (
            lambda: queue.put(("never", 0), timeout=SHORT),
            lambda: queue.put(long, timeout=SHORT),
            lambda: queue.put(long, block=False),
            lambda: queue.put(("never", offered), timeout=SHORT),
        ):
            while_stopped(process.pid, call, Full)
        many: Any = while_stopped(
            process.pid, lambda: queue.put_many([("never", 1)] * 3, timeout=SHORT), Full
        )
        assert many.items_put == 0
        many = while_stopped(process.pid, lambda: queue.put_many([long], False), Full)
        assert many.items_put == 0
        for call in (
            lambda: queue.put(("never", 2)),
            lambda: queue.put(long),
            lambda: queue.put_many([("never", 3)] * 3),
            queue.shutdown,
        ):
            alarm()
            while_stopped(process.pid, call, Heard)
        # What could not be sent offers nothing any more.
        offered.close()
        assert kept.poll(30)
        with pytest.raises(EOFError):
            kept.recv()
        kept.close()
        os.kill(process.pid, signal.SIGCONT)
        near.send("stop")
        while not near.poll() or not queue.empty():
            with suppress(Empty):
                got.append(queue.get(timeout=0.1))
        count = near.recv()
        while not queue.empty():
            got.append(queue.get())
    assert [item for item in got if item[0] != "partner"] == sent
    assert [item[1] for item in got if item[0] == "partner"] == list(range(count))
    for _ in got:
        queue.task_done()
    queue.join()
    queue.close()
