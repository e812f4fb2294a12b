"""What is typed at a prompt or run in a notebook after its pool was made, under each start method."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

#: Each is typed by itself; what it prints follows.
CELLS: list[tuple[str, str]] = [
    ("import dataclasses, enum, functools, threading, manyhands as mp", ""),
    ("def square(x): return x * x", ""),
    (
        "class Point:\n    limit = 5\n    def __init__(self, x): self.x = x\n"
        "    def moved(self): return Point(self.x + k)",
        "",
    ),
    ("class Color(enum.Enum):\n    RED = 1", ""),
    ("k = 0; log = []; ctx = mp.get_context('METHOD')", ""),
    ("pool = ctx.Pool(2)", ""),
    ("print(pool.map(square, range(3)))", "[0, 1, 4]"),
    # Defined, and defined again, since.
    ("def later(x): return x + 1", ""),
    (
        "print(pool.map(later, range(3)), pool.apply(later, (1,)), list(pool.imap(later, [1])))",
        "[1, 2, 3] 2 [2]",
    ),
    ("def square(x): return -x", ""),
    ("print(pool.map(square, range(3)), pool.apply_async(square, (2,)).get(30))", "[0, -1, -2] -2"),
    ("def fact(n): return 1 if n < 2 else n * fact(n - 1)", ""),
    ("print(pool.apply(fact, (5,)))", "120"),
    # Values, bound anew and changed in place.
    ("print(pool.map(lambda p: p.moved().x, [Point(1)]))", "[1]"),
    ("k = 20", ""),
    ("def add(x): return x + k", ""),
    ("print(pool.map(add, range(3)), pool.map(lambda p: p.moved().x, [Point(1)]))", "[20, 21, 22] [21]"),
    ("k = 30; log.append(k)", ""),
    (
        "print(pool.map(add, [0]), pool.apply(Point.moved, (Point(1),)).x, pool.apply(lambda: log))",
        "[30] 31 [30]",
    ),
    # One class on both sides, before and after it is defined again, in other words and in the same.
    (
        "print(pool.apply(lambda: Color.RED) is Color.RED, pool.apply(lambda c: c is Color.RED, (Color.RED,)))",
        "True True",
    ),
    ("old = Point(7)", ""),
    (
        "class Point:\n    limit = 6\n    def __init__(self, x): self.x = x\n    def moved(self): return -self.x",
        "",
    ),
    (
        "print(pool.map(lambda p: (isinstance(p, Point), type(p).limit), [Point(1), old]))",
        "[(True, 6), (False, 5)]",
    ),
    (
        "print(isinstance(pool.apply(Point, (1,)), Point), type(pool.apply(lambda p: p, (old,))) is type(old))",
        "True True",
    ),
    ("class Color(enum.Enum):\n    RED = 1", ""),
    (
        "print(pool.apply(lambda: Color.RED) is Color.RED, pool.apply(lambda c: c is Color.RED, (Color.RED,)))",
        "True True",
    ),
    ("@dataclasses.dataclass\nclass Entry:\n    x: int\n    next: 'Entry' = None", ""),
    (
        "print(pool.map(lambda e: e == Entry(1), [Entry(1), Entry(2)]), pool.apply(Entry, (1,)) == Entry(1))",
        "[True, False] True",
    ),
    ("@functools.lru_cache(None)\ndef cached(x): return x + k", ""),
    ("print(pool.map(cached, [1, 2]))", "[31, 32]"),
    ("@functools.singledispatch\ndef kind(x): return 'any'", ""),
    ("@kind.register(Point)\ndef kind_of_point(x): return 'point'", ""),
    ("print(pool.map(kind, [1, Point(1)]))", "['any', 'point']"),
    # What a worker sets it keeps.
    ("one = ctx.Pool(1)", ""),
    (
        "def count():\n    global counted\n    counted = globals().get('counted', 0) + 1\n    return counted",
        "",
    ),
    ("print(one.apply(count), one.apply(count))", "1 2"),
    # A class of Python's own file, an executor, a queue to a process that is there already.
    ("executor = mp.ProcessPoolExecutor(1, mp_context=ctx)", ""),
    ("print(executor.submit(add, 1).result())", "31"),
    ("k = 40", ""),
    ("def add(x): return [x, k]", ""),
    ("print(executor.submit(add, 1).result(), list(executor.map(add, [2])))", "[1, 40] [[2, 40]]"),
    ("requests, answers = ctx.Queue(), ctx.Queue()", ""),
    ("def serve(): answers.put(requests.get())", ""),
    ("server = ctx.Process(target=serve)", ""),
    ("server.start()", ""),
    ("class Late: pass", ""),
    ("requests.put(Late())", ""),
    ("print(type(answers.get(timeout=30)) is Late)", "True"),
    ("server.join(); executor.shutdown()", ""),
    ("pool.terminate(); pool.join(); one.terminate(); one.join()", ""),
]
EXPECTED = "".join(f"{expected}\n" for _, expected in CELLS if expected)


def _at_a_prompt(cells: list[str], folder: Path) -> str:
    text = "".join(f"{cell}\n\n" for cell in cells)
    done = subprocess.run(
        [sys.executable, "-i", "-q"], input=text, cwd=folder, capture_output=True, text=True, timeout=100
    )
    assert "Error" not in done.stderr, done.stderr
    return done.stdout


def _behind_a_script(cells: list[str], folder: Path) -> str:
    """``python -i script.py``, which has defined some of it."""
    (folder / "script.py").write_text("\n".join(cells[:5]) + "\n")
    text = "".join(f"{cell}\n\n" for cell in cells[5:])
    done = subprocess.run(
        [sys.executable, "-i", "script.py"],
        input=text,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "Error" not in done.stderr, done.stderr
    return done.stdout


HOST = """
import sys, types
notebook = types.ModuleType("__main__")
sys.modules["__main__"] = notebook
for number, cell in enumerate(sys.stdin.read().split("####")):
    exec(compile(cell, f"<cell {number}>", "exec"), vars(notebook))
