"""What travels by value is one thing in each process: classes, members of enumerations, functions."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import by_value_kinds
import pytest

LONG = 30.0
KINDS = tuple(by_value_kinds.values(0))


@pytest.fixture
def pool(ctx: Any) -> Iterator[Any]:
    with ctx.Pool(2) as pool:
        yield pool
        pool.close()
        pool.join()


def through_two(ctx: Any, item: Any) -> Any:
    """The item from here to a process, from there to another, and from there back."""
    first, second, last = ctx.Queue(), ctx.Queue(), ctx.Queue()
    processes = [
        ctx.Process(target=by_value_kinds.echo, args=queues) for queues in ((first, second), (second, last))
    ]
    for process in processes:
        process.start()
    first.put(item)
    back = last.get(timeout=LONG)
    for process in processes:
        process.join()
    for queue in (first, second, last):
        queue.close()
    return back


class TestIsTheSame:
    def test_through_two_processes(self, ctx: Any) -> None:
        kinds = by_value_kinds.values(5)
        classes = [cls for cls, _ in kinds.values()] + list(by_value_kinds.others(5).values())
        step = 4

        def plain(number: int) -> int:
            return number

        def closure(number: int) -> int:
            return number + step

        back = through_two(
            ctx, (classes, [each for _, each in kinds.values()], plain, closure, functools.partial(plain, 1))
        )
        assert [here for here, there in zip(classes, back[0], strict=True) if here is not there] == []
        for (cls, value), there in zip(kinds.values(), back[1], strict=True):
            assert type(there) is cls
            assert there == value
        assert back[1][0] is kinds["enum"][1]
        assert back[2] is plain
        assert back[3] is closure
        assert back[4].func is plain

    @pytest.mark.parametrize("kind", KINDS)
    def test_in_a_worker_and_back(self, pool: Any, kind: str) -> None:
        cls, value = by_value_kinds.values(5)[kind]
        # Sent by itself, with each item and beside what refers to it.
        assert (
            pool.map(lambda each: (type(each) is cls, each == value), [value] * 4, chunksize=1)
            == [(True, True)] * 4
        )
        assert pool.apply(lambda: value) == value
        assert type(pool.apply(lambda: value)) is cls
        if kind in ("enum", "ordered", "dataclass"):
            assert pool.map({value: "found"}.get, [value]) == ["found"]
            assert {value: "found"}[pool.apply(lambda: value)] == "found"

    def test_what_a_child_sends_that_was_never_sent_to_it(self, ctx: Any) -> None:
        """A forked child has the class, and it is this process's when it comes."""
        kinds = by_value_kinds.values(5)
        by_value_kinds.values(6)
        queue = ctx.Queue()
        process = ctx.Process(target=lambda: queue.put([each for _, each in kinds.values()]))
        process.start()
        got = queue.get(timeout=LONG)
        process.join()
        queue.close()
        assert [type(each) for each in got] == [cls for cls, _ in kinds.values()]
        assert got[0] is kinds["enum"][1]

    def test_every_kind_works_there(self, pool: Any) -> None:
        classes = by_value_kinds.others(5)
        here = by_value_kinds.uses(classes, classes["Failure"])
        assert here["caught"]
        assert here["slots"] == (3, False)
        assert pool.apply(by_value_kinds.uses, (classes, classes["Failure"])) == here

    def test_two_of_one_function_stay_two(self, pool: Any) -> None:
        one, two = by_value_kinds.values(1)["dataclass"], by_value_kinds.values(2)["dataclass"]

        def compare(left: Any, right: Any) -> Any:
            return type(left) is type(right), left.moved().x, right.moved().x, type(left) is one[0]

        assert pool.starmap(compare, [(one[1], two[1])] * 4, chunksize=1) == [(False, 2, 3, True)] * 4
        assert type(pool.apply(lambda: (one[1], two[1]))[1]) is two[0]

    def test_a_class_raised_and_caught(self, pool: Any, executor: Any) -> None:
        failure = by_value_kinds.others(1)["Failure"]

        def fail() -> None:
            raise failure("here")

        with pytest.raises(failure):
            pool.apply(fail)
        with pytest.raises(failure):
            executor.submit(fail).result(LONG)

    def test_over_a_pipe_and_as_an_argument(self, ctx: Any) -> None:
        cls, value = by_value_kinds.values(5)["enum"]
        ours, theirs = ctx.Pipe()
        process = ctx.Process(
            target=lambda member: theirs.send((theirs.recv() is member, member, cls)), args=(value,)
        )
        process.start()
        ours.send(value)
        assert ours.recv() == (True, value, cls)
        process.join()
        ours.close()
        theirs.close()

    def test_threads_that_unpickle_at_once(self, pool: Any) -> None:
        from manyhands import _pickler

        classes = by_value_kinds.values(5)
        pickled = _pickler.dumps_alone([each for _, each in classes.values()])

        def unpickle(pickled: bytes) -> Any:
            import pickle

            got: list[Any] = []
            together = threading.Barrier(8)

            def one() -> None:
                together.wait()
                got.append(pickle.loads(pickled))

            threads = [threading.Thread(target=one) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return len(got), len({type(each[2]) for each in got}), {each[2].moved().x for each in got}

        assert pool.apply(unpickle, (pickled,)) == (8, 1, {6})


class TestFunctions:
    def test_of_every_kind(self, pool: Any) -> None:
        step = 4

        @functools.lru_cache(None)
        def cached(number: int) -> int:
            return number + step

        @functools.singledispatch
        def kind(_value: Any) -> str:
            return "any"

        point = by_value_kinds.values(5)["dataclass"][0]
        kind.register(int, lambda _value: "int")
        kind.register(point, lambda _value: "point")

        def timed(function: Callable[..., Any]) -> Any:
            @functools.wraps(function)
            def wrapper(*arguments: Any, **named: Any) -> Any:
                return "timed", function(*arguments, **named)

            wrapper.note = 7  # type: ignore[attr-defined]
            return wrapper

        @timed
        def decorated(number: int, *, step: int = 3) -> int:
            return number + step

        def even(number: int) -> bool:
            return number == 0 or odd(number - 1)

        def odd(number: int) -> bool:
            return number != 0 and even(number - 1)

        assert pool.map(cached, [1, 2, 1]) == [5, 6, 5]
        assert pool.map(kind, [1, "x", point(1)], chunksize=1) == ["int", "any", "point"]
        assert pool.apply(decorated, (1,)) == ("timed", 4)
        assert pool.apply(lambda: (decorated.note, decorated.__name__, decorated.__wrapped__(1))) == (
            7,
            "decorated",
            4,
        )
        assert pool.map(even, [4, 5]) == [True, False]

    def test_one_that_changes_itself_begins_anew(self, ctx: Any) -> None:
        """The copy of a worker that has changed is not what a later call means."""
        count = 0

        def next_number(_item: int, seen: list[int] = []) -> tuple[int, int]:  # noqa: B006
            nonlocal count
            count += 1
            seen.append(count)
            return count, len(seen)

        with ctx.Pool(1) as pool:
            assert [pool.apply(next_number, (0,)) for _ in range(2)] == [(1, 1)] * 2
        assert count == 0


class TestChanges:
    def test_what_changes_on_a_class_is_seen(self, pool: Any) -> None:
        class Settings:
            limit = 1

            def get(self) -> int:
                return self.limit

        assert pool.map(Settings.get, [Settings()] * 2, chunksize=1) == [1, 1]
        Settings.limit = 2
        assert pool.map(Settings.get, [Settings()] * 2, chunksize=1) == [2, 2]
        Settings.get = lambda self: -self.limit  # type: ignore[method-assign]
        assert pool.map(lambda each: each.get(), [Settings()] * 2, chunksize=1) == [-2, -2]
        assert Settings.limit == 2

    def test_what_a_worker_changes_stays_there(self, ctx: Any) -> None:
        class Counter:
            made = 0

            def __init__(self) -> None:
                type(self).made += 1

        with ctx.Pool(1) as pool:
            assert [pool.apply(lambda: Counter().made) for _ in range(3)] == [1, 2, 3]
            assert type(pool.apply(Counter)) is Counter
        assert Counter.made == 0

    def test_a_class_goes_once(self, ctx: Any) -> None:
        """What it is made of lies beside the messages, and is read by a worker that lacks it."""
        from manyhands._manyhands import Sink, sending
        from manyhands._pickler import dump_into

        class Heavy:
            table = bytes(100_000)

            def __init__(self, number: int) -> None:
                self.number = number

        sink = Sink(True)
        sending(dump_into, Heavy(1), sink)
        assert len(sink.pickle()) < 1_000
        with ctx.Pool(2) as pool:
            numbers = pool.map(lambda each: (each.number, len(each.table)), map(Heavy, range(8)), chunksize=1)
        assert numbers == [(number, 100_000) for number in range(8)]
