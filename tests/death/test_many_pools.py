"""Pools made and ended, many times over: nothing adds up. `MANYHANDS_POOLS` says how many (`make proofs`: 1,000)."""

from __future__ import annotations

import functools
import gc
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import targets
import unruly
from processes import descendants, wait_gone

COUNT = int(os.environ.get("MANYHANDS_POOLS", "60"))


def use_and_close(ctx: Any) -> list[int]:
    pool = ctx.Pool(2, maxtasksperchild=None)
    pids = [process.pid for process in pool._pool]
    assert pool.map(functools.partial(targets.add, 1), range(10), 1) == list(range(1, 11))
    heard: list[int] = []
    pool.apply_async(targets.square, (3,), callback=heard.append)
    pool.close()
    pool.join()
    assert heard == [9]
    return pids


def use_and_terminate(ctx: Any) -> list[int]:
    with ctx.Pool(2) as pool:
        pids = [process.pid for process in pool._pool]
        pool.map_async(targets.sleep, [600] * 4, 1)
        assert pool.imap(targets.square, iter(range(3))) is not None
        call = pool.map_async(unruly.fail_on_odd, range(100), fail_fast=True)
        del call
    return pids


def drop(ctx: Any) -> list[int]:
    pool = ctx.Pool(2)
    pids = [process.pid for process in pool._pool]
    pool.map(targets.identity, [bytes(100_000)] * 4)
    return pids


def arena_bytes() -> int:
    """What the family's memory takes, as the kernel counts it."""
    for name in os.listdir("/proc/self/fd"):
        path = Path("/proc/self/fd", name)
        if path.exists() and "memfd:manyhands" in os.readlink(path):
            return os.stat(path).st_blocks * 512
    raise AssertionError("no arena")


def resident_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


@pytest.mark.deadline(60 + COUNT)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("life", [use_and_close, use_and_terminate, drop], ids=lambda life: life.__name__)
def test_nothing_adds_up(ctx: Any, figure: Any, life: Callable[[Any], list[int]]) -> None:
    def measure() -> tuple[int, int, int, int, int]:
        gc.collect()
        descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
        # The fork server's child in reserve ends soon when it is not used.
        processes = min(len(descendants()) for _ in range(10) if time.sleep(0.1) is None)
        return descriptors, threads, processes, arena_bytes(), resident_kib()

    pids: list[int] = []
    for _ in range(COUNT // 4):
        pids += life(ctx)
    gc.collect()
    wait_gone(pids, 30)
    before = measure()
    pids = []
    for _ in range(COUNT):
        pids += life(ctx)
    gc.collect()
    wait_gone(pids, 30)
    after = measure()
    figure(
        f"{COUNT} pools: arena {before[3] >> 10} then {after[3] >> 10} KiB, resident {before[4]} then {after[4]} KiB"
    )
    assert after[:3] == before[:3]
    assert after[3] - before[3] <= 1 << 20
    assert after[4] - before[4] <= 20_000


@pytest.mark.methods("fork")
@pytest.mark.parametrize("kind", ["partial", "by name", "class"])
def test_functions_are_withdrawn(ctx: Any, kind: str, figure: Any) -> None:
    """A pool that calls many different functions keeps none that is not in use."""
    with ctx.Pool(2) as pool:

        def call(number: int) -> None:
            if kind == "partial":
                assert pool.map(functools.partial(targets.describe, bytes(100_000)), [1], 1)
            elif kind == "class":
                assert pool.apply(functools.partial(targets.describe, bytes(100_000)))
            else:
                name = f"made_{number}"
                made = type(name, (), {"__module__": "targets"})
                setattr(targets, name, made)
                with pytest.raises(AttributeError):
                    # Workers were forked before it was there.
                    pool.map(made, [1])
                delattr(targets, name)

        for number in range(100):
            call(number)
        before = arena_bytes()
        for number in range(300):
            call(number)
        figure(f"arena {before >> 10} then {arena_bytes() >> 10} KiB")
        assert arena_bytes() - before <= 1 << 20
