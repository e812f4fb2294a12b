"""`Queue`, as the standard library's documentation has it."""

from __future__ import annotations

import gc
import os
import queue as queues
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import manyhands
import pytest
import targets
from processes import wait_until

pytestmark = pytest.mark.standard

LONG = 30.0
SHORT = 0.05
MIB = 1 << 20


@pytest.fixture
def make(ctx: Any) -> Iterator[Any]:
    """Makes queues and has them gone at the end, with whatever thread serves them."""
    made = []

    def queue(maxsize: int = 0) -> Any:
        made.append(ctx.Queue(maxsize))
        return made[-1]

    yield queue
    for each in made:
        each.cancel_join_thread()
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


class TestOrder:
    def test_first_in_first_out(self, q: Any) -> None:
        for number in range(100):
            q.put(number)
        assert [q.get(timeout=LONG) for _ in range(100)] == list(range(100))

    def test_of_one_producer_is_kept_among_many(self, ctx: Any, q: Any) -> None:
        producers = [start(ctx, targets.put_all, q, [(name, n) for n in range(200)]) for name in "abc"]
        got = [q.get(timeout=LONG) for _ in range(600)]
        finish(*producers)
        for name in "abc":
            assert [number for who, number in got if who == name] == list(range(200))


class TestItems:
    @pytest.mark.parametrize(
        "item",
        [
            None,
            True,
            0,
            -(2**200),
            1.5,
            float("inf"),
            1j,
            "",
            "é\U0001f41d\0",
            b"",
            b"\0\xff",
            bytearray(b"abc"),
            (),
            ([1, [2, [3]]], {"a": {"b": "c"}}),
            {1, 2},
            pytest.param(frozenset("ab"), id="frozenset"),
            range(3),
            Ellipsis,
            len,
            ValueError,
        ],
        ids=lambda item: repr(item)[:20],
    )
    def test_arrive_equal(self, q: Any, item: Any) -> None:
        q.put(item)
        got = q.get(timeout=LONG)
        assert got == item
        assert type(got) is type(item)

    @pytest.mark.parametrize("size", [1, 1000, 65535, 65536, 65537, MIB, 5 * MIB + 3])
    def test_of_all_sizes(self, ctx: Any, q: Any, make: Any, size: int) -> None:
        answers = make()
        process = start(ctx, targets.echo, q, answers)
        item = os.urandom(size)
        q.put(item)
        assert answers.get(timeout=LONG) == item
        q.put(None)
        finish(process)

    def test_many_large_ones_before_the_first_is_taken(self, q: Any) -> None:
        items = [bytes([number]) * MIB for number in range(16)]
        for item in items:
            q.put(item)
        assert [q.get(timeout=LONG) for _ in items] == items

    def test_shared_references_within_an_item_are_kept(self, q: Any) -> None:
        inner: list[int] = []
        q.put([inner, inner])
        first, second = q.get(timeout=LONG)
        assert first is second

    def test_are_copies(self, q: Any) -> None:
        item = [1, 2]
        q.put(item)
        assert q.get(timeout=LONG) is not item

    def test_an_exception_as_an_item(self, q: Any) -> None:
        q.put(KeyError("k"))
        got = q.get(timeout=LONG)
        assert isinstance(got, KeyError)
        assert got.args == ("k",)


