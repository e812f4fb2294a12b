"""`connection.wait`, as the standard library's documentation has it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import targets
from connections import LONG, connection_of

pytestmark = [pytest.mark.standard, pytest.mark.methods("fork")]


@pytest.fixture
def wait(ctx: Any) -> Any:
    return connection_of(ctx).wait


@pytest.fixture
def pairs(ctx: Any) -> Iterator[Any]:
    made = [ctx.Pipe() for _ in range(4)]
    yield made
    for first, second in made:
        first.close()
        second.close()


def test_nothing_is_ready(wait: Any, pairs: Any) -> None:
    readers = [first for first, _ in pairs]
    for timeout in (0, -1, 0.05):
        assert wait(readers, timeout) == []


def test_in_their_order(wait: Any, pairs: Any) -> None:
    readers = [first for first, _ in pairs]
    for at in (2, 0):
        pairs[at][1].send(at)
    assert wait(readers) == [readers[0], readers[2]]
    assert wait(reversed(readers)) == [readers[2], readers[0]]
    assert wait(readers, 0) == [readers[0], readers[2]]


def test_waits(wait: Any, pairs: Any) -> None:
    (first, second), *_ = pairs
    timer = threading.Timer(0.2, second.send, ("come",))
    timer.start()
    assert wait([first], LONG) == [first]
    timer.join()


@pytest.mark.methods("fork", "forkserver", "spawn")
def test_everything_that_has_a_descriptor(ctx: Any, wait: Any, pairs: Any) -> None:
    (first, second), *_ = pairs
    read, write = os.pipe()
    one, other = socket.socketpair()
    child = ctx.Process(target=targets.wait_for, args=(pairs[1][0],))
    child.start()
    things = [child.sentinel, read, one, first]
    assert wait(things, 0.01) == []
    second.send(1)
    assert wait(things) == [first]
    other.send(b"x")
    os.write(write, b"x")
    assert wait(things) == [read, one, first]
    pairs[1][1].send("end")
    assert wait([child.sentinel], LONG) == [child.sentinel]
    assert wait(things) == things
    child.join(LONG)
    for number in (read, write):
        os.close(number)
    one.close()
    other.close()


def test_an_end_is_ready(wait: Any, pairs: Any) -> None:
    (first, second), *_ = pairs
    second.close()
    assert wait([first]) == [first]


def test_of_nothing(wait: Any) -> None:
    assert wait([], 0.01) == []


@pytest.mark.parametrize("thing", [None, "text", 1.5, object()])
def test_what_has_no_descriptor(wait: Any, thing: Any) -> None:
    with pytest.raises(ValueError, match="Invalid file object"):
        wait([thing], 0)


def test_what_is_no_descriptor(wait: Any) -> None:
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        wait([-1], 0)


def test_twice_the_same(wait: Any, pairs: Any) -> None:
    (first, _second), *_ = pairs
    with pytest.raises(KeyError, match="is already registered"):
        wait([first, first.fileno()], 0)


def test_closed(wait: Any, pairs: Any) -> None:
    (first, _second), *_ = pairs
    first.close()
    with pytest.raises(OSError, match="handle is closed"):
        wait([first], 0)


@pytest.mark.ours_only
def test_the_standard_librarys_takes_ours(pairs: Any) -> None:
    import multiprocessing.connection

    (first, second), *_ = pairs
    assert multiprocessing.connection.wait([first], 0) == []
    second.send(1)
    assert multiprocessing.connection.wait([first]) == [first]
