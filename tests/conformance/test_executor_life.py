"""The end of a `ProcessPoolExecutor`: `shutdown`, garbage collection, interpreter exit; and executors in children."""

from __future__ import annotations

import concurrent.futures
import gc
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, ClassVar

import pytest
import targets
from executors import executor_of, is_ours
from processes import wait_gone

pytestmark = pytest.mark.standard

LONG = 40.0
SHORT = 0.05


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

    @pytest.mark.ours_only  # the standard library's may leave its pipes behind for a while
    def test_without_waiting(self, executor: Any) -> None:
        futures = [executor.submit(targets.slow_square, n) for n in range(30)]
        executor.shutdown(wait=False)
        assert [future.result() for future in futures] == [n * n for n in range(30)]

    def test_without_waiting_and_without_asking(self, make_executor: Any, ctx: Any) -> None:
        executor = executor_of(ctx)(2, mp_context=ctx)
        executor.submit(targets.square, 2)
        pids = list(executor._processes)
        executor.shutdown(wait=False)
        del executor
        wait_gone(pids, LONG)

    def test_cancelling(self, make_executor: Any, gate: Any) -> None:
        executor = make_executor(1, initializer=targets.keep_gate, initargs=(gate,))
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
    def test_ending_the_workers(self, make_executor: Any, how: str) -> None:
        executor = make_executor(2)
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

    @pytest.mark.ours_only  # from 3.14 on in the standard library
    def test_a_subclass_may_change_how_the_workers_are_ended(self, ctx: Any) -> None:
        class Tells(executor_of(ctx)):  # type: ignore[misc]
            asked: ClassVar[list[str]] = []

            def _force_shutdown(self, operation: str) -> None:
                self.asked.append(operation)
                super()._force_shutdown(operation)

        for how in ("terminate", "kill"):
            executor = Tells(1, mp_context=ctx)
            future = executor.submit(targets.sleep, 600)
            assert Tells.__bases__ == (executor_of(ctx),), "it stays ours"
            getattr(executor, f"{how}_workers")()
            with pytest.raises((BrokenProcessPool, concurrent.futures.CancelledError)):
                future.result(LONG)
        assert Tells.asked == ["terminate", "kill"]

    @pytest.mark.ours_only  # from 3.14 on in the standard library
    def test_the_workers_cannot_be_ended_in_another_way(self, make_executor: Any) -> None:
        executor = make_executor(1)
        with pytest.raises(ValueError, match="Unsupported operation: 'stop'"):
            executor._force_shutdown(operation="stop")
        assert executor.submit(targets.square, 3).result(LONG) == 9


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
