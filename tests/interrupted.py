"""Starts of processes in the middle of which a signal's handler raises; importable by spawned children."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
import time
from multiprocessing.context import get_spawning_popen
from typing import Any


class Tick(Exception):
    """No error of the start's own."""


def _raise(_signal: int, _frame: Any) -> None:
    raise Tick


def nothing() -> None:
    pass


def children() -> set[int]:
    """Ended ones, too, that nobody has collected."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return {int(pid) for pid in file.read().split()}


def _one(ctx: Any, seconds: float) -> tuple[bool, set[int]]:
    """Starts a process, of which the timer knows nothing; whether that was interrupted, and who is there then that the
    process object does not know."""
    process = ctx.Process(target=nothing)
    before = children()
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        process.start()
        signal.setitimer(signal.ITIMER_REAL, 0)
        interrupted = False
    except Tick:
        interrupted = True
    left = children() - before - {process.pid}
    if process.pid is not None:
        process.join()
        assert process.exitcode == 0 or (interrupted and process.exitcode in (-signal.SIGKILL, 255))
        with contextlib.suppress(Tick):
            process.close()
    return interrupted, left


def _seconds(ctx: Any) -> float:
    """How long a start takes that nothing interrupts."""
    process = ctx.Process(target=nothing)
    begun = time.monotonic()
    process.start()
    taken = time.monotonic() - begun
    process.join()
    return taken


def starts(count: int, method: str) -> tuple[int, set[int], bool]:
    """How many of so many starts were interrupted (of forks few: most of their time goes by where what a handler raises
    is only reported), which processes nobody knows of, and whether this one is as daemonic as it was, and starts
    nothing. Where none was interrupted it goes on until one is, for a minute at most."""
    import manyhands

    ctx: Any = manyhands.get_context(method)
    daemon = manyhands.current_process().daemon
    usual = statistics.median(_seconds(ctx) for _ in range(9))
    handler = signal.signal(signal.SIGALRM, _raise)
    done, interrupted, left = 0, 0, set()
    end = time.monotonic() + 60
    try:
        while done < count or (not interrupted and time.monotonic() < end):
            done += 1
            try:
                was, unknown = _one(ctx, random.uniform(2e-5, usual))
            except Tick:
                # Between the start and the next line.
                continue
            interrupted += was
            left |= unknown
    finally:
        # What is raised in these lines, too, comes once.
        with contextlib.suppress(Tick):
            signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    manyhands.active_children()
    unchanged = manyhands.current_process().daemon is daemon and get_spawning_popen() is None
    return interrupted, left & children(), unchanged
