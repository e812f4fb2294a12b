"""An executor or pool whose initializer, arguments or callbacks lead back to it is garbage when nobody else has it."""

from __future__ import annotations

import gc
import time
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import circles
import pytest
import starts
from executors import executor_of

pytestmark = pytest.mark.standard


def made(ctx: Any, how: str) -> circles.Holder:
    holder = circles.Holder()
    given: dict[str, Any] = {
        "method": {"initializer": holder.ready},
        "argument": {"initializer": circles.ready, "initargs": (holder,)},
        "callback": {"initializer": circles.ready},
    }[how]
    holder.has = executor_of(ctx)(2, mp_context=ctx, **given)
    return holder


def soon(done: Callable[[], bool]) -> bool:
    end = time.monotonic() + 30
    while not done() and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
    return done()


@pytest.mark.parametrize("calls", [0, 1, 7])
@pytest.mark.parametrize("how", ["method", "argument", "callback"])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_an_executor_in_a_circle(ctx: Any, how: str, calls: int) -> None:
    """Its calls are done all the same, and then its workers end."""
    holder = made(ctx, how)
    there = weakref.ref(holder.has)
    assert holder.has.submit(circles.is_ready).result(60)
    processes = list(holder.has._processes.values())
    futures = [holder.has.submit(circles.is_ready) for _ in range(calls)]
    if how == "callback":
        for future in futures:
            future.add_done_callback(holder.tell)
    del holder
    gc.collect()
    assert [future.result(60) for future in futures] == [True] * calls
    futures.clear()
    future = None
    assert soon(lambda: there() is None and not any(process.is_alive() for process in processes))


@pytest.mark.parametrize("how", ["method", "argument"])
@pytest.mark.ours_only
def test_a_worker_that_dies_when_its_executor_is_gone_is_replaced(ctx: Any, how: str, tmp_path: Path) -> None:
    """The regression of issue 11: what makes workers ready stays until the calls are done."""
    holder = made(ctx, how)
    there = weakref.ref(holder.has)
    dying = [holder.has.submit(circles.dies_first, str(tmp_path / name)) for name in "ab"]
    futures = [holder.has.submit(circles.is_ready) for _ in range(20)]
    del holder
    gc.collect()
    for future in dying:
        with pytest.raises(BrokenProcessPool):
            future.result(60)
    assert [future.result(60) for future in futures] == [True] * 20
    del future, futures, dying
    assert soon(lambda: there() is None)


@pytest.mark.parametrize("how", ["method", "argument"])
@pytest.mark.ours_only
def test_a_pool_in_a_circle(ctx: Any, how: str) -> None:
    """In the standard library its threads hold it for good."""
    holder = circles.Holder()
    if how == "method":
        holder.has = ctx.Pool(2, holder.ready)
    else:
        holder.has = ctx.Pool(2, circles.ready, (holder,))
    there = weakref.ref(holder.has)
    assert holder.has.map(circles.is_ready, range(5)) == [True] * 5
    processes = list(holder.has._pool)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        del holder
        assert soon(lambda: there() is None)
    assert any("unclosed running" in str(warning.message) for warning in told)
    assert not any(process.is_alive() for process in processes)


@pytest.mark.ours_only
def test_a_job_in_a_circle(ctx: Any) -> None:
    """Results that nobody takes, of a stream of items that lead to it."""
    with ctx.Pool(1) as pool:
        for end in ("close", "terminate"):
            holder = circles.Holder()
            there = weakref.ref(holder)
            holder.has = pool.imap(circles.is_ready, [holder] * 3)
            if end == "close":
                while (item := next(holder.has, None)) is not None:
                    assert item is False
            else:
                pool.terminate()
            del holder
            assert soon(lambda there=there: there() is None)
    pool.join()


@pytest.mark.methods("spawn", "forkserver")
@pytest.mark.ours_only
def test_a_start_that_was_refused_keeps_nothing(ctx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The regression of issue 11: the traceback of what refused it led to the executor."""
    holder = made(ctx, "method")
    there = weakref.ref(holder.has)
    # The first call has its worker; the next one finds none free, and no room for another.
    first = holder.has.submit(circles.is_ready)
    refusals = []

    def refuse(*_arguments: Any) -> Any:
        refusals.append(1)
        raise starts.no_descriptor()

    with monkeypatch.context() as patched:
        patched.setattr(ctx.Process, "_Popen", staticmethod(refuse))
        second = holder.has.submit(circles.is_ready)
        assert refusals
        del holder
        assert (first.result(60), second.result(60)) == (True, True)
        del first, second
        assert soon(lambda: there() is None)
