"""What has no name travels by value: as a function, as an argument, as a message and as a result."""

from __future__ import annotations

import functools
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from multiprocessing import resource_sharer
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
import targets

LONG = 30.0


def adder(step: int) -> Callable[[int], int]:
    return lambda number: number + step


def make_local_class() -> Any:
    class Scale:
        made = 0

        def __init__(self, factor: int) -> None:
            self.factor = factor

        def __call__(self, number: int) -> int:
            return self.factor * number

        def minus(self, number: int) -> int:
            return self.factor - number

    return Scale


@pytest.fixture
def pool(ctx: Any) -> Iterator[Any]:
    with ctx.Pool(2) as pool:
        yield pool
        pool.close()
        pool.join()


FUNCTIONS: dict[str, Callable[[], tuple[Callable[[int], int], list[int]]]] = {
    "lambda": lambda: (lambda number: number * number, [0, 1, 4, 9]),
    "closure": lambda: (adder(5), [5, 6, 7, 8]),
    "partial of a closure": lambda: (functools.partial(lambda left, right: left - right, 10), [10, 9, 8, 7]),
    "instance of a local class": lambda: (make_local_class()(3), [0, 3, 6, 9]),
    "method of a local class": lambda: (make_local_class()(3).minus, [3, 2, 1, 0]),
}


class TestPool:
    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_every_way_to_call(self, pool: Any, name: str) -> None:
        function, expected = FUNCTIONS[name]()
        assert pool.map(function, range(4)) == expected
        assert pool.map(function, range(4), chunksize=1) == expected
        assert list(pool.imap(function, range(4))) == expected
        assert sorted(pool.imap_unordered(function, range(4))) == sorted(expected)
        assert pool.apply(function, (2,)) == expected[2]
        assert pool.apply_async(function, (3,)).get(LONG) == expected[3]
        assert pool.starmap(function, [(0,), (1,)]) == expected[:2]

    def test_a_local_class_is_the_function(self, pool: Any) -> None:
        scale = make_local_class()
        made = pool.map(scale, range(3))
        assert [type(each) for each in made] == [scale] * 3
        assert [each(2) for each in made] == [0, 2, 4]

    def test_items(self, pool: Any) -> None:
        step = 2
        assert pool.map(targets.call, [lambda: 1, lambda: step]) == [1, 2]

    def test_results(self, pool: Any) -> None:
        assert pool.apply(lambda step: lambda number: number + step, (3,))(4) == 7

    def test_exceptions(self, pool: Any) -> None:
        class OutOfPaper(Exception):
            pass

        def fail(tray: int) -> None:
            raise OutOfPaper(tray)

        with pytest.raises(OutOfPaper) as caught:
            pool.apply(fail, (2,))
        assert caught.value.args == (2,)

    def test_an_initializer(self, ctx: Any) -> None:
        kept = {"value": "from the parent"}
        with ctx.Pool(1, lambda: targets.initialise(kept["value"])) as pool:
            assert pool.apply(targets.initialised) == "from the parent"

    def test_a_closure_that_has_changed_is_sent_again(self, pool: Any, executor: Any) -> None:
        step = 1

        def add(number: int) -> int:
            return number + step

        assert [pool.apply(add, (1,)), pool.map(add, [1]), executor.submit(add, 1).result(LONG)] == [
            2,
            [2],
            2,
        ]
        step = 5
        assert [pool.apply(add, (1,)), pool.map(add, [1]), executor.submit(add, 1).result(LONG)] == [
            6,
            [6],
            6,
        ]

    def test_a_class_of_here_is_not_overwritten(self, pool: Any) -> None:
        scale = make_local_class()
        pool.apply(scale, (1,))
        pending = pool.apply_async(scale, (2,))
        scale.made = 5
        pending.get(LONG)
        assert scale.made == 5

    def test_globals_are_those_of_the_module(self, ctx: Any) -> None:
        """A nested function of a module sees what an initializer has set there, as a named one does."""
        with ctx.Pool(1, targets.initialise, ("kept",)) as pool:
            assert pool.map(targets.nested_initialised(), [0]) == ["kept"]


class TestExecutor:
    def test_submit_and_map(self, executor: Any) -> None:
        assert executor.submit(lambda: 5).result(LONG) == 5
        assert executor.submit(adder(1), 5).result(LONG) == 6
        assert list(executor.map(adder(2), range(3))) == [2, 3, 4]
        assert list(executor.map(adder(2), range(5), chunksize=2)) == [2, 3, 4, 5, 6]
        assert executor.submit(lambda: lambda: 7).result(LONG)() == 7

    def test_an_initializer(self, make_executor: Any) -> None:
        value = "kept"
        executor = make_executor(1, initializer=lambda: targets.initialise(value))
        assert executor.submit(targets.initialised).result(LONG) == "kept"


