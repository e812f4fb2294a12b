"""What a script defines again after a start, takes from a class, or finds in a traceback of code that travelled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HEADER = "import functools, sys\nimport manyhands as mp\nctx = mp.get_context({0!r})\n"

ABOVE = """
class Config:
    rate = 0.1
    options = ["a"]

class Outer:
    class Inner:
        version = 1

class Kept:
    limit = 1

def step(number, by=[1]):
    return number + by[0]

@functools.lru_cache(None)
def cached(number, by=[1]):
    return number + by[0]

def make():
    return first[0](), first[1](), Kept()

def functions():
    return first[2]

first = Config, Outer.Inner, step
"""

AGAIN = """
class Config:
    rate = 0.5
    options = ["b"]

class Outer:
    class Inner:
        version = 2

def step(number, by=[2]):
    return number + by[0]

@functools.lru_cache(None)
def cached(number, by=[2]):
    return number + by[0]
"""


def _run(ctx: Any, text: str, folder: Path) -> str:
    (folder / "program.py").write_text(HEADER.format(ctx.get_start_method()) + text)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_only_data_differ(ctx: Any, tmp_path: Path) -> None:
    """What the code does is the same: the child must not take the class that it has for the later one."""
    text = """
with ctx.Pool(1) as pool:
    pass
pool = ctx.Pool(1)
print(pool.apply(lambda: (Config.rate, Config.options)))
AGAIN
print(pool.apply(lambda: (Config.rate, Config.options, Outer.Inner.version)))
print(pool.map(lambda each: each.rate, [Config(), first[0]()]))
print(pool.apply(lambda each: type(each), (Config(),)) is Config)
print(pool.apply(lambda each: type(each), (first[0](),)) is first[0])
print(pool.apply(lambda: (step(1), cached(1))), pool.apply(lambda: step) is step)
pool.terminate()
"""
    assert _run(ctx, ABOVE + text.replace("AGAIN", AGAIN), tmp_path) == (
        "(0.1, ['a'])\n(0.5, ['b'], 2)\n[0.5, 0.1]\nTrue\nTrue\n(3, 3) True\n"
    )


@pytest.mark.methods("forkserver", "spawn")
def test_what_a_child_has_from_above_comes_back_as_that(ctx: Any, tmp_path: Path) -> None:
    text = """
pool = ctx.Pool(1)
AGAIN
Kept.limit = 2
config, inner, kept = pool.apply(make)
print(type(config) is first[0], type(inner) is first[1], type(kept) is Kept, pool.apply(functions) is first[2])
first = None
config = pool.apply(make)[0]
print(config.rate, type(config) is Config)
pool.terminate()
"""
    assert _run(ctx, ABOVE + text.replace("AGAIN", AGAIN), tmp_path) == "True True True True\n0.1 False\n"


@pytest.mark.methods("forkserver", "spawn")
def test_the_number_of_names_stays(ctx: Any, tmp_path: Path) -> None:
    """By name it would be another one: of a function, an instance, a class, to a process and over a pipe."""
    text = """
config = queue = ours = theirs = process = None
def get(config):
    return config.rate
def put(config, queue):
    queue.put((config.rate, type(config)))
pool = ctx.Pool(1)
print(pool.apply(get, (Config(),)), pool.apply(step, (1,)))
AGAIN
print(pool.apply(get, (Config(),)), pool.apply(step, (1,)))
queue = ctx.SimpleQueue()
process = ctx.Process(target=put, args=(Config(), queue))
process.start()
config = queue.get()
process.join()
print(config[0], config[1] is Config)
pool.terminate()
"""
    assert _run(ctx, ABOVE + text.replace("AGAIN", AGAIN), tmp_path) == "0.1 2\n0.5 3\n0.5 True\n"


@pytest.mark.methods("forkserver", "spawn")
def test_defined_a_third_time(ctx: Any, tmp_path: Path) -> None:
    """What came to a child goes back as what it came as."""
    text = """
pool = ctx.Pool(1)
def keep(config):
    global kept
    kept = type(config)
    return type(config) is Config
def give():
    return kept()
class Config:
    rate = 2
second = Config
print(pool.apply(keep, (Config(),)))
class Config:
    rate = 3
