"""`put(..., move=True)`: the queue takes an array's memory instead of copying it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import arrays
import pytest

numpy: Any = pytest.importorskip("numpy")

LONG = 30.0


_LOCK = threading.Lock()


def _lock_returner() -> Callable[[], Any]:
    """A function without a name, which goes by value, of something that cannot go at all."""
    lock = _LOCK
    return lambda: lock


def address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


@pytest.fixture(params=["Queue", "SimpleQueue", "JoinableQueue"])
def channel(request: pytest.FixtureRequest, ctx: Any) -> Iterator[Any]:
    made = getattr(ctx, request.param)()
    yield made
    made.close()


def received(channel: Any, items: int = 100_000) -> Any:
    """An array that lies in memory which came with a message."""
    channel.put(numpy.arange(items, dtype="f8"))
    return channel.get()


class TestMoves:
    def test_the_memory_goes_along(self, channel: Any) -> None:
        array = received(channel)
        for _ in range(5):
            place = address(array)
            channel.put(array, move=True)
            # One that was moved is moved again only when its sender has let go of it.
            del array
            array = channel.get()
            assert address(array) == place
        assert (array == numpy.arange(100_000)).all()

    def test_there_and_back(self, ctx: Any) -> None:
        requests, answers = ctx.Queue(), ctx.Queue()
        child = ctx.Process(target=arrays.move_all, args=(requests, answers))
        child.start()
        # What this process has made itself is copied, into memory that can be moved.
        requests.put(numpy.zeros(100_000), move=True)
        array = answers.get(timeout=LONG)
        for count in range(1, 5):
            assert (array[0], array[-1]) == (0.0, count)
            place = address(array)
            requests.put(array, move=True)
            del array
            array = answers.get(timeout=LONG)
            assert address(array) == place
        requests.put(None)
        child.join(LONG)
        assert child.exitcode == 0
        requests.close()
        answers.close()

    def test_parts_of_it(self, channel: Any) -> None:
        array = received(channel)
        place = address(array)
        channel.put(array[10_000:60_000], move=True)
        part = channel.get()
        assert address(part) == place + 80_000
        assert (part == numpy.arange(10_000, 60_000)).all()

    def test_what_is_named_twice_arrives_as_two(self, channel: Any) -> None:
        array = received(channel)
        channel.put([array, array[:50_000]], move=True)
        whole, part = channel.get()
        part[:] = -1.0
        assert (whole == numpy.arange(100_000)).all()

    def test_without_it_nothing_moves(self, channel: Any) -> None:
        array = received(channel)
        place = address(array)
        channel.put(array)
        copy = channel.get()
        copy[:] = -1.0
        assert (address(array), array[7]) == (place, 7.0)
        assert address(copy) != place

    def test_what_is_short_or_plain(self, channel: Any) -> None:
        for item in (1, "text", [1, 2], bytes(100_000), numpy.arange(10).tolist()):
            channel.put(item, move=True)
            assert channel.get() == item

    def test_what_goes_by_value_beside_it(self, channel: Any) -> None:
        array = received(channel)
        place = address(array)
        channel.put([array, lambda: 5], move=True)
        moved, function = channel.get()
        assert (address(moved), function()) == (place, 5)


class TestNotSent:
    """The array is its sender's as before, and can be moved another time."""

    def test_a_full_queue(self, ctx: Any) -> None:
        full, other = ctx.Queue(1), ctx.Queue()
        array = received(other)
        place = address(array)
        full.put(1)
        for _ in range(3):
            with pytest.raises(queue.Full):
                full.put(array, block=False, move=True)
            with pytest.raises(queue.Full):
                full.put(array, timeout=0.01, move=True)
        array[0] = 5.0
        assert full.get(timeout=LONG) == 1
        full.put(array, move=True)
        moved = full.get(timeout=LONG)
        assert (address(moved), moved[0], moved[7]) == (place, 5.0, 7.0)
        full.close()
        other.close()

    def test_what_cannot_be_pickled(self, channel: Any) -> None:
        array = received(channel)
        place = address(array)
        errors = []
        for bad in (threading.Lock(), _lock_returner()):
            with pytest.raises(Exception, match="pickle") as raised:
                channel.put([array, bad], move=True)
            errors.append(raised.value)
        array[0] = 5.0
        channel.put(array, move=True)
        moved = channel.get()
        assert (address(moved), moved[0], moved[7]) == (place, 5.0, 7.0)
        assert len(errors) == 2

    def test_a_queue_that_was_shut(self, ctx: Any) -> None:
        import manyhands

        shut, other = ctx.Queue(), ctx.Queue()
        array = received(other)
        place = address(array)
        shut.shutdown()
        with pytest.raises(manyhands.ShutDown):
            shut.put(array, move=True)
        other.put(array, move=True)
        assert address(other.get(timeout=LONG)) == place
        shut.close()
        other.close()
