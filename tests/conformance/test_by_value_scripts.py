"""Scripts that define below their first start, bind classes to other names, define again, or are run by `runpy`.

The child has, or lacks, what is sent to it; either way it is one class there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HELPER = """
def hello(queue):
    queue.put("hello")

def start_one():
    queue = ctx.SimpleQueue()
    helper = ctx.Process(target=hello, args=(queue,))
    helper.start()
    print(queue.get())
    helper.join()
"""

DEFINITIONS = """
import dataclasses, enum, functools

class Color(enum.Enum):
    RED = 1
    GREEN = 2

@dataclasses.dataclass(frozen=True)
class Point:
    x: int

class TooMuch(Exception):
    pass

class Outer:
    class Inner:
        pass

ORIGIN = Point(0)
NAMES = {Color.RED: "red", Color.GREEN: "green"}
FUNCTIONS = {hello: "hello"}

@functools.lru_cache(None)
def name_of(color):
    return NAMES.get(color, "unknown")

def is_red(color):
    return color is Color.RED

def is_origin(point):
    return point == ORIGIN and type(point) is Point

def is_inner(inner):
    return isinstance(inner, Outer.Inner)

def fails(_):
    raise TooMuch("x")

def catches(function):
    try:
        function(0)
    except TooMuch:
        return True

def knows(function):
    return FUNCTIONS.get(function), function is hello

def gives(_):
    return Color.RED, Point(0), Outer.Inner(), TooMuch("x")
"""

USE = """
with ctx.Pool(2) as pool:
    print(pool.map(is_red, list(Color)), pool.map(is_origin, [Point(0), Point(1)]), pool.map(name_of, list(Color)))
    print(pool.apply(catches, (fails,)), pool.apply(is_inner, (Outer.Inner(),)), pool.apply(knows, (hello,)))
    print(pool.map(lambda color: (color is Color.RED, name_of(color)), list(Color)))
    member, point, inner, error = pool.apply(gives, (0,))
    print(member is Color.RED, point == ORIGIN, type(inner) is Outer.Inner, type(error) is TooMuch)
    try:
        pool.apply(fails, (0,))
    except TooMuch:
        print("caught")
"""

EXPECTED = """\
[True, False] [True, False] ['red', 'green']
True True ('hello', True)
[(True, 'red'), (False, 'green')]
True True True True
caught
"""


def _header(ctx: Any) -> str:
    return f"import manyhands as mp\nctx = mp.get_context({ctx.get_start_method()!r})\n"


def _run(text: str, folder: Path, *flags: str) -> str:
    (folder / "program.py").write_text(text)
    done = subprocess.run(
        [sys.executable, *flags, "program.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=50,
        input="",
    )
    assert (done.returncode, done.stderr.replace(">>> ", "").strip()) == (0, "")
    return done.stdout


def _guarded(text: str) -> str:
    return 'if __name__ == "__main__":\n' + "".join(f"    {line}\n" for line in text.strip().splitlines())


def test_below_the_first_start_of_a_guarded_script(ctx: Any, tmp_path: Path) -> None:
    text = _header(ctx) + HELPER + _guarded("start_one()") + DEFINITIONS + _guarded(USE)
    assert _run(text, tmp_path) == "hello\n" + EXPECTED


def test_below_the_first_start_of_an_unguarded_script(ctx: Any, tmp_path: Path) -> None:
    assert _run(_header(ctx) + HELPER + "start_one()\n" + DEFINITIONS + USE, tmp_path) == "hello\n" + EXPECTED


OTHER_NAMES = """
import collections, dataclasses, enum

Colour = enum.Enum("Color", "RED GREEN")
Pair = collections.namedtuple("P", "x y")
Cell = dataclasses.make_dataclass("C", ["x"])

def replaced(cls):
    class New(cls):
        pass
    return New

def marker():
    class Marker:
        pass
    return Marker

@replaced
class Shape:
    pass

MISSING, EMPTY = marker(), marker()
TABLE = {"first": marker(), "second": marker()}
double = lambda number: 2 * number
HANDLERS = {double: "double"}

def look(colour, pair, cell, shape, missing, second, function):
    return (
        colour is Colour.RED, isinstance(pair, Pair), cell == Cell(1), isinstance(shape, Shape),
        missing is MISSING, missing is EMPTY, second is TABLE["second"], HANDLERS.get(function),
    )

