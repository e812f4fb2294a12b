"""Producers and consumers are killed at random moments while others work: what was put arrives once, in order.

`MANYHANDS_QUEUE_DEATHS` says how many are killed in each way (2,000 in `make proofs`).
"""

from __future__ import annotations

import ctypes
import itertools
import os
import queue as queues
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import manyhands
import pytest

DEATHS = int(os.environ.get("MANYHANDS_QUEUE_DEATHS", "25"))
LONG = 30.0
# How many items go at once where many do: what one who is killed may have in its hands.
MANY = 16
# What a victim finds to take.
SUPPLY = 3_000

pytestmark = [
    pytest.mark.methods("fork"),
    pytest.mark.deadline(60 + DEATHS / 4),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


def item(producer: int, number: int) -> int:
    """So that it can be noted as one number in shared memory."""
    return producer << 32 | number


class Notes:
    """What a process that may be killed has done, in memory that outlives it: how many, and which."""

    def __init__(self, room: int) -> None:
        self.begun = manyhands.RawValue(ctypes.c_int64, 0)
        self.count = manyhands.RawValue(ctypes.c_int64, 0)
        self.items = manyhands.RawArray(ctypes.c_int64, room)

    def add(self, items: Iterable[int]) -> None:
        for each in items:
            self.items[self.count.value] = each
            self.count.value += 1

    def has_room(self) -> bool:
        return bool(self.count.value + MANY < len(self.items))

    def all(self) -> list[int]:
        return list(self.items[: self.count.value])


def put(queue: Any, producer: int, notes: Notes) -> None:
    notes.begun.value = 1
    for number in itertools.count():
        queue.put(item(producer, number))
        notes.count.value = number + 1


def put_many(queue: Any, producer: int, notes: Notes) -> None:
    notes.begun.value = 1
    for start in itertools.count(step=MANY):
        queue.put_many([item(producer, number) for number in range(start, start + MANY)])
        notes.count.value = start + MANY


def get(queue: Any, notes: Notes) -> None:
    notes.begun.value = 1
    while notes.has_room():
        notes.add([queue.get()])
    time.sleep(60)


def get_many(queue: Any, notes: Notes) -> None:
    notes.begun.value = 1
    while notes.has_room():
        notes.add(queue.get_many(MANY))
    time.sleep(60)


def put_steadily(queue: Any, producer: int, stop: Any, notes: Notes) -> None:
    """One who is not killed, beside those who are."""
    for number in itertools.count():
        if stop.is_set():
            return
        queue.put(item(producer, number))
        notes.count.value = number + 1
        time.sleep(0.0005)


def get_steadily(queue: Any, stop: Any, notes: Notes) -> None:
    while not stop.is_set():
        try:
            notes.add([queue.get(timeout=0.05)])
        except queues.Empty:
            continue
        time.sleep(0.0005)


class Account:
    """Who got what, and what must have been got."""

    def __init__(self) -> None:
        self.got: defaultdict[int, set[int]] = defaultdict(set)
        # Of each producer: how many of its puts have returned, and how many more may have happened.
        self.put: dict[int, tuple[int, int]] = {}
        # How many items those who were killed may have had in their hands.
        self.in_dead_hands = 0

    def add(self, items: list[int]) -> None:
        """What one consumer got, in its order."""
        last: dict[int, int] = {}
        for each in items:
            producer, number = each >> 32, each & 0xFFFFFFFF
            assert number > last.get(producer, -1), f"producer {producer}: {number} after {last[producer]}"
            last[producer] = number
            assert number not in self.got[producer], f"producer {producer}: {number} twice"
            self.got[producer].add(number)

    def check(self) -> tuple[int, int]:
        """How many items were put, and how many of them went with who had taken them."""
        missing = count = 0
        for producer, (returned, more) in self.put.items():
            got = self.got.pop(producer, set())
            end = max(got, default=-1) + 1
            assert end <= returned + more, f"producer {producer} put {returned}, and {end - 1} came"
            missing += len(set(range(max(returned, end))) - got)
            count += max(returned, end)
        assert not self.got, "items of nobody"
        assert missing <= self.in_dead_hands, f"{missing} items are lost"
        return count, missing


def kill_at_random(victim: Any, notes: Notes, rng: random.Random) -> None:
    victim.start()
    deadline = time.monotonic() + LONG
    while not notes.begun.value:
        assert time.monotonic() < deadline
        time.sleep(0.0002)
    time.sleep(rng.random() * 0.003)
    victim.kill()
    victim.join(LONG)
    assert victim.exitcode is not None


@pytest.mark.parametrize("bound", [0, 100])
@pytest.mark.parametrize("way", [put, put_many, get, get_many], ids=lambda way: way.__name__)
def test_what_was_put_arrives_once_and_in_order(
    ctx: Any, way: Callable[..., None], bound: int, figure: Callable[[str], None]
) -> None:
    queue, stop, account = ctx.JoinableQueue(bound), ctx.Event(), Account()
    rng = random.Random(f"{way.__name__} {bound}")
    steady_put, steady_got = Notes(0), Notes(SUPPLY + DEATHS * 200 + 100_000)
    steady = [
        ctx.Process(target=put_steadily, args=(queue, 0, stop, steady_put)),
        ctx.Process(target=get_steadily, args=(queue, stop, steady_got)),
    ]
    for process in steady:
        process.start()
    drained: list[int] = []
    for number in range(1, DEATHS + 1):
        if way in (put, put_many):
            notes = Notes(0)
            kill_at_random(ctx.Process(target=way, args=(queue, number, notes)), notes, rng)
            account.put[number] = (notes.count.value, MANY if way is put_many else 1)
        else:
            notes = Notes(SUPPLY + 2 * MANY)
            supply = min(SUPPLY, bound // 2 or SUPPLY)
            queue.put_many([item(number, index) for index in range(supply)], timeout=LONG)
            account.put[number] = (supply, 0)
            kill_at_random(ctx.Process(target=way, args=(queue, notes)), notes, rng)
            account.add(notes.all())
            account.in_dead_hands += MANY if way is get_many else 1
        while not queue.empty():
            try:
                drained += queue.get_many(block=False)
            except queues.Empty:
                break
    stop.set()
    for process in steady:
        process.join(LONG)
        assert process.exitcode == 0
    while True:
        try:
            drained += queue.get_many(timeout=0.1)
        except queues.Empty:
            break
    account.put[0] = (steady_put.count.value, 0)
    account.add(drained)
    account.add(steady_got.all())
    count, missing = account.check()
    # Each item was unfinished from the moment it was put; nobody has said that it is done.
    assert count <= queue._unfinished() <= count + account.in_dead_hands
    figure(f"{DEATHS} killed, {count} items, {missing} of them went with their taker")
