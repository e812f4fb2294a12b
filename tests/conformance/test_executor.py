"""`ProcessPoolExecutor`, as the standard library's documentation has it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
import targets
from executors import executor_of, is_ours

pytestmark = pytest.mark.standard

LONG = 40.0
SHORT = 0.05


class TestSubmit:
    def test_result(self, executor: Any) -> None:
        future = executor.submit(targets.square, 7)
        assert isinstance(future, concurrent.futures.Future)
        assert future.result() == 49
        assert future.done()
        assert not future.running()
        assert not future.cancelled()
        assert future.exception() is None

    def test_arguments(self, executor: Any) -> None:
        assert executor.submit(targets.describe, 1, "two", three=3, fn=4, self=5).result() == (
            (1, "two"),
            {"three": 3, "fn": 4, "self": 5},
        )

    def test_many(self, executor: Any) -> None:
        futures = [executor.submit(targets.square, n) for n in range(1000)]
        assert [future.result() for future in futures] == [n * n for n in range(1000)]

    def test_results_in_any_order(self, executor: Any) -> None:
        futures = [executor.submit(targets.square, n) for n in range(300)]
        assert [future.result() for future in reversed(futures)] == [n * n for n in reversed(range(300))]

    def test_one_worker_keeps_the_order(self, make_executor: Any) -> None:
        executor = make_executor(1)
        stamps = [executor.submit(time.monotonic_ns) for _ in range(500)]
        times = [stamp.result() for stamp in stamps]
        assert times == sorted(times)

    def test_large_arguments_and_results(self, executor: Any) -> None:
        data = os.urandom(1 << 20)
        futures = [executor.submit(targets.identity, data) for _ in range(5)]
        assert all(future.result() == data for future in futures)

    def test_function_must_be_given(self, executor: Any) -> None:
        with pytest.raises(TypeError):
            executor.submit()
        with pytest.raises(TypeError):
            executor.submit(fn=targets.square)

    def test_timeout(self, make_executor: Any, gate: Any) -> None:
        executor = make_executor(1, initializer=targets.keep_gate, initargs=(gate,))
        future = executor.submit(targets.wait_at_gate)
        with pytest.raises(concurrent.futures.TimeoutError):
            future.result(timeout=SHORT)
        with pytest.raises(TimeoutError):
            future.exception(timeout=0)
        gate.set()
        assert future.result(LONG) == "open"

    def test_running(self, make_executor: Any, gate: Any) -> None:
        executor = make_executor(1, initializer=targets.keep_gate, initargs=(gate,))
        future = executor.submit(targets.wait_at_gate)
        deadline = time.monotonic() + LONG
        while not future.running():
            assert time.monotonic() < deadline
            time.sleep(0.001)
        assert not future.cancel()
        gate.set()
        future.result(LONG)

    def test_from_several_threads(self, executor: Any) -> None:
        results: dict[int, list[int]] = {}

        def work(number: int) -> None:
            futures = [executor.submit(targets.add, number * 1000, n) for n in range(200)]
            results[number] = [future.result() for future in futures]

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == {number: [number * 1000 + n for n in range(200)] for number in range(4)}

    def test_processes(self, ctx: Any, make_executor: Any) -> None:
        executor = make_executor(3)
        assert executor._processes == {}
        pid = executor.submit(os.getpid).result()
        processes = executor._processes
        assert pid in processes
        assert all(process.pid == pid for pid, process in processes.items())
        # An idle worker is used again; forked workers are all started at once.
        assert executor.submit(os.getpid).result() in processes
        assert len(executor._processes) == (3 if ctx.get_start_method() == "fork" else 1)

    def test_workers_are_no_daemons(self, executor: Any) -> None:
        assert executor.submit(targets.is_daemon).result() is False


class TestErrors:
    def test_exception(self, executor: Any) -> None:
        future = executor.submit(targets.fail, "no luck today")
        error = future.exception()
        assert isinstance(error, ValueError)
        assert error.args == ("no luck today",)
        with pytest.raises(ValueError, match="no luck today"):
            future.result()

    def test_remote_traceback(self, executor: Any) -> None:
        cause: Any = executor.submit(targets.fail).exception().__cause__
        assert type(cause).__name__ == "_RemoteTraceback"
        assert "in fail" in cause.tb
        assert "raise ValueError(text)" in str(cause)

    def test_sys_exit_is_an_exception(self, executor: Any) -> None:
        pid = executor.submit(os.getpid).result()
        error = executor.submit(targets.leave, 3).exception()
        assert isinstance(error, SystemExit)
        assert error.code == 3
        assert pid in executor._processes

    def test_argument_that_cannot_be_pickled(self, executor: Any) -> None:
        future = executor.submit(targets.identity, threading.Lock())
        with pytest.raises(TypeError, match="pickle"):
            future.result(LONG)
        assert executor.submit(targets.square, 2).result() == 4

    def test_result_that_cannot_be_pickled(self, executor: Any) -> None:
        with pytest.raises(Exception, match="pickle"):
            executor.submit(targets.unpicklable, None).result()
        assert executor.submit(targets.square, 2).result() == 4

    def test_what_cannot_be_unpickled(self, ctx: Any, make_executor: Any) -> None:
        for target, argument in [
            (targets.identity, targets.Unreadable()),
            (targets.make_unreadable, None),
        ]:
            executor = make_executor(1)
            with pytest.raises(BrokenProcessPool):
                executor.submit(target, argument).result()
            if is_ours(ctx):
                assert executor.submit(targets.square, 3).result() == 9

    def test_initializer(self, make_executor: Any) -> None:
        executor = make_executor(2, initializer=targets.initialise, initargs=("well",))
        assert executor.submit(targets.initialised).result() == "well"

    def test_initializer_that_raises(self, make_executor: Any) -> None:
        executor = make_executor(2, initializer=targets.fail_to_initialise)
        with pytest.raises(BrokenProcessPool):
            executor.submit(targets.square, 1).result()
        with pytest.raises(BrokenProcessPool):
            executor.submit(targets.square, 1)
        assert executor._broken

    @pytest.mark.parametrize("workers", [0, -1])
    def test_number_of_workers(self, make_executor: Any, workers: int) -> None:
        with pytest.raises(ValueError, match=r"^max_workers must be greater than 0$"):
            make_executor(workers)

    def test_arguments_of_the_constructor(self, ctx: Any, make_executor: Any) -> None:
        with pytest.raises(TypeError, match=r"^initializer must be a callable$"):
            make_executor(1, initializer=123)
        with pytest.raises(TypeError, match=r"^max_tasks_per_child must be an integer$"):
            make_executor(1, max_tasks_per_child="several")
        with pytest.raises(ValueError, match=r"^max_tasks_per_child must be >= 1$"):
            make_executor(1, max_tasks_per_child=0)
        if ctx.get_start_method() == "fork":
            with pytest.raises(ValueError, match=r"^max_tasks_per_child is incompatible with the 'fork'"):
                make_executor(1, max_tasks_per_child=1)

    def test_default_number_of_workers(self, ctx: Any, make_executor: Any) -> None:
        expected = concurrent.futures.process.ProcessPoolExecutor()._max_workers
        assert make_executor()._max_workers == expected


@pytest.mark.methods("forkserver", "spawn")
class TestShares:
    def test_workers_are_replaced_after_their_share(self, make_executor: Any) -> None:
        executor = make_executor(1, max_tasks_per_child=3)
        pids = [executor.submit(os.getpid).result() for _ in range(7)]
        assert [len(set(pids[n : n + 3])) for n in (0, 3)] == [1, 1]
        assert len(set(pids)) == 3

    def test_the_default_method_is_spawn(self, ctx: Any) -> None:
        with executor_of(ctx)(1, max_tasks_per_child=1) as executor:
            assert executor._mp_context.get_start_method() == "spawn"


class TestMap:
    @pytest.mark.parametrize("chunksize", [1, 3, 100])
    def test_keeps_the_order(self, executor: Any, chunksize: int) -> None:
        results = executor.map(targets.slow_square, range(30), chunksize=chunksize)
        assert list(results) == [n * n for n in range(30)]

    def test_ends_with_the_shortest(self, executor: Any) -> None:
        assert list(executor.map(targets.add, range(5), [10, 20, 30], chunksize=2)) == [10, 21, 32]

    def test_of_nothing(self, executor: Any) -> None:
        assert list(executor.map(targets.square, [])) == []

    def test_error(self, executor: Any) -> None:
        results = executor.map(targets.fail_on_three, range(6))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(KeyError, match="item 3"):
            next(results)
        assert list(results) == []

    def test_timeout(self, make_executor: Any, gate: Any) -> None:
        executor = make_executor(1, initializer=targets.keep_gate, initargs=(gate,))
        with pytest.raises(TimeoutError):
            list(executor.map(targets.wait_at_gate, range(2), timeout=SHORT))
        gate.set()

    def test_chunksize(self, executor: Any) -> None:
        with pytest.raises(ValueError, match=r"^chunksize must be >= 1\.$"):
            executor.map(targets.square, range(3), chunksize=0)

    def test_buffersize(self, executor: Any) -> None:
        if sys.version_info >= (3, 14):
            taken = []
            numbers = (taken.append(n) or n for n in range(100))
            results = executor.map(targets.square, numbers, buffersize=5)
            assert next(results) == 0
            assert len(taken) <= 7
            assert list(results) == [n * n for n in range(1, 100)]
        else:
            with pytest.raises(TypeError, match="buffersize"):
                executor.map(targets.square, range(3), buffersize=5)


class TestWaiting:
    def test_as_completed(self, executor: Any) -> None:
        futures = [executor.submit(targets.slow_square, n) for n in range(50)]
        done = list(concurrent.futures.as_completed(futures, timeout=LONG))
        assert sorted(future.result() for future in done) == [n * n for n in range(50)]

    def test_wait(self, make_executor: Any, gate: Any) -> None:
        executor = make_executor(2, initializer=targets.keep_gate, initargs=(gate,))
        stuck = executor.submit(targets.wait_at_gate)
        quick = executor.submit(targets.square, 3)
        done, rest = concurrent.futures.wait([stuck, quick], LONG, concurrent.futures.FIRST_COMPLETED)
        assert (done, rest) == ({quick}, {stuck})
        failed = executor.submit(targets.fail)
        done, rest = concurrent.futures.wait([stuck, failed], LONG, concurrent.futures.FIRST_EXCEPTION)
        assert (done, rest) == ({failed}, {stuck})
        gate.set()
        assert concurrent.futures.wait([stuck, quick], LONG).not_done == set()

    def test_callback(self, executor: Any) -> None:
        called = threading.Event()
        seen: list[Any] = []

        def callback(future: Any) -> None:
            seen.append(future)
            called.set()

        future = executor.submit(targets.square, 2)
        future.add_done_callback(callback)
        assert called.wait(LONG)
        assert seen == [future]
        assert future.result() == 4

    def test_callback_on_what_is_done(self, executor: Any) -> None:
        future = executor.submit(targets.square, 2)
        future.result()
        seen: list[Any] = []
        future.add_done_callback(seen.append)
        assert seen == [future]

    def test_callback_that_raises(self, executor: Any, monkeypatch: Any) -> None:
        # Logged there; a record that pytest keeps would keep the executor.
        monkeypatch.setattr(logging.getLogger("concurrent.futures"), "disabled", True)
        future = executor.submit(targets.square, 2)
        called = threading.Event()
        future.add_done_callback(lambda _: 1 / 0)
        future.add_done_callback(lambda _: called.set())
        assert called.wait(LONG)
        assert executor.submit(targets.square, 3).result() == 9

    def test_submit_from_a_callback(self, executor: Any) -> None:
        done = threading.Event()
        results: list[int] = []

        def next_one(future: Any) -> None:
            results.append(future.result())
            if len(results) < 20:
                executor.submit(targets.add, results[-1], 1).add_done_callback(next_one)
            else:
                done.set()

        executor.submit(targets.add, 0, 1).add_done_callback(next_one)
        assert done.wait(LONG)
        assert results == list(range(1, 21))

    def test_submit_under_a_lock_that_callbacks_take(self, executor: Any) -> None:
        lock = threading.Lock()
        count = 0

        def callback(_future: Any) -> None:
            nonlocal count
            with lock:
                count += 1

        futures = []
        for n in range(300):
            with lock:
                futures.append(executor.submit(targets.square, n))
            # Not under the lock: of a future that is done already it is called here.
            futures[-1].add_done_callback(callback)
        concurrent.futures.wait(futures, LONG)
        executor.shutdown()
        assert count == 300

    def test_asyncio(self, executor: Any) -> None:
        async def main() -> list[int]:
            loop = asyncio.get_running_loop()
            wrapped = asyncio.wrap_future(executor.submit(targets.square, 10))
            calls = [loop.run_in_executor(executor, targets.slow_square, n) for n in range(10)]
            return [*await asyncio.gather(*calls), await wrapped]

        assert asyncio.run(main()) == [*(n * n for n in range(10)), 100]

    def test_wait_for_what_another_thread_cancels(self, make_executor: Any, gate: Any) -> None:
        executor = make_executor(1, initializer=targets.keep_gate, initargs=(gate,))
        futures = [executor.submit(targets.wait_at_gate) for _ in range(10)]
        canceller = threading.Timer(SHORT, futures[-1].cancel)
        canceller.start()
        with pytest.raises(concurrent.futures.CancelledError):
            futures[-1].result(LONG)
        canceller.join()
        gate.set()


class TestCancel:
    def test_what_waits_never_runs(self, make_executor: Any, gate: Any, tmp_path: Path) -> None:
        executor = make_executor(1, initializer=targets.keep_gate, initargs=(gate,))
        first = executor.submit(targets.wait_at_gate)
        others = [executor.submit(targets.touch, str(tmp_path / str(n))) for n in range(50)]
        cancelled = [future.cancel() for future in others]
        # A few are with the workers already.
        assert sum(cancelled) >= 45
        gate.set()
        assert first.result(LONG) == "open"
        concurrent.futures.wait(others, LONG)
        assert [future.cancelled() for future in others] == cancelled
        ran = [(tmp_path / str(n)).exists() for n in range(50)]
        assert ran == [not future.cancelled() for future in others]

    def test_cancelled(self, make_executor: Any, gate: Any) -> None:
        executor = make_executor(1, initializer=targets.keep_gate, initargs=(gate,))
        futures = [executor.submit(targets.wait_at_gate) for _ in range(10)]
        called: list[Any] = []
        futures[-1].add_done_callback(called.append)
        assert futures[-1].cancel()
        assert futures[-1].cancel()
        assert called == [futures[-1]]
        assert futures[-1].done()
        with pytest.raises(concurrent.futures.CancelledError):
            futures[-1].result()
        gate.set()

    def test_what_is_done_cannot_be_cancelled(self, executor: Any) -> None:
        future = executor.submit(targets.square, 2)
        future.result()
        assert not future.cancel()
