"""`ProcessPoolExecutor`, as the standard library's documentation has it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
import targets
from processes import wait_gone

pytestmark = pytest.mark.standard

LONG = 40.0
SHORT = 0.05


def executor_of(ctx: Any) -> Any:
    """The executor that belongs to a context."""
    if type(ctx).__module__.startswith("manyhands"):
        import manyhands

        return manyhands.ProcessPoolExecutor
    return concurrent.futures.process.ProcessPoolExecutor


def is_ours(ctx: Any) -> bool:
    return executor_of(ctx).__module__ == "manyhands.futures"


@pytest.fixture
def make(ctx: Any) -> Iterator[Any]:
    """Makes executors; they are shut down afterwards."""
    made = []

    def executor(*args: Any, **kwargs: Any) -> Any:
        made.append(executor_of(ctx)(*args, mp_context=ctx, **kwargs))
        return made[-1]

    yield executor
    for each in made:
        each.shutdown()
    made.clear()


@pytest.fixture
def executor(make: Any) -> Any:
    return make(2)


@pytest.fixture
def gate(ctx: Any) -> Iterator[Any]:
    """What calls wait for, as an initializer's argument; open at the end, whatever happened."""
    event = ctx.Event()
    yield event
    event.set()


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

    def test_one_worker_keeps_the_order(self, make: Any) -> None:
        executor = make(1)
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

    def test_timeout(self, make: Any, gate: Any) -> None:
        executor = make(1, initializer=targets.keep_gate, initargs=(gate,))
        future = executor.submit(targets.wait_at_gate)
        with pytest.raises(concurrent.futures.TimeoutError):
            future.result(timeout=SHORT)
        with pytest.raises(TimeoutError):
            future.exception(timeout=0)
        gate.set()
        assert future.result(LONG) == "open"

    def test_running(self, make: Any, gate: Any) -> None:
        executor = make(1, initializer=targets.keep_gate, initargs=(gate,))
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

    def test_processes(self, ctx: Any, make: Any) -> None:
        executor = make(3)
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

    def test_what_cannot_be_unpickled(self, ctx: Any, make: Any) -> None:
        for target, argument in [
            (targets.identity, targets.Unreadable()),
            (targets.make_unreadable, None),
        ]:
            executor = make(1)
            with pytest.raises(BrokenProcessPool):
                executor.submit(target, argument).result()
            if is_ours(ctx):
                assert executor.submit(targets.square, 3).result() == 9

    def test_initializer(self, make: Any) -> None:
        executor = make(2, initializer=targets.initialise, initargs=("well",))
        assert executor.submit(targets.initialised).result() == "well"

    def test_initializer_that_raises(self, make: Any) -> None:
        executor = make(2, initializer=targets.fail_to_initialise)
        with pytest.raises(BrokenProcessPool):
            executor.submit(targets.square, 1).result()
        with pytest.raises(BrokenProcessPool):
            executor.submit(targets.square, 1)
        assert executor._broken

    @pytest.mark.parametrize("workers", [0, -1])
    def test_number_of_workers(self, make: Any, workers: int) -> None:
        with pytest.raises(ValueError, match=r"^max_workers must be greater than 0$"):
            make(workers)

    def test_arguments_of_the_constructor(self, ctx: Any, make: Any) -> None:
        with pytest.raises(TypeError, match=r"^initializer must be a callable$"):
            make(1, initializer=123)
        with pytest.raises(TypeError, match=r"^max_tasks_per_child must be an integer$"):
            make(1, max_tasks_per_child="several")
        with pytest.raises(ValueError, match=r"^max_tasks_per_child must be >= 1$"):
            make(1, max_tasks_per_child=0)
        if ctx.get_start_method() == "fork":
            with pytest.raises(ValueError, match=r"^max_tasks_per_child is incompatible with the 'fork'"):
                make(1, max_tasks_per_child=1)

    def test_default_number_of_workers(self, ctx: Any, make: Any) -> None:
        expected = concurrent.futures.process.ProcessPoolExecutor()._max_workers
        assert make()._max_workers == expected


