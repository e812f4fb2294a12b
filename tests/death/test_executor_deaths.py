"""An executor whose workers are killed, or whose initializer is deadly."""

from __future__ import annotations

import concurrent.futures
import os
import signal
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import manyhands
import pytest
import targets
from processes import wait_gone, wait_until

LONG = 50.0


@pytest.mark.parametrize("way", sorted(targets.Dying.WAYS))
def test_one_death_costs_one_call_of_a_thousand(ctx: Any, tmp_path: Path, way: str) -> None:
    dying = targets.Dying(way, [500], str(tmp_path / "record"))
    with manyhands.ProcessPoolExecutor(2, mp_context=ctx) as executor:
        futures = [executor.submit(dying, n) for n in range(1000)]
        errors = {n: error for n, future in enumerate(futures) if (error := future.exception()) is not None}
        assert list(errors) == [500]
        death = errors[500]
        assert isinstance(death, manyhands.WorkerDied)
        assert isinstance(death, BrokenProcessPool)
        assert death.item is None
        assert [future.result() for n, future in enumerate(futures) if n != 500] == [
            n * n for n in range(1000) if n != 500
        ]
        assert executor.submit(targets.square, 2).result() == 4
        # A future's frames are not kept alive by its error.
        del errors, death, futures


def test_each_death_costs_its_call(ctx: Any, tmp_path: Path) -> None:
    victims = set(range(0, 200, 20))
    dying = targets.Dying("SIGKILL", victims, str(tmp_path / "record"))
    with manyhands.ProcessPoolExecutor(3, mp_context=ctx) as executor:
        futures = {executor.submit(dying, n): n for n in range(200)}
        lost = {
            futures[future]
            for future in concurrent.futures.as_completed(futures, timeout=LONG)
            if isinstance(future.exception(), manyhands.WorkerDied)
        }
    assert lost == victims


def test_nothing_but_deaths(ctx: Any) -> None:
    with manyhands.ProcessPoolExecutor(2, mp_context=ctx) as executor:
        futures = [executor.submit(targets.die_always) for _ in range(10)]
        for future in futures:
            with pytest.raises(manyhands.WorkerDied, match="SIGKILL"):
                future.result(LONG)
        assert executor.submit(targets.square, 2).result() == 4


def test_a_chunk_of_a_map_is_lost_together(ctx: Any, tmp_path: Path) -> None:
    dying = targets.Dying("os._exit", [5], str(tmp_path / "record"))
    with manyhands.ProcessPoolExecutor(2, mp_context=ctx) as executor:
        results = executor.map(dying, range(12), chunksize=4)
        assert [next(results) for _ in range(4)] == [0, 1, 4, 9]
        with pytest.raises(manyhands.WorkerDied):
            next(results)
        assert executor.submit(targets.square, 2).result() == 4


def test_an_idle_worker_is_replaced(ctx: Any) -> None:
    with manyhands.ProcessPoolExecutor(1, mp_context=ctx) as executor:
        pid = executor.submit(os.getpid).result()
        os.kill(pid, signal.SIGKILL)
        wait_gone([pid], LONG)
        assert executor.submit(os.getpid).result(LONG) != pid


@pytest.mark.parametrize("cancel", [False, True])
def test_shutdown_after_a_death(ctx: Any, cancel: bool) -> None:
    executor = manyhands.ProcessPoolExecutor(2, mp_context=ctx)
    futures = [executor.submit(targets.die_always) for _ in range(4)]
    executor.shutdown(cancel_futures=cancel)
    for future in futures:
        with pytest.raises((manyhands.WorkerDied, concurrent.futures.CancelledError)):
            future.result(0)


def test_a_worker_killed_while_nobody_waits(ctx: Any) -> None:
    told: list[Any] = []
    with manyhands.ProcessPoolExecutor(1, mp_context=ctx) as executor:
        future = executor.submit(targets.die_always)
        future.add_done_callback(told.append)
        wait_until(lambda: bool(told), LONG)
        assert isinstance(future.exception(), manyhands.WorkerDied)


@pytest.mark.parametrize("deadly", [targets.die_always, targets.leave_hard], ids=["killed", "os._exit"])
def test_a_deadly_initializer(ctx: Any, deadly: Any) -> None:
    with manyhands.ProcessPoolExecutor(2, mp_context=ctx, initializer=deadly, initargs=(3,)) as executor:
        futures = [executor.submit(targets.square, n) for n in range(5)]
        for future in futures:
            with pytest.raises(BrokenProcessPool):
                future.result(LONG)
        with pytest.raises(BrokenProcessPool):
            executor.submit(targets.square, 1)
