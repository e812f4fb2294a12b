"""A signal whose handler raises in Python code that pickles items or unpickles results: its exception arrives, soon and
once, and neither an item nor a result is lost or taken for what the handler raised."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import slow_pickles
from alarms import LONG, Alarm, alarms
from manyhands.futures import ProcessPoolExecutor
from slow_pickles import Pickled

#: Each takes 10 ms to be unpickled.
RESULTS = 40
#: Each takes 30 ms to be pickled.
ITEMS = 40


class Counting:
    """A handler that raises inside of calls, and nowhere else; it counts."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind, self.ran, self.caught = kind, 0, 0
        self.inside = False

    def handle(self, number: int, frame: Any) -> None:
        if self.inside:
            self.inside = False
            self.ran += 1
            raise self.kind

    def until_done(self, call: Callable[[], Any]) -> Any:
        """Again after each exception of the handler's, which are few."""
        while True:
            try:
                self.inside = True
                result = call()
                self.inside = False
                return result
            except self.kind:
                self.caught += 1

    def check(self) -> None:
        # On a busy machine two may come while one result is unpickled: then they are one.
        assert 0 < self.caught <= self.ran


@pytest.mark.parametrize("kind", [Alarm, KeyboardInterrupt])
@pytest.mark.parametrize("how", ["imap", "imap_unordered", "map_async", "apply_async", "submit"])
def test_no_result_is_lost_that_is_being_unpickled(ctx: Any, how: str, kind: type[BaseException]) -> None:
    counting, outcomes = Counting(kind), list[Any]()
    numbers = range(1, RESULTS + 1)
    with ctx.Pool(2) as pool, ProcessPoolExecutor(2, mp_context=ctx) as executor:
        pool.map(abs, [1])
        executor.submit(abs, 1).result()
        with alarms(counting.handle):
            if how == "submit":
                calls = [executor.submit(slow_pickles.returned, number).result for number in numbers]
            elif how == "apply_async":
                calls = [pool.apply_async(slow_pickles.returned, (number,)).get for number in numbers]
            elif how == "map_async":
                job = pool.map_async(slow_pickles.returned, numbers, 5)
            else:
                stream = getattr(pool, how)(slow_pickles.returned, numbers)
            signal.setitimer(signal.ITIMER_REAL, 0.1, 0.13)
            if how in ("submit", "apply_async"):
                outcomes += [counting.until_done(call).number for call in calls]
            elif how == "map_async":
                outcomes += [each.number for each in counting.until_done(job.get)]
            else:
                came = list[Any]()
                # In a loop of the interpreter's own, where nothing comes between an item's arrival and its being kept.
                counting.until_done(lambda: came.extend(stream))
                outcomes += [each.number for each in came]
        assert sorted(outcomes) == list(numbers)
        counting.check()


def test_no_exception_is_lost_that_is_being_unpickled(ctx: Any) -> None:
    counting, outcomes = Counting(Alarm), list[Any]()
    with ctx.Pool(2) as pool:
        pool.map(abs, [1])
        with alarms(counting.handle):
            stream = pool.imap(slow_pickles.raised, range(RESULTS), return_exceptions=True)
            signal.setitimer(signal.ITIMER_REAL, 0.1, 0.13)
            counting.until_done(lambda: outcomes.extend(stream))
    assert [each.number for each in outcomes] == list(range(RESULTS))
    counting.check()


@pytest.mark.methods("fork")
@pytest.mark.parametrize("handlers", [True, False])
def test_what_cannot_be_unpickled_fails_its_item_alone(ctx: Any, handlers: bool) -> None:
    before = signal.getsignal(signal.SIGALRM)
    try:
        if not handlers:
            left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        slow_pickles.Refused.tries = 0
        with ctx.Pool(1) as pool:
            with pytest.raises(RuntimeError, match="it cannot be made again"):
                pool.apply(slow_pickles.refused, (1,))
            # With handlers it might have been one of theirs.
            assert slow_pickles.Refused.tries == (2 if handlers else 1)
            assert pool.apply(abs, (-1,)) == 1
    finally:
        if not handlers:
            signal.signal(signal.SIGALRM, before)
            signal.setitimer(signal.ITIMER_REAL, left)


@pytest.mark.methods("fork")
@pytest.mark.parametrize("kind", [Alarm, KeyboardInterrupt])
@pytest.mark.parametrize(
    "how", ["map", "map_async", "imap", "imap in chunks", "imap of a generator", "submit"]
)
def test_pickling_items_puts_no_signal_off(
    ctx: Any, how: str, kind: type[BaseException], tmp_path: Path
) -> None:
    counting = Counting(kind)
    items = [Pickled(number, 0.03) for number in range(ITEMS)]
    noted = functools.partial(slow_pickles.noted, folder=str(tmp_path))
    with ctx.Pool(2) as pool, ProcessPoolExecutor(2, mp_context=ctx) as executor:
        calls: dict[str, Callable[[], Any]] = {
            "map": lambda: pool.map(noted, items, 1),
            "map_async": lambda: pool.map_async(noted, items, 1).get(),
            "imap": lambda: list(pool.imap(noted, items)),
            "imap in chunks": lambda: list(pool.imap(noted, items, 4)),
            "imap of a generator": lambda: list(pool.imap(noted, iter(items))),
            "submit": lambda: [call.result() for call in [executor.submit(noted, item) for item in items]],
        }
        pool.map(abs, [1])
        executor.submit(abs, 1).result()
        with alarms(counting.handle):
            Pickled.begun = 0
            counting.inside = True
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(kind):
                calls[how]()
            assert Pickled.begun < ITEMS * 3 // 4, "it was raised when all was given out"
        assert counting.ran == 1
        if how != "submit":
            # What was interrupted goes on, as the standard library's does: each item once.
            pool.close()
            pool.join()
            ran = {name: os.path.getsize(tmp_path / name) for name in os.listdir(tmp_path)}
            assert ran == {str(number): 1 for number in range(ITEMS)}


def test_a_call_is_not_failed_by_a_handler_that_raises_while_it_is_pickled(ctx: Any, tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, mp_context=ctx) as executor:
        executor.submit(abs, 1).result()
        # Few go ahead of the worker, and the last ones wait to be pickled by whoever leads.
        calls = [executor.submit(time.sleep, 0.3) for _ in range(4)]
        calls += [executor.submit(slow_pickles.noted, Pickled(each, 0.3), str(tmp_path)) for each in range(2)]
        counting = Counting(Alarm)
        with alarms(counting.handle):
            signal.setitimer(signal.ITIMER_REAL, 0.15, 0.25)
            results = [counting.until_done(functools.partial(call.result, LONG)) for call in calls]
        assert results == [None] * 4 + [0, 1]
        counting.check()