@pytest.mark.methods("forkserver", "spawn")
class TestShares:
    def test_workers_are_replaced_after_their_share(self, make: Any) -> None:
        executor = make(1, max_tasks_per_child=3)
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

    def test_timeout(self, make: Any, gate: Any) -> None:
        executor = make(1, initializer=targets.keep_gate, initargs=(gate,))
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

    def test_wait(self, make: Any, gate: Any) -> None:
        executor = make(2, initializer=targets.keep_gate, initargs=(gate,))
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

    def test_wait_for_what_another_thread_cancels(self, make: Any, gate: Any) -> None:
        executor = make(1, initializer=targets.keep_gate, initargs=(gate,))
        futures = [executor.submit(targets.wait_at_gate) for _ in range(10)]
        canceller = threading.Timer(SHORT, futures[-1].cancel)
        canceller.start()
        with pytest.raises(concurrent.futures.CancelledError):
            futures[-1].result(LONG)
        canceller.join()
        gate.set()


class TestCancel:
    def test_what_waits_never_runs(self, make: Any, gate: Any, tmp_path: Path) -> None:
        executor = make(1, initializer=targets.keep_gate, initargs=(gate,))
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

    def test_cancelled(self, make: Any, gate: Any) -> None:
        executor = make(1, initializer=targets.keep_gate, initargs=(gate,))
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


class TestShutdown:
    def test_submit_after_it(self, executor: Any) -> None:
        executor.submit(targets.square, 2)
        executor.shutdown()
        with pytest.raises(RuntimeError, match=r"^cannot schedule new futures after shutdown$"):
            executor.submit(targets.square, 2)

    def test_everything_is_done(self, executor: Any) -> None:
        futures = [executor.submit(targets.slow_square, n) for n in range(30)]
        executor.shutdown()
        assert all(future.done() for future in futures)
        assert [future.result() for future in futures] == [n * n for n in range(30)]

    def test_workers_are_gone(self, executor: Any) -> None:
        executor.submit(targets.square, 2).result()
        processes = executor._processes
        pids = list(processes)
        executor.shutdown()
        assert executor._processes is None
        assert not any(process.is_alive() for process in processes.values())
        wait_gone(pids, LONG)

    def test_without_waiting(self, executor: Any) -> None:
        futures = [executor.submit(targets.slow_square, n) for n in range(30)]
        executor.shutdown(wait=False)
        assert [future.result() for future in futures] == [n * n for n in range(30)]

    def test_without_waiting_and_without_asking(self, make: Any, ctx: Any) -> None:
        executor = executor_of(ctx)(2, mp_context=ctx)
        executor.submit(targets.square, 2)
        pids = list(executor._processes)
        executor.shutdown(wait=False)
        del executor
        wait_gone(pids, LONG)

    def test_cancelling(self, make: Any, gate: Any) -> None:
        executor = make(1, initializer=targets.keep_gate, initargs=(gate,))
        futures = [executor.submit(targets.wait_at_gate) for _ in range(20)]
        opener = threading.Timer(10 * SHORT, gate.set)
        opener.start()
        executor.shutdown(cancel_futures=True)
        opener.join()
        cancelled = [future for future in futures if future.cancelled()]
        assert len(cancelled) >= 15
        assert all(future.result() == "open" for future in futures if future not in cancelled)

    def test_twice(self, executor: Any) -> None:
        executor.submit(targets.square, 2)
        executor.shutdown()
        executor.shutdown()

    def test_unused(self, executor: Any) -> None:
        executor.shutdown()
        executor.shutdown(wait=False)

    def test_with_statement(self, ctx: Any) -> None:
        with executor_of(ctx)(2, mp_context=ctx) as executor:
            future = executor.submit(targets.slow_square, 3)
        assert future.done()
        with pytest.raises(RuntimeError):
            executor.submit(targets.square, 2)

    @pytest.mark.parametrize("wait", [True, False])
    @pytest.mark.ours_only  # the standard library's logs that it cannot join the current thread
    def test_from_a_callback(self, ctx: Any, wait: bool) -> None:
        executor = executor_of(ctx)(2, mp_context=ctx)
        called = threading.Event()

        def end(_future: Any) -> None:
            executor.shutdown(wait=wait)
            called.set()

        futures = [executor.submit(targets.slow_square, n) for n in range(30)]
        futures[0].add_done_callback(end)
        assert [future.result() for future in futures] == [n * n for n in range(30)]
        assert called.wait(LONG)

    @pytest.mark.ours_only  # the standard library's hangs
    def test_wait_for_another_call_in_a_callback(self, executor: Any) -> None:
        seen: list[int] = []
        futures = [executor.submit(targets.slow_square, n) for n in range(30)]
        called = threading.Event()

        def wait_for_the_last(_future: Any) -> None:
            seen.append(futures[-1].result(LONG))
            called.set()

        futures[0].add_done_callback(wait_for_the_last)
        assert called.wait(LONG)
        assert seen == [29 * 29]
        assert [future.result() for future in futures] == [n * n for n in range(30)]

    def test_an_executor_that_nobody_has_any_more(self, ctx: Any) -> None:
        executor = executor_of(ctx)(2, mp_context=ctx)
        futures = [executor.submit(targets.slow_square, n) for n in range(20)]
        pids = list(executor._processes)
        gone = weakref.ref(executor)
        del executor
        gc.collect()
        assert gone() is None
        assert [future.result() for future in futures] == [n * n for n in range(20)]
        wait_gone(pids, LONG)

    def test_it_is_gone_with_its_futures(self, ctx: Any) -> None:
        executor = executor_of(ctx)(2, mp_context=ctx)
        futures = [executor.submit(targets.slow_square, n) for n in range(20)]
        pids = list(executor._processes)
        del executor, futures
        wait_gone(pids, LONG)

    @pytest.mark.ours_only  # from 3.14 on in the standard library
    @pytest.mark.parametrize("how", ["terminate_workers", "kill_workers"])
    def test_ending_the_workers(self, make: Any, how: str) -> None:
        executor = make(2)
        futures = [executor.submit(targets.sleep, 600) for _ in range(10)]
        pids = list(executor._processes)
        getattr(executor, how)()
        wait_gone(pids, LONG)
        concurrent.futures.wait(futures, LONG)
        for future in futures:
            with pytest.raises((BrokenProcessPool, concurrent.futures.CancelledError)):
                future.result(LONG)
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(targets.square, 1)


