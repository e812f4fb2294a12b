"""Which functions and classes of the main module use names that have been defined again. Used by `_pickler`;
and by `_marks`, for which names are used at all.

A child that has them from above a start would use what it has of these names; so they go by value, with those.
"""

from __future__ import annotations

import types

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

__all__ = ["names_used", "used_by", "users_of"]


def users_of(again: set[str], defined: Mapping[str, object]) -> set[str]:
    """The names, of those that are defined, by which one of the first is used, or one that uses it."""
    uses = {name: set(_names(value)) for name, value in defined.items()}
    found, ahead = set[str](), set(again)
    while ahead:
        users = {name for name, used in uses.items() if used & ahead} - found - again
        found |= users
        ahead = users
    return found


def used_by(name: str, defined: Mapping[str, Callable[[], object]]) -> set[str]:
    """The names, of those that are defined, that something of that name uses, and what these use, itself included."""
    found, ahead = set[str](), {name}
    while ahead:
        found |= ahead
        ahead = {used for each in ahead for used in _names(defined[each]()) if used in defined} - found
    return found


def names_used(value: object) -> set[str]:
    """The names that the code of that function or class uses."""
    return set(_names(value))


def _names(value: Any) -> Iterator[str]:
    for code in _codes(value):
        yield from _names_of_code(code)


def _codes(value: Any) -> Iterator[types.CodeType]:
    if isinstance(value, type):
        for each in list(vars(value).values()):
            if not isinstance(each, type) or each.__qualname__.startswith(f"{value.__qualname__}."):
                yield from _codes(each)
        return
    for part in ("__func__", "__wrapped__", "fget", "fset", "fdel", "func"):
        inner = (
            value.__dict__.get(part) if isinstance(value, types.FunctionType) else getattr(value, part, None)
        )
        if isinstance(inner, types.FunctionType) and inner is not value:
            yield from _codes(inner)
    if isinstance(value, types.FunctionType):
        yield value.__code__


def _names_of_code(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_of_code(constant)
