"""Objects of built-in classes arrive as pickle would make them: through queues, and as arguments, items and results.

Those that are small and plain travel without pickle in manyhands; that must not be seen. What "as pickle would make
them" means is `plain.likeness`: classes, bits, order, and which parts are one and the same object.
"""

from __future__ import annotations

import copyreg
import gc
import sys
import threading
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
import targets
from plain import BYTES, FLOATS, NUMBERS, OTHERS, TEXTS, Objects, by_pickle, likeness

pytestmark = pytest.mark.standard

LONG = 30.0
#: The most bytes that go without pickle, and as deep as they may be nested.
MOST_BYTES = 65535
MOST_NESTED = 32


@pytest.fixture(params=["Queue", "SimpleQueue"])
def q(ctx: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    queue = getattr(ctx, request.param)()
    yield queue
    queue.close()
    if request.param == "Queue":
        queue.join_thread()


@pytest.fixture
def pool(ctx: Any) -> Iterator[Any]:
    with ctx.Pool(2) as pool:
        yield pool
        pool.terminate()
        pool.join()


def check(q: Any, thing: Any) -> None:
    expected = likeness(by_pickle(thing))
    assert likeness(sent_through(q, thing)) == expected


def sent_through(q: Any, thing: Any) -> Any:
    """Put and got again. The standard library's `SimpleQueue` is a pipe, without room for all of a large object."""
    if type(q).__module__ == "multiprocessing.queues":
        putting = threading.Thread(target=q.put, args=(thing,))
        putting.start()
        got = q.get()
        putting.join()
        return got
    q.put(thing)
    return q.get()


class TestThroughAQueue:
    def test_numbers_texts_and_bytes(self, q: Any) -> None:
        check(q, [None, True, False, *NUMBERS, *FLOATS, *TEXTS, *BYTES])
        for thing in (None, True, False, *NUMBERS, *FLOATS, *TEXTS, *BYTES, *OTHERS):
            check(q, thing)

    def test_random_objects(self, q: Any) -> None:
        objects = Objects(20)
        for _ in range(300):
            check(q, objects.make())

    def test_one_object_in_several_places(self, q: Any) -> None:
        for make in (
            lambda: "".join(("te", "xt")),
            lambda: bytes(5),
            lambda: (1, [2]),
            lambda: [1],
            lambda: {"a": 1},
        ):
            part = make()
            check(q, [part, part])
            check(q, (part, [part, (part,)]))
            check(q, {"first": part, "second": part, "third": make()})
            # Two references in all, both of them in the message.
            twice = [make()]
            twice.append(twice[0])
            del part
            check(q, twice)
            check(q, [twice, twice, [twice[0]]])

    def test_equal_objects_that_are_not_the_same(self, q: Any) -> None:
        check(q, ["".join(("te", "xt")) for _ in range(3)])
        check(q, [[], [], (1,), tuple(range(1, 2)), {}, {}])

    def test_keys_that_all_records_share(self, q: Any) -> None:
        check(q, [{"identifier": n, "name": f"name {n}", "tags": ["red", "green"]} for n in range(200)])

    def test_many_objects_that_others_hold(self, q: Any) -> None:
        held = [f"text {number}" for number in range(2000)]
        check(q, list(held))
        check(q, held + held)

    def test_what_contains_itself(self, q: Any) -> None:
        own_list: list[Any] = [1]
        own_list.append(own_list)
        own_dict: dict[str, Any] = {}
        own_dict["self"] = [own_dict]
        through_tuple: tuple[Any, ...] = ([],)
        through_tuple[0].append(through_tuple)
        for thing in (own_list, own_dict, through_tuple, [own_list, own_list]):
            check(q, thing)

    @pytest.mark.parametrize("levels", [1, MOST_NESTED - 1, MOST_NESTED, MOST_NESTED + 1, 300])
    def test_nested(self, q: Any, levels: int) -> None:
        for wrap in (lambda x: [x], lambda x: (x,), lambda x: {0: x}):
            thing: Any = None
            for _ in range(levels):
                thing = wrap(thing)
            check(q, thing)

    @pytest.mark.parametrize("more", range(-10, 11))
    def test_around_the_most_bytes(self, q: Any, more: int) -> None:
        check(q, bytes(MOST_BYTES + more))
        check(q, ["x" * (MOST_BYTES // 2), 1, "y" * (MOST_BYTES // 2 + more)])

    def test_longer_lists(self, q: Any) -> None:
        check(q, list(range(100_000)))
        check(q, [0.5] * 20_000)

    def test_shared_at_every_level(self, q: Any) -> None:
        thing: Any = ["x"]
        for _ in range(MOST_NESTED):
            thing = (thing, thing)
        check(q, thing)

    def test_from_many_threads(self, ctx: Any) -> None:
        queues = [ctx.SimpleQueue() for _ in range(4)]
        failed = []

        def work(number: int) -> None:
            objects = Objects(number)
            try:
                for _ in range(100):
                    check(queues[number], objects.make())
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for queue in queues:
            queue.close()
        assert failed == []

    @pytest.mark.ours_only
    def test_while_finalizers_use_a_queue(self, ctx: Any, q: Any) -> None:
        """The collector may run them in the midst of a message that is being made into objects."""
        inner, objects, other = ctx.SimpleQueue(), Objects(5), Objects(6)

        class Finalized:
            def __init__(self) -> None:
                self.itself = self

            def __del__(self) -> None:
                thing = other.make()
                inner.put(thing)
                assert likeness(inner.get()) == likeness(by_pickle(thing))

        before = gc.get_threshold()
        try:
            for _ in range(100):
                thing = objects.make()
                expected = likeness(by_pickle(thing))
                q.put(thing)
                gc.set_threshold(1)
                Finalized()
                assert likeness(q.get()) == expected
                gc.set_threshold(*before)
        finally:
            gc.set_threshold(*before)
            gc.collect()
            inner.close()


class TestReducers:
    def test_those_for_builtin_classes_are_asked_by_nobody(self, q: Any) -> None:
        """Pickle writes objects of these classes itself, whatever was registered, with whom ever."""
        asked = []

        def reduce(thing: Any) -> Any:
            asked.append(thing)
            return (type(thing), ())

        classes = (bool, int, float, str, bytes, tuple, list, dict)
        extra: Any = vars(ForkingPickler)["_extra_reducers"]
        try:
            for cls in classes:
                copyreg.pickle(cls, reduce)  # type: ignore[arg-type]
                ForkingPickler.register(cls, reduce)
            for thing in ((1, 2.5, "s", b"b", [True], {"a": None}), 2**100, [len, {1: []}]):
                check(q, thing)
        finally:
            for cls in classes:
                copyreg.dispatch_table.pop(cls, None)
                extra.pop(cls, None)
        assert asked == []

    def test_those_of_subclasses_are_asked(self, q: Any) -> None:
        for thing in (Sub("text"), [Sub("text")], {"a": (Sub("text"),)}):
            q.put(thing)
            assert repr(q.get()) == repr(thing)


class Sub(str):
    """A text that comes back as another."""

    def __reduce__(self) -> Any:
        return (Sub, (str(self),))

    def __repr__(self) -> str:
        return f"Sub({str(self)!r})"


@pytest.mark.deadline(120)
class TestThroughAPool:
    def test_items_and_results(self, pool: Any) -> None:
        objects = Objects(7)
        things = [objects.make() for _ in range(200)]
        expected = [likeness(by_pickle(thing)) for thing in things]
        for results in (
            pool.map(targets.identity, things, chunksize=1),
            pool.map(targets.identity, things, chunksize=7),
            pool.imap(targets.identity, things),
            pool.imap(targets.identity, things, chunksize=5),
        ):
            assert [likeness(result) for result in results] == expected

    def test_arguments(self, pool: Any) -> None:
        objects = Objects(8)
        for _ in range(50):
            thing = objects.make()
            expected = likeness(by_pickle(((thing, thing), {"first": thing})))
            assert likeness(pool.apply(targets.describe, (thing, thing), {"first": thing})) == expected

    def test_stars(self, pool: Any) -> None:
        objects = Objects(9)
        pairs = [(objects.make(), objects.make()) for _ in range(50)]
        expected = [likeness(by_pickle((pair, {}))) for pair in pairs]
        for chunksize in (1, 4):
            results = pool.starmap(targets.describe, pairs, chunksize)
            assert [likeness(result) for result in results] == expected


@pytest.mark.deadline(120)
def test_through_an_executor(executor: Any) -> None:
    objects = Objects(10)
    things = [objects.make() for _ in range(100)]
    expected = [likeness(by_pickle(thing)) for thing in things]
    assert [likeness(result) for result in executor.map(targets.identity, things)] == expected
    futures = [executor.submit(targets.identity, thing) for thing in things]
    assert [likeness(future.result()) for future in futures] == expected


@pytest.mark.ours_only
def test_texts_are_left_as_they_were(ctx: Any) -> None:
    """Nothing is kept of what was sent: no reference, no buffer."""
    queue = ctx.SimpleQueue()
    things = [object.__repr__(object()), [1], ("a" * 3, 2), {"k": b"v" * 3}]
    counts = [sys.getrefcount(thing) for thing in things]
    for thing in things:
        for _ in range(10):
            queue.put((thing, [thing], "\ud800"))
            queue.put((thing, [thing]))
            queue.get(), queue.get()
    del thing
    assert [sys.getrefcount(thing) for thing in things] == counts
    queue.close()
