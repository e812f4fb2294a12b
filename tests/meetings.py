"""What children run in the tests of events, conditions and barriers; on the path, for spawned processes to import."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from typing import Any


def wait_for_notification(condition: Any, told: Any) -> None:
    """Says that it waits, and what `wait` returned or raised."""
    try:
        with condition:
            told.put("waits")
            told.put(condition.wait())
    except Exception as error:
        told.put(type(error).__name__)


def notify_and_die_holding(condition: Any) -> None:
    """Is killed between a notification and giving the lock back."""
    condition.acquire()
    condition.notify()
    os.kill(os.getpid(), signal.SIGKILL)


def pass_on(condition: Any, seed: int) -> None:
    """For ever: waits a little, notifies somebody; whoever is told that a holder died goes on."""
    rng = random.Random(seed)
    while True:
        try:
            with condition:
                condition.wait(rng.random() / 200)
                condition.notify(rng.randrange(3))
        except RuntimeError as error:
            if type(error).__name__ != "OwnerDied":
                raise


def meet_for_ever(barrier: Any) -> None:
    """For ever: waits at the barrier; while it is broken, until it is not."""
    while True:
        try:
            barrier.wait()
        except threading.BrokenBarrierError:
            while barrier.broken:
                time.sleep(0.001)


def meet(barrier: Any, told: Any) -> None:
    """Waits at the barrier, and says what came of it."""
    try:
        told.put(barrier.wait())
    except Exception as error:
        told.put(type(error).__name__)


def die() -> None:
    """An action, say."""
    os.kill(os.getpid(), signal.SIGKILL)


def hear(event: Any, told: Any, name: int) -> None:
    """For ever: waits for the event, says so, waits until it is down again, and says that."""
    while True:
        event.wait()
        told.put(name)
        while event.is_set():
            time.sleep(0.001)
        told.put(-1 - name)


def set_and_clear_for_ever(event: Any) -> None:
    while True:
        event.set()
        event.clear()


def send_through(queue: Any) -> None:
    """Gets an event, a condition and a barrier from a queue, and uses each."""
    event, condition, barrier = queue.get()
    with condition:
        condition.notify()
    barrier.wait()
    event.set()


def wait_in_worker(meeting: tuple[Any, Any]) -> int:
    """In a pool's worker: waits at a barrier that came as an argument."""
    barrier, event = meeting
    event.wait()
    return barrier.wait()  # type: ignore[no-any-return]