config = pool.apply(give)
print(config.rate, type(config) is second, pool.apply(lambda: Config.rate))
pool.terminate()
"""
    assert _run(ctx, "class Config:\n    rate = 1\n" + text, tmp_path) == "True\n2 True 3\n"


@pytest.mark.methods("forkserver", "spawn")
def test_under_the_guard(ctx: Any, tmp_path: Path) -> None:
    """The child has run the whole module: its name stays, and an instance is of the class that it was made by."""
    text = """
class Config:
    rate = 1
def get(config):
    return config.rate, type(config) is Config
if __name__ == "__main__":
    with ctx.Pool(1) as pool:
        print(pool.map(get, [Config()]))
        class Config:
            rate = 2
        print(pool.map(get, [Config()]), pool.map(lambda config: type(config), [Config()])[0] is Config)
"""
    assert _run(ctx, text, tmp_path) == "[(1, True)]\n[(2, False)] True\n"


def test_what_uses_a_name_that_is_defined_again(ctx: Any, tmp_path: Path) -> None:
    """It was defined above, and goes by name otherwise."""
    text = """
def rate(): return 1
def scaled(number): return rate() * number
class Scale:
    def of(self): return scaled(1)
class Bad(Exception): code = 1
def fails(): raise Bad("x")
pool = ctx.Pool(1)
print(pool.apply(lambda: scaled(1)))
def rate(): return 2
class Bad(Exception): code = 2
print(pool.map(scaled, [1]), pool.apply(Scale().of), pool.apply(lambda: scaled) is scaled)
try:
    pool.apply(fails)
except Bad as error:
    print(error.code)
pool.terminate()
"""
    assert _run(ctx, text, tmp_path) == "1\n[2] 2 True\n2\n"


def test_defined_again_and_again(ctx: Any, tmp_path: Path) -> None:
    text = """
class Shape: sides = 0
pool = ctx.Pool(1)
for number in range(1, 4):
    class Shape: sides = number
    print(pool.map(lambda shape: (shape.sides, type(shape) is Shape), [Shape()]), end=" ")
    print(type(pool.apply(lambda: Shape())) is Shape)
pool.terminate()
"""
    assert _run(ctx, text, tmp_path) == "".join(f"[({number}, True)] True\n" for number in range(1, 4))


KINDS = """
import collections, dataclasses, enum, typing
first = None
pool = None
"""

EACH_KIND = """
@dataclasses.dataclass
class Data:
    x: int = NUMBER
class Tuple(typing.NamedTuple):
    x: int = NUMBER
class Member(enum.Enum):
    A = NUMBER
Pair = collections.namedtuple("Pair", "x", defaults=[NUMBER])
class Base:
    value = NUMBER
class Derived(Base):
    pass
class Meta(type):
    def number(cls):
        return NUMBER
class Made(metaclass=Meta):
    pass
class Told:
    "number NUMBER"
class Outer:
    class Inner:
        def number(self):
            return NUMBER
handler = lambda: NUMBER
def tagged():
    pass
tagged.tag = NUMBER
Typed = typing.NewType("Typed", TYPE)
"""

USE_EACH_KIND = """
def look():
    return (
        Data().x, Tuple().x, Member.A.value, Pair().x, Derived().value, Made.number(), Told.__doc__,
        Outer.Inner().number(), handler(), tagged.tag, Typed.__supertype__.__name__,
    )
here = (Data, Tuple, Pair, Derived, Made, Told)
there = pool.map(lambda cls: cls(), here)
print(pool.apply(lambda: look()))
print([type(each) is cls for each, cls in zip(there, here)], pool.apply(lambda: Member.A) is Member.A)
pool.terminate()
"""


def test_each_kind_defined_again(ctx: Any, tmp_path: Path) -> None:
    first, again = (
        EACH_KIND.replace("NUMBER", str(number)).replace("TYPE", kind)
        for number, kind in ((1, "int"), (2, "str"))
    )
    text = KINDS + first + "pool = ctx.Pool(1)\n" + again + USE_EACH_KIND
    assert _run(ctx, text, tmp_path) == (
        "(2, 2, 2, 2, 2, 2, 'number 2', 2, 2, 2, 'str')\n[True, True, True, True, True, True] True\n"
    )


def test_an_earlier_one_that_the_child_still_names(ctx: Any, tmp_path: Path) -> None:
    """It goes back by value: here the name means another one."""
    text = """
