"""What the processes of the soak run."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import manyhands
from world import payload


def square(number: int) -> int:
    return number * number


def square_or_die(number: int) -> int:
    if number % 97 == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def add_up(numbers: Any, results: Any, index: int) -> None:
    results.put((index, sum(numbers)))


def produce(queue: Any, seed: int, returned: Any) -> None:
    """Puts messages until it is killed, and says after each that `put` has returned."""
    number = 0
    while True:
        queue.put((number, payload(seed, number)))
        number += 1
        returned.value = number


def consume(queue: Any, seed: int, seen: Any) -> None:
    """Takes messages until it is killed; ends with 1 when one of them is wrong."""
    while True:
        number, body = queue.get()
        if body != payload(seed, number):
            os._exit(1)
        seen.value += 1


def count_under(lock: Any, pair: Any) -> None:
    """Adds one to both numbers. They differ by one at most, after a process was killed between the two lines."""
    while True:
        with contextlib.suppress(manyhands.OwnerDied), lock:
            if pair[0] - pair[1] not in (0, 1):
                os._exit(1)
            pair[0] = pair[1] + 1
            pair[1] += 1


def serve_as_a_daemon(queue: Any, lock: Any, pattern: Any, seed: int) -> None:
    """Closes every descriptor, as daemons do, opens files in their place, and uses what it was given."""
    want = list(range(len(pattern)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a user's file"
        path.write_bytes(b"D" * (4 << 20))
        os.closerange(3, 1024)
        files = [os.open(path, os.O_RDWR) for _ in range(64)]
        for number in range(20):
            with lock:
                if pattern[:] != want:
                    os._exit(2)
            queue.put((number, payload(seed, number)))
        if path.read_bytes() != b"D" * (4 << 20):
            os._exit(3)
        if len({os.fstat(file).st_ino for file in files}) != 1:
            os._exit(4)


def wait_for_the_end() -> None:
    time.sleep(600)