class TestBounds:
    def test_full(self, make: Any) -> None:
        q = make(2)
        q.put(1)
        assert not q.full()
        q.put(2)
        assert q.full()
        with pytest.raises(queues.Full):
            q.put(3, block=False)
        with pytest.raises(queues.Full):
            q.put_nowait(3)
        with pytest.raises(queues.Full):
            q.put(3, True, SHORT)
        assert q.get(timeout=LONG) == 1
        q.put(3, timeout=LONG)
        assert [q.get(timeout=LONG), q.get(timeout=LONG)] == [2, 3]

    def test_put_waits_for_room(self, ctx: Any, make: Any) -> None:
        q = make(1)
        producer = start(ctx, targets.put_all, q, list(range(50)))
        assert [q.get(timeout=LONG) for _ in range(50)] == list(range(50))
        finish(producer)

    def test_put_with_a_timeout_waits_at_least_that_long(self, make: Any) -> None:
        q = make(1)
        q.put(1)
        started = time.monotonic()
        with pytest.raises(queues.Full):
            q.put(2, timeout=0.2)
        assert time.monotonic() - started >= 0.18
        assert q.get(timeout=LONG) == 1

    @pytest.mark.parametrize("timeout", [0, -1, -0.5])
    def test_put_with_no_time_does_not_wait(self, make: Any, timeout: float) -> None:
        q = make(1)
        q.put(1)
        with pytest.raises(queues.Full):
            q.put(2, timeout=timeout)
        assert q.get(timeout=LONG) == 1

    @pytest.mark.parametrize("maxsize", [0, -1])
    def test_no_bound(self, make: Any, maxsize: int) -> None:
        q = make(maxsize)
        for number in range(2000):
            q.put(number, block=False)
        assert not q.full()
        assert [q.get(timeout=LONG) for _ in range(2000)] == list(range(2000))

    def test_negative_timeout_is_no_error_when_there_is_room(self, q: Any) -> None:
        q.put(1, timeout=-1)
        assert q.get(timeout=LONG) == 1


class TestEmpty:
    def test_get_nowait(self, q: Any) -> None:
        with pytest.raises(queues.Empty):
            q.get_nowait()
        with pytest.raises(queues.Empty):
            q.get(block=False)
        with pytest.raises(queues.Empty):
            q.get(False, LONG)  # the timeout does not count without block

    @pytest.mark.parametrize("timeout", [0, -1, SHORT])
    def test_get_with_a_timeout(self, q: Any, timeout: float) -> None:
        with pytest.raises(queues.Empty):
            q.get(timeout=timeout)

    def test_get_with_a_timeout_waits_at_least_that_long(self, q: Any) -> None:
        started = time.monotonic()
        with pytest.raises(queues.Empty):
            q.get(True, 0.2)
        # CPython's own tests allow the clocks this much disagreement.
        assert time.monotonic() - started >= 0.18

    def test_get_waits_for_an_item(self, ctx: Any, q: Any) -> None:
        producer = start(ctx, targets.put, q, "late")
        assert q.get() == "late"
        finish(producer)


class TestAccount:
    def test_qsize_and_empty(self, q: Any) -> None:
        assert q.empty()
        assert q.qsize() == 0
        q.put("a")
        q.put("b")
        assert q.qsize() == 2
        assert q.get(timeout=LONG) == "a"
        assert q.qsize() == 1
        # The standard library's thread may not have written it yet.
        wait_until(lambda: not q.empty())
        assert q.get(timeout=LONG) == "b"
        assert q.qsize() == 0
        assert q.empty()

    def test_unbounded_is_never_full(self, q: Any) -> None:
        q.put(1)
        assert q.full() is False
        q.get(timeout=LONG)


class TestClose:
    @pytest.fixture
    def used(self, q: Any) -> Any:
        q.put(1)
        assert q.get(timeout=LONG) == 1
        q.close()
        return q

    def test_put_is_refused(self, used: Any) -> None:
        with pytest.raises(ValueError, match="is closed"):
            used.put(1)

    def test_get_is_refused(self, used: Any) -> None:
        with pytest.raises(ValueError, match="is closed"):
            used.get()
        with pytest.raises(ValueError, match="is closed"):
            used.get_nowait()

    def test_twice_is_no_error(self, used: Any) -> None:
        used.close()

    def test_join_thread_after_it(self, used: Any) -> None:
        used.join_thread()
        used.join_thread()

    def test_join_thread_before_it_is_refused(self, q: Any) -> None:
        q.put(1)
        with pytest.raises(AssertionError):
            q.join_thread()
        assert q.get(timeout=LONG) == 1

    def test_what_was_put_arrives_though_the_producer_closes(self, ctx: Any, q: Any) -> None:
        producer = start(ctx, exec, "q.put('last'); q.close(); q.join_thread()", {"q": q})
        assert q.get(timeout=LONG) == "last"
        finish(producer)


