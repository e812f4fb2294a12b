"""mpire, which ships no tests: its maps, worker state, shared objects, life spans, time-outs and errors."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from mpire import WorkerPool
from mpire.utils import make_single_arguments

METHODS = ["fork", "forkserver", "spawn"]


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


@pytest.fixture
def pool(method: str) -> Iterator[WorkerPool]:
    with WorkerPool(2, start_method=method) as made:
        yield made


def square(number: int) -> tuple[int, int]:
    return number, number * number


SQUARES = [square(number) for number in range(60)]


def test_map(pool: WorkerPool) -> None:
    assert pool.map(square, range(60)) == SQUARES


def test_map_unordered(pool: WorkerPool) -> None:
    assert sorted(pool.map_unordered(square, range(60), chunk_size=7)) == SQUARES


def test_imap(pool: WorkerPool) -> None:
    assert (
        list(pool.imap(square, iter(range(60)), iterable_len=60, chunk_size=1, max_tasks_active=4)) == SQUARES
    )


def test_imap_unordered(pool: WorkerPool) -> None:
    assert sorted(pool.imap_unordered(square, range(60), n_splits=5)) == SQUARES


def test_arrays(pool: WorkerPool) -> None:
    array = np.arange(1000.0).reshape(100, 10)
    assert np.array_equal(pool.map(double, array, concatenate_numpy_output=True), 2 * array)


def double(rows: Any) -> Any:
    return 2 * rows


def test_apply_async(pool: WorkerPool) -> None:
    called: list[Any] = []
    results = [pool.apply_async(square, (number,), callback=called.append) for number in range(20)]
    assert [result.get(timeout=60) for result in results] == SQUARES[:20]
    pool.stop_and_join()
    assert sorted(called) == SQUARES[:20]


def count_up(worker_id: int, shared: Any, state: dict[str, int], number: int) -> tuple[int, int, int]:
    state["calls"] = state.get("calls", 0) + 1
    with shared.get_lock():
        shared.value += number
    return worker_id, os.getpid(), state["calls"]


@pytest.mark.parametrize("keep_alive", [False, True])
def test_state_and_shared_objects(method: str, keep_alive: bool) -> None:
    with WorkerPool(2, start_method=method, keep_alive=keep_alive) as pool:
        shared = pool.ctx.Value(ctypes.c_long, 0)
        pool.pass_on_worker_id()
        pool.set_shared_objects(shared)
        pool.set_use_worker_state()
        rounds = [pool.map(count_up, range(40), chunk_size=5) for _ in range(2)]
    assert shared.value == 2 * sum(range(40))
    pids = [{pid for _, pid, _ in made} for made in rounds]
    assert (pids[0] == pids[1]) is keep_alive
    assert {worker for worker, _, _ in rounds[0]} <= {0, 1}
    # Two workers that have counted their calls from one on.
    assert sum(1 for _, _, calls in rounds[0] if calls == 1) == len(pids[0])


def begin(state: dict[str, Any]) -> None:
    state["begun"] = os.getpid()


def end(state: dict[str, Any]) -> int:
    pid: int = state["begun"]
    return pid


def own_pid(state: dict[str, Any], _number: int) -> bool:
    return bool(state["begun"] == os.getpid())


def test_begin_and_end_of_workers(method: str) -> None:
    with WorkerPool(2, start_method=method, use_worker_state=True) as pool:
        assert all(pool.map(own_pid, range(20), worker_init=begin, worker_exit=end))
        assert len(set(pool.get_exit_results())) == 2


def pid_of(_number: int) -> int:
    return os.getpid()


def test_life_span(method: str) -> None:
    with WorkerPool(2, start_method=method) as pool:
        pids = pool.map(pid_of, range(20), worker_lifespan=5, chunk_size=1)
    assert len(set(pids)) >= 4


def refuse(number: int) -> int:
    if number == 13:
        raise KeyError("unlucky", number)
    return number


def test_errors(method: str) -> None:
    with WorkerPool(2, start_method=method) as pool:
        with pytest.raises(KeyError, match="unlucky"):
            pool.map(refuse, range(30))
        # It starts its workers anew.
        assert pool.map(refuse, range(10)) == list(range(10))
    failed: list[Any] = []
    with WorkerPool(2, start_method=method) as pool:
        result = pool.apply_async(refuse, (13,), error_callback=failed.append)
        with pytest.raises(KeyError, match="unlucky"):
            result.get(timeout=60)
    assert [type(error) for error in failed] == [KeyError]


def sleep(seconds: float) -> None:
    time.sleep(seconds)


@pytest.mark.parametrize("of", ["map", "imap", "apply"])
def test_time_outs(method: str, of: str) -> None:
    with WorkerPool(2, start_method=method) as pool:
        with pytest.raises(TimeoutError):
            if of == "map":
                pool.map(sleep, [0.01, 60], task_timeout=0.5)
            elif of == "imap":
                list(pool.imap(sleep, [0.01, 60], task_timeout=0.5))
            else:
                pool.apply(sleep, (60,), task_timeout=0.5)


def test_time_out_of_an_initializer(method: str) -> None:
    with WorkerPool(2, start_method=method) as pool, pytest.raises(TimeoutError):
        pool.map(square, range(10), worker_init=sleep_a_minute, worker_init_timeout=0.5)


def sleep_a_minute() -> None:
    time.sleep(60)


def in_a_pool(method: str, number: int) -> list[tuple[int, int]]:
    with WorkerPool(2, start_method=method) as pool:
        squares: list[tuple[int, int]] = pool.map(square, range(number))
        return squares


def test_nested(method: str) -> None:
    with WorkerPool(2, start_method=method, daemon=False) as pool:
        found = pool.map(in_a_pool, [(method, 5), (method, 9)])
    assert found == [SQUARES[:5], SQUARES[:9]]


def test_insights_and_progress(method: str) -> None:
    with WorkerPool(2, start_method=method, enable_insights=True) as pool:
        assert pool.map(square, range(60), progress_bar=True) == SQUARES
        insights = pool.get_insights()
    assert sum(insights["n_completed_tasks"]) == 60


def test_bound_to_processors(method: str) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    with WorkerPool(len(cpus), start_method=method, cpu_ids=cpus) as pool:
        pool.pass_on_worker_id()
        found = pool.map(affinity, range(20), chunk_size=1)
    assert all(on == {cpus[worker]} for worker, on in found)


def affinity(worker_id: int, _number: int) -> tuple[int, set[int]]:
    return worker_id, os.sched_getaffinity(0)


def add(one: int, other: int) -> int:
    return one + other


def test_arguments(pool: WorkerPool) -> None:
    assert pool.map(add, [(n, n) for n in range(20)]) == list(range(0, 40, 2))
    assert pool.map(add, [{"one": n, "other": 1} for n in range(20)]) == list(range(1, 21))
    assert pool.map(sum, make_single_arguments([(1, 2), (3, 4)], generator=False)) == [3, 7]
