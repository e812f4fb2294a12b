"""A signal that arrives at any moment of a wait is handled soon, also outside of the very system call: a handler that
raises ends the wait and takes nothing with it, one that returns does not disturb it."""

from __future__ import annotations

import functools
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import targets

#: No wait here ends by itself within this.
LONG = 120.0
#: A signal that is lost is noticed at the end of a wait, or never; one that is in time within 10 ms, or half a second
#: at worst.
SOON = 20.0


class Alarm(Exception):
    pass


@contextmanager
def alarms(handler: Callable[[int, Any], Any]) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, handler)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def raising(number: int, frame: Any) -> None:
    raise Alarm


def interrupted(wait: Callable[[], Any], times: int = 15) -> None:
    """The wait is ended by an alarm, again and again, each time at another moment of its beginning."""
    moments = random.Random(13)
    with alarms(raising):
        for _ in range(times):
            delay = moments.uniform(0.00005, 0.004)
            began = time.monotonic()
            with pytest.raises(Alarm):  # It may come before the call.
                signal.setitimer(signal.ITIMER_REAL, delay)
                wait()
            assert time.monotonic() - began < SOON


def test_get_and_put(ctx: Any) -> None:
    queue = ctx.Queue(1)
    interrupted(queue.get)
    interrupted(lambda: queue.get(timeout=LONG))
    queue.put("there")
    interrupted(lambda: queue.put("no room"))
    assert queue.get(timeout=LONG) == "there"
    queue.put("and after")
    assert queue.get(timeout=LONG) == "and after"


def test_locks_and_their_kin(ctx: Any) -> None:
    lock, semaphore, event = ctx.Lock(), ctx.Semaphore(0), ctx.Event()
    condition, barrier = ctx.Condition(), ctx.Barrier(2)
    lock.acquire()
    interrupted(lock.acquire)
    interrupted(semaphore.acquire)
    interrupted(event.wait)
    lock.release()
    semaphore.release()
    event.set()
    assert lock.acquire(timeout=LONG)
    assert semaphore.acquire(timeout=LONG)
    assert event.wait(LONG)
    with condition:
        interrupted(condition.wait)
        # The lock is held again: else this is an error.
        condition.notify_all()
    interrupted(barrier.wait)
    assert (barrier.broken, barrier.n_waiting) == (False, 0)


def test_join_and_recv(ctx: Any) -> None:
    child = ctx.Process(target=time.sleep, args=(LONG,))
    child.start()
    interrupted(child.join)
    child.terminate()
    child.join(LONG)
    assert child.exitcode == -signal.SIGTERM
    for duplex in (True, False):
        reader, writer = ctx.Pipe(duplex)
        interrupted(reader.recv)
        interrupted(functools.partial(reader.poll, LONG))
        writer.send("whole")
        assert reader.recv() == "whole"
        reader.close()
        writer.close()


def test_the_results_of_a_pool(ctx: Any) -> None:
    with ctx.Pool(2) as pool:
        slow = pool.map_async(time.sleep, [LONG] * 2)
        interrupted(slow.get)
        interrupted(lambda: slow.wait(LONG))
    with ctx.Pool(2) as pool:
        stream = pool.imap(time.sleep, [0, LONG])
        assert stream.next(timeout=LONG) is None
        interrupted(lambda: next(stream))


def test_a_steady_stream_of_answers_hides_no_signal(ctx: Any) -> None:
    with ctx.Pool(2) as pool:
        pool.map(abs, range(100))
        job = pool.map_async(abs, range(500_000), chunksize=1)
        with alarms(raising), pytest.raises(Alarm):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            job.get()
        assert job._number_left > 0, "it was raised when all was done"


def test_handlers_that_return_lose_nothing(ctx: Any) -> None:
    queue, calls = ctx.Queue(4), 0

    def count(number: int, frame: Any) -> None:
        nonlocal calls
        calls += 1

    child = ctx.Process(target=targets.put_all, args=(queue, range(20_000)))
    with alarms(count):
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        child.start()
        assert [queue.get() for _ in range(20_000)] == list(range(20_000))
        child.join()
    assert child.exitcode == 0
    assert calls > 0
    assert queue.empty()


def test_a_handler_that_returns_leaves_the_deadline_where_it_was(ctx: Any) -> None:
    event, began = ctx.Event(), time.monotonic()
    with alarms(lambda number, frame: None):
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        assert event.wait(0.5) is False
    assert 0.5 <= time.monotonic() - began < SOON
