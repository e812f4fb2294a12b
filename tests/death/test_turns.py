"""Nobody starves: who has waited for long gets its turn, and one that was killed in its turn keeps nobody off."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from queue import Empty
from typing import Any

import pytest
import turns

CONTENDERS = 4
SECONDS = 2.0


def crew(ctx: Any, target: Callable[..., None], *args: Any) -> tuple[list[Any], list[Any]]:
    """Processes that are ready, and the ends of their pipes."""
    processes, ends = [], []
    for _ in range(CONTENDERS):
        near, far = ctx.Pipe()
        processes.append(ctx.Process(target=target, args=(*args, far)))
        processes[-1].start()
        far.close()
        ends.append(near)
    for near in ends:
        assert near.recv() == "ready"
    return processes, ends


@pytest.mark.deadline(90)
@pytest.mark.parametrize("kind", ["Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore"])
def test_who_wants_it_all_the_time_gets_it_about_as_often_as_others(ctx: Any, kind: str) -> None:
    processes, ends = crew(ctx, turns.hold_again_and_again, getattr(ctx, kind)(), SECONDS)
    for near in ends:
        near.send("go")
    got = [near.recv() for near in ends]
    for process in processes:
        process.join()
    times = [had for had, _ in got]
    print(f"{kind}: {times}, longest wait {max(wait for _, wait in got):.3f} s")
    # One that is asleep when the lock becomes free would have had it a few times in hundreds.
    assert min(times) * 4 >= max(times), times


@pytest.mark.deadline(90)
def test_each_who_gets_from_one_queue_gets_its_share(ctx: Any) -> None:
    queue, items = ctx.Queue(), 2_000
    processes, ends = crew(ctx, turns.get_until_the_end, queue)
    for number in range(items):
        queue.put(number)
    for near in ends:
        near.send("go")
        queue.put(None)
    times = [near.recv()[0] for near in ends]
    for process in processes:
        process.join()
    print(f"queue: {times}")
    assert sum(times) == items
    assert min(times) * 4 >= max(times), times


@pytest.mark.deadline(90)
def test_each_that_puts_into_a_full_queue_gets_its_share(ctx: Any) -> None:
    queue = ctx.Queue(1)
    processes, ends = crew(ctx, turns.put_until_told, queue)
    for near in ends:
        near.send("go")
    # Slowly: each room is waited for.
    for _ in range(300):
        queue.get()
        time.sleep(turns.HOLD / 2)
    for near in ends:
        near.send("stop")
    while any(process.is_alive() for process in processes):
        with contextlib.suppress(Empty):
            queue.get(timeout=0.01)
    times = [near.recv()[0] for near in ends]
    print(f"full queue: {times}")
    assert min(times) * 4 >= max(times), times


@pytest.mark.deadline(90)
def test_contenders_that_are_killed_leave_their_turns_to_others(ctx: Any) -> None:
    lock = ctx.Semaphore()
    processes, ends = crew(ctx, turns.hold_again_and_again, lock, 60.0)
    for near in ends:
        near.send("go")
    for process in processes:
        # Each waits for long, or has it; a place that was taken stays taken, and is given back here.
        time.sleep(0.05)
        process.kill()
        process.join()
    if lock.get_value() == 0:
        lock.release()
    began = time.monotonic()
    assert lock.acquire(timeout=30), "a reservation has an end"
    while not lock.acquire(block=False):
        lock.release()
        assert time.monotonic() - began < 30
    lock.release()
