"""Partners of a queue that are stopped while they hold one of its sides; importable by spawned processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, Full
from typing import Any

from manyhands.queues import ShutDown

#: Stops until one falls into the moment in which the partner holds the side; one in twenty to fifty does.
MOST_STOPS = 20_000
#: How many a putter has put before it is ready.
FIRST = 8_000


def get_until_told(queue: Any, far: Any) -> None:
    """Gets all the time, mostly in vain; in the end says what it has got."""
    got = []
    far.send("ready")
    while not far.poll():
        for _ in range(200):
            with suppress(Empty, ShutDown):
                got.append(queue.get(False))
    far.send(got)


def put_until_told(queue: Any, far: Any) -> None:
    """Puts its own numbers all the time; in the end says how many they were.

    Many of them first, so that the queue has all the memory it will ever need: one that is stopped while it makes the
    shared memory grow holds a lock that everybody waits for.
    """
    for count in range(FIRST):
        queue.put(("partner", count))
    count = FIRST
    far.send("ready")
    while not far.poll():
        for _ in range(200):
            try:
                queue.put(("partner", count), timeout=60)
            except Full:
                continue
            count += 1
        while queue.qsize() > FIRST // 4:
            time.sleep(0.001)
    far.send(count)


def is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(") ", 1)[1][0] == "T"


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    while not is_stopped(pid):
        time.sleep(0)


def stop_holding(pid: int, is_held: Callable[[], bool]) -> None:
    """Stops the process again and again, until a probe shows that it holds what it had in hand."""
    for _ in range(MOST_STOPS):
        stop(pid)
        if is_held():
            return
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.0002)
    raise AssertionError("it was never stopped while it held anything")
