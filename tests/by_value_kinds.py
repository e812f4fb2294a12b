"""Classes that a function makes, of every kind: each call makes others, which have no name."""

from __future__ import annotations

import abc
import collections
import dataclasses
import enum
import functools
import typing
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def values(number: int) -> dict[str, Any]:
    """Classes whose instances are compared by value."""

    class Colour(enum.Enum):
        RED = 1
        GREEN = 2

    class Right(enum.Flag):
        READ = 1
        WRITE = 2

    @dataclasses.dataclass(frozen=True)
    class Point:
        x: int

        def moved(self) -> Any:
            return Point(self.x + number)

    @dataclasses.dataclass(slots=True)
    class Slotted:
        x: int

    class Named(typing.NamedTuple):
        a: int
        b: str = "b"

    @functools.total_ordering
    class Ordered:
        def __init__(self, value: int) -> None:
            self.value = value

        def __lt__(self, other: Any) -> bool:
            return bool(self.value < other.value)

        def __eq__(self, other: object) -> bool:
            return type(other) is type(self) and self.value == other.value  # type: ignore[attr-defined]

        def __hash__(self) -> int:
            return self.value

    pair = collections.namedtuple("Pair", "a b")
    return {
        "enum": (Colour, Colour.RED),
        "flag": (Right, Right.READ | Right.WRITE),
        "dataclass": (Point, Point(1)),
        "slots": (Slotted, Slotted(2)),
        "typed tuple": (Named, Named(1)),
        "ordered": (Ordered, Ordered(3)),
        "named tuple": (pair, pair(1, 2)),
    }


def others(number: int) -> dict[str, Any]:
    """Classes with a metaclass, with slots, with properties, that refer to each other."""

    class Meta(type):
        def __call__(cls, *arguments: Any) -> Any:
            made = super().__call__(*arguments)
            made.by = cls.__name__
            return made

    class Made(metaclass=Meta):
        pass

    class Abstract(abc.ABC):
        @abc.abstractmethod
        def number(self) -> int: ...

    class Concrete(Abstract):
        def number(self) -> int:
            return number

    class Box(Generic[T]):
        def __init__(self, value: T) -> None:
            self.value = value

    class Speaks(typing.Protocol):
        def number(self) -> int: ...

    class Entry(typing.TypedDict):
        key: str

    class Ping:
        def other(self) -> Any:
            return Pong()

    class Pong:
        def other(self) -> Any:
            return Ping()

    class Slots:
        __slots__ = ("__hidden", "open")

        def __init__(self) -> None:
            self.open, self.__hidden = 1, 2

        def total(self) -> int:
            return self.open + self.__hidden

    class Properties:
        @functools.cached_property
        def cached(self) -> int:
            return number

        @property
        def double(self) -> int:
            return 2 * number

        @staticmethod
        def static() -> int:
            return number

        @classmethod
        def own(cls) -> Any:
            return cls

    class Outer:
        class Inner:
            pass

    class Failure(Exception):
        pass

    made = (Meta, Made, Abstract, Concrete, Box, Speaks, Entry, Ping, Pong, Slots, Properties, Outer, Failure)
    return {cls.__name__: cls for cls in made} | {"Inner": Outer.Inner}


def echo(requests: Any, answers: Any) -> None:
    answers.put(requests.get())


def uses(classes: dict[str, Any], failing: Any) -> dict[str, Any]:
    """What a receiver of the classes finds out."""
    try:
        raise failing("x")
    except classes["Failure"] as error:
        caught = type(error) is classes["Failure"]
    slots, properties = classes["Slots"](), classes["Properties"]()
    return {
        "caught": caught,
        "metaclass": classes["Made"]().by,
        "abstract": (isinstance(classes["Concrete"](), classes["Abstract"]), classes["Concrete"]().number()),
        "generic": (classes["Box"][int](1).value, classes["Box"].__parameters__ == (T,)),
        "each other": type(classes["Ping"]().other().other()) is classes["Ping"],
        "slots": (slots.total(), hasattr(slots, "__dict__")),
        "properties": (
            properties.cached,
            properties.double,
            properties.static(),
            properties.own() is type(properties),
        ),
        "names": (classes["Inner"].__qualname__, classes["Outer"].Inner is classes["Inner"]),
        "typed": classes["Entry"](key="k"),
    }
