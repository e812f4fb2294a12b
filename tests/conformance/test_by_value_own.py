"""What a class has of its own goes by value though a base has the same; and like classes of two processes stay two."""

from __future__ import annotations

import enum
import functools
from typing import Any

import pytest


def echo(item: Any) -> Any:
    return item


def attributes(cls: Any) -> dict[str, Any]:
    """Those that a program has given it."""
    return {name: value for name, value in vars(cls).items() if not name.startswith("__")}


def make_class() -> Any:
    class Made:
        pass

    return Made


class TestWhatABaseHasToo:
    def test_is_not_the_next_base_s(self, ctx: Any) -> None:
        class Far:
            value = 2

        class Near(Far):
            pass

        class Other:
            value = 1

        class Both(Near, Other):
            value = 1

        with ctx.Pool(1) as pool:
            assert pool.apply(lambda cls: cls.value, (Both,)) == 1

    def test_stays_when_the_base_changes(self, ctx: Any) -> None:
        class Base:
            value, nothing, pair = 1, None, (1, 2)

            def method(self) -> str:
                return "the base's"

        class Derived(Base):
            value, nothing, pair, method = 1, None, Base.pair, Base.method

        def found(cls: Any) -> tuple[Any, ...]:
            return cls.value, cls.nothing, cls.pair, cls().method()

        with ctx.Pool(1) as pool:
            assert pool.apply(found, (Derived,)) == (1, None, (1, 2), "the base's")
            Base.value, Base.nothing, Base.pair = 5, 6, (7,)  # type: ignore[assignment]
            Base.method = lambda _self: "another"  # type: ignore[method-assign]
            assert pool.apply(found, (Derived,)) == (1, None, (1, 2), "the base's")
            assert pool.apply(found, (Base,)) == (5, 6, (7,), "another")

    def test_is_deleted_with_it_left_in_the_base(self, ctx: Any) -> None:
        class Base:
            value = 1

        class Derived(Base):
            value = 1

        with ctx.Pool(1) as pool:
            assert pool.apply(attributes, (Derived,)) == {"value": 1}
            del Derived.value
            assert pool.apply(attributes, (Derived,)) == {}
            Derived.value = 1
            assert pool.apply(attributes, (Derived,)) == {"value": 1}

    def test_that_can_change_is_one(self, ctx: Any) -> None:
        class Base:
            seen: list[int] = []

        class Derived(Base):
            seen = Base.seen

        def is_shared(cls: Any) -> bool:
            cls.seen.append(1)
            return bool(cls.seen is cls.__base__.seen)

        with ctx.Pool(1) as pool:
            assert pool.apply(is_shared, (Derived,))

    def test_that_is_a_builtin_type_s(self, ctx: Any) -> None:
        class Derived(dict):  # type: ignore[type-arg]
            get, __repr__ = dict.get, dict.__repr__

        with ctx.Pool(1) as pool:
            assert pool.apply(attributes, (Derived,)) == {"get": dict.get}
            assert pool.apply(lambda cls: vars(cls)["__repr__"], (Derived,)) is dict.__repr__

    def test_slots(self, ctx: Any) -> None:
        class Base:
            __slots__ = ("__hidden", "first")

            def put(self, value: int) -> int:
                self.__hidden = self.first = value
                return self.__hidden

        class Derived(Base):
            __slots__ = ("second",)
            again = Base.first

        def use(cls: Any) -> tuple[Any, ...]:
            one = cls()
            return one.put(3), one.again, hasattr(one, "__dict__")

        with ctx.Pool(1) as pool:
            assert pool.apply(use, (Derived,)) == (3, 3, False)
            assert pool.apply(echo, (Derived,)) is Derived


def test_a_class_whose_module_is_the_next_bases(ctx: Any) -> None:
    """A receiver that has set the module's name need not delete it."""

    class Base:
        value = 1

    class Derived(Base):
        value = 2

    with ctx.Pool(1) as pool:
        for module in ("another", Base.__module__, "a third", Base.__module__):
            Derived.__module__ = module
            assert pool.apply(lambda cls: (cls.__module__, cls.value), (Derived,)) == (module, 2)


class TestOfTwoProcesses:
    @pytest.fixture
    def pools(self, ctx: Any) -> Any:
        with ctx.Pool(1) as first, ctx.Pool(1) as second:
            yield first, second

    def test_like_classes_stay_two(self, pools: Any) -> None:
        first, second = pools
        one, other = first.apply(make_class), second.apply(make_class)
        assert one is not other
        for pool in pools:
            assert pool.apply(len, ({one: 1, other: 2},)) == 2
            assert pool.apply(echo, (one,)) is one
            assert pool.apply(echo, (other,)) is other
            assert type(pool.apply(echo, (one(),))) is one

    def test_the_only_one_is_the_parents(self, ctx: Any) -> None:
        with ctx.Pool(1) as pool:
            mine = make_class()
            assert pool.apply(echo, (mine,)) is mine


class TestEnumerationsThatChange:
    def test_what_is_private_to_it(self, ctx: Any) -> None:
        class Kind(enum.Enum):
            ONE = 1
            __table = {}

            @classmethod
            def put(cls, key: str) -> None:
                cls.__table[key] = 1

            @classmethod
            def keys(cls) -> list[str]:
                return list(cls.__table)

        with ctx.Pool(1) as pool:
            assert pool.apply(lambda: Kind.keys()) == []
            Kind.put("key")
            assert pool.apply(lambda: Kind.keys()) == ["key"]

    def test_what_a_member_has_no_more(self, ctx: Any) -> None:
        with ctx.Pool(1) as pool:

            class Kind(enum.Enum):
                ONE = 1

            extra = functools.partial(getattr, Kind.ONE, "extra", None)
            Kind.ONE.extra = 5  # type: ignore[attr-defined]
            assert pool.apply(extra) == 5
            del Kind.ONE.extra  # type: ignore[attr-defined]
            assert pool.apply(extra) is None