class TestPickling:
    @pytest.mark.ours_only  # the standard library's leaves its feeder thread's last error behind
    def test_neither_executor_nor_future_can_be_sent(self, executor: Any) -> None:
        future = executor.submit(targets.square, 2)
        for each in (executor, future):
            with pytest.raises(TypeError, match="cannot pickle"):
                executor.submit(targets.identity, each).result(LONG)


AT_EXIT = """
import sys, time
import {module}

def touch(path):
    time.sleep(0.02)
    open(path, "w").close()

if __name__ == "__main__":
    folder, method = sys.argv[1:]
    executor = {executor}(2, mp_context={module}.get_context(method))
    for n in range(20):
        executor.submit(touch, f"{{folder}}/{{n}}")
"""


def run_program(ctx: Any, folder: Path, text: str, *args: str) -> subprocess.CompletedProcess[str]:
    module = "manyhands" if is_ours(ctx) else "multiprocessing, concurrent.futures"
    text = text.replace("import {module}", f"import {module}")
    executor = "manyhands.ProcessPoolExecutor" if is_ours(ctx) else "concurrent.futures.ProcessPoolExecutor"
    script = folder / "program.py"
    script.write_text(text.format(module=module.split(",")[0], executor=executor))
    return subprocess.run(
        [sys.executable, str(script), *args],
        capture_output=True,
        text=True,
        timeout=LONG,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_everything_is_done_at_exit(ctx: Any, tmp_path: Path) -> None:
    done = run_program(ctx, tmp_path, AT_EXIT, str(tmp_path), ctx.get_start_method())
    assert (done.returncode, done.stderr) == (0, "")
    assert all((tmp_path / str(n)).exists() for n in range(20))


IN_FORKED_CHILD = """
import os, sys
import {module}

def square(n):
    return n * n

if __name__ == "__main__":
    executor = {executor}(2, mp_context={module}.get_context(sys.argv[1]))
    assert executor.submit(square, 3).result() == 9
    outstanding = executor.submit(sum, range(10))
    pid = os.fork()
    if pid == 0:
        for refused in (lambda: executor.submit(square, 2), lambda: outstanding.done() or outstanding.result()):
            try:
                assert refused() is True
            except RuntimeError as error:
                assert "forked child" in str(error), error
        executor.shutdown()
        with {executor}(1, mp_context={module}.get_context(sys.argv[1])) as own:
            assert own.submit(square, 4).result() == 16
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert outstanding.result() == 45
    assert executor.submit(square, 5).result() == 25
    print("well")
"""


@pytest.mark.ours_only  # in the standard library such a call is never done
def test_in_a_forked_child(ctx: Any, tmp_path: Path) -> None:
    done = run_program(ctx, tmp_path, IN_FORKED_CHILD, ctx.get_start_method())
    assert (done.returncode, done.stdout) == (0, "well\n"), done.stderr


def test_in_a_worker(ctx: Any, executor: Any) -> None:
    make = executor_of(ctx)
    assert executor.submit(targets.square_in_executor, make, ctx.get_start_method(), 6).result(LONG) == 36
