"""The standard library's executor and pools, which work at the ends of simple queues that a context makes for them."""

from __future__ import annotations

import os
import signal
from concurrent.futures.process import BrokenProcessPool
from concurrent.futures.process import ProcessPoolExecutor as Executor
from multiprocessing.context import BaseContext
from multiprocessing.pool import Pool, ThreadPool
from multiprocessing.queues import SimpleQueue
from typing import Any

import pytest
import targets

pytestmark = pytest.mark.standard


def test_the_standard_executor_maps(ctx: BaseContext) -> None:
    with Executor(2, mp_context=ctx) as executor:
        assert list(executor.map(targets.square, range(20), chunksize=3)) == [n * n for n in range(20)]
        assert executor.submit(len, b"x" * 300_000).result() == 300_000


def test_a_killed_worker_breaks_the_standard_executor(ctx: BaseContext) -> None:
    with Executor(1, mp_context=ctx) as executor:
        worker = executor.submit(os.getpid).result()
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(BrokenProcessPool):
            executor.submit(targets.square, 3).result()


def test_the_standard_pool_maps_and_ends_in_both_ways(ctx: BaseContext) -> None:
    pool = Pool(2, context=ctx)
    assert pool.map(targets.square, range(20)) == [n * n for n in range(20)]
    assert sorted(pool.imap_unordered(targets.square, range(5))) == [0, 1, 4, 9, 16]
    pool.close()
    pool.join()
    pool = Pool(2, context=ctx)
    pending = pool.map_async(targets.square, range(10_000), chunksize=1)
    pool.terminate()
    pool.join()
    assert not pending.ready() or pending.successful()


def test_the_standard_pool_replaces_its_workers(ctx: BaseContext) -> None:
    with Pool(2, context=ctx, maxtasksperchild=1) as pool:
        assert pool.map(targets.square, range(6), chunksize=1) == [n * n for n in range(6)]


def test_threads_work_in_a_pool_of_that_context(ctx: BaseContext) -> None:
    with ThreadPool(2) as pool:
        queue: Any = ctx.SimpleQueue()
        pool.map(queue.put, range(10))
        assert sorted(queue.get() for _ in range(10)) == list(range(10))


def test_a_simple_queue_has_locks_for_its_ends(ctx: BaseContext) -> None:
    queue: Any = ctx.SimpleQueue()
    assert queue._rlock is queue._rlock
    with queue._wlock:
        queue._writer.send("by hand")
    with queue._rlock:
        assert queue._reader.recv() == "by hand"
        assert not queue._rlock.acquire(False)
    queue.put("as usual")
    assert queue.get() == "as usual"


def _make(namespace: dict[str, Any]) -> Any:
    exec("def make(ctx):\n    return ctx.SimpleQueue()", namespace)
    return namespace["make"]


@pytest.mark.parametrize("name", ["concurrent.futures.process", "users"])
def test_what_a_context_makes_is_the_same_for_every_caller(ctx: BaseContext, name: str) -> None:
    made = _make({"__name__": name})(ctx)
    assert type(made) is type(ctx.SimpleQueue())


def test_the_standard_pool_has_queues_of_its_own(ctx: BaseContext) -> None:
    """At its end it takes what it has polled, with its workers kept off by the queue's lock: ours keeps nobody off."""
    made = _make({"__name__": "multiprocessing.pool"})(ctx)
    assert isinstance(made, SimpleQueue)


class OwnQueues(Pool):
    """As joblib's pools: what it makes its queues of is asked for by its own module."""

    _ctx: Any

    def _setup_queues(self) -> None:
        self._inqueue: Any = self._ctx.SimpleQueue()
        self._outqueue: Any = self._ctx.SimpleQueue()
        self._quick_put = self._inqueue._writer.send
        self._quick_get = self._outqueue._reader.recv


def test_so_has_one_that_overrides_how_they_are_made(ctx: BaseContext) -> None:
    for _ in range(10):
        with OwnQueues(2, context=ctx) as pool:
            assert isinstance(pool._inqueue, SimpleQueue)
            assert pool.map(targets.square, range(10)) == [n * n for n in range(10)]
        pool.join()


def test_the_standard_pool_ends_again_and_again(ctx: BaseContext) -> None:
    for _ in range(20):
        with Pool(2, context=ctx) as pool:
            assert pool.map(targets.square, range(10)) == [n * n for n in range(10)]
        pool.join()
