"""What workers run that fork, and of which both processes come back."""

from __future__ import annotations

import os
import sys
from typing import Any


def forked(number: int) -> int:
    if number % 3 == 0:
        os.fork()
    return number * 2


def forked_and_raised(number: int) -> int:
    if os.fork() == 0:
        sys.exit(3)
    return number * 2


def fork() -> None:
    os.fork()


def double(number: int) -> int:
    return number * 2


class ForksWhenRead:
    """Unpickling it forks."""

    def __reduce__(self) -> Any:
        return _forked_value, ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ForksWhenRead)


def _forked_value() -> int:
    os.fork()
    return 21


class ForksWhenSent:
    """Pickling it forks."""

    def __reduce__(self) -> Any:
        os.fork()
        return int, (42,)


def result_that_forks(_number: int) -> ForksWhenSent:
    return ForksWhenSent()
