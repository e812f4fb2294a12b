"""What an iterable has given before it raises is done, and its results come before the error."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from targets import square

pytestmark = pytest.mark.standard


def numbers(count: int, pause: float) -> Iterator[int]:
    for number in range(count):
        time.sleep(pause)
        yield number
    raise ValueError(f"line {count} is bad")


def gathered(stream: Any) -> tuple[list[int], str]:
    """As a loop over the results has them."""
    got: list[int] = []
    try:
        for result in stream:
            got.append(result)
    except ValueError as error:
        return got, str(error)
    raise AssertionError("no error came")


#: How many, the pause before each, and the chunks: the last one, were it not full, would never be given out.
GIVEN = [(0, 0, 1), (1, 0, 1), (100, 0, 1), (100, 0.001, 1), (100, 0, 10)]


@pytest.mark.parametrize(("count", "pause", "chunksize"), GIVEN)
def test_out_of_order(ctx: Any, count: int, pause: float, chunksize: int) -> None:
    with ctx.Pool(1) as pool:
        got, said = gathered(pool.imap_unordered(square, numbers(count, pause), chunksize))
        assert sorted(got) == [number * number for number in range(count)]
        assert said == f"line {count} is bad"


def test_in_order(ctx: Any) -> None:
    count = 100
    with ctx.Pool(2) as pool:
        got, said = gathered(pool.imap(square, numbers(count, 0)))
        assert got == [number * number for number in range(count)]
        assert said == f"line {count} is bad"


class Counted:
    """An iterable with a length."""

    def __len__(self) -> int:
        return 51

    def __iter__(self) -> Iterator[int]:
        return numbers(50, 0)


def test_one_that_has_a_length(ctx: Any) -> None:
    with ctx.Pool(1) as pool:
        got, said = gathered(pool.imap_unordered(square, Counted()))
        assert sorted(got) == [number * number for number in range(50)]
        assert said == "line 50 is bad"


def test_an_item_that_fails_does_not_let_the_error_pass(ctx: Any) -> None:
    with ctx.Pool(1) as pool:
        stream = pool.imap_unordered(square, ([None] if each == 3 else each for each in numbers(20, 0)))
        got, errors = [], []
        while True:
            try:
                got.append(next(stream))
            except StopIteration:
                break
            except (TypeError, ValueError) as error:
                errors.append(type(error))
        assert sorted(got) == [number * number for number in range(20) if number != 3]
        assert errors == [TypeError, ValueError]
