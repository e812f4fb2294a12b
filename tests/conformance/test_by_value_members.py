"""Members of enumerations, and functions that share something: by value they are what they were."""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterator
from typing import Any

import by_value_kinds
import pytest


@pytest.fixture(params=["before the pool", "after it"])
def made_and_pool(ctx: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    before = enumerations()
    with ctx.Pool(1) as pool:
        yield before if request.param == "before the pool" else enumerations(), pool


def enumerations() -> dict[str, Any]:
    class Colour(enum.Enum):
        RED = 1
        CRIMSON = 1  # noqa: PIE796
        BLUE = 2

        @property
        def twice(self) -> int:
            return self.value * 2

    class Planet(enum.Enum):
        EARTH = (5, 6)
        MARS = (3, 4)

        def __init__(self, mass: int, radius: int) -> None:
            self.mass, self.radius = mass, radius

    class Letter(bytes, enum.Enum):
        label: str

        def __new__(cls, value: int, label: str) -> Any:
            made = bytes.__new__(cls, value)
            made._value_ = value  # type: ignore[assignment]
            made.label = label
            return made

        A = (1, "a")
        B = (2, "b")

    class Right(enum.Flag):
        READ = 1
        WRITE = 2
        BOTH = 3

    class Number(enum.IntFlag):
        X = enum.auto()
        Y = enum.auto()

    class Word(enum.StrEnum):
        ONE = enum.auto()

    class Pair(tuple, enum.Enum):  # type: ignore[type-arg]
        ONE = (1, 2)
        TWO = (3, 4)

    class Odd(enum.Enum):
        LIST = [1]
        TABLE = {"a": 1}

        @classmethod
        def _missing_(cls, value: object) -> Any:
            return cls.LIST

    class Opposite(enum.Enum):
        LEFT = 1
        RIGHT = 2

    Opposite.LEFT.other = Opposite.RIGHT  # type: ignore[attr-defined]
    Opposite.RIGHT.other = Opposite.LEFT  # type: ignore[attr-defined]
    made = (Colour, Planet, Letter, Right, Number, Word, Pair, Odd, Opposite)
    functional = enum.Enum("Functional", "P Q"), enum.IntEnum("Functional", {"P": 1, "Q": 2})  # type: ignore[misc]
    return {cls.__name__: cls for cls in made} | {"functional": functional[0], "ints": functional[1]}


def look(made: dict[str, Any]) -> dict[str, Any]:
    """What a process finds out about them."""
    colour, planet, letter, right = made["Colour"], made["Planet"], made["Letter"], made["Right"]
    return {
        "names": {name: list(cls.__members__) for name, cls in made.items()},
        "alias": (colour.CRIMSON is colour.RED, colour["CRIMSON"].name, colour.RED.twice, len(colour)),
        "init": (planet.MARS.mass, planet((3, 4)) is planet.MARS, planet.EARTH.value),
        "new": (letter.B.label, letter(2) is letter.B, bytes(letter.B), letter.A.value),
        "flags": (
            repr(right.READ | right.WRITE),
            right(3) is right.BOTH,
            ~right.READ is right.WRITE,
            len(right),
        ),
        "numbers": (made["Number"].X | made["Number"].Y == 3, made["Word"].ONE == "one"),
        "tuple": (made["Pair"].TWO == (3, 4), made["Pair"]((1, 2)) is made["Pair"].ONE, made["Pair"].ONE[1]),
        "odd": (made["Odd"]([1]) is made["Odd"].LIST, made["Odd"](77).name, made["Odd"].TABLE.value),
        "others": made["Opposite"].LEFT.other.other is made["Opposite"].LEFT,
        "functional": (made["functional"].Q.value, made["ints"].Q == 2, made["ints"](1).name),
    }


class TestEnumerations:
    def test_are_what_they_were(self, made_and_pool: Any) -> None:
        made, pool = made_and_pool
        assert pool.apply(look, (made,)) == look(made)

    def test_members_come_back(self, made_and_pool: Any) -> None:
        made, pool = made_and_pool
        members = [member for cls in made.values() for member in cls.__members__.values()]
        assert [
            there
            for here, there in zip(members, pool.apply(echo, (members,)), strict=True)
            if here is not there
        ] == []
        for member in members:
            assert pool.apply(echo, (member,)) is member
        assert pool.apply(lambda: {made["Colour"].RED: 1}[made["Colour"].CRIMSON]) == 1

    def test_an_attribute_of_a_member_that_has_changed(self, made_and_pool: Any) -> None:
        made, pool = made_and_pool
        planet = made["Planet"]
        assert pool.apply(lambda: planet.MARS.mass) == 3
        planet.MARS.mass = 30
        planet.extra = "new"
        assert pool.apply(lambda: (planet.MARS.mass, planet.extra)) == (30, "new")


def echo(item: Any) -> Any:
    return item


class TestFunctions:
    def test_share_a_variable(self, ctx: Any) -> None:
        def counter() -> Any:
            count = 0

            def step() -> int:
                nonlocal count
                count += 1
                return count

            return step, lambda: count

        def use(step: Any, get: Any) -> list[int]:
            return [step(), get(), step(), get()]

        with ctx.Pool(1) as pool:
            assert pool.apply(use, counter()) == [1, 1, 2, 2]

    def test_that_use_each_other_and_themselves(self, ctx: Any) -> None:
        def even(number: int) -> bool:
            return number == 0 or odd(number - 1)

        def odd(number: int) -> bool:
            return number != 0 and even(number - 1)

        @functools.cache
        def fibonacci(number: int) -> int:
            return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)

        def itself() -> Any:
            return itself

        with ctx.Pool(1) as pool:
            assert pool.apply(lambda: (even(4), odd(4), fibonacci(20), itself() is itself)) == (
                True,
                False,
                6765,
                True,
            )
            back = pool.apply(echo, ((even, odd, fibonacci, itself),))
            assert all(
                here is there for here, there in zip((even, odd, fibonacci, itself), back, strict=True)
            )

    def test_of_singledispatch(self, ctx: Any) -> None:
        @functools.singledispatch
        def kind(_value: Any) -> str:
            return "any"

        point, value = by_value_kinds.values(1)["dataclass"]
        kind.register(int, lambda _value: "int")
        kind.register(point, lambda _value: "point")
        with ctx.Pool(1) as pool:
            assert pool.map(kind, [1, value, "x"], chunksize=1) == ["int", "point", "any"]
            assert pool.apply(echo, (kind,)) is kind
            kind.register(str, lambda _value: "str")
            assert pool.map(kind, [1, value, "x"], chunksize=1) == ["int", "point", "str"]


def test_what_a_member_was_given_before_its_first_message_goes_along(made_and_pool: Any) -> None:
    made, pool = made_and_pool
    red = made["Colour"].RED
    red.note = ["first"]
    assert pool.apply(lambda: red.note) == ["first"]
    assert pool.apply(lambda: type(red).RED is red)
    assert pool.apply(lambda: red) is red
    red.note = "second"
    assert pool.apply(lambda: red.note) == "second"
    del red.note
    assert pool.apply(lambda: hasattr(red, "note")) is False


def test_what_a_member_lost_before_its_first_message_is_lost(made_and_pool: Any) -> None:
    made, pool = made_and_pool
    earth = made["Planet"].EARTH
    del earth.mass
    earth.radius = 7
    assert pool.apply(lambda: (hasattr(earth, "mass"), earth.radius)) == (False, 7)
