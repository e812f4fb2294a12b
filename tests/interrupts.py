"""Signals at random moments: who sends them, and what is done meanwhile; importable by spawned children."""

from __future__ import annotations

import itertools
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

#: Sends SIGINT after each delay that it reads, and says when it did, by the clock that all processes share.
SENDER = """
import os, signal, sys, time
for line in sys.stdin:
    time.sleep(float(line))
    sent = time.monotonic()
    os.kill(int(sys.argv[1]), signal.SIGINT)
    print(sent, flush=True)
"""


class Interrupts:
    """Interrupts a call over and over, half of the times by SIGINT of another process, half by an alarm; and keeps how
    long it took until Python's handler ran, and the exception arrived."""

    def __init__(self, pid: int, seed: int) -> None:
        self.moments = random.Random(seed)
        self.sender = subprocess.Popen(
            [sys.executable, "-S", "-c", SENDER, str(pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.handled: list[float] = []
        self.late: dict[str, list[float]] = {}

    def close(self) -> None:
        for end in (self.sender.stdin, self.sender.stdout):
            assert end is not None
            end.close()
        self.sender.wait()

    def _handler(self, number: int, frame: Any) -> None:
        self.handled.append(time.monotonic())
        raise KeyboardInterrupt

    @contextmanager
    def caught(self) -> Iterator[None]:
        before = [
            (number, signal.signal(number, self._handler)) for number in (signal.SIGINT, signal.SIGALRM)
        ]
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)

    def delay(self) -> float:
        """Before the wait, within its first sleep, and in the long ones behind that."""
        return self.moments.choices(
            [
                self.moments.uniform(0.00005, 0.001),
                self.moments.uniform(0.001, 0.03),
                self.moments.uniform(0.03, 0.7),
            ],
            [60, 30, 10],
        )[0]

    def interrupt(self, name: str, call: Callable[[], Any]) -> None:
        """Calls it, which is to take longer than any delay: one signal, one exception, which is no other's context."""
        assert self.sender.stdin is not None
        assert self.sender.stdout is not None
        delay, by_alarm = self.delay(), self.moments.random() < 0.5
        self.handled.clear()
        with pytest.raises(KeyboardInterrupt) as raised:
            try:
                if by_alarm:
                    sent = time.monotonic() + delay
                    signal.setitimer(signal.ITIMER_REAL, delay)
                else:
                    self.sender.stdin.write(f"{delay}\n")
                    self.sender.stdin.flush()
                call()
            finally:
                arrived = time.monotonic()
        assert (raised.value.__context__, raised.value.__cause__) == (None, None), name
        if not by_alarm:
            sent = float(self.sender.stdout.readline())
        assert len(self.handled) == 1
        self.late.setdefault(name, []).append(arrived - sent)

    def figures(self) -> str:
        late = sorted(itertools.chain.from_iterable(self.late.values()))
        worst = max(self.late, key=lambda name: max(self.late[name]))
        p99 = late[min(len(late) - 1, int(len(late) * 0.99))]
        return (
            f"{len(late)} interrupts, until the exception arrived: median {statistics.median(late) * 1000:.2f} ms, "
            f"99th percentile {p99 * 1000:.2f} ms, worst {late[-1] * 1000:.1f} ms ({worst})"
        )


def number_all(send: Callable[[Any], Any], most: int = 1 << 40) -> None:
    """Sends the numbers, in order, now and then with a pause, until somebody ends this process."""
    pauses = random.Random(7)
    for number in range(most):
        send(number)
        if pauses.random() < 0.01:
            time.sleep(pauses.uniform(0, 0.01))


def collect(receive: Callable[[], Any], answers: Any) -> None:
    """Takes slowly until `None` comes, and says what came."""
    pauses, got = random.Random(8), []
    for item in iter(receive, None):
        got.append(item)
        if pauses.random() < 0.05:
            time.sleep(pauses.uniform(0, 0.01))
    answers.send(got)


def hold(lock: Any, held: Any, enough: Any) -> None:
    with lock:
        held.set()
        enough.wait()


def busy() -> None:
    while True:
        pass


class Counted:
    """Numbers that are passed to calls, and which of them the calls that returned had: in loops of the interpreter's
    own, where nothing comes between a call's return and its being counted."""

    def __init__(self) -> None:
        self.numbers = itertools.count()
        self.passed: list[int] = []
        self.next = 0

    def pass_all(self, call: Callable[[int], Any]) -> None:
        returned: list[Any] = []
        try:
            returned.extend(map(call, self.numbers))
        finally:
            self.passed += range(self.next, self.next + len(returned))
            self.next = next(self.numbers) + 1
            # That one was taken off for the look, and is passed to nobody.
