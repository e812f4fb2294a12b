"""`SimpleQueue`, as the standard library's documentation has it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import targets

pytestmark = pytest.mark.standard

LONG = 30.0


@pytest.fixture
def make(ctx: Any) -> Iterator[Any]:
    made = []

    def queue() -> Any:
        made.append(ctx.SimpleQueue())
        return made[-1]

    yield queue
    for each in made:
        each.close()


@pytest.fixture
def q(make: Any) -> Any:
    return make()


def start(ctx: Any, target: Any, *args: Any) -> Any:
    process = ctx.Process(target=target, args=args)
    process.start()
    return process


def finish(*started: Any) -> None:
    for process in started:
        process.join(LONG)
        assert process.exitcode == 0


def test_empty_then_not_then_empty(q: Any) -> None:
    assert q.empty() is True
    q.put(1)
    assert q.empty() is False
    assert q.get() == 1
    assert q.empty() is True


def test_first_in_first_out(q: Any) -> None:
    for number in range(100):
        q.put(number)
    assert [q.get() for _ in range(100)] == list(range(100))


def test_none_is_an_item(q: Any) -> None:
    q.put(None)
    assert q.get() is None


def test_put_raises_in_the_caller(q: Any) -> None:
    with pytest.raises(Exception, match="pickle"):
        q.put(threading.Lock())
    assert q.empty()


def test_a_child_gets_and_puts(ctx: Any, q: Any, make: Any) -> None:
    answers = make()
    child = start(ctx, targets.echo, q, answers)
    for item in (1, "two", [3.0], {4: None}):
        q.put(item)
        assert answers.get() == item
    q.put(None)
    finish(child)


@pytest.mark.parametrize("size", [1, 65536, (1 << 20) + 1, 5 << 20])
def test_items_of_all_sizes(ctx: Any, q: Any, make: Any, size: int) -> None:
    answers = make()
    child = start(ctx, targets.echo, q, answers)
    item = os.urandom(size)
    q.put(item)
    assert answers.get() == item
    q.put(None)
    finish(child)


def test_many_producers_and_consumers_each_item_once(ctx: Any, q: Any, make: Any) -> None:
    results = make()
    consumers = [start(ctx, targets.take_until_none, q, results) for _ in range(3)]
    producers = [start(ctx, targets.put_all, q, range(n * 200, (n + 1) * 200)) for n in range(3)]
    finish(*producers)
    for _ in consumers:
        q.put(None)
    taken = [results.get() for _ in consumers]
    finish(*consumers)
    assert sorted(number for each in taken for number in each) == list(range(600))


def test_closed(ctx: Any) -> None:
    q = ctx.SimpleQueue()
    q.put(1)
    q.close()
    q.close()
    with pytest.raises((OSError, ValueError), match="closed"):
        q.put(1)
    with pytest.raises((OSError, ValueError), match="closed"):
        q.get()
