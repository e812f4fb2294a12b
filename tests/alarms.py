"""Alarms whose handlers raise, at moments of the test's choice; importable by workers."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

#: No wait here ends by itself within this.
LONG = 120.0
#: A signal that is lost is noticed at the end of a wait, or never; one that is in time within 10 ms, or half a second
#: at worst.
SOON = 20.0


class Alarm(Exception):
    pass


@contextmanager
def alarms(handler: Callable[[int, Any], Any]) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, handler)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def raising(number: int, frame: Any) -> None:
    raise Alarm


def interrupted(wait: Callable[[], Any], times: int = 15) -> None:
    """The wait is ended by an alarm, again and again, each time at another moment of its beginning."""
    moments = random.Random(13)
    with alarms(raising):
        for _ in range(times):
            delay = moments.uniform(0.00005, 0.004)
            began = time.monotonic()
            with pytest.raises(Alarm):  # It may come before the call.
                signal.setitimer(signal.ITIMER_REAL, delay)
                wait()
            assert time.monotonic() - began < SOON


def soon() -> None:
    """In a worker: one alarm, whose handler raises."""
    signal.signal(signal.SIGALRM, raising)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
