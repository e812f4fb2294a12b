"""The thread that reads `imap`'s iterable is ended by what other code raises in it: the stream ends, with an error."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import targets
from manyhands import pool as pools


class Stop(Exception):
    """What is raised from outside."""


def raise_in(thread: int, exception: type[BaseException]) -> None:
    done = ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(exception))
    assert done == 1


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter writes what ends a thread, as it does for everybody's."""
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)


def dead_before_it_begins(*_given: Any) -> Callable[[], object]:
    def feeder() -> object:
        raise Stop

    return feeder


def dead_without_an_error(*_given: Any) -> Callable[[], object]:
    def feeder() -> object:
        raise SystemExit

    return feeder


@pytest.mark.deadline(60)
@pytest.mark.parametrize("dead", [dead_before_it_begins, dead_without_an_error])
@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
@pytest.mark.usefixtures("quiet")
def test_a_feeder_that_dies_ends_its_stream(
    ctx: Any, method: str, dead: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ctx.Pool(1) as pool:
        monkeypatch.setattr(pools, "_feeder", dead)
        stream = getattr(pool, method)(targets.square, iter(range(3)))
        with pytest.raises(RuntimeError, match="was ended before"):
            list(stream)
        monkeypatch.undo()
        assert list(pool.imap(targets.square, iter(range(3)))) == [0, 1, 4]
        pool.close()
        pool.join()


@pytest.mark.deadline(60)
@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_an_exception_from_outside_is_the_streams(ctx: Any, method: str) -> None:
    reached, go_on = threading.Event(), threading.Event()
    feeder: list[int] = []

    def items() -> Iterator[int]:
        yield 3
        feeder.append(threading.get_ident())
        reached.set()
        assert go_on.wait(30)
        for number in range(10**9):
            if number < 0:
                yield number

    with ctx.Pool(1) as pool:
        stream = getattr(pool, method)(targets.square, items())
        assert stream.next(30) == 9
        assert reached.wait(30)
        raise_in(feeder[0], Stop)
        go_on.set()
        with pytest.raises(Stop):
            stream.next(30)
        with pytest.raises(StopIteration):
            stream.next(30)
        assert pool.map(targets.square, range(3)) == [0, 1, 4]


@pytest.mark.deadline(120)
@pytest.mark.usefixtures("quiet")
def test_exceptions_while_feeders_start(ctx: Any) -> None:
    """On some versions, what is raised in a thread arrives in the one that it has just started."""
    with ctx.Pool(2) as pool:
        rounds = [0, 0]
        ended = threading.Event()

        def user() -> None:
            while rounds[0] < 150:
                try:
                    rounds[0] += 1
                    list(pool.imap(targets.square, iter(range(9))))
                    rounds[1] += 1
                except (Stop, RuntimeError):
                    pass
            ended.set()

        def guarded() -> None:
            while not ended.is_set():
                with contextlib.suppress(Stop):
                    user()

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        while not ended.wait(0.003):
            if thread.ident is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread.ident), ctypes.py_object(Stop)
                )
        thread.join(30)
        assert pool.map_async(targets.square, range(50)).get(30) == [n * n for n in range(50)]
