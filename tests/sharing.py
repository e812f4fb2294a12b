"""What child processes of the tests do with shared values. As in `targets`, nothing here imports an implementation."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Any


class Point(ctypes.Structure):
    """A structure that is shared."""

    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_double), ("z", ctypes.c_longlong))


def double(values: list[Any], points: list[Any], arrays: list[Any], text: Any) -> None:
    """Doubles everything in place, and writes into the text."""
    for value in values:
        value.value *= 2
    for point in points:
        point.x *= 2
        point.y *= 2
    for array in arrays:
        for index in range(len(array)):
            array[index] *= 2
    text.value *= 2


def increment(value: Any, times: int) -> None:
    for _ in range(times):
        with value.get_lock():
            value.value += 1


def add_without_lock(value: Any, times: int) -> None:
    for _ in range(times):
        value.fetch_add(1)


def claim(places: list[Any], answers: Any, mine: int) -> None:
    """Claims as many places as it can get, each by one step."""
    answers.put([at for at, place in enumerate(places) if place.compare_exchange(0, mine)])


def hold_until_told(value: Any, conn: Any) -> None:
    """Holds the value's lock, writes into it, and tells; ends when told."""
    with value.get_lock():
        conn.send("held")
        conn.recv()
        value.get_obj().value = 2


def read_value(value: Any, conn: Any) -> None:
    conn.send("reading")
    conn.send(value.value)


def keep_until_killed(conn: Any, *_kept: Any) -> None:
    conn.send("up")
    signal.pause()


def hoard_until_killed(ctx: Any, conn: Any) -> None:
    """Makes shared things without end."""
    kept: list[Any] = []
    for number in range(10**9):
        kept.append(ctx.Array("d", 10_000) if number % 3 else ctx.Value("i", number))
        if len(kept) == 30:
            conn.send(os.getpid())
        if len(kept) > 60:
            del kept[:25]


def first_of(values: Any) -> Any:
    """The first item of a shared array, or the value, for a pool."""
    return values.value if hasattr(values, "value") else values[0]


def set_first(values: Any, number: Any) -> None:
    values[0] = number


def add_to_rows(work: tuple[Any, int, int]) -> int:
    """Adds the row's number to each item of some rows of a shared array; without numpy."""
    array, first, end = work
    view = memoryview(array)
    for row in range(first, end):
        for column in range(view.shape[1]):
            view[row, column] += row
    return end - first


def total(array: Any, conn: Any) -> None:
    conn.send(sum(memoryview(array).cast("B").cast("d")))


def ends_and_middle(array: Any, conn: Any) -> None:
    view = memoryview(array)
    conn.send([view[0], view[len(view) // 2], view[len(view) - 1]])


def make_and_send(ctx: Any, queue: Any) -> None:
    queue.put((ctx.Value("i", 41), ctx.Array("d", [1.5, 2.5])))
    signal.pause()
