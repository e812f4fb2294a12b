"""Pools that are first used when the main thread has ended, or by an at-exit function."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from scripts import run

METHODS = ["fork", "forkserver", "spawn"]

pytestmark = pytest.mark.deadline(90)

PROGRAM = """
import atexit
import sys
import threading
import MODULE as mp
from MODULE.pool import ThreadPool


def use():
    with KIND as pool:
        assert pool.map(abs, [-1, 2]) == [1, 2]
        try:
            pool.apply(int, ("x",))
        except ValueError as error:
            print(error)
    pool = KIND
    assert pool.apply_async(abs, (-3,)).get() == 3
    assert list(pool.imap(abs, [-1])) == [1]
    pool.close()
    pool.join()
    print("well")


def after_main():
    threading.main_thread().join()
    use()


if __name__ == "__main__":
    ctx = mp.get_context(sys.argv[1])
    if sys.argv[2] == "thread":
        threading.Thread(target=after_main).start()
    else:
        atexit.register(use)
"""

SAID = "invalid literal for int() with base 10: 'x'\nwell\n"

#: Newer Pythons start no thread in at-exit functions, nor a helper process once the main thread has ended.
is_late = sys.version_info >= (3, 12)


@pytest.mark.parametrize("launched", [False, True])
@pytest.mark.parametrize("when", ["thread", "atexit"])
@pytest.mark.parametrize("method", METHODS)
def test_a_pool(method: str, when: str, launched: bool, tmp_path: Path) -> None:
    if is_late and (method, when) != ("fork", "thread"):
        pytest.skip("the standard library's pool does not work then")
    program = PROGRAM.replace("MODULE", "multiprocessing" if launched else "manyhands")
    run(tmp_path, program.replace("KIND", "ctx.Pool(1)"), method, when, launched=launched, expected=SAID)


@pytest.mark.skipif(is_late, reason="the standard library's does not work then")
@pytest.mark.parametrize("when", ["thread", "atexit"])
def test_a_thread_pool(when: str, tmp_path: Path) -> None:
    program = PROGRAM.replace("MODULE", "manyhands").replace("KIND", "ThreadPool(1)")
    run(tmp_path, program, "fork", when, expected=SAID)


DEATH = """
import os
import threading
import manyhands


def after_main():
    threading.main_thread().join()
    from manyhands.errors import WorkerDied
    from concurrent.futures import BrokenExecutor

    with manyhands.get_context("fork").Pool(1) as pool:
        try:
            pool.apply(os._exit, (3,))
        except WorkerDied as error:
            assert error.exitcode == 3
            assert isinstance(error, BrokenExecutor)
        assert pool.apply(abs, (-1,)) == 1
    print("well")


if __name__ == "__main__":
    threading.Thread(target=after_main).start()
"""


def test_a_worker_that_dies_then(tmp_path: Path) -> None:
    """The base class of its error that can be imported then is that class's own base."""
    run(tmp_path, DEATH)


def test_otherwise_the_error_is_a_broken_process_pool() -> None:
    from concurrent.futures.process import BrokenProcessPool

    from manyhands.errors import WorkerDied

    assert issubclass(WorkerDied, BrokenProcessPool)
