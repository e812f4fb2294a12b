"""What only a whole program shows: its end, its `__main__`, and what children make of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.standard

SUBCLASS = """
class Adder(ctx.Process):
    def __init__(self, numbers, results):
        super().__init__(name="adder")
        self.numbers, self.results = numbers, results

    def run(self):
        self.results.put((self.name, sum(self.numbers)))

if __name__ == "__main__":
    results = ctx.SimpleQueue()
    process = Adder([1, 2, 3], results)
    process.start()
    print(*results.get())
    process.join()
    print(process.exitcode)
"""

DAEMON_AT_EXIT = """
import time

def forever(ready):
    ready.put(None)
    time.sleep(600)

if __name__ == "__main__":
    ready = ctx.SimpleQueue()
    ctx.Process(target=forever, args=(ready,), daemon=True).start()
    ready.get()
    print("main is done")
"""

# The child says that it runs: the standard library unlinks semaphores at exit before it joins, and a spawned child
# that comes later than that does not find them.
JOINED_AT_EXIT = """
def work(running, go):
    running.put(None)
    go.get()
    print("child is done", flush=True)

if __name__ == "__main__":
    running, go = ctx.SimpleQueue(), ctx.SimpleQueue()
    ctx.Process(target=work, args=(running, go)).start()
    running.get()
    print("main is done", flush=True)
    go.put(None)
"""

OF_MAIN = """
class Point:
    def __init__(self, x):
        self.x = x

def double(point):
    return Point(2 * point.x)

if __name__ == "__main__":
    with ctx.Pool(2) as pool:
        print([point.x for point in pool.map(double, [Point(n) for n in range(4)])])
"""

MAIN_IS_NOT_RUN_AGAIN = """
if __name__ == "__main__":
    print("main")
    with ctx.Pool(1) as pool:
        print(pool.apply_async(len, ([1, 2],)).get(30))
"""

POOL_LEFT_OPEN = """
if __name__ == "__main__":
    pool = ctx.Pool(2)
    print(pool.map(abs, [-1, -2]))
"""

# Spawned children give one another the compiled main module: each has the same.
MAIN_IN_EACH_CHILD = """
def annotated(x: int) -> str: ...

def show(number):
    print(number, annotated.__annotations__, show.__code__.co_filename == __file__, flush=True)

if __name__ == "__main__":
    for number in range(3):
        process = ctx.Process(target=show, args=(number,))
        process.start()
        process.join()
"""

MODULES_OF_A_CHILD = """
def show():
    import functools, signal, threading

    barrier, found = threading.Barrier(4), []

    def ask():
        barrier.wait()
        found.append(functools.lru_cache and functools.wraps and functools.partial and functools.reduce)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(len(found), "wraps" in dir(functools), functools.__file__.endswith("functools.py"))
    print(type(signal.SIGTERM).__name__, type(signal.getsignal(signal.SIGTERM)).__name__, "SIGTERM" in dir(signal))
    print(signal.strsignal(signal.SIGTERM), hasattr(signal, "SIGNONE"), flush=True)

if __name__ == "__main__":
    process = ctx.Process(target=show)
    process.start()
    process.join()
"""

PROGRAMS = {
    "subclass of Process": (SUBCLASS, "adder 6\n0\n"),
    "daemons are terminated at exit": (DAEMON_AT_EXIT, "main is done\n"),
    "other processes are joined at exit": (JOINED_AT_EXIT, "main is done\nchild is done\n"),
    "functions and classes of main": (OF_MAIN, "[0, 2, 4, 6]\n"),
    "main is not run again": (MAIN_IS_NOT_RUN_AGAIN, "main\n2\n"),
    "a pool left open at exit": (POOL_LEFT_OPEN, "[1, 2]\n"),
    "main is the same in each child": (
        MAIN_IN_EACH_CHILD,
        "".join(f"{n} {{'x': <class 'int'>, 'return': <class 'str'>}} True\n" for n in range(3)),
    ),
    "modules that a child has not asked for yet": (
        MODULES_OF_A_CHILD,
        "4 True True\nSignals Handlers True\nTerminated False\n",
    ),
}


@pytest.fixture
def program(ctx: Any, tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs a program that has the context as `ctx`."""
    implementation = type(ctx).__module__.split(".")[0]

    def run(text: str) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "program.py"
        header = f"import {implementation} as mp\nctx = mp.get_context({ctx.get_start_method()!r})\n"
        script.write_text(header + text)
        return subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=50)

    return run


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(program: Callable[[str], subprocess.CompletedProcess[str]], name: str) -> None:
    text, expected = PROGRAMS[name]
    done = program(text)
    assert done.returncode == 0, done.stderr
    assert done.stdout == expected


MAIN_EDITED = """
VERSION = 1

def show():
    print(VERSION, flush=True)

def edit(version):
    with open(__file__) as file:
        text = file.read()
    with open(__file__, "w") as file:
        file.write(text.replace(f"VERSION = {VERSION}", f"VERSION = {version}"))

if __name__ == "__main__":
    for version in (1, 1, 2, 2, 1):
        edit(version)
        VERSION = version
        process = ctx.Process(target=show)
        process.start()
        process.join()
"""


@pytest.mark.methods("spawn")
def test_a_child_runs_the_main_module_that_lies_there(
    program: Callable[[str], subprocess.CompletedProcess[str]],
) -> None:
    done = program(MAIN_EDITED)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1\n1\n2\n2\n1\n"
