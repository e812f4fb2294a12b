"""Exceptions of odd kinds, and pools and executors that change the insides of the standard library's."""

from __future__ import annotations

import dataclasses
import os
from typing import Any


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int
    text: str = "t"


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlots(Exception):
    code: int


class ReadOnly(Exception):
    """Lets nobody set an attribute; has some, and notes."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.__dict__.update(code=code, __notes__=["a note"])

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"read-only: {name}")


class HostileBase(BaseException):
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"read-only: {name}")


class Hostile(Exception):
    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    def __hash__(self) -> int:
        raise ZeroDivisionError

    def __bool__(self) -> bool:
        raise ZeroDivisionError

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class BadRepr(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


def make(kind: str) -> BaseException:
    made: dict[str, BaseException] = {
        "frozen": Frozen(3, "three"),
        "frozen slots": FrozenSlots(3),
        "read only": ReadOnly(3),
        "hostile": Hostile(3),
        "bad repr": BadRepr(3),
        "group": ExceptionGroup("many", [Frozen(1), ExceptionGroup("inner", [KeyError("k")])]),
    }
    return made[kind]


def raises(kind: str) -> None:
    raise make(kind)


def raises_base() -> None:
    raise HostileBase(3)


def misses_an_attribute() -> None:
    object().nothing  # type: ignore[attr-defined]  # noqa: B018


#: The overridden steps of which a pool or an executor was made, in this process.
steps: list[str] = []


def stepping(base: Any, names: str, **attributes: Any) -> Any:
    """A subclass in which these methods note that they were called, and do what they do in the base."""

    def override(name: str) -> Any:
        def called(self: Any, *args: Any, **kwds: Any) -> Any:
            steps.append(name)
            return getattr(super(made, self), name)(*args, **kwds)

        return called

    made = type("Stepping", (base,), {**{name: override(name) for name in names.split()}, **attributes})
    return made


def pid(_item: object = None) -> int:
    return os.getpid()


def square(item: int) -> int:
    return item * item
