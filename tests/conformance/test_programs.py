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

PROGRAMS = {
    "subclass of Process": (SUBCLASS, "adder 6\n0\n"),
    "daemons are terminated at exit": (DAEMON_AT_EXIT, "main is done\n"),
    "other processes are joined at exit": (JOINED_AT_EXIT, "main is done\nchild is done\n"),
    "functions and classes of main": (OF_MAIN, "[0, 2, 4, 6]\n"),
    "main is not run again": (MAIN_IS_NOT_RUN_AGAIN, "main\n2\n"),
    "a pool left open at exit": (POOL_LEFT_OPEN, "[1, 2]\n"),
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
