"""`put_many` and `get_many`: as loops over `put` and `get`, in fewer steps."""

from __future__ import annotations

import queue as queues
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import targets

LONG = 30.0
MIB = 1 << 20


@pytest.fixture
def q(ctx: Any) -> Any:
    return ctx.Queue()


def all_of(queue: Any, count: int) -> list[Any]:
    items: list[Any] = []
    while len(items) < count:
        items += queue.get_many(timeout=LONG)
    assert queue.empty()
    return items


class TestPut:
    @pytest.mark.parametrize("count", [0, 1, 2, 255, 256, 257, 5_000])
    def test_lists_of_all_lengths(self, q: Any, count: int) -> None:
        q.put_many(list(range(count)))
        assert q.qsize() == count
        assert all_of(q, count) == list(range(count))

    def test_any_iterable(self, q: Any) -> None:
        q.put_many(str(number) for number in range(600))
        q.put_many({"a": 1, "b": 2})
        q.put_many("xyz")
        assert all_of(q, 605) == [*map(str, range(600)), *"abxyz"]

    def test_items_of_all_sizes_keep_their_order(self, q: Any) -> None:
        items = [b"x" * size for size in (1, 8_000, 9_000, 3, 5 * MIB, 0, 65_536, 2, 2, 70_000)] * 3
        q.put_many(items)
        assert all_of(q, 30) == items

    def test_items_that_carry_queues(self, ctx: Any, q: Any) -> None:
        inner = [ctx.Queue() for _ in range(3)]
        for number, each in enumerate(inner):
            each.put(number)
        q.put_many([1, *inner, 2])
        del inner, each
        first, *carried, last = q.get_many()
        assert (first, last) == (1, 2)
        assert [each.get(timeout=LONG) for each in carried] == [0, 1, 2]

    def test_an_item_that_cannot_be_pickled_ends_it_where_it_stands(self, q: Any) -> None:
        with pytest.raises(TypeError, match="pickle") as caught:
            q.put_many([1, 2, threading.Lock(), 3])
        assert caught.value.items_put == 2  # type: ignore[attr-defined]
        assert all_of(q, 2) == [1, 2]

    def test_an_iterable_that_raises_ends_it_there(self, q: Any) -> None:
        with pytest.raises(OverflowError) as caught:
            q.put_many(targets.numbers_then_fail(700))
        assert caught.value.items_put == 700  # type: ignore[attr-defined]
        assert all_of(q, 700) == list(range(700))

    def test_what_is_no_iterable(self, q: Any) -> None:
        with pytest.raises(TypeError):
            q.put_many(1)

    def test_a_slow_iterable_holds_nothing_back(self, q: Any) -> None:
        def slow() -> Iterator[int]:
            for number in range(3):
                time.sleep(0.01)
                yield number
                # It was put before the next one is asked for.
                assert q.qsize() == number + 1

        q.put_many(slow())
        assert all_of(q, 3) == [0, 1, 2]

    def test_full(self, ctx: Any) -> None:
        q = ctx.Queue(5)
        for block, timeout in ((False, None), (True, 0.05)):
            with pytest.raises(queues.Full) as caught:
                q.put_many(range(8), block, timeout)
            assert caught.value.items_put == 5  # type: ignore[attr-defined]
            assert q.get_many(10) == [0, 1, 2, 3, 4]

    def test_waits_for_room(self, ctx: Any) -> None:
        q, results = ctx.Queue(3), ctx.Queue()
        consumer = ctx.Process(target=targets.take_until_none, args=(q, results))
        consumer.start()
        q.put_many([*range(1_000), None], timeout=LONG)
        assert results.get(timeout=LONG) == list(range(1_000))
        consumer.join(LONG)

    def test_wakes_everybody_there_is_something_for(self, ctx: Any, q: Any) -> None:
        results = ctx.Queue()
        consumers = [ctx.Process(target=targets.take_until_none, args=(q, results)) for _ in range(3)]
        for each in consumers:
            each.start()
        time.sleep(0.1)
        q.put_many([None] * 3)
        for each in consumers:
            each.join(LONG)
            assert each.exitcode == 0

    def test_a_timeout_that_is_no_number(self, q: Any) -> None:
        # As `put`, and as a semaphore of the system's.
        with pytest.raises(OSError, match="Invalid argument") as caught:
            q.put_many([1], timeout=float("nan"))
        assert caught.value.items_put == 0  # type: ignore[attr-defined]
        assert q.empty()

    def test_after_close(self, q: Any) -> None:
        q.close()
        with pytest.raises(ValueError, match="is closed") as caught:
            q.put_many([1])
        assert caught.value.items_put == 0  # type: ignore[attr-defined]
        with pytest.raises(ValueError, match="is closed"):
            q.get_many()


