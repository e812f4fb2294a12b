"""Giving out a long list is no time without signals, and an interruption in its middle leaves the pool right."""

from __future__ import annotations

import operator
import queue as queues
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import alarms as alarms_of_workers
import pytest
from alarms import Alarm, alarms, raising

#: Long enough that encoding it takes several looks.
ITEMS = [(number, "text" * 5) for number in range(600_000)]
CHUNK = 600


def test_handlers_run_while_a_long_list_is_given_out(ctx: Any) -> None:
    calls = 0

    def count(number: int, frame: Any) -> None:
        nonlocal calls
        calls += 1

    with ctx.Pool(2) as pool:
        with alarms(count):
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            job = pool.map_async(len, ITEMS, CHUNK)
            within, calls = calls, 0
            signal.setitimer(signal.ITIMER_REAL, 0)
        # One that looked at the end alone would have run one.
        assert within > 3
        assert job.get() == [2] * len(ITEMS)


@pytest.mark.parametrize("how", ["map", "map_async", "imap"])
def test_what_was_interrupted_while_it_was_given_out(ctx: Any, how: str) -> None:
    with ctx.Pool(2) as pool:
        for delay in (0.001, 0.005, 0.02, 0.05):
            with alarms(raising), pytest.raises(Alarm):
                signal.setitimer(signal.ITIMER_REAL, delay)
                getattr(pool, how)(len, ITEMS, CHUNK)
                time.sleep(60)
            # The pool is as it was: other work is done beside what is left of this.
            assert pool.map(abs, range(-100, 0)) == list(range(100, 0, -1))
        pool.close()
        # Nothing is counted that is not done, or done twice: else this waits for ever, or too short.
        pool.join()
        assert pool._cache == {}
        assert pool._core.outstanding == 0


def test_put_many_says_how_many_it_has_put(ctx: Any) -> None:
    queue, items = ctx.Queue(), list(range(1_000_000))
    with alarms(raising), pytest.raises(Alarm) as raised:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        queue.put_many(items)
        time.sleep(60)
    put = getattr(raised.value, "items_put", len(items))
    assert queue.qsize() == put
    assert [queue.get() for _ in range(put)] == list(range(put))


def test_a_worker_hears_of_signals_between_items_that_are_no_code_of_pythons(ctx: Any) -> None:
    calls = [alarms_of_workers.soon] + [time.time] * 2_000_000
    with ctx.Pool(1) as pool, pytest.raises(Alarm):
        pool.map(operator.call, calls, len(calls))


def test_results_come_while_another_thread_does_the_pools_work(ctx: Any) -> None:
    """Each item is given out when the result before it has come: half a second for each would be too long."""
    came: queues.Queue[int] = queues.Queue()

    def items() -> Iterator[int]:
        for number in range(60):
            yield number
            came.get()

    with ctx.Pool(2) as pool:
        slow = pool.apply_async(time.sleep, (120,))
        other = threading.Thread(target=slow.wait, args=(120,))
        other.start()
        began = time.monotonic()
        for result in pool.imap(abs, items()):
            came.put(result)
        assert time.monotonic() - began < 20
        pool.terminate()
        other.join()
