"""Signals that come more often than any sleep lasts keep nobody from noticing who has died, or from its turn."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import alarms
import lockers
import manyhands
import pytest

OFTEN = 0.002
LONG = 60.0
#: Without alarms a death is noticed within 10 ms.
SOON = 20.0


@contextmanager
def often() -> Iterator[list[int]]:
    """Alarms all the time; how many."""
    count = [0]

    def counted(number: int, frame: Any) -> None:
        count[0] += 1

    with alarms.alarms(counted):
        signal.setitimer(signal.ITIMER_REAL, OFTEN, OFTEN)
        yield count


def killed(ctx: Any, target: Any, *args: Any) -> Any:
    """A process that was killed when it was ready, and that nobody has waited for: the kernel still lists it."""
    near, far = ctx.Pipe()
    process = ctx.Process(target=target, args=(*args, far))
    process.start()
    assert near.recv() == "ready"
    # A party says so just before it waits.
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    return process


@pytest.mark.deadline(90)
@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_holder_that_died_is_noticed(ctx: Any, kind: str) -> None:
    lock = getattr(ctx, kind)()
    process = killed(ctx, lockers.hold_for_ever, lock)
    began = time.monotonic()
    with often() as count, pytest.raises(manyhands.OwnerDied):
        lock.acquire(timeout=LONG)
    assert time.monotonic() - began < SOON
    assert count[0]
    process.join()


@pytest.mark.deadline(90)
def test_a_party_that_died_is_noticed(ctx: Any) -> None:
    barrier = ctx.Barrier(3)
    process = killed(ctx, lockers.wait_at, barrier)
    began = time.monotonic()
    with often() as count, pytest.raises(threading.BrokenBarrierError):
        barrier.wait(LONG)
    assert time.monotonic() - began < SOON
    assert count[0]
    process.join()


@pytest.mark.deadline(90)
def test_an_end_that_was_made_not_to_wait_refuses() -> None:
    near, far = manyhands.Pipe(duplex=False)
    os.set_blocking(near.fileno(), False)
    with often(), pytest.raises(BlockingIOError):
        near.recv()
    far.send("there")
    assert near.recv() == "there"
