"""`shutdown`, as `queue.Queue` has it from Python 3.13 on: the same tests on both, where there is one."""

from __future__ import annotations

import pickle
import queue as queues
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import targets
from manyhands.queues import ShutDown

LONG = 30.0


@pytest.fixture(params=["manyhands", "queue.Queue"])
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """A queue whose items are unfinished until they are done."""
    if request.param == "manyhands":
        import manyhands

        return manyhands.JoinableQueue
    if not hasattr(queues, "ShutDown"):
        pytest.skip("queue.Queue has no shutdown before Python 3.13")
    return queues.Queue


ENDED = getattr(queues, "ShutDown", ShutDown)


def outcomes(*calls: Callable[[], Any]) -> list[Any]:
    """Each in a thread of its own: what it returns, or raises."""
    found: list[Any] = [None] * len(calls)

    def run(index: int, call: Callable[[], Any]) -> None:
        try:
            found[index] = call()
        except Exception as error:
            found[index] = type(error).__mro__

    threads = [threading.Thread(target=run, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    return found


def later(call: Callable[[], Any]) -> Callable[[], None]:
    def delayed() -> None:
        time.sleep(0.1)
        call()

    return delayed


@pytest.mark.parametrize("immediate", [False, True])
def test_nothing_is_put_any_more(make: Any, immediate: bool) -> None:
    q = make()
    q.shutdown(immediate)
    q.shutdown(immediate=immediate)
    for call in (lambda: q.put(1), lambda: q.put(1, timeout=LONG), lambda: q.put_nowait(1)):
        with pytest.raises(ENDED):
            call()
    for call in (q.get, q.get_nowait, lambda: q.get(timeout=LONG)):
        with pytest.raises(ENDED):
            call()
    q.join()


def test_what_was_put_is_got(make: Any) -> None:
    q = make()
    q.put(1)
    q.put(2)
    q.shutdown()
    assert (q.qsize(), q.get(), q.get_nowait()) == (2, 1, 2)
    with pytest.raises(ENDED):
        q.get()
    q.task_done()
    q.task_done()
    q.join()


def test_immediately_what_was_put_is_gone_and_done(make: Any) -> None:
    q = make()
    for number in range(5):
        q.put(number)
    assert q.get() == 0
    q.shutdown(immediate=True)
    assert (q.qsize(), q.empty()) == (0, True)
    with pytest.raises(ENDED):
        q.get_nowait()
    q.task_done()
    q.join()
    with pytest.raises(ValueError, match="too many"):
        q.task_done()


def test_first_in_order_then_immediately(make: Any) -> None:
    q = make()
    q.put(1)
    q.shutdown()
    q.shutdown(immediate=True)
    with pytest.raises(ENDED):
        q.get()
    q.join()


@pytest.mark.parametrize("immediate", [False, True])
def test_whoever_waits_is_told(make: Any, immediate: bool) -> None:
    empty, full = make(), make(1)
    full.put(1)
    shut = later(lambda: (empty.shutdown(immediate), full.shutdown(immediate)))
    found = outcomes(empty.get, lambda: empty.get(timeout=LONG), lambda: full.put(2), shut)
    assert all(ENDED in each for each in found[:3])


def test_join_ends_with_what_is_thrown_away(make: Any) -> None:
    q = make()
    q.put(1)
    assert outcomes(q.join, later(lambda: q.shutdown(immediate=True))) == [None, None]


class TestAcrossProcesses:
    """What is ours alone."""

    def test_everybody_is_told(self, ctx: Any) -> None:
        q, bounded, answers = ctx.Queue(), ctx.Queue(1), ctx.Queue()
        bounded.put(1)
        calls = [(q, "get", ()), (q, "get_many", (5,)), (bounded, "put", (2,)), (bounded, "put_many", ([2],))]
        children = [
            ctx.Process(target=targets.outcome_of, args=(queue, method, args, answers))
            for queue, method, args in calls
        ]
        for child in children:
            child.start()
        for _ in children:
            assert answers.get(timeout=LONG) == "begins"
        q.shutdown()
        bounded.shutdown()
        assert [answers.get(timeout=LONG) for _ in children] == ["ShutDown"] * 4
        for child in children:
            child.join(LONG)

    def test_many_at_a_time(self, ctx: Any) -> None:
        q = ctx.Queue()
        q.put_many(range(5))
        q.shutdown()
        with pytest.raises(ShutDown) as caught:
            q.put_many([1, 2])
        assert caught.value.items_put == 0  # type: ignore[attr-defined]
        assert q.get_many(3) == [0, 1, 2]
        assert q.get_many() == [3, 4]
        with pytest.raises(ShutDown):
            q.get_many()

    def test_long_items_that_are_thrown_away_are_given_back(self, ctx: Any) -> None:
        q = ctx.Queue()
        q.put_many([b"x" * 100_000] * 20)
        q.shutdown(immediate=True)
        with pytest.raises(ShutDown):
            q.get()

    def test_a_simple_queue(self, ctx: Any) -> None:
        q = ctx.SimpleQueue()
        q.put(1)
        q.shutdown()
        assert q.get() == 1
        with pytest.raises(ShutDown):
            q.get()

    def test_the_exception_travels(self) -> None:
        assert type(pickle.loads(pickle.dumps(ShutDown()))) is ShutDown
        assert issubclass(ShutDown, ENDED)