class TestProcess:
    def test_a_target_and_its_arguments(self, ctx: Any) -> None:
        queue = ctx.Queue()
        name = "closure"
        process = ctx.Process(
            target=lambda function, **more: queue.put((name, function(1), more["other"]())),
            args=(adder(1),),
            kwargs={"other": lambda: "keyword"},
        )
        process.start()
        assert queue.get(timeout=LONG) == ("closure", 2, "keyword")
        process.join()
        assert process.exitcode == 0
        queue.close()

    def test_a_local_subclass(self, ctx: Any) -> None:
        class Teller(ctx.Process):  # type: ignore[misc]
            def __init__(self, queue: Any) -> None:
                super().__init__()
                self.queue = queue

            def run(self) -> None:
                self.queue.put("told")

        queue = ctx.SimpleQueue()
        process = Teller(queue)
        process.start()
        assert queue.get() == "told"
        process.join()
        queue.close()


class TestQueue:
    def test_messages(self, ctx: Any) -> None:
        requests, answers = ctx.Queue(), ctx.Queue()
        process = ctx.Process(target=targets.echo, args=(requests, answers))
        process.start()
        requests.put(adder(3))
        assert answers.get(timeout=LONG)(4) == 7
        scale = make_local_class()
        requests.put(scale(4))
        back = answers.get(timeout=LONG)
        assert type(back) is scale
        assert back(2) == 8
        requests.put(None)
        process.join()
        for queue in (requests, answers):
            queue.close()


class Registered:
    def __init__(self, value: int) -> None:
        self.value = value


class RaisesItself:
    asked = 0

    def __reduce__(self) -> Any:
        RaisesItself.asked += 1
        raise AttributeError("Can't pickle local object: says its class")


def _refused() -> dict[str, Any]:
    lock = threading.Lock()
    generator = (number for number in range(3))
    return {
        "lock in a closure": lambda: lock.locked(),
        "generator in a closure": lambda: next(generator),
        "a lock beside a lambda": (lambda: 0, lock),
        "a lambda beside an object that refuses": [lambda: 0, RaisesItself()],
        "lock": lock,
        "generator": generator,
    }


class TestErrors:
    @pytest.mark.parametrize("name", _refused())
    def test_what_cannot_be_sent_raises_the_standard_error(self, ctx: Any, pool: Any, name: str) -> None:
        refused = _refused()[name]
        with pytest.raises(Exception) as standard:
            pickle.dumps(refused)
        queue = ctx.Queue()
        with pytest.raises(type(standard.value)) as caught:
            queue.put(refused)
        assert type(caught.value) is type(standard.value)
        assert _without_addresses(caught.value) == _without_addresses(standard.value)
        assert caught.value.__context__ is None
        queue.close()
        with pytest.raises(type(standard.value)):
            pool.apply(targets.identity, (refused,))
        assert pool.apply(targets.identity, (1,)) == 1

    def test_the_reason_is_a_note(self, ctx: Any) -> None:
        queue = ctx.Queue()
        with pytest.raises((AttributeError, pickle.PicklingError)) as caught:
            queue.put(_refused()["lock in a closure"])
        assert "cannot pickle '_thread.lock' object" in caught.value.__notes__[0]
        queue.close()

    def test_an_error_of_the_object_is_its_own(self, ctx: Any) -> None:
        """It may say the same as the pickler; it is raised as it is, and the object is asked once."""
        queue = ctx.Queue()
        RaisesItself.asked = 0
        with pytest.raises(AttributeError, match="says its class"):
            queue.put(RaisesItself())
        assert RaisesItself.asked == 1
        queue.close()

    def test_registered_reducers_hold_inside(self, ctx: Any, pool: Any) -> None:
        reducers = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
        ForkingPickler.register(Registered, lambda each: (targets.identity, (("reduced", each.value),)))
        try:
            registered = Registered(4)
            assert pool.apply(lambda: registered) == ("reduced", 4)
        finally:
            del reducers[Registered]

    def test_a_socket_in_a_closure(self, pool: Any) -> None:
        """The standard library's own reducer for it."""
        left, right = socket.socketpair()
        with left, right:
            pool.apply(lambda: left.send(b"hello"))
            assert right.recv(5) == b"hello"
        # It gave the socket away in a thread of its own.
        resource_sharer.stop()


def _without_addresses(error: BaseException) -> str:
    return str(error).partition(" at 0x")[0]


@pytest.mark.standard
class TestStateOfCallables:
    """A callable that changes itself begins anew with each chunk, in the standard library and here."""

    @pytest.mark.parametrize("make", [targets.Counting, lambda: targets.Counting().count, targets.appending])
    def test_each_chunk_has_its_own(self, ctx: Any, make: Callable[[], Any]) -> None:
        with ctx.Pool(1) as pool:
            assert pool.map(make(), range(6), chunksize=3) == [1, 2, 3, 1, 2, 3]
            assert pool.map(make(), range(3), chunksize=1) == [1, 1, 1]
            assert list(pool.imap(make(), range(4), chunksize=2)) == [1, 2, 1, 2]
            function = make()
            assert [pool.apply(function, (0,)) for _ in range(2)] == [1, 1]