class Config: rate = 1
first = Config
def is_first(config): return type(config) is first
def give(): return first()
if __name__ == "__main__":
    class Config: rate = 2
    with ctx.Pool(1) as pool:
        print(pool.apply(is_first, (first(),)), type(pool.apply(give)) is first)
"""
    assert _run(ctx, text, tmp_path) == "True True\n"


def test_a_module_that_is_loaded_again(ctx: Any, tmp_path: Path) -> None:
    (tmp_path / "shapes.py").write_text("class Shape:\n    sides = 3\n")
    text = """
import importlib, shapes
old = shapes.Shape
def look(shape): return type(shape) is shapes.Shape
if __name__ == "__main__":
    importlib.reload(shapes)
    with ctx.Pool(1) as pool:
        print(pool.map(look, [old(), shapes.Shape()]), type(pool.apply(lambda shape: shape, (old(),))) is old)
"""
    assert _run(ctx, text, tmp_path) == "[False, True] True\n"


def test_a_class_that_loses_attributes_and_changes_its_bases(ctx: Any) -> None:
    def classes() -> Any:
        class First:
            def name(self) -> str:
                return "first"

        class Second:
            more = 7

            def name(self) -> str:
                return "second"

        class Third(First):
            limit, other = 1, 2

        return First, Second, Third

    def look(cls: Any) -> Any:
        return getattr(cls, "limit", None), cls.other, cls().name(), getattr(cls, "more", None), cls

    before = classes()
    with ctx.Pool(1) as pool:
        for _first, second, third in (before, classes()):
            assert pool.apply(look, (third,)) == (1, 2, "first", None, third)
            del third.limit
            third.other = 3
            assert pool.apply(look, (third,)) == (None, 3, "first", None, third)
            third.__bases__ = (second,)
            assert pool.apply(look, (third,)) == (None, 3, "second", 7, third)
            third.limit = 4
            second.more = 8
            assert pool.apply(look, (third,)) == (4, 3, "second", 8, third)


def test_a_worker_that_changes_its_copy_changes_nothing_here(ctx: Any) -> None:
    class Base:
        pass

    class Limits(Base):
        limit, other = 1, 2

    def change() -> Any:
        del Limits.limit
        Limits.other = 5
        return Limits, Limits()

    with ctx.Pool(1) as pool:
        assert pool.apply(change)[0] is Limits
    assert (Limits.limit, Limits.other) == (1, 2)


class TestFiles:
    def test_a_traceback_shows_the_line(self, ctx: Any, pool: Any) -> None:
        def fail() -> None:
            raise ValueError("here")

        with pytest.raises(ValueError, match="here") as caught:
            pool.apply(fail)
        assert __file__ in str(caught.value.__cause__)
        assert 'raise ValueError("here")' in str(caught.value.__cause__)

    def test_inspect_finds_the_source(self, pool: Any) -> None:
        class Shape:
            def sides(self) -> int:
                return 3

        def source() -> Any:
            import inspect

            return inspect.getsource(Shape.sides), Shape.sides.__code__.co_firstlineno

        text, line = pool.apply(source)
        assert text.strip().startswith("def sides")
        assert line == Shape.sides.__code__.co_firstlineno

    def test_a_cell_brings_its_text(self, pool: Any) -> None:
        import linecache

        text = "def fail():\n    raise ValueError('in a cell')\n"
        linecache.cache["<cell 17>"] = (len(text), None, text.splitlines(True), "<cell 17>")
        names: dict[str, Any] = {"__name__": "cells"}
        exec(compile(text, "<cell 17>", "exec"), names)
        with pytest.raises(ValueError, match="in a cell") as caught:
            pool.apply(names["fail"])
        assert "raise ValueError('in a cell')" in str(caught.value.__cause__)

    @pytest.fixture
    def pool(self, ctx: Any) -> Any:
        with ctx.Pool(1) as pool:
            yield pool
