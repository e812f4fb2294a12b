"""What recipes on the web look for inside pools, results and executors: the standard library's answers."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import manyhands
import pytest
import targets

pytestmark = pytest.mark.standard


def gate_of(ctx: Any) -> tuple[Any, Any]:
    """An event, and what has workers wait for it."""
    gate = ctx.Event()
    return gate, {"initializer": targets.keep_gate, "initargs": (gate,)}


def until(true: Any) -> None:
    """Wait for what somebody else does; the test's deadline ends it."""
    while not true():
        time.sleep(0.005)


class TestResults:
    def test_number_left_counts_chunks(self, ctx: Any) -> None:
        gate, keeping = gate_of(ctx)
        with ctx.Pool(2, **keeping) as pool:
            result = pool.map_async(targets.past_gate, range(1, 22), chunksize=4)
            assert (result._number_left, result._chunksize) == (6, 4)
            gate.set()
            result.wait()
            assert (result._number_left, result._chunksize) == (0, 4)
            assert result._success is True
            assert result._value == list(range(1, 22))

    def test_default_chunks_are_counted_as_the_standard_librarys(self, ctx: Any) -> None:
        gate, keeping = gate_of(ctx)
        with ctx.Pool(2, **keeping) as pool:
            result = pool.map_async(targets.past_gate, range(1, 101))
            # Four for each worker: of 13 items.
            assert (result._number_left, result._chunksize) == (8, 13)
            gate.set()
            result.wait()
            assert result._number_left == 0
            empty = pool.map_async(abs, [])
            empty.wait()
            assert empty._number_left == 0

    def test_number_left_goes_down(self, ctx: Any) -> None:
        gate, keeping = gate_of(ctx)
        with ctx.Pool(1, **keeping) as pool:
            result = pool.map_async(targets.past_gate, [0, 0, 1, 1], chunksize=1)
            until(lambda: result._number_left == 2)
            gate.set()
            result.wait()
            assert result._number_left == 0

    def test_value_and_success_of_a_call(self, ctx: Any) -> None:
        gate, keeping = gate_of(ctx)
        with ctx.Pool(1, **keeping) as pool:
            result = pool.apply_async(targets.past_gate, (7,))
            assert not hasattr(result, "_success")
            gate.set()
            result.wait()
            assert (result._success, result._value) == (True, 7)
            failed = pool.apply_async(targets.past_gate, ())
            failed.wait()
            assert failed._success is False
            assert isinstance(failed._value, TypeError)


