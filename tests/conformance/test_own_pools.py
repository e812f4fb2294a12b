"""Subclasses of pools and executors, and contexts of one's own: what they change is heeded."""

from __future__ import annotations

import abc
import concurrent.futures.process
import multiprocessing.pool
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import manyhands.futures
import manyhands.pool
import odd
import pytest
import starts


@pytest.fixture(autouse=True)
def no_steps() -> None:
    odd.steps.clear()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
class TestInsides:
    @pytest.mark.parametrize("name", ["_setup_queues", "_repopulate_pool", "_get_sentinels", "_map_async"])
    def test_of_a_pool(self, ctx: Any, name: str) -> None:
        """The regression of issue 11: what a subclass changes inside was left out without a word."""
        kind = odd.stepping(manyhands.pool.Pool, name)
        with kind(2, context=ctx) as pool:
            assert pool.map(odd.square, range(20)) == [item * item for item in range(20)]
            assert pool.apply_async(odd.square, (3,)).get(30) == 9
            assert list(pool.imap(odd.square, range(3), chunksize=2)) == [0, 1, 4]
            assert isinstance(pool, kind)
            assert isinstance(pool, manyhands.pool.Pool)
            assert isinstance(pool, multiprocessing.pool.Pool)
            # Another one of the same class, at the same time.
            with kind(1, context=ctx) as other:
                assert other.apply(odd.pid) not in {pool.apply(odd.pid), os.getpid()}
            other.join()
        pool.join()
        assert name in odd.steps
        del pool, other

    def test_further_down(self, ctx: Any) -> None:
        """A class between ours and the one that changes the insides has its say, too."""

        class Between(manyhands.pool.Pool):
            def __init__(self, *args: Any, **kwds: Any) -> None:
                odd.steps.append("Between")
                super().__init__(*args, **kwds)

            def apply(self, *args: Any, **kwds: Any) -> Any:
                return "between", super().apply(*args, **kwds)

        kind = odd.stepping(Between, "_setup_queues")
        with kind(1, context=ctx) as pool:
            assert pool.apply(odd.square, (3,)) == ("between", 9)
        pool.join()
        assert odd.steps == ["Between", "_setup_queues"]
        with Between(1, context=ctx) as ours:
            assert ours.apply(odd.square, (3,)) == ("between", 9)
            assert not isinstance(ours, multiprocessing.pool.Pool)
        ours.join()
        assert odd.steps == ["Between", "_setup_queues", "Between"]

    def test_what_the_public_methods_are_stays_ours(self, ctx: Any) -> None:
        kind = odd.stepping(manyhands.pool.Pool, "map apply_async __init__ __enter__ _check_running")
        with kind(1, context=ctx) as pool:
            assert pool.map(odd.square, range(3)) == [0, 1, 4]
            with pytest.raises(manyhands.WorkerDied):
                pool.apply_async(starts.die).get(30)
        pool.join()
        assert {"map", "apply_async", "__init__", "__enter__", "_check_running"} <= set(odd.steps)

    def test_of_an_executor(self, ctx: Any) -> None:
        kind = odd.stepping(manyhands.futures.ProcessPoolExecutor, "_start_executor_manager_thread submit")
        with kind(1, mp_context=ctx) as executor:
            assert executor.submit(odd.square, 3).result(30) == 9
            assert isinstance(executor, manyhands.futures.ProcessPoolExecutor)
            theirs = vars(concurrent.futures.process)["ProcessPoolExecutor"]
            assert isinstance(executor, theirs)
        assert set(odd.steps) == {"_start_executor_manager_thread", "submit"}

    def test_a_public_method_of_an_executor_stays_ours(self, ctx: Any) -> None:
        kind = odd.stepping(manyhands.futures.ProcessPoolExecutor, "submit shutdown")
        with kind(1, mp_context=ctx) as executor:
            with pytest.raises(manyhands.WorkerDied):
                executor.submit(starts.die).result(30)
            assert executor.submit(odd.square, 3).result(30) == 9


