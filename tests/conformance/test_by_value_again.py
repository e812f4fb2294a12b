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
    return Config(), Outer.Inner(), Kept()

def functions():
    return step

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
