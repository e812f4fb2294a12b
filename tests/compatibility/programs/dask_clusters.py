"""Dask's schedulers that work in processes: its own, and a local cluster of `distributed`, which ships no tests."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
from collections.abc import Iterator
from typing import Any

import dask
import dask.array
import dask.bag
import numpy as np
import pytest
from distributed import Client, LocalCluster, Lock, Nanny, Queue, Variable, get_worker

METHODS = ["fork", "forkserver", "spawn"]


def square(number: int) -> int:
    return number * number


def pid_of(_number: int) -> int:
    return os.getpid()


def refuse(number: int) -> int:
    raise KeyError("unlucky", number)


@pytest.mark.parametrize("method", METHODS)
def test_the_scheduler_with_processes(method: str) -> None:
    with dask.config.set(scheduler="processes", num_workers=2, **{"multiprocessing.context": method}):
        assert dask.bag.range(100, npartitions=5).map(square).sum().compute() == sum(
            n * n for n in range(100)
        )
        assert os.getpid() not in dask.bag.range(8, npartitions=4).map(pid_of).compute()
        with pytest.raises(KeyError, match="unlucky"):
            dask.delayed(refuse)(3).compute()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["pool", "executor"])
def test_a_pool_of_ones_own(method: str, kind: str) -> None:
    ctx: Any = multiprocessing.get_context(method)
    made: Any = ctx.Pool(2) if kind == "pool" else concurrent.futures.ProcessPoolExecutor(2, mp_context=ctx)
    with made as pool, dask.config.set(scheduler="processes", pool=pool):
        assert dask.bag.range(50, npartitions=5).map(square).compute() == [n * n for n in range(50)]
        array = dask.array.arange(1000, chunks=100)
        assert (array**2).sum().compute() == (np.arange(1000) ** 2).sum()


@pytest.mark.parametrize("kind", ["pool", "threads"])
def test_a_pool_of_threads(kind: str) -> None:
    made: Any = (
        multiprocessing.pool.ThreadPool(2) if kind == "pool" else concurrent.futures.ThreadPoolExecutor(2)
    )
    with made as pool, dask.config.set(pool=pool):
        assert dask.array.ones((100, 100), chunks=10).sum().compute() == 10_000


@pytest.fixture(scope="module", params=["spawn", "forkserver"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    with dask.config.set({"distributed.worker.multiprocessing-method": request.param}), cluster() as made:
        yield made


@contextlib.contextmanager
def cluster() -> Iterator[Client]:
    made = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit="2GiB"
    )
    with made, Client(made) as client:
        yield client


def test_map(client: Client) -> None:
    futures = client.map(square, range(200), pure=False)
    assert client.gather(futures) == [n * n for n in range(200)]
    pids = set(client.gather(client.map(pid_of, range(40), pure=False)))
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_data_moves_between_workers(client: Client) -> None:
    array = dask.array.from_array(np.arange(10_000.0).reshape(100, 100), chunks=25)
    whole = np.arange(10_000.0).reshape(100, 100)
    assert np.array_equal((array @ array.T).compute(), whole @ whole.T)
    groups = dask.bag.range(100, npartitions=4).groupby(last_digit).map(count).compute()
    assert sorted(groups) == [(digit, 10) for digit in range(10)]


def last_digit(number: int) -> int:
    return number % 10


def count(group: tuple[int, list[int]]) -> tuple[int, int]:
    return group[0], len(group[1])


def test_errors_come_back(client: Client) -> None:
    with pytest.raises(KeyError, match="unlucky"):
        client.submit(refuse, 3).result(timeout=60)


def take_turns(number: int) -> int:
    with Lock("by test"):
        counter = Variable("counter")
        counter.set(counter.get() + number)
    Queue("by test").put(number)
    return number


def test_what_workers_share(client: Client) -> None:
    Variable("counter", client=client).set(0)
    assert client.gather(client.map(take_turns, range(20))) == list(range(20))
    queue = Queue("by test", client=client)
    assert sorted(queue.get(timeout=60) for _ in range(20)) == list(range(20))
    assert Variable("counter", client=client).get(timeout=60) == sum(range(20))


def in_a_pool(method: str) -> list[int]:
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(square, range(10))


def test_a_pool_in_a_worker(client: Client) -> None:
    method = dask.config.get("distributed.worker.multiprocessing-method")
    if get_daemon(client):
        # The workers of a nanny are daemons: the standard library lets them have no children.
        with pytest.raises(AssertionError, match="daemonic"):
            client.submit(in_a_pool, method).result(timeout=60)
    else:
        assert client.submit(in_a_pool, method).result(timeout=60) == [n * n for n in range(10)]


def get_daemon(client: Client) -> bool:
    daemons = client.run(lambda: multiprocessing.current_process().daemon)
    return all(daemons.values())


def name_of_worker(_number: int) -> Any:
    return get_worker().name


def test_workers_know_their_names(client: Client) -> None:
    assert set(client.gather(client.map(name_of_worker, range(40), pure=False))) == {0, 1}


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_restart(method: str) -> None:
    with dask.config.set({"distributed.worker.multiprocessing-method": method}), cluster() as client:
        before = set(client.run(os.getpid).values())
        client.restart(timeout=60)
        after = set(client.run(os.getpid).values())
        assert len(after) == 2
        assert before.isdisjoint(after)
        assert all(isinstance(nanny, Nanny) for nanny in client.cluster.workers.values())


def end_at_once() -> None:
    os._exit(3)


# The last one with the cluster that all of them have: its workers are not what they were.
def test_a_worker_that_dies_comes_back(client: Client) -> None:
    before = set(client.run(os.getpid).values())
    with pytest.raises(Exception, match=r"(?s)end_at_once|died|KilledWorker"):
        client.submit(end_at_once, retries=0, pure=False).result(timeout=60)
    client.wait_for_workers(2, timeout=60)
    assert client.submit(square, 12, pure=False).result(timeout=60) == 144
    assert len(before - set(client.run(os.getpid).values())) >= 1