class TestProcess:
    def test_of_its_own(self, ctx: Any) -> None:
        with starts.WrappingPool(1, context=ctx) as pool:
            assert pool.apply(starts.environment, ("WRAPPED",)) == "yes"
            assert pool.map(starts.process_names, range(2)) == [("PoolWorker of its own", True)] * 2
        pool.join()

    @pytest.mark.methods("fork")
    def test_that_is_no_daemon(self, ctx: Any) -> None:
        class Process(ctx.Process):  # type: ignore[misc, name-defined]
            @property
            def daemon(self) -> bool:
                return False

            @daemon.setter
            def daemon(self, value: bool) -> None:
                pass

        context = type("Context", (type(ctx),), {"Process": Process})()
        with manyhands.pool.Pool(1, context=context) as pool:
            assert pool.apply(starts.process_names)[1] is False
            assert pool.apply(starts.nested, (4, "fork")) == [0, 1, 2, 3]
            assert pool.apply(starts.grandchild, ("fork",)) == 0
        pool.join()


PROGRAM = """
import os, sys, time
import manyhands, starts

class Process(manyhands.get_context(sys.argv[1]).Process):
    @property
    def daemon(self):
        return False

    @daemon.setter
    def daemon(self, value):
        pass

class Context(type(manyhands.get_context(sys.argv[1]))):
    pass

Context.Process = Process

if __name__ == "__main__":
    pool = manyhands.pool.Pool(1, context=Context())
    assert pool.apply(starts.process_names)[1] is False
    pool.apply_async(starts.forever, (sys.argv[2],))
    time.sleep(100)
"""


def test_workers_that_are_no_daemons_end_with_a_killed_parent(ctx: Any, tmp_path: Path) -> None:
    program, told = tmp_path / "program.py", tmp_path / "worker"
    program.write_text(PROGRAM)
    paths = ":".join(path for path in sys.path if path)
    command = [sys.executable, str(program), ctx.get_start_method(), str(told)]
    parent = subprocess.Popen(command, env={"PYTHONPATH": paths})
    try:
        while not told.exists() or not told.read_text():
            assert parent.poll() is None
            time.sleep(0.02)
        worker = os.pidfd_open(int(told.read_text()))
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        assert select.select([worker], [], [], 30)[0]
        os.close(worker)
    finally:
        parent.kill()
        parent.wait()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
class TestTheClassItself:
    """What is of a class that changes the insides is of that very class, which is made once."""

    @pytest.mark.parametrize("of", ["pool", "executor"])
    def test_is_what_its_objects_are_of(self, ctx: Any, of: str) -> None:
        """The regression of issue 11: they were of another class, for which ``__init_subclass__`` ran again."""
        base: Any = manyhands.pool.Pool if of == "pool" else manyhands.futures.ProcessPoolExecutor
        pool = ("_setup_queues", "context")
        name, given = pool if of == "pool" else ("_start_executor_manager_thread", "mp_context")
        made: list[str] = []

        class Tagged(base):  # type: ignore[misc]
            def __init_subclass__(cls, *, tag: str, **kwds: Any) -> None:
                made.append(tag)
                super().__init_subclass__(**kwds)

        class Mixin(abc.ABC):  # noqa: B024
            def whoami(self) -> str:
                return type(self).__name__

        class Changes(Tagged, Mixin, tag="changes"):
            pass

        class Below(Changes, tag="below"):
            pass

        setattr(
            Changes, name, lambda self: (odd.steps.append(name), getattr(super(Changes, self), name)())[1]
        )
        kinds: list[Any] = [Below, Changes, Below]
        for kind in kinds:
            with kind(1, **{given: ctx}) as one:
                assert type(one) is kind
                assert one.whoami() == kind.__name__
                assert list(one.map(odd.square, [3])) == [9]
        assert odd.steps == [name] * 3
        assert made == ["changes", "below"]
        assert [kind.__name__ for kind in Below.__mro__[:4]] == ["Below", "Changes", "Tagged", base.__name__]
        theirs = (
            multiprocessing.pool.Pool
            if of == "pool"
            else vars(concurrent.futures.process)["ProcessPoolExecutor"]
        )
        assert issubclass(Changes, theirs)
        assert not issubclass(Tagged, theirs)
