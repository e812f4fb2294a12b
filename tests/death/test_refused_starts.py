"""Workers that cannot be started for a while: the pool goes on with those it has, and tries again."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import starts
from manyhands import WorkerDied


@pytest.fixture(autouse=True)
def nothing_refused() -> Iterator[None]:
    starts.refused = 0
    yield
    starts.refusing = None


def kill_a_worker(pool: Any) -> None:
    with pytest.raises(WorkerDied):
        pool.apply(starts.die)


ERRORS = {"EMFILE": starts.no_descriptor, "MemoryError": lambda: MemoryError("no room for a process")}


class TestPool:
    @pytest.mark.parametrize("error", ERRORS)
    def test_goes_on_with_the_workers_it_has(self, ctx: Any, error: str) -> None:
        with starts.RefusedPool(2, context=ctx) as pool:
            starts.refusing = ERRORS[error]()
            kill_a_worker(pool)
            assert pool.map(starts.number, range(100)) == list(range(100))
            assert len(pool._pool) == 1
            starts.refusing = None
            result = pool.map_async(starts.slow_number, range(200), chunksize=1)
            assert result.get(30) == list(range(200))
            assert len(pool._pool) == 2
        pool.join()

    def test_waits_for_its_only_worker(self, ctx: Any) -> None:
        with starts.RefusedPool(1, context=ctx) as pool:
            starts.refusing = starts.no_descriptor()
            kill_a_worker(pool)
            # Nobody waits for this: the driver tries again.
            called = threading.Event()
            result = pool.apply_async(starts.number, (5,), callback=lambda _: called.set())
            while starts.refused < 4:
                assert not result.ready()
                time.sleep(0.01)
            starts.refusing = None
            assert called.wait(30)
            assert result.get() == 5
        pool.join()

    @pytest.mark.parametrize("end", ["terminate", "close"])
    def test_ends_during_a_pause(self, ctx: Any, end: str) -> None:
        pool = starts.RefusedPool(1, context=ctx)
        starts.refusing = starts.no_descriptor()
        kill_a_worker(pool)
        result = pool.apply_async(starts.number, (5,))
        while starts.refused < 4:
            time.sleep(0.01)
        if end == "terminate":
            pool.terminate()
            pool.join()
            with pytest.raises(RuntimeError):
                result.get(30)
        else:
            # There is work: it is tried until it can be done.
            pool.close()
            threading.Timer(0.3, setattr, (starts, "refusing", None)).start()
            pool.join()
            assert result.get(0) == 5

    @pytest.mark.methods("fork")
    def test_without_work_it_ends_at_once(self, ctx: Any) -> None:
        pool = starts.RefusedPool(1, context=ctx)
        starts.refusing = starts.no_descriptor()
        kill_a_worker(pool)
        pool.close()
        pool.join()

    @pytest.mark.methods("fork")
    def test_breaks_when_no_worker_is_left_and_none_comes(self, ctx: Any) -> None:
        pool = starts.RefusedPool(2, context=ctx)
        starts.refusing = starts.no_descriptor()
        kill_a_worker(pool)
        kill_a_worker(pool)
        with pytest.raises(OSError, match="Too many open files"):
            pool.map(starts.number, range(3))
        # Some twenty tries, not some thousands.
        assert 8 < starts.refused < 40
        with pytest.raises(OSError, match="Too many open files"):
            pool.apply(starts.number, (1,))
        pool.close()
        pool.join()

    @pytest.mark.methods("fork")
    def test_replaces_those_that_have_done_their_tasks(self, ctx: Any) -> None:
        with starts.RefusedPool(1, maxtasksperchild=1, context=ctx) as pool:
            for expected in range(3):
                starts.refusing = starts.no_descriptor()
                result = pool.apply_async(starts.number, (expected,))
                threading.Timer(0.1, setattr, (starts, "refusing", None)).start()
                assert result.get(30) == expected
        pool.join()

    def test_is_not_made_with_fewer_workers(self, ctx: Any) -> None:
        class Third(starts.RefusedPool):
            made = 0

            @staticmethod
            def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
                Third.made += 1
                starts.refusing = starts.no_descriptor() if Third.made == 3 else None
                return starts.RefusedPool.Process(ctx, *args, **kwds)

        with pytest.raises(OSError, match="Too many open files"):
            Third(4, context=ctx)
        assert Third.made == 3


PROGRAM = """
import os, resource, sys, threading, time
import manyhands, starts
from manyhands.futures import ProcessPoolExecutor

def main(method, kind):
    context = manyhands.get_context(method)
    if kind == "pool":
        pool = context.Pool(2)
        pool.map(starts.number, range(4))
        submit = lambda item: pool.apply_async(starts.die_at_20, (item,)).get
    else:
        executor = ProcessPoolExecutor(2, mp_context=context)
        # One worker; by fork both.
        executor.submit(starts.number, 1).result()
        submit = lambda item: executor.submit(starts.die_at_20, item).result
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    results = [submit(item) for item in range(60)]
    def free():
        while held:
            os.close(held.pop())
    threading.Timer(0.6, free).start()
    told = []
    for result in results:
        try:
            told.append(result(30))
        except manyhands.WorkerDied:
            told.append("died")
    time.sleep(0.7)
    print(told == [*range(20), "died", *range(21, 60)], submit(1)(30))
    if kind == "pool":
        pool.close()
        pool.join()
    else:
        executor.shutdown()

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


@pytest.mark.parametrize("kind", ["pool", "executor"])
def test_without_a_free_descriptor_for_a_moment(ctx: Any, kind: str, tmp_path: Path) -> None:
    """The regression of issue 11: every call failed from then on."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), ctx.get_start_method(), kind]
    paths = ":".join(path for path in sys.path if path)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, env={"PYTHONPATH": paths})
    # A child that was made, and had no room to be watched, may say so.
    assert (ended.returncode, ended.stdout) == (0, "True 1\n"), ended.stderr
