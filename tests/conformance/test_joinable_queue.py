"""`JoinableQueue`, as the standard library's documentation has it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import targets

pytestmark = pytest.mark.standard

LONG = 30.0


@pytest.fixture
def q(ctx: Any) -> Iterator[Any]:
    queue = ctx.JoinableQueue()
    yield queue
    queue.cancel_join_thread()
    queue.close()


@pytest.fixture
def results(ctx: Any) -> Iterator[Any]:
    queue = ctx.Queue()
    yield queue
    queue.cancel_join_thread()
    queue.close()


def start(ctx: Any, target: Any, *args: Any) -> Any:
    process = ctx.Process(target=target, args=args)
    process.start()
    return process


def finish(*started: Any) -> None:
    for process in started:
        process.join(LONG)
        assert process.exitcode == 0


def joining(queue: Any) -> threading.Thread:
    thread = threading.Thread(target=queue.join)
    thread.start()
    return thread


def test_is_a_queue(q: Any) -> None:
    q.put("a")
    q.put("b", timeout=LONG)
    assert (q.get(timeout=LONG), q.get(timeout=LONG)) == ("a", "b")
    q.task_done()
    q.task_done()


def test_nothing_was_put(q: Any) -> None:
    q.join()


def test_too_many_are_done(q: Any) -> None:
    with pytest.raises(ValueError, match=r"task_done\(\) called too many times"):
        q.task_done()
    q.put(1)
    q.get(timeout=LONG)
    q.task_done()
    with pytest.raises(ValueError, match=r"task_done\(\) called too many times"):
        q.task_done()


def test_an_item_may_be_done_with_before_it_is_taken(q: Any) -> None:
    q.put(1)
    q.task_done()
    q.join()
    assert q.get(timeout=LONG) == 1


def test_join_waits_for_the_last_of_all_workers(ctx: Any, q: Any, results: Any) -> None:
    workers = [start(ctx, targets.work_off, q, results) for _ in range(3)]
    for number in range(60):
        q.put(number)
    q.join()
    assert sorted(results.get(timeout=LONG) for _ in range(60)) == list(range(60))
    for _ in workers:
        q.put(None)
    q.join()
    finish(*workers)


def test_join_goes_on_only_when_all_are_done(q: Any) -> None:
    for number in range(3):
        q.put(number)
    thread = joining(q)
    for _ in range(3):
        q.get(timeout=LONG)
        time.sleep(0.01)
        assert thread.is_alive()
        q.task_done()
    thread.join(LONG)
    assert not thread.is_alive()


def test_many_may_wait_and_wait_again(q: Any) -> None:
    for _ in range(3):
        q.put(1)
        threads = [joining(q) for _ in range(3)]
        q.get(timeout=LONG)
        q.task_done()
        for thread in threads:
            thread.join(LONG)
            assert not thread.is_alive()


def test_with_a_bound(ctx: Any, results: Any) -> None:
    q = ctx.JoinableQueue(2)
    worker = start(ctx, targets.work_off, q, results)
    for number in range(40):
        q.put(number)
    q.join()
    q.put(None)
    finish(worker)
    assert [results.get(timeout=LONG) for _ in range(40)] == list(range(40))
    q.close()


def test_an_item_whose_taker_is_killed_stays_unfinished(ctx: Any, q: Any, results: Any) -> None:
    q.put("taken")
    victim = start(ctx, targets.take_and_hold, q, results)
    assert results.get(timeout=LONG) == "taken"
    victim.kill()
    victim.join(LONG)
    thread = joining(q)
    thread.join(0.1)
    assert thread.is_alive(), "nobody has said that it is done"
    q.task_done()
    thread.join(LONG)
    assert not thread.is_alive()


@pytest.mark.ours_only
class TestWhatIsOurs:
    def test_a_signal_that_came_before_the_sleep_ends_join(
        self, q: Any, late_signal: Callable[[], None]
    ) -> None:
        q.put(1)
        with pytest.raises(OverflowError):
            late_signal()
            q.join()
        assert q.get(timeout=LONG) == 1

    def test_items_put_together_are_each_unfinished(self, q: Any) -> None:
        q.put_many(range(300))
        assert q.get_many(300) == list(range(300))
        for _ in range(300):
            q.task_done()
        q.join()
        with pytest.raises(ValueError, match="too many"):
            q.task_done()

    def test_can_be_sent_through_a_queue(self, ctx: Any, results: Any) -> None:
        results.put(ctx.JoinableQueue())
        inner = results.get()
        inner.put(1)
        inner.get()
        inner.task_done()
        inner.join()
