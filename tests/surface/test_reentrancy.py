"""No lock is held while Python code runs: pickling, unpickling, callbacks, iterators and finalizers may use the very
object that calls them. A lock that was held would hang here, until the deadline of the test."""

from __future__ import annotations

import gc
import queue
import threading
from collections.abc import Iterator
from multiprocessing.context import BaseContext
from typing import Any

import pytest
import targets

QUEUES: dict[str, Any] = {}


class Reenters:
    """Uses the queue of that name while it is pickled, and again while it is unpickled."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        QUEUES[self.name].put("while pickling")
        return come_back, (self.name,)


def come_back(name: str) -> Reenters:
    QUEUES[name].put("while unpickling")
    return Reenters(name)


@pytest.mark.parametrize("bound", [0, 10])
def test_a_queue_used_by_what_it_pickles(ctx: BaseContext, bound: int) -> None:
    mine = QUEUES["mine"] = ctx.Queue(bound)
    mine.put(Reenters("mine"))
    assert mine.get(timeout=30) == "while pickling"
    assert isinstance(mine.get(timeout=30), Reenters)
    assert mine.get(timeout=30) == "while unpickling"
    with pytest.raises(queue.Empty):
        mine.get_nowait()
    del QUEUES["mine"]
    mine.close()


class PutsWhenFinalized:
    """Is in a cycle, so that only the collector finds it, wherever the interpreter is then."""

    def __init__(self, name: str) -> None:
        self.name, self.cycle = name, self

    def __del__(self) -> None:
        QUEUES[self.name].put("from a finalizer")


def test_a_queue_used_by_what_is_finalized_meanwhile(ctx: BaseContext) -> None:
    mine = QUEUES["mine"] = ctx.Queue()
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(200):
            PutsWhenFinalized("mine")
            mine.put([[], {}, (set(),)])
            while mine.get(timeout=30) == "from a finalizer":
                pass
    finally:
        gc.set_threshold(*before)
    gc.collect()
    while not mine.empty():
        assert mine.get(timeout=30) in ("from a finalizer", [[], {}, (set(),)])
    del QUEUES["mine"]
    mine.close()


class Submits:
    """Hands the pool another call while it is pickled as an argument of one."""

    def __init__(self, pool: Any, results: list[Any]) -> None:
        self.pool, self.results = pool, results

    def __reduce__(self) -> tuple[Any, ...]:
        self.results.append(self.pool.apply_async(targets.square, (3,)))
        return int, (5,)


def test_a_pool_used_by_what_it_pickles(ctx: BaseContext) -> None:
    with ctx.Pool(2) as pool:
        results: list[Any] = []
        assert pool.apply(targets.square, (Submits(pool, results),)) == 25
        assert pool.map(targets.square, [Submits(pool, results) for _ in range(3)]) == [25] * 3
        assert [result.get(30) for result in results] == [9] * 4


def test_a_pool_used_by_the_callbacks_it_calls(ctx: BaseContext) -> None:
    with ctx.Pool(2) as pool:
        results: list[Any] = []
        called = threading.Semaphore(0)

        def again(value: int) -> None:
            if value < 1000:
                results.append(pool.apply_async(targets.square, (value,), callback=again))
            called.release()

        assert pool.apply_async(targets.square, (2,), callback=again).get(30) == 4
        assert all(called.acquire(timeout=30) for _ in range(4))
        assert [result.get(30) for result in results] == [16, 256, 65536]


def test_a_pool_used_by_the_iterable_it_reads(ctx: BaseContext) -> None:
    with ctx.Pool(2) as pool:

        def numbers() -> Iterator[int]:
            for number in range(20):
                yield pool.apply_async(targets.square, (number,)).get(30)

        assert pool.map(targets.square, list(numbers())) == [n**4 for n in range(20)]
        assert list(pool.imap(targets.square, numbers(), 3)) == [n**4 for n in range(20)]
