"""What children run in the tests of turns; on the path, for spawned processes to import."""

from __future__ import annotations

import time
from typing import Any

HOLD = 0.005


def hold_again_and_again(thing: Any, seconds: float, far: Any) -> None:
    """Takes it, sleeps, gives it back, at once again; says how often it had it, and its longest wait."""
    far.send("ready")
    far.recv()
    last = time.perf_counter()
    end, times, longest = last + seconds, 0, 0.0
    while last < end:
        with thing:
            longest = max(longest, time.perf_counter() - last)
            time.sleep(HOLD)
        times += 1
        last = time.perf_counter()
    far.send((times, longest))


def get_until_the_end(queue: Any, far: Any) -> None:
    """Works a little on each item; says how many it has got before the end."""
    far.send("ready")
    far.recv()
    times = 0
    while queue.get() is not None:
        times += 1
        time.sleep(HOLD / 5)
    far.send((times, 0.0))


def put_until_told(queue: Any, far: Any) -> None:
    """Puts, at once again, until it is told to stop; says how many it has put."""
    far.send("ready")
    far.recv()
    times = 0
    while not far.poll():
        queue.put(times)
        times += 1
    far.send((times, 0.0))
