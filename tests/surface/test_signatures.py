"""Every argument is taken as the standard library takes it: numbers and truths of every kind give the same, or raise
the same."""

from __future__ import annotations

import inspect
import multiprocessing.synchronize
import sys
from decimal import Decimal
from fractions import Fraction
from typing import Any

import alike
import manyhands
import manyhands.synchronize
import numpy
import pytest

#: What differs on purpose: which calls, with what, what the standard library says, and what we say; see
#: `docs/differences.md`.
DIFFERENT = [
    # A bound may be larger.
    (r"(Joinable)?Queue\((maxsize=)?x\) with 2\*\*31", "OverflowError", "gives True"),
    # A buffer that cannot be written to, or has no dimension, is refused before the message is read.
    (r"recv_bytes_into\(x\) with .*", "BufferTooShort", "TypeError"),
    # A process that a context has started does not set the start method, as in Python 3.14.
    (r"set_start_method\('\w+', x\) with .*", "RuntimeError", "gives something"),
]
if sys.version_info < (3, 12):
    # `block` wants an integer there; later, and here, it is any truth.
    block = (
        r".*(acquire\((block=)?x(, 0.01)?\)|(put|get)\((0, )?(block=)?x(, (timeout=)?(1|0|0.01))?\)) with .*"
    )
    DIFFERENT += [
        (block, "(Type|Overflow)Error", "gives .*|Full|Empty"),
        (block + "array", "TypeError", "ValueError"),
    ]


@pytest.mark.deadline(alike.SECONDS + 60)
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_odd_arguments_are_taken_as_the_standard_library_takes_them(method: str) -> None:
    alike.same_outcomes("odd_arguments.py", DIFFERENT, 9_000, method)


@pytest.mark.methods("fork")
def test_arguments_that_only_we_have_are_taken_alike(ctx: Any) -> None:
    queue = ctx.Queue()
    queue.put([1], move=1)
    queue.put_many((2, 3), 1, None)
    assert queue.get_many(numpy.int64(2), 1, Fraction(5)) == [[1], 2]
    assert queue.get_many(block=[]) == [3]
    with pytest.raises(OverflowError):
        queue.get_many(10**30)
    with pytest.raises(TypeError):
        queue.get_many(1, True, Decimal(5))
    queue.shutdown("at once")
    with pytest.raises(manyhands.ShutDown):
        queue.get(0)
    with ctx.Pool(1) as pool:
        results = pool.map(int, ["1", "x"], return_exceptions=1, fail_fast=[])
        assert (results[0], type(results[1])) == (1, ValueError)


@pytest.mark.parametrize(
    "name", ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier"]
)
def test_who_asks_for_the_signature_sees_the_standard_librarys_arguments(name: str) -> None:
    theirs = inspect.signature(getattr(multiprocessing.synchronize, name)).parameters
    ours = inspect.signature(getattr(manyhands.synchronize, name)).parameters
    for each, parameter in theirs.items():
        assert ours[each].kind is parameter.kind
        assert each == "ctx" or ours[each].default == parameter.default


@pytest.mark.methods("fork")
def test_a_pool_shows_what_it_was_given_to_make_workers_ready(ctx: Any) -> None:
    for given in ({}, {"initializer": int, "initargs": ("3",)}, {"initargs": [1]}):
        with ctx.Pool(1, **given) as pool:
            assert pool._initializer is given.get("initializer")
            assert pool._initargs == given.get("initargs", ())
