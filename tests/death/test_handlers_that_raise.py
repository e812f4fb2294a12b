"""A signal's handler raises, again and again, in the middle of everything: the pool ends, and nothing is left behind.

What is raised, and where, differs from run to run; that the end comes does not.
"""

from __future__ import annotations

import ast
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import interrupted
import pytest
import starts


class Tick(Exception):
    """No error of the user's work."""


class Ticks:
    def __init__(self, seconds: float) -> None:
        self.raising = False
        self.count = 0
        signal.signal(signal.SIGALRM, self._handle)
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)

    def _handle(self, _signal: int, _frame: Any) -> None:
        if self.raising:
            self.raising = False
            self.count += 1
            raise Tick

    def during(self, call: Callable[[], object]) -> bool:
        """Calls; whether it was not interrupted."""
        try:
            self.raising = True
            call()
            self.raising = False
        except Tick:
            return False
        return True


@pytest.fixture
def ticks() -> Iterator[Ticks]:
    # The deadline of the test is an alarm, too: it is put off for these few seconds.
    left, _ = signal.getitimer(signal.ITIMER_REAL)
    before = signal.getsignal(signal.SIGALRM)
    ticking = Ticks(0.002)
    yield ticking
    signal.setitimer(signal.ITIMER_REAL, 0)
    # One that raised in the hooks by which `logging` takes its lock around a fork has left the lock taken.
    while logging._lock._is_owned():  # type: ignore[attr-defined]
        logging._lock.release()  # type: ignore[attr-defined]
    signal.signal(signal.SIGALRM, before)
    signal.setitimer(signal.ITIMER_REAL, left)


CALLS: dict[str, Callable[[Any], object]] = {
    "map": lambda pool: pool.map(starts.number, range(100)),
    "apply": lambda pool: pool.apply(bytes, (300_000,)),
    "imap": lambda pool: list(pool.imap_unordered(starts.number, range(50))),
    "imap of a generator": lambda pool: list(pool.imap(starts.number, iter(range(20)))),
    "apply_async": lambda pool: pool.apply_async(starts.number, (3,)).get(),
    "callback": lambda pool: pool.apply_async(starts.number, (3,), callback=str).get(),
}


def until(done: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if done():
            return True
    return done()


@pytest.mark.parametrize("end", ["close", "terminate", "with"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.methods("fork", "spawn")
def test_a_pool_ends(ctx: Any, ticks: Ticks, call: str, end: str) -> None:
    pool = ctx.Pool(2)
    until(lambda: ticks.during(lambda: CALLS[call](pool)) and ticks.count >= 50, 0.4)

    def finish() -> None:
        if end == "close":
            pool.close()
        elif end == "terminate":
            pool.terminate()
        else:
            pool.__exit__(None, None, None)
        pool.join()

    assert until(lambda: ticks.during(finish), 20)
    assert pool._pool == []


def test_a_pool_that_is_being_made_leaves_nothing(ctx: Any, ticks: Ticks) -> None:
    made = []
    for _ in range(15):
        time.sleep(random.random() / 500)
        ticks.during(lambda: made.append(ctx.Pool(2)))
    for pool in made:
        pool.terminate()
        pool.join()


@pytest.mark.methods("fork", "spawn")
def test_an_executor_shuts_down(ctx: Any, ticks: Ticks) -> None:
    from manyhands.futures import ProcessPoolExecutor

    executor = ProcessPoolExecutor(2, mp_context=ctx)
    until(lambda: ticks.during(lambda: executor.submit(starts.number, 3).result()) and ticks.count >= 50, 0.4)
    until(lambda: ticks.during(lambda: list(executor.map(starts.number, range(20)))) and False, 0.4)
    assert until(lambda: ticks.during(executor.shutdown), 20)


def test_callbacks_run_after_an_interruption(ctx: Any, ticks: Ticks) -> None:
    with ctx.Pool(1) as pool:
        for _ in range(30):
            ticks.during(lambda: pool.apply_async(starts.number, (1,), callback=str))
        told: list[int] = []
        pool.apply_async(starts.number, (7,), callback=told.append).wait()
        assert told == [7]
        pool.close()
        pool.join()


STARTS = {"fork": 500, "forkserver": 1_000, "spawn": 200}

PROGRAM = """
import sys
import interrupted

print(interrupted.starts(int(sys.argv[1]), sys.argv[2]))
"""


@pytest.mark.deadline(240)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("where", ["here", "in a worker"])
def test_a_start_leaves_no_process(ctx: Any, where: str) -> None:
    """The regression of issue 11: a child that ended was a zombie for good, or ran, and nobody knew of it."""
    method = ctx.get_start_method()
    if where == "here":
        # In a program of its own: what is raised too late meets nobody else.
        argv = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(STARTS[method]), method]
        path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        ran = subprocess.run(argv, env=path, capture_output=True, text=True, timeout=200)
        assert ran.returncode == 0, ran.stderr
        done = ast.literal_eval(ran.stdout)
    else:
        with ctx.Pool(1) as pool:
            done = pool.apply(interrupted.starts, (STARTS[method] // 2, method))
        pool.join()
    count, left, unchanged = done
    assert count > 0
    assert not left
    assert unchanged
