"""Programs whose main module a fresh child cannot run again: from ``-c``, standard input, a prompt, a notebook's cells.

What they define travels by value to such children. And ordinary scripts, in which classes keep their identity.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Without blank lines in blocks and with one after each, so that it can be typed at a prompt.
PROGRAM = """
class Point:
    def __init__(self, x):
        self.x = x

model = None
factor = 1
def load(name):
    global model
    model = name

def double(point):
    return Point(2 * point.x * factor), model

def put_point(queue, x):
    queue.put(Point(x))

def main():
    queue = ctx.Queue()
    queue.put(Point(1))
    process = ctx.Process(target=put_point, args=(queue, 5))
    process.start()
    process.join()
    points = [queue.get(timeout=30), queue.get(timeout=30)]
    print([point.x for point in points], isinstance(points[0], Point), process.exitcode)
    queue.close()
    with ctx.Pool(1, load, ("loaded",)) as pool:
        pairs = pool.map(double, [Point(n) for n in range(3)])
        print([(point.x, type(point) is Point, name) for point, name in pairs])
        print(pool.map(lambda point: (isinstance(point, Point), model), [Point(1)]))
        print(isinstance(pool.apply(lambda: Point(7)), Point))
    with mp.ProcessPoolExecutor(1, mp_context=ctx) as executor:
        print(executor.submit(double, Point(4)).result()[0].x)
        print(executor.submit(lambda: type(Point(4)) is Point).result())

if __name__ == "__main__":
    main()

"""

EXPECTED = """\
[1, 5] True 0
[(0, True, 'loaded'), (2, True, 'loaded'), (4, True, 'loaded')]
[(True, 'loaded')]
True
8
True
"""

CELLS = """
import sys, types
text = sys.stdin.read()
notebook = types.ModuleType("__main__")
sys.modules["__main__"] = notebook
exec(compile(text, "<cell 1>", "exec"), vars(notebook))
"""


def _run(arguments: list[str], text: str | None, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], input=text, cwd=folder, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr
    return done.stdout


def _as_module(text: str, folder: Path) -> str:
    (folder / "program.py").write_text(text)
    return _run(["-m", "program"], None, folder)


def _as_folder(text: str, folder: Path) -> str:
    (folder / "program").mkdir()
    (folder / "program" / "__main__.py").write_text(text)
    return _run(["program"], None, folder)


def _as_script(text: str, folder: Path) -> str:
    (folder / "program.py").write_text(text)
    return _run(["program.py"], None, folder)


WAYS: dict[str, Callable[[str, Path], str]] = {
    "script": _as_script,
    "-m": _as_module,
    "folder": _as_folder,
    "-c": lambda text, folder: _run(["-c", text], None, folder),
    "stdin": lambda text, folder: _run([], text, folder),
    "-": lambda text, folder: _run(["-"], text, folder),
    "interactive": lambda text, folder: _run(["-i", "-q"], text, folder),
    "cells": lambda text, folder: _run(["-c", CELLS], text, folder),
}


def _header(ctx: Any) -> str:
    return f"import manyhands as mp\nctx = mp.get_context({ctx.get_start_method()!r})\n"


@pytest.mark.parametrize("way", WAYS)
def test_what_main_defines(ctx: Any, tmp_path: Path, way: str) -> None:
    assert WAYS[way](_header(ctx) + PROGRAM, tmp_path) == EXPECTED


def test_installed(ctx: Any, tmp_path: Path) -> None:
    """The standard library's names, after `install`."""
    header = (
        "import manyhands\nmanyhands.install()\nimport multiprocessing\n"
        "import concurrent.futures\n"
        f"ctx = multiprocessing.get_context({ctx.get_start_method()!r})\n"
        "class mp:\n    ProcessPoolExecutor = concurrent.futures.ProcessPoolExecutor\n\n"
    )
    assert WAYS["-c"](header + PROGRAM, tmp_path) == EXPECTED


REDEFINED = """
def answer(number): return ("first", number, scale)

scale = 1
pool = ctx.Pool(1)
print(pool.apply(answer, (1,)))
def answer(number): return ("second", number, scale)

scale = 2
print(pool.apply(answer, (1,)))
scale = 3
print(pool.apply(answer, (1,)))
pool.terminate()
"""


@pytest.mark.methods("forkserver", "spawn")
@pytest.mark.parametrize("way", ["interactive", "cells"])
def test_what_is_defined_again_at_a_prompt(ctx: Any, tmp_path: Path, way: str) -> None:
    assert (
        WAYS[way](_header(ctx) + REDEFINED, tmp_path)
        == "('first', 1, 1)\n('second', 1, 2)\n('second', 1, 3)\n"
    )


LOCK_OF_MAIN = """
import threading
lock = threading.Lock()
limit = 3

if __name__ == "__main__":
    extra = 4
    with ctx.Pool(1) as pool:
        print(pool.apply(lambda: (lock.locked(), limit, extra)))
"""


def test_a_lambda_of_a_script_uses_the_childs_own_globals(ctx: Any, tmp_path: Path) -> None:
    """What cannot be sent and is there need not be sent; what is not there comes along."""
    assert _as_script(_header(ctx) + LOCK_OF_MAIN, tmp_path) == "(False, 3, 4)\n"


CONNECTION_OF_MAIN = """
import threading

def call(function, word):
    function()
    word.get()

def call_from_queue(queue, word):
    call(queue.get(), word)

def user():
    return lambda: theirs.close() if theirs else lock

if __name__ == "__main__":
    lock = threading.Lock()
    queue, word = ctx.SimpleQueue(), ctx.SimpleQueue()
    server = ctx.Process(target=call_from_queue, args=(queue, word))
    server.start()
    for child in (server, None):
        mine, theirs = ctx.Pipe()
        if child is server:
            queue.put(user())
        else:
            child = ctx.Process(target=call, args=(user(), word))
            child.start()
        theirs.close()
        try:
            print(mine.poll(30), mine.recv() if mine.poll() else None)
        except EOFError:
            print("the end")
        word.put(None)
        child.join()
"""


def test_a_connection_of_a_script_goes_along_once(ctx: Any, tmp_path: Path) -> None:
    """It is pickled several times, to find out what of the globals can be sent at all."""
    assert _as_script(_header(ctx) + CONNECTION_OF_MAIN, tmp_path) == "the end\nthe end\n"


MODULES = """
def has(_item=None):
    import sys
    return [name for name in ("cloudpickle", "manyhands._by_value", "pickle") if name in sys.modules]

def put(queue):
    queue.put(has())

if __name__ == "__main__":
    import sys
    queue = ctx.SimpleQueue()
    process = ctx.Process(target=put, args=(queue,))
    process.start()
    print("cloudpickle" in queue.get())
    process.join()
    with ctx.Pool(1) as pool:
        found = pool.map(has, [1]) + [pool.apply(has)]
        print(["cloudpickle" in each or "manyhands._by_value" in each for each in found])
    print("cloudpickle" in sys.modules)
"""


def test_a_plain_program_does_not_import_cloudpickle(ctx: Any, tmp_path: Path) -> None:
    assert _as_script(_header(ctx) + MODULES, tmp_path) == "False\n[False, False]\nFalse\n"
