"""What every episode of the soak gets."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from typing import Any

import manyhands


class Wrong(AssertionError):
    """A value that is not what it should be."""


class World:
    """The start method, random numbers, and the count of values that were right."""

    def __init__(self, method: str, rng: random.Random) -> None:
        self.method = method
        self.ctx: Any = manyhands.get_context(method)
        self.rng = rng
        self.checked = 0

    def check(self, right: object, text: str) -> None:
        if not right:
            raise Wrong(f"{self.method}: {text}")
        self.checked += 1

    def ended(self, process: Any, *codes: int) -> None:
        """Joins a process, and checks its exit code."""
        process.join(60)
        self.check(process.exitcode in codes, f"{process} ended with {process.exitcode}, not one of {codes}")
        process.close()

    def until(self, right: Callable[[], object], text: str) -> None:
        """Waits until that is so."""
        deadline = time.monotonic() + 60
        while not right():
            if time.monotonic() > deadline:
                raise Wrong(f"{self.method}: {text}")
            time.sleep(0.001)

    def take(self, queue: Any, seed: int, expected: int, timeout: float = 60) -> int:
        """Takes the message with that number; the next one's."""
        number, body = queue.get(timeout=timeout)
        self.check(number == expected, f"message {number} came for {expected}")
        self.check(body == payload(seed, number), f"message {number} is wrong")
        return expected + 1

    def beside(self) -> World:
        """For one of several threads, whose checks are counted when it has ended."""
        return World(self.method, random.Random(self.rng.random()))


def payload(seed: int, number: int) -> bytes:
    """The message with that number: any process can tell whether it is whole."""
    rng = random.Random(f"{seed}/{number}")
    size = int(2 ** rng.uniform(0, 21))
    word = rng.randrange(1 << 64).to_bytes(8, "little")
    return (word * (size // 8 + 1))[:size]


sys.setswitchinterval(0.001)