def give():
    return Colour.RED, Pair(1, 2), Cell(1), Shape(), MISSING, TABLE["second"], double
"""

USE_OTHER_NAMES = """
with ctx.Pool(2) as pool:
    print(pool.apply(look, (Colour.RED, Pair(1, 2), Cell(1), Shape(), MISSING, TABLE["second"], double)))
    print(look(*pool.apply(give)))
"""

FOUND = "(True, True, True, True, True, False, True, 'double')\n"


def test_classes_that_are_bound_to_other_names(ctx: Any, tmp_path: Path) -> None:
    assert _run(_header(ctx) + OTHER_NAMES + _guarded(USE_OTHER_NAMES), tmp_path) == 2 * FOUND


def test_of_a_module_that_is_imported(ctx: Any, tmp_path: Path) -> None:
    (tmp_path / "shapes.py").write_text(OTHER_NAMES)
    text = _header(ctx) + "from shapes import *\n" + _guarded(USE_OTHER_NAMES)
    assert _run(text, tmp_path) == 2 * FOUND


DEFINED_AGAIN = """
class Shape:
    sides = 3
    def name(self):
        return "first"

def sides(shape):
    return shape.sides, shape.name(), isinstance(shape, Shape)

old = Shape()
start_one()

class Shape:
    sides = 4
    def name(self):
        return "second"

def again(shape):
    return shape.sides, shape.name(), isinstance(shape, Shape), Shape.sides

with ctx.Pool(1) as pool:
    print(pool.map(again, [Shape(), old], chunksize=1), type(pool.apply(lambda: Shape())) is Shape)
    print(type(pool.apply(lambda shape: shape, (old,))) is type(old))
"""


@pytest.mark.methods("forkserver", "spawn")
def test_defined_again_below_a_start(ctx: Any, tmp_path: Path) -> None:
    """The child ended above: what its main module has there is not what the parent has now."""
    assert (
        _run(_header(ctx) + HELPER + DEFINED_AGAIN, tmp_path)
        == "hello\n[(4, 'second', True, 4), (3, 'first', False, 4)] True\nTrue\n"
    )


def test_an_instance_of_a_class_that_was_replaced(ctx: Any, tmp_path: Path) -> None:
    """In a guarded script all processes have the later class, and what the earlier has made is of another."""
    text = """
class Shape:
    sides = 3

old = Shape()

class Shape:
    sides = 4

def look(shape):
    return shape.sides, isinstance(shape, Shape), type(shape) is type(old)
"""
    use = "with ctx.Pool(1) as pool: print(pool.map(look, [old, Shape()]), pool.apply(Shape).sides)"
    assert _run(_header(ctx) + text + _guarded(use), tmp_path) == "[(3, False, True), (4, True, False)] 4\n"


RUNS = """
import runpy
for name in ("one.py", "two.py", "one.py"):
    runpy.run_path(name, run_name="__main__")
"""

RUN = """
class Point:
    def __init__(self, x): self.x = x
    def scaled(self): return FACTOR * self.x

def is_point(point):
    return type(point) is Point, point.scaled()

def give(_):
    return Point(3)

if __name__ == "__main__":
    with ctx.Pool(1) as pool:
        look = lambda point: (type(point) is Point, point.scaled())
        print(pool.map(is_point, [Point(1)]), pool.apply(look, (Point(2),)))
        print(type(pool.apply(give, (0,))) is Point)

class Late:
    pass

def is_late(late):
    return type(late) is Late, FACTOR

if __name__ == "__main__":
    with ctx.Pool(1) as pool:
        print(pool.map(is_late, [Late()]), type(pool.apply(Late)) is Late)
"""


def test_several_scripts_in_one_interpreter(ctx: Any, tmp_path: Path) -> None:
    for name, factor in (("one", 1), ("two", 10)):
        (tmp_path / f"{name}.py").write_text(_header(ctx) + f"FACTOR = {factor}\n" + RUN)
    once = "[(True, {0})] (True, {1})\nTrue\n[(True, {0})] True\n"
    expected = once.format(1, 2) + once.format(10, 20) + once.format(1, 2)
    assert _run(_guarded(RUNS), tmp_path) == expected
