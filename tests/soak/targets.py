"""What the processes of the soak run."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import manyhands
from world import payload


def square(number: int) -> int:
    return number * number


def square_or_die(number: int) -> int:
    if number % 97 == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def add_up(numbers: Any, results: Any, index: object) -> None:
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


def serve_as_a_daemon(method: str, queue: Any, lock: Any, pattern: Any, seed: int) -> None:
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
        child = manyhands.get_context(method).Process(target=add_up, args=(pattern, queue, "child"))
        child.start()
        child.join()
        if child.exitcode != 0:
            os._exit(5)
        if path.read_bytes() != b"D" * (4 << 20):
            os._exit(3)
        if len({os.fstat(file).st_ino for file in files}) != 1:
            os._exit(4)


SQUARES = [number * number for number in range(20)]


def send_squares(results: Any) -> None:
    results.put(("child", SQUARES))


def lead(method: str, results: Any, times: int) -> None:
    """Has a pool, an executor and children of its own work, so often."""
    ctx = manyhands.get_context(method)
    with ctx.Pool(2) as pool, manyhands.ProcessPoolExecutor(2, mp_context=ctx) as executor:
        for _ in range(times):
            results.put(("pool", pool.map(square, range(20))))
            results.put(("executor", list(executor.map(square, range(20)))))
            child = ctx.Process(target=send_squares, args=(results,), daemon=True)
            child.start()
            child.join()
            if child.exitcode != 0:
                os._exit(3)


def hoard(method: str, home: Any, seed: int) -> None:
    """Until it is killed: makes queues with something in them, and locks and arrays; sends some of them away."""
    ctx, mine, number = manyhands.get_context(method), [], 0
    while True:
        queue, numbers = ctx.Queue(), ctx.RawArray("q", [number] * 100)
        queue.put(payload(seed, number))
        mine.append((queue, numbers, ctx.Lock()))
        queue.put(mine[number // 2][0])
        home.put((number, queue, numbers))
        number += 1
        time.sleep(0.005)


def wait_for_all(condition: Any, event: Any, barrier: Any, results: Any) -> None:
    """Waits for each of them, and says so before."""
    with condition:
        results.put("before the condition")
        condition.wait()
    results.put("before the event")
    event.wait()
    results.put("before the barrier")
    try:
        barrier.wait()
    except threading.BrokenBarrierError:
        results.put("broken")


def echo(orders: Any, results: Any) -> None:
    while (order := orders.get()) is not None:
        results.put(order)


def mark(queue: Any, lock: Any, numbers: Any, seed: int, index: int) -> None:
    """In a user's fork: sends a message, then marks its number."""
    with contextlib.suppress(manyhands.OwnerDied), lock:
        pass
    with lock:
        queue.put((index, payload(seed, index)))
        numbers[index] = index + 1


def end_with(work: Callable[[], None]) -> NoReturn:
    """In a user's fork: the work, and nothing of the parent's after it."""
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)
