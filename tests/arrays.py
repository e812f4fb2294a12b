"""What child processes and workers of the tests do with arrays and other long objects. As in `targets`, nothing here
imports an implementation."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any


class LongBytes(bytes):
    """A subclass of `bytes`, with something of its own."""

    mark: Any = None


class LongText(str):
    """A subclass of `str`."""

    __slots__ = ()


class Frame:
    """An object that has arrays."""

    def __init__(self, **columns: Any) -> None:
        self.columns = columns


def arena_bytes() -> int:
    """What the family's memory takes, as the kernel counts it."""
    for name in os.listdir("/proc/self/fd"):
        path = Path("/proc/self/fd", name)
        with contextlib.suppress(OSError):
            if "memfd:manyhands" in os.readlink(path):
                return os.stat(path).st_blocks * 512
    return 0


def echo(item: Any) -> Any:
    return item


def echo_all(requests: Any, answers: Any) -> None:
    """Gives back everything up to None."""
    while (item := requests.get()) is not None:
        answers.put(item)


def move_all(requests: Any, answers: Any) -> None:
    """Gives back everything up to None, marked, and keeps nothing of it."""
    while (array := requests.get()) is not None:
        array[-1] += 1.0
        answers.put(array, move=True)


def put_type_and_sum(answers: Any, array: Any) -> None:
    answers.put((type(array).__name__, float(sum(array))))


def reduce_to_list(array: Any) -> Any:
    """A reducer of the user's."""
    return list, (array.tolist(),)


def fill(array: Any, value: float) -> float:
    """Overwrites an array; what was in it first."""
    before = float(array.flat[0])
    array[...] = value
    return before


def fill_pair(pair: tuple[Any, float]) -> tuple[float, Any]:
    """Overwrites an array and gives it back."""
    array, value = pair
    return fill(array, value), array


def fill_from_queue(requests: Any, answers: Any, value: float) -> None:
    """Overwrites what it is given, says what was in it, and waits for a word before it ends."""
    array = requests.get()
    answers.put(fill(array, value))
    requests.get()


def fill_with_pid(array: Any, _number: int = 0) -> tuple[float, int]:
    """What the array's first item is; then it is this process's number."""
    return fill(array, os.getpid()), os.getpid()


def sums(arrays: Any, answers: Any) -> None:
    """The sum of each array up to None."""
    while (array := arrays.get()) is not None:
        answers.put(float(array.sum()))


def put_arrays(queue: Any, count: int, items: int) -> None:
    """So many arrays, each of its own number."""
    import numpy

    for number in range(count):
        queue.put(numpy.full(items, float(number)))


def hold_and_die(queue: Any, count: int) -> None:
    """Takes so many arrays, writes to them, and is killed holding them."""
    held = [queue.get() for _ in range(count)]
    for array in held:
        array[:] = 1.0
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_a_task(array: Any) -> None:
    array[:] = 1.0
    os.kill(os.getpid(), signal.SIGKILL)


def set_item(array: Any, index: Any, value: float) -> None:
    array[index] = value


def set_item_and_say(requests: Any, answers: Any) -> None:
    """Sets items as it is told, until it is told nothing."""
    while (request := requests.get()) is not None:
        array, index, value = request
        array[index] = value
        answers.put((bool(array.flags.owndata), array.shape))
