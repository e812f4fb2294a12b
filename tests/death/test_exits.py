"""`KeyboardInterrupt`, `SystemExit` and their like, raised where results, errors and arguments are pickled, unpickled
and shown: that call fails with an error that says so, and its worker goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import exits
import manyhands
import pytest
from manyhands.futures import ProcessPoolExecutor
from manyhands.pool import MaybeEncodingError

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def failure(call: Callable[..., object], *arguments: Any) -> BaseException:
    try:
        value = call(*arguments)
    except BaseException as error:
        return error
    raise AssertionError(f"nothing was raised, but returned {value!r}")


#: What a pool's call fails with.
OF_A_POOL: dict[tuple[Any, str], type[BaseException]] = {
    (exits.returns, "pickled"): manyhands.TaskError,
    (exits.returns, "unpickled"): RuntimeError,
    (exits.returns, "state"): RuntimeError,
    (exits.raises, "pickled"): MaybeEncodingError,
    (exits.raises, "unpickled"): manyhands.TaskError,
    (exits.raises, "shown"): exits.ErrorWhenShown,
}


@pytest.mark.parametrize("kind", exits.KINDS)
def test_of_a_pool(ctx: Any, kind: str) -> None:
    with ctx.Pool(1) as pool:
        worker = pool.apply(os.getpid)
        for (function, when), expected in OF_A_POOL.items():
            error = failure(pool.apply_async(function, (when, kind)).get, 50)
            assert type(error) is expected, (when, type(error))
            if expected is not exits.ErrorWhenShown:
                assert exits.KINDS[kind].__name__ in str(error)
            kept = pool.starmap(function, [(when, kind)] * 3, 3, return_exceptions=True)
            assert [type(error) for error in kept] == [expected] * 3
            assert pool.apply(os.getpid) == worker
        for argument in (exits.WhenUnpickled(kind), exits.WhenGivenItsState(kind)):
            error = failure(pool.apply_async(id, (argument,)).get, 50)
            assert type(error) is manyhands.TaskError
            assert pool.apply(os.getpid) == worker
        # What cannot be pickled is raised where it is: nothing was sent.
        assert type(failure(pool.apply_async, id, (exits.WhenPickled(kind),))) is exits.KINDS[kind]
        assert pool.apply(os.getpid) == worker
        done, failed = exits.Callback(kind), exits.Callback(kind)
        assert pool.apply_async(abs, (-3,), callback=done).get(50) == 3
        result = pool.apply_async(exits.raises_itself, (kind,), error_callback=failed)
        assert type(failure(result.get, 50)) is manyhands.TaskError
        assert (done.calls, failed.calls) == (1, 1)
        assert pool.apply(os.getpid) == worker
    pool.join()


@pytest.mark.parametrize("kind", ["exit", "generator", "own"])
def test_of_an_initializer(ctx: Any, kind: str) -> None:
    with ctx.Pool(1, exits.raises_itself, (kind,)) as pool:
        error = failure(pool.apply_async(abs, (1,)).get, 50)
        assert type(error) is manyhands.TaskError
        assert f"of a {kind}" in str(error)
    pool.join()


@pytest.mark.parametrize("kind", exits.KINDS)
def test_of_an_executor(ctx: Any, kind: str) -> None:
    """The errors are the standard library's; its worker dies of what it cannot unpickle, and the executor with it."""
    expected: dict[tuple[Any, str], type[BaseException]] = {
        (exits.returns, "pickled"): exits.KINDS[kind],
        (exits.returns, "unpickled"): BrokenProcessPool,
        (exits.returns, "state"): BrokenProcessPool,
        (exits.raises, "pickled"): exits.KINDS[kind],
        (exits.raises, "unpickled"): manyhands.TaskError,
        (exits.raises, "shown"): exits.ErrorWhenShown,
    }
    with ProcessPoolExecutor(1, mp_context=ctx) as executor:
        worker = executor.submit(os.getpid).result(50)
        for (function, when), kind_of_error in expected.items():
            error = executor.submit(function, when, kind).exception(50)
            assert type(error) is kind_of_error, (when, type(error))
            assert executor.submit(os.getpid).result(50) == worker
        for argument in (exits.WhenUnpickled(kind), exits.WhenGivenItsState(kind)):
            error = executor.submit(id, argument).exception(50)
            assert type(error) is BrokenProcessPool
            assert exits.KINDS[kind].__name__ in str(error)
            assert executor.submit(os.getpid).result(50) == worker
    with ProcessPoolExecutor(
        1, mp_context=ctx, initializer=exits.raises_itself, initargs=(kind,)
    ) as executor:
        error = executor.submit(abs, 1).exception(50)
        assert type(error) is BrokenProcessPool
        assert type(error.__cause__) is exits.KINDS[kind]


class Late(ProcessPoolExecutor):
    """Its first call comes when its workers, which that call starts, have failed already."""

    def _assemble(self) -> Any:
        crew = super()._assemble()
        while not self._broken:
            crew.core.want_driver()
            time.sleep(0.01)
        return crew


def test_the_call_that_starts_workers_fails_with_their_initializer() -> None:
    with Late(1, manyhands.get_context("fork"), exits.raises_itself, ("exit",)) as executor:
        error = executor.submit(abs, 1).exception(50)
        assert type(error) is BrokenProcessPool
        assert type(error.__cause__) is SystemExit
        # As in the standard library, each later call is refused.
        assert type(failure(executor.submit, abs, 1)) is BrokenProcessPool