class TestPool:
    def test_cache_has_what_is_not_done(self, ctx: Any) -> None:
        gate, keeping = gate_of(ctx)
        with ctx.Pool(2, **keeping) as pool:
            results = [pool.apply_async(targets.past_gate, (n,)) for n in range(1, 11)]
            assert len(pool._cache) == 10
            assert set(pool._cache.values()) == set(results)
            assert all(pool._cache[result._job] is result for result in results)
            gate.set()
            assert [result.get() for result in results] == list(range(1, 11))
            until(lambda: not pool._cache)

    def test_a_callback_is_part_of_it(self, ctx: Any) -> None:
        called, go_on = threading.Event(), threading.Event()

        def callback(_result: object) -> None:
            called.set()
            go_on.wait()

        with ctx.Pool(1) as pool:
            pool.apply_async(abs, (-1,), callback=callback)
            called.wait()
            assert len(pool._cache) == 1
            go_on.set()
            until(lambda: not pool._cache)

    def test_taskqueue_is_empty_in_the_end(self, ctx: Any) -> None:
        gate, keeping = gate_of(ctx)
        with ctx.Pool(1, **keeping) as pool:
            results = [pool.apply_async(targets.past_gate, (n,)) for n in range(1, 6)]
            assert pool._taskqueue.qsize() >= 0
            gate.set()
            assert [result.get() for result in results] == list(range(1, 6))
            until(lambda: pool._taskqueue.qsize() == 0)
            assert pool._taskqueue.empty()

    def test_map_async_with_a_mapper(self, ctx: Any) -> None:
        with ctx.Pool(2) as pool:
            module = sys.modules[type(pool).__module__]
            result = pool._map_async(pow, [(2, 3), (3, 2)], module.starmapstar, 1)  # type: ignore[attr-defined]
            assert result.get() == [8, 9]
            assert pool._map_async(abs, [-1, -2], module.mapstar).get() == [1, 2]  # type: ignore[attr-defined]

    @pytest.mark.parametrize("name", ["IMapIterator", "IMapUnorderedIterator"])
    @pytest.mark.parametrize("chunksize", [1, 3])
    def test_istarmap(self, ctx: Any, name: str, chunksize: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """The recipe for a `starmap` that can be shown as a bar, word for word."""
        with ctx.Pool(2) as pool:
            mpp: Any = sys.modules[type(pool).__module__]
            monkeypatch.setattr(mpp.Pool, "istarmap", istarmap_of(mpp, name), raising=False)
            got = pool.istarmap(pow, [(2, n) for n in range(10)], chunksize)
            assert sorted(got) == [2**n for n in range(10)]

    def test_istarmap_of_what_raises(self, ctx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def items() -> Iterator[tuple[int, int]]:
            yield 2, 3
            raise OverflowError("no more")

        with ctx.Pool(1) as pool:
            mpp: Any = sys.modules[type(pool).__module__]
            monkeypatch.setattr(mpp.Pool, "istarmap", istarmap_of(mpp, "IMapIterator"), raising=False)
            got = pool.istarmap(pow, items(), 1)
            assert next(got) == 8
            with pytest.raises(OverflowError, match="no more"):
                next(got)
            failing = pool.istarmap(divmod, [(1, 0)], 1)
            with pytest.raises(ZeroDivisionError):
                next(failing)

    def test_a_call_of_ones_own(self, ctx: Any) -> None:
        got: list[int] = []
        with ctx.Pool(1) as pool:
            mpp: Any = sys.modules[type(pool).__module__]
            result = mpp.ApplyResult(pool, got.append, None)
            pool._taskqueue.put(([(result._job, 0, pow, (2,), {"exp": 5})], None))
            assert result.get() == 32
            until(lambda: got == [32])


def istarmap_of(mpp: Any, name: str) -> Any:
    def istarmap(self: Any, func: Any, iterable: Any, chunksize: int = 1) -> Any:
        self._check_running()
        task_batches = mpp.Pool._get_tasks(func, iterable, chunksize)
        result = getattr(mpp, name)(self)
        self._taskqueue.put(
            (
                self._guarded_task_generation(result._job, mpp.starmapstar, task_batches),
                result._set_length,
            )
        )
        return (item for chunk in result for item in chunk)

    return istarmap


class TestQueue:
    def test_its_bound_and_its_buffer(self, ctx: Any) -> None:
        queue = ctx.Queue()
        assert queue._maxsize == 2**31 - 1
        assert ctx.Queue(3)._maxsize == 3
        queue.put(1)
        assert queue.get(timeout=20) == 1
        until(lambda: len(queue._buffer) == 0)
        queue.close()
        queue.join_thread()


def executor_of(ctx: Any, workers: int, **how: Any) -> Any:
    kind: Any = manyhands if type(ctx).__module__.startswith("manyhands") else futures
    return kind.ProcessPoolExecutor(workers, mp_context=ctx, **how)


class TestExecutor:
    def test_before_it_has_anything_to_do(self, ctx: Any) -> None:
        with executor_of(ctx, 1) as executor:
            assert executor._pending_work_items == {}
            assert executor._executor_manager_thread is None
            assert executor._call_queue.qsize() == 0
            assert (executor._broken, executor._shutdown_thread) == (False, False)
        assert executor._call_queue is None

    def test_pending_work_items(self, ctx: Any) -> None:
        gate, keeping = gate_of(ctx)
        with executor_of(ctx, 1, **keeping) as executor:
            calls = [executor.submit(targets.past_gate, n) for n in range(1, 9)]
            assert len(executor._pending_work_items) == 8
            assert [item.future for item in executor._pending_work_items.values()] == calls
            assert executor._executor_manager_thread.is_alive()
            gate.set()
            assert [call.result() for call in calls] == list(range(1, 9))
            until(lambda: not executor._pending_work_items)
        assert executor._executor_manager_thread is None
        assert executor._shutdown_thread

    def test_its_thread_ends_when_all_is_over(self, ctx: Any) -> None:
        executor = executor_of(ctx, 2)
        results = executor.map(abs, range(-5, 5))
        thread, queue, processes = (
            executor._executor_manager_thread,
            executor._call_queue,
            executor._processes,
        )
        thread.join(0.01)
        assert thread.is_alive()
        del executor
        thread.join()
        assert not thread.is_alive()
        for process in processes.values():
            process.join()
        queue.join_thread()
        assert list(results) == [abs(n) for n in range(-5, 5)]

    def test_its_thread_after_a_shutdown_that_does_not_wait(self, ctx: Any) -> None:
        executor = executor_of(ctx, 2)
        results = executor.map(abs, range(-5, 5))
        thread, processes = executor._executor_manager_thread, executor._processes
        executor.shutdown(wait=False)
        thread.join()
        for process in processes.values():
            process.join()
        assert list(results) == [abs(n) for n in range(-5, 5)]
