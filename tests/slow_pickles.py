"""Objects that run Python code for a while when they are pickled or unpickled; importable by workers."""

from __future__ import annotations

import os
import time
from typing import Any


def spend(seconds: float) -> None:
    """In steps of the interpreter, where a signal's handler may run."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


class Unpickled:
    """Takes its time to be unpickled."""

    def __init__(self, number: int, seconds: float) -> None:
        self.number, self.seconds = number, seconds

    def __reduce__(self) -> Any:
        return slowly, (type(self), self.number, self.seconds)


class UnpickledError(Exception):
    def __init__(self, number: int, seconds: float) -> None:
        super().__init__(number)
        self.number, self.seconds = number, seconds

    def __reduce__(self) -> Any:
        return slowly, (type(self), self.number, self.seconds)


def slowly(cls: Any, number: int, seconds: float) -> Any:
    spend(seconds)
    return cls(number, seconds)


class Pickled:
    """Takes its time to be pickled; how often that was begun is counted."""

    begun = 0

    def __init__(self, number: int, seconds: float) -> None:
        self.number, self.seconds = number, seconds

    def __reduce__(self) -> Any:
        Pickled.begun += 1
        spend(self.seconds)
        return Pickled, (self.number, self.seconds)


class Refused:
    """Cannot be unpickled by the process that has made it; how often that was tried is counted."""

    tries = 0

    def __reduce__(self) -> Any:
        return refuse, (os.getpid(),)


def refuse(_: int) -> Any:
    Refused.tries += 1
    raise ValueError("it cannot be made again")


def returned(number: int) -> Unpickled:
    return Unpickled(number, 0.01)


def raised(number: int) -> None:
    raise UnpickledError(number, 0.01)


def refused(_: int) -> Refused:
    return Refused()


def noted(item: Pickled, folder: str) -> int:
    """Leaves a file for each time that it has run for the item."""
    with open(os.path.join(folder, str(item.number)), "a") as file:
        file.write("x")
    return item.number
