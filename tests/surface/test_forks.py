"""A pool's own thread ends before a fork and goes on after it; that it does is looked for after every test
(`tests/conftest.py`), this makes sure that there is one."""

from __future__ import annotations

import threading
from multiprocessing.context import BaseContext

import pytest
import targets


@pytest.mark.methods("fork")
def test_a_fork_while_a_pool_works_for_nobody_who_waits(ctx: BaseContext) -> None:
    with ctx.Pool(2) as pool:
        for _ in range(5):
            results = [pool.apply_async(targets.square, (number,)) for number in range(200)]
            assert "PoolDriver" in {thread.name for thread in threading.enumerate()}
            child = ctx.Process(target=targets.nothing)
            child.start()
            assert [result.get(30) for result in results] == [number**2 for number in range(200)]
            child.join()
            assert child.exitcode == 0
