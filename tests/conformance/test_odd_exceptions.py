"""Exceptions of odd kinds that tasks raise: what they are and what they carry arrives, whatever their class forbids."""

from __future__ import annotations

import traceback
from typing import Any

import manyhands
import odd
import pytest
from manyhands.futures import ProcessPoolExecutor


def is_right(kind: str, got: BaseException) -> None:
    match kind:
        case "frozen":
            assert type(got) is odd.Frozen
            assert (got.code, got.text) == (3, "three")
        case "frozen slots":
            assert type(got) is odd.FrozenSlots
            assert got.code == 3
        case "read only":
            assert type(got) is odd.ReadOnly
            assert (got.args, got.__dict__["code"], got.__notes__) == ((3,), 3, ["a note"])
        case "hostile":
            assert type(got) is odd.Hostile
            assert got.args == (3,)
        case "bad repr":
            assert type(got) is odd.BadRepr
        case "group":
            assert isinstance(got, ExceptionGroup)
            first, second = got.exceptions
            assert type(first) is odd.Frozen
            assert first.code == 1
            assert type(second) is ExceptionGroup
    cause = BaseException.__dict__["__cause__"].__get__(got)
    assert "in raises" in cause.tb
    if kind != "hostile":
        assert "in raises" in "".join(traceback.format_exception(got))


KINDS = ["frozen", "frozen slots", "read only", "hostile", "bad repr", "group"]


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_pool(ctx: Any, kind: str) -> None:
    with ctx.Pool(1) as pool:
        told: list[BaseException] = []
        result = pool.apply_async(odd.raises, (kind,), error_callback=told.append)
        with pytest.raises(Exception) as caught:
            result.get(30)
        is_right(kind, caught.value)
        is_right(kind, told[0])
        [kept] = pool.map(odd.raises, [kind], return_exceptions=True)
        is_right(kind, kept)
    pool.join()


def test_of_an_executor(ctx: Any) -> None:
    with ProcessPoolExecutor(1, mp_context=ctx) as executor:
        for kind in KINDS:
            future = executor.submit(odd.raises, kind)
            error = future.exception(30)
            assert error is not None
            is_right(kind, error)
        error = executor.submit(odd.raises_base).exception(30)
        assert type(error) is odd.HostileBase


def test_that_are_no_errors(ctx: Any) -> None:
    with ctx.Pool(1) as pool:
        with pytest.raises(manyhands.TaskError) as caught:
            pool.apply(odd.raises_base)
        assert type(caught.value.exception) is odd.HostileBase
    pool.join()


@pytest.mark.methods("fork")
def test_the_name_of_a_missing_attribute(ctx: Any) -> None:
    with ctx.Pool(1) as pool:
        with pytest.raises(AttributeError) as caught:
            pool.apply(odd.misses_an_attribute)
        assert caught.value.name == "nothing"
    pool.join()