"""


def _in_cells(cells: list[str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", HOST],
        input="####".join(cells),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


KERNEL = """
import json, sys, nbformat
from nbclient import NotebookClient
cells = [nbformat.v4.new_code_cell(cell) for cell in json.load(sys.stdin)]
NotebookClient(nbformat.v4.new_notebook(cells=cells), timeout=60).execute()
print("".join(each.get("text", "") for cell in cells for each in cell.outputs if each.name == "stdout"), end="")
"""


def _in_a_kernel(cells: list[str], folder: Path) -> str:
    """A notebook as its users run it: a kernel of IPython's, which is asked to run one cell after the other."""
    done = subprocess.run(
        [sys.executable, "-c", KERNEL],
        input=json.dumps(cells),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


WAYS: dict[str, Callable[[list[str], Path], str]] = {
    "prompt": _at_a_prompt,
    "script, then prompt": _behind_a_script,
    "cells": _in_cells,
}


def _cells(ctx: Any) -> list[str]:
    return [text.replace("METHOD", str(ctx.get_start_method())) for text, _ in CELLS]


@pytest.mark.deadline(120)
@pytest.mark.parametrize("way", WAYS)
def test_what_is_defined_after_the_pool(ctx: Any, tmp_path: Path, way: str) -> None:
    assert WAYS[way](_cells(ctx), tmp_path) == EXPECTED


@pytest.mark.deadline(120)
def test_in_a_kernel(ctx: Any, tmp_path: Path) -> None:
    assert _in_a_kernel(_cells(ctx), tmp_path) == EXPECTED


LARGE = [
    "import manyhands as mp, threading, numpy",
    "large, lock = numpy.zeros(1 << 20), threading.Lock()",
    "pool = mp.get_context('fork').Pool(1)",
    "def look(): return len(large), large[0], lock.locked()",
    "print(pool.apply(look))",
    "large = numpy.ones(1 << 20)",
    "def look(): return len(large), large[0]",
    "print(pool.apply(look))",
    "pool.terminate(); pool.join()",
]


def test_what_forked_children_have_is_not_sent_again(tmp_path: Path) -> None:
    """A long array of before the fork, and a lock that cannot be sent; a new array is."""
    out = _at_a_prompt(LARGE, tmp_path).replace("np.float64(", "").replace(")", "").replace("(", "")
    assert out.splitlines() == ["1048576, 0.0, False", "1048576, 1.0"]