class TestAcrossProcesses:
    def test_from_child_to_parent(self, ctx: Any, q: Any) -> None:
        child = start(ctx, targets.put, q, {"from": "child"})
        assert q.get(timeout=LONG) == {"from": "child"}
        finish(child)

    def test_from_parent_to_child_and_back(self, ctx: Any, q: Any, make: Any) -> None:
        answers = make()
        child = start(ctx, targets.echo, q, answers)
        for number in range(50):
            q.put(number)
            assert answers.get(timeout=LONG) == number
        q.put(None)
        finish(child)

    def test_between_siblings(self, ctx: Any, q: Any, make: Any) -> None:
        results = make()
        consumer = start(ctx, targets.take_until_none, q, results)
        producer = start(ctx, targets.put_all, q, [*range(100), None])
        assert results.get(timeout=LONG) == list(range(100))
        finish(producer, consumer)

    def test_many_producers_and_consumers_each_item_once(self, ctx: Any, make: Any) -> None:
        q, results = make(10), make()
        consumers = [start(ctx, targets.take_until_none, q, results) for _ in range(3)]
        producers = [start(ctx, targets.put_all, q, range(n * 300, (n + 1) * 300)) for n in range(3)]
        finish(*producers)
        for _ in consumers:
            q.put(None)
        taken = [results.get(timeout=LONG) for _ in consumers]
        finish(*consumers)
        assert sorted(number for each in taken for number in each) == list(range(900))

    def test_a_consumer_that_comes_late(self, ctx: Any, q: Any, make: Any) -> None:
        for number in range(10):
            q.put(number)
        q.put(None)
        results = make()
        consumer = start(ctx, targets.take_until_none, q, results)
        assert results.get(timeout=LONG) == list(range(10))
        finish(consumer)


@pytest.mark.ours_only
class TestWhatIsOurs:
    """Where manyhands differs from the standard library, and says so in the README."""

    def test_outlives_the_object_it_was_made_by(self, ctx: Any) -> None:
        """A child's queue is not given to somebody else when the parent drops its own object of it."""
        answers = ctx.Queue()
        go = ctx.Event()
        dropped = ctx.Queue()
        child = start(ctx, targets.put_after, dropped, go, answers)
        del dropped
        gc.collect()
        others = [ctx.Queue() for _ in range(20)]
        go.set()
        assert answers.get(timeout=LONG) == "put"
        finish(child)
        assert all(other.empty() for other in others)

    def test_can_be_sent_through_another_queue(self, ctx: Any, q: Any) -> None:
        """The standard library's can be given to a child at its start only."""
        results = ctx.Queue()
        q.put(ctx.Queue())
        inner = q.get()
        inner.put("inside")
        results.put(inner)
        assert results.get(timeout=LONG).get(timeout=LONG) == "inside"

    def test_put_raises_in_the_caller(self, q: Any) -> None:
        with pytest.raises(Exception, match="pickle"):
            q.put(threading.Lock())
        assert q.empty()
        q.put("the queue goes on")
        assert q.get(timeout=LONG) == "the queue goes on"

    def test_what_put_took_does_not_change_with_the_object(self, q: Any) -> None:
        item = [1]
        q.put(item)
        item.append(2)
        assert q.get(timeout=LONG) == [1]

    def test_nothing_is_lost_by_ending_right_after_put(self, ctx: Any, q: Any) -> None:
        finish(start(ctx, targets.put_and_leave_hard, q, b"x" * MIB))
        assert q.get(timeout=LONG) == b"x" * MIB

    def test_join_before_the_queue_is_drained(self, ctx: Any, q: Any) -> None:
        finish(start(ctx, targets.put, q, b"x" * 4 * MIB))
        assert len(q.get(timeout=LONG)) == 4 * MIB