class TestGet:
    def test_takes_no_more_than_asked_for(self, q: Any) -> None:
        q.put_many(range(10))
        assert q.get_many(3) == [0, 1, 2]
        assert q.get_many(max_items=1) == [3]
        assert q.get_many(100) == list(range(4, 10))

    def test_takes_as_many_as_asked_for(self, q: Any) -> None:
        q.put_many(range(3_000))
        assert q.get_many(2_900) == list(range(2_900))
        q.put_many([b"x" * 5_000] * 500)
        assert len(q.get_many(10**12)) == 600

    def test_leaves_something_to_others_if_not_asked_for_a_number(self, q: Any) -> None:
        q.put_many(range(3_000))
        assert q.get_many() == list(range(256))

    @pytest.mark.parametrize("count", [0, -1])
    def test_at_least_one(self, q: Any, count: int) -> None:
        with pytest.raises(ValueError, match="max_items"):
            q.get_many(count)

    def test_empty(self, q: Any) -> None:
        with pytest.raises(queues.Empty):
            q.get_many(block=False)
        with pytest.raises(queues.Empty):
            q.get_many(5, timeout=0.05)
        with pytest.raises(queues.Empty):
            q.get_many(5, True, -1)

    def test_waits_for_the_first_and_for_no_other(self, ctx: Any, q: Any) -> None:
        producer = ctx.Process(target=targets.put_after_a_while, args=(q, "late", 0.1))
        producer.start()
        assert q.get_many(50, timeout=LONG) == ["late"]
        producer.join(LONG)

    def test_an_item_that_cannot_be_unpickled_costs_no_other(self, q: Any) -> None:
        q.put_many([1, targets.Unreadable(), 2])
        with pytest.raises(ValueError, match="does not unpickle") as caught:
            q.get_many()
        assert caught.value.items == [1, 2]  # type: ignore[attr-defined]
        assert caught.value.errors == []  # type: ignore[attr-defined]
        assert q.empty()

    def test_every_error_is_told_and_what_is_to_end_the_program_first(self, q: Any) -> None:
        one, two, three = targets.Unreadable(), targets.Raising(SystemExit(3)), targets.Raising(KeyError("b"))
        q.put_many([1, one, 2, two, 3, three, 4])
        with pytest.raises(SystemExit) as caught:
            q.get_many()
        assert caught.value.items == [1, 2, 3, 4]  # type: ignore[attr-defined]
        others = caught.value.errors  # type: ignore[attr-defined]
        assert [type(each) for each in others] == [ValueError, KeyError]

    def test_nothing_more_is_taken_after_an_error(self, q: Any) -> None:
        q.put_many([1, targets.Unreadable(), *range(1_000)])
        with pytest.raises(ValueError, match="does not unpickle") as caught:
            q.get_many(10_000)
        taken = caught.value.items  # type: ignore[attr-defined]
        assert 0 < q.qsize() < 1_000
        assert [*taken, *all_of(q, q.qsize())] == [1, *range(1_000)]

    def test_ends_though_there_is_always_more(self, q: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(targets.Refilling, "queue", q)
        q.put(targets.Refilling())
        assert len(q.get_many(10_000)) == 1
        assert q.qsize() == 1

    def test_a_signal_costs_no_item(self, q: Any) -> None:
        def handle(_signal: int, _frame: Any) -> None:
            raise OverflowError("a signal")

        before = signal.signal(signal.SIGUSR1, handle)
        try:
            q.put_many([targets.Signalling(), *range(1_000)])
            with pytest.raises(OverflowError) as caught:
                q.get_many(10_000)
        finally:
            signal.signal(signal.SIGUSR1, before)
        taken = caught.value.items  # type: ignore[attr-defined]
        assert 0 < q.qsize() < 1_000
        assert [*taken, *all_of(q, q.qsize())] == [None, *range(1_000)]

    def test_a_producer_waits_for_the_room_it_makes(self, ctx: Any) -> None:
        q = ctx.Queue(4)
        producer = ctx.Process(target=targets.put_all, args=(q, range(100)))
        producer.start()
        assert all_of(q, 100) == list(range(100))
        producer.join(LONG)

    def test_many_processes_each_item_once_and_in_order(self, ctx: Any, q: Any) -> None:
        producers = [ctx.Process(target=q.put_many, args=([(n, i) for i in range(2_000)],)) for n in range(2)]
        for each in producers:
            each.start()
        items: list[tuple[int, int]] = []
        while len(items) < 4_000:
            items += q.get_many(100, timeout=LONG)
        for each in producers:
            each.join(LONG)
        for n in range(2):
            assert [i for who, i in items if who == n] == list(range(2_000))
