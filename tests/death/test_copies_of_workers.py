"""A task that forks, and both processes come back to the worker's loop: the copy ends, and the worker goes on."""

from __future__ import annotations

from typing import Any

import copies
import pytest
from manyhands.futures import ProcessPoolExecutor

pytestmark = pytest.mark.deadline(120)


def test_tasks_of_a_pool(ctx: Any) -> None:
    with ctx.Pool(2) as pool:
        assert [pool.apply(copies.forked, (n,)) for n in range(12)] == [2 * n for n in range(12)]
        assert pool.map(copies.forked, range(40)) == [2 * n for n in range(40)]
        assert list(pool.imap(copies.forked, range(20), 4)) == [2 * n for n in range(20)]
        assert pool.map(copies.double, range(500), 1) == [2 * n for n in range(500)]
        pool.close()
        pool.join()


def test_a_copy_that_raises_sends_nothing(ctx: Any) -> None:
    with ctx.Pool(2) as pool:
        assert pool.map(copies.forked_and_raised, range(8), 1) == [2 * n for n in range(8)]


def test_arguments_and_results_that_fork(ctx: Any) -> None:
    with ctx.Pool(2) as pool:
        assert pool.apply(copies.double, (copies.ForksWhenRead(),)) == 42
        assert pool.map(copies.result_that_forks, range(4), 1) == [42] * 4
        assert pool.map(copies.double, range(50), 1) == [2 * n for n in range(50)]


def test_initializers_that_fork(ctx: Any) -> None:
    with ctx.Pool(2, copies.fork) as pool:
        assert pool.map(copies.double, range(300), 1) == [2 * n for n in range(300)]


def test_calls_of_an_executor(ctx: Any) -> None:
    with ProcessPoolExecutor(2, mp_context=ctx, initializer=copies.fork) as executor:
        assert list(executor.map(copies.forked, range(40))) == [2 * n for n in range(40)]
        assert list(executor.map(copies.forked, range(40), chunksize=7)) == [2 * n for n in range(40)]