def queues_held() -> int:
    gc.collect()
    found = re.search(r", (\d+) queues?,", manyhands.doctor() or "")
    return int(found[1]) if found else 0


@pytest.mark.ours_only
class TestLifetime:
    """A queue is there as long as anybody holds it, and no longer."""

    @pytest.fixture(autouse=True)
    def leaves_no_queue(self, ctx: Any) -> Iterator[None]:
        before = queues_held()
        yield
        assert queues_held() == before

    def test_goes_with_its_last_object(self, ctx: Any) -> None:
        before = queues_held()
        made = [ctx.Queue(), ctx.SimpleQueue(), ctx.Queue(3)]
        assert queues_held() == before + 3
        made[0].put([1] * 10_000)
        made.clear()
        assert queues_held() == before

    def test_is_kept_by_a_message_that_carries_it(self, ctx: Any) -> None:
        outer, inner = ctx.Queue(), ctx.Queue()
        inner.put("kept")
        outer.put({"answer here": inner})
        del inner
        assert outer.get(timeout=LONG)["answer here"].get(timeout=LONG) == "kept"

    def test_is_kept_by_a_task_and_by_its_result(self, ctx: Any) -> None:
        with ctx.Pool(2) as pool:
            inner = ctx.Queue()
            inner.put("kept")
            result = pool.apply_async(targets.identity, (inner,))
            del inner
            assert result.get(LONG).get(timeout=LONG) == "kept"
            del result

    def test_goes_with_the_queue_it_lies_in(self, ctx: Any) -> None:
        before = queues_held()
        outer = ctx.Queue()
        for _ in range(5):
            deeper = ctx.Queue()
            deeper.put(outer)
            outer = deeper
        del deeper
        assert queues_held() == before + 6
        del outer
        assert queues_held() == before

    def test_is_kept_for_a_child_that_was_given_it(self, ctx: Any) -> None:
        answers, handed = ctx.Queue(), ctx.Queue()
        handed.put(None)
        child = start(ctx, targets.take_until_none, handed, answers)
        del handed
        assert answers.get(timeout=LONG) == []
        finish(child)
        del child
        # Its references go at its end, not when it happens to drop its objects.
        answers.put(1)
        assert answers.get(timeout=LONG) == 1

    def test_goes_with_a_child_that_is_killed(self, ctx: Any) -> None:
        before, go = queues_held(), ctx.Event()
        answers, handed = ctx.Queue(), ctx.Queue()
        child = start(ctx, targets.put_after, handed, go, answers)
        del handed
        assert queues_held() == before + 2
        child.kill()
        child.join(LONG)
        del child
        assert queues_held() == before + 1

    def test_queues_that_carry_each_other_go_with_the_next_member_that_dies(self, ctx: Any) -> None:
        before = queues_held()
        one, other = ctx.Queue(), ctx.Queue()
        one.put(other)
        other.put(one)
        del one, other
        child = start(ctx, targets.put_after, ctx.Queue(), ctx.Event(), ctx.Queue())
        child.kill()
        child.join(LONG)
        del child
        assert queues_held() == before

    def test_is_held_by_a_child_of_os_fork(self, ctx: Any) -> None:
        before = queues_held()
        answers, handed = ctx.Queue(), ctx.Queue()
        handed.put("kept")
        there, go = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.read(there, 1)
            answers.put(handed.get())
            os._exit(0)
        del handed
        assert queues_held() == before + 2, "the child has it"
        os.write(go, b"!")
        assert answers.get(timeout=LONG) == "kept"
        os.waitpid(pid, 0)
        os.close(there)
        os.close(go)
        # Nobody of ours waited for that child: the next death of one that held something is followed by a look at all.
        child = start(ctx, targets.put, answers, 1)
        finish(child)
        del child, answers
        assert queues_held() == before
