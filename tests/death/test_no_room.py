"""A process without address space for a message: it says so, and the message stays where it is."""

from __future__ import annotations

from typing import Any

import manyhands
import numpy
import pytest
import roomless
from pickled import pickled

LONG = 60.0
#: More than the C library keeps of what was freed.
MEBIBYTES = 100 << 20

ITEMS: dict[str, Any] = {
    "bytes": lambda: b"x" * MEBIBYTES,
    "text": lambda: "x" * MEBIBYTES,
    "bytes in a list": lambda: [b"x" * MEBIBYTES],
}


@pytest.fixture
def roomless_child(ctx: Any) -> Any:
    children = []

    def start(target: Any, *args: Any) -> Any:
        begin, back = ctx.Event(), ctx.Queue()
        args = (args[0], back, begin, *args[1:])
        children.append(ctx.Process(target=target, args=args))
        children[-1].start()
        begin.set()
        return back

    yield start
    for child in children:
        child.join(LONG)
        assert child.exitcode == 0


@pytest.mark.parametrize("many", [False, True], ids=["get", "get_many"])
@pytest.mark.parametrize("kind", ITEMS)
def test_a_message_stays_until_there_is_room(ctx: Any, roomless_child: Any, kind: str, many: bool) -> None:
    stays(ctx, roomless_child, ITEMS[kind](), many)


# What a forked child needs for an array may be mapped in its parent already.
@pytest.mark.methods("forkserver", "spawn")
@pytest.mark.parametrize("many", [False, True], ids=["get", "get_many"])
def test_an_array_that_cannot_be_mapped_stays(ctx: Any, roomless_child: Any, many: bool) -> None:
    stays(ctx, roomless_child, numpy.zeros(MEBIBYTES // 8), many)


def stays(ctx: Any, roomless_child: Any, item: Any, many: bool) -> None:
    queue = ctx.Queue()
    queue.put(item)
    back = roomless_child(roomless.receive, queue, many)
    first, second = back.get(timeout=LONG), back.get(timeout=LONG)
    assert first[0] == second[0] == "MemoryError", (first, second)
    assert "damaged" not in first[1] + second[1]
    assert back.get(timeout=LONG) == 1
    assert back.get(timeout=LONG) == ("got", len(item))
    queue.close()


@pytest.mark.methods("forkserver", "spawn")
def test_what_cannot_be_mapped_is_not_called_gone(ctx: Any, roomless_child: Any) -> None:
    array = manyhands.SharedArray(MEBIBYTES, "uint8")
    back = roomless_child(roomless.open_array, pickled(array))
    got = back.get(timeout=LONG)
    assert got[0] == "MemoryError", got
    assert back.get(timeout=LONG) == ("got", MEBIBYTES)
