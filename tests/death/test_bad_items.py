"""Exceptions and results that cannot travel, exits and too deep recursion: that item fails, nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import manyhands
import pytest
import targets
import unruly
from manyhands.pool import MaybeEncodingError

LONG = 50.0


@pytest.fixture
def pool(ctx: Any) -> Iterator[Any]:
    with ctx.Pool(2) as pool:
        yield pool
        pool.terminate()
        pool.join()


def caught(get: Callable[[], Any]) -> Exception:
    try:
        get()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


# What the error is, and words that must be in it.
EXCEPTIONS = {
    "needs two": (manyhands.TaskError, ["NeedsTwo", "this and that"]),
    "raises when unpickled": (manyhands.TaskError, ["RaisesWhenUnpickled", "original words", "not again"]),
    "exits when unpickled": (manyhands.TaskError, ["ExitsWhenUnpickled", "original words", "SystemExit"]),
    "becomes nonsense": (manyhands.TaskError, ["BecomesNonsense", "original words", "int"]),
    "cannot be pickled": (MaybeEncodingError, ["with a lock inside", "pickle"]),
    "cannot be shown": (MaybeEncodingError, ["no pickle"]),
    "exits when pickled": (MaybeEncodingError, ["original words", "not this way"]),
    "sys.exit": (manyhands.TaskError, ["SystemExit: 7"]),
    "sys.exit with words": (manyhands.TaskError, ["SystemExit: leaving"]),
    "KeyboardInterrupt": (manyhands.TaskError, ["KeyboardInterrupt"]),
    "GeneratorExit": (manyhands.TaskError, ["GeneratorExit"]),
}


@pytest.mark.parametrize("kind", EXCEPTIONS)
def test_exceptions(ctx: Any, kind: str) -> None:
    expected, words = EXCEPTIONS[kind]
    with ctx.Pool(1) as pool:
        before = pool.apply(targets.pid)
        error = caught(lambda: pool.apply(unruly.unruly_exception, (kind,)))
        assert isinstance(error, expected)
        for word in words:
            assert word in str(error)
        assert "in unruly_exception" in str(error.__cause__)
        results = pool.imap(unruly.unruly_exception, ["a", kind, "b", "c"], return_exceptions=True)
        first, bad, *rest = results
        assert [first, *rest] == ["a", "b", "c"]
        assert isinstance(bad, expected)
        assert isinstance(caught(lambda: pool.map(unruly.unruly_exception, ["a", kind, "b"])), expected)
        # The worker went on.
        assert pool.apply(targets.pid) == before


def test_what_an_error_tells(pool: Any) -> None:
    import pickle

    error = caught(lambda: pool.apply(unruly.unruly_exception, ("sys.exit",)))
    assert isinstance(error, manyhands.TaskError)
    assert (error.type_name, error.message, error.reason) == ("builtins.SystemExit", "7", None)
    assert isinstance(error.exception, SystemExit)
    assert error.exception.code == 7
    assert "Traceback (most recent call last)" in error.traceback
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.traceback) == (str(error), error.traceback)


RESULTS = {
    "a lock": (MaybeEncodingError, ["lock"]),
    "too deep": (MaybeEncodingError, ["RecursionError"]),
    "__reduce__ raises": (MaybeEncodingError, ["will not be pickled"]),
    "__reduce__ exits": (manyhands.TaskError, ["SystemExit"]),
    "unpickling raises": (RuntimeError, ["cannot be unpickled here", "not here"]),
    "unpickling exits": (RuntimeError, ["cannot be unpickled here", "SystemExit"]),
    "unpickling recurses": (RuntimeError, ["cannot be unpickled here", "RecursionError"]),
    "no result but too deep a call": (RecursionError, ["recursion"]),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_results(ctx: Any, kind: str) -> None:
    expected, words = RESULTS[kind]
    with ctx.Pool(1) as pool:
        before = pool.apply(targets.pid)
        error = caught(lambda: pool.apply(unruly.unruly_result, (kind,)))
        assert isinstance(error, expected)
        for word in words:
            assert word in str(error)
        for chunksize in (1, 3):
            kept = pool.map(unruly.unruly_result, ["a", kind, "b"], chunksize, return_exceptions=True)
            assert [kept[0], kept[2]] == ["a", "b"]
            assert isinstance(kept[1], expected)
        assert isinstance(caught(lambda: pool.map(unruly.unruly_result, ["a", kind, "b"])), expected)
        assert pool.apply(targets.pid) == before


@pytest.mark.parametrize("where", ["parent", "worker"])
@pytest.mark.parametrize("chunksize", [1, 4, 100])
@pytest.mark.parametrize("call", ["map", "imap", "imap_unordered"])
def test_items_that_cannot_travel(pool: Any, where: str, chunksize: int, call: str) -> None:
    items = [unruly.Argument(where if number == 5 else "", number) for number in range(20)]
    results = list(getattr(pool, call)(targets.identity, items, chunksize, return_exceptions=True))
    (bad,) = (result for result in results if isinstance(result, ValueError))
    assert "item 5" in str(bad)
    results.remove(bad)
    assert sorted(results) == [number for number in range(20) if number != 5]
    with pytest.raises(ValueError, match="item 5"):
        list(getattr(pool, call)(targets.identity, items, chunksize))


class Liar:
    """A container that is wrong about its length."""

    def __init__(self, length: Any) -> None:
        self.length = length

    def __len__(self) -> int:
        if isinstance(self.length, Exception):
            raise self.length
        return int(self.length)

    def __iter__(self) -> Iterator[int]:
        return iter(range(5))


@pytest.mark.parametrize("length", [0, 3, 500, ValueError("who knows")], ids=str)
@pytest.mark.parametrize("call", ["map", "imap", "imap_unordered"])
def test_a_wrong_length_is_not_believed(pool: Any, length: Any, call: str) -> None:
    assert sorted(getattr(pool, call)(targets.square, Liar(length))) == [0, 1, 4, 9, 16]


class BreaksOff:
    def __len__(self) -> int:
        return 10

    def __iter__(self) -> Iterator[int]:
        return iter(targets.numbers_then_fail(3))


def test_iterables_that_raise(pool: Any) -> None:
    with pytest.raises(OverflowError):
        pool.map(targets.square, BreaksOff())
    results = pool.imap(targets.square, BreaksOff(), return_exceptions=True)
    assert [next(results), next(results), next(results)] == [0, 1, 4]
    with pytest.raises(OverflowError):
        next(results)
    assert list(results) == []


@pytest.mark.parametrize("method", ["map", "imap"])
def test_no_memory_for_a_result(tmp_path: Any, method: str, ctx: Any) -> None:
    import os
    import subprocess
    import sys

    program = tmp_path / "program.py"
    program.write_text(
        "import sys, manyhands, targets\n"
        "if __name__ == '__main__':\n"
        "    with manyhands.get_context(sys.argv[1]).Pool(2) as pool:\n"
        "        kept = list(getattr(pool, sys.argv[2])(bytes, [10, 1 << 30, 20], 1, return_exceptions=True))\n"
        "        print(len(kept[0]), type(kept[1]).__name__, len(kept[2]))\n"
        "        try: pool.map(len, [b'', bytes(1 << 30)], 1)\n"
        "        except MemoryError: print('MemoryError')\n"
        "        print(pool.map(abs, [-1, -2]))\n"
    )
    done = subprocess.run(
        [sys.executable, str(program), ctx.get_start_method(), method],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MANYHANDS_ARENA_MAX": str(256 << 20)},
        capture_output=True,
        text=True,
        timeout=LONG,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["10 MemoryError 20", "MemoryError", "[1, 2]"]
