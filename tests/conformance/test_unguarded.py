"""Programs that start processes without `if __name__ == "__main__":` around it, under each start method."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

fresh = pytest.mark.methods("forkserver", "spawn")

PROCESS = """
def work(answers, text):
    answers.put(text)

answers = ctx.Queue()
for text in ("one", "two"):
    process = ctx.Process(target=work, args=(answers, text))
    process.start()
    print(answers.get())
    process.join()
    print(process.exitcode)
"""

POOL = """
def square(n):
    return n * n

with ctx.Pool(2) as pool:
    print(pool.map(square, range(4)))
    print(pool.apply_async(square, (5,)).get())

pool = ctx.Pool(1)
print(sorted(pool.imap_unordered(square, range(3))))
pool.close()
pool.join()
"""

POOL_IN_FINALLY = """
def square(n):
    return n * n

try:
    pool = ctx.Pool(2)
    print(pool.map(square, range(4)))
finally:
    pool.close()
    pool.join()
"""

# The pool's own initializer, and a class, above the start.
CLASSES = """
class Point:
    def __init__(self, x):
        self.x = x

offset = 0

def begin(value):
    global offset
    offset = value

def move(point):
    return Point(point.x + offset)

with ctx.Pool(2, begin, (10,)) as pool:
    moved = pool.map(move, [Point(n) for n in range(3)])
print([point.x for point in moved], {type(point) is Point for point in moved})
"""

EXECUTOR = """
from manyhands import ProcessPoolExecutor

def square(n):
    return n * n

with ProcessPoolExecutor(2, mp_context=ctx) as executor:
    print(list(executor.map(square, range(4))))
executor = ProcessPoolExecutor(2, mp_context=ctx)
print(executor.submit(square, 5).result())
"""

ASYNCIO = """
import asyncio
from manyhands import ProcessPoolExecutor

def square(n):
    return n * n

async def main():
    with ProcessPoolExecutor(1, mp_context=ctx) as executor:
        return await asyncio.get_running_loop().run_in_executor(executor, square, 7)

print(asyncio.run(main()))
"""

MANAGER = """
def store(shared):
    shared["answer"] = 42

manager = ctx.Manager()
shared = manager.dict()
process = ctx.Process(target=store, args=(shared,))
process.start()
process.join()
print(dict(shared))
manager.shutdown()
"""

FROM_A_FUNCTION = """
import sys

def square(n):
    return n * n

def main():
    with ctx.Pool(2) as pool:
        print(pool.map(square, range(4)))
    return 0

sys.exit(main())
"""

# `except Exception` does not stop what ends the module.
EXCEPT_EXCEPTION = """
def square(n):
    return n * n

try:
    with ctx.Pool(2) as pool:
        print(pool.map(square, range(4)))
except Exception as error:
    print("failed", error)
"""

FROM_A_THREAD_POOL = """
from concurrent.futures import ThreadPoolExecutor

def square(n):
    return n * n

def count():
    with ctx.Pool(2) as pool:
        return pool.map(square, range(4))

with ThreadPoolExecutor(1) as threads:
    print(threads.submit(count).result())
"""

# Needs the names of `__mp_main__` while the module runs.
DATACLASS_AFTER_IMPORTS = """
import multiprocessing.util, multiprocessing.managers
from dataclasses import dataclass

@dataclass
class Point:
    x: "int"

def double(point):
    return Point(2 * point.x)

with ctx.Pool(1) as pool:
    print(pool.map(double, [Point(4)]))
"""

PROGRAMS = {
    "processes": (PROCESS, "one\n0\ntwo\n0\n"),
    "pools": (POOL, "[0, 1, 4, 9]\n25\n[0, 1, 4]\n"),
    "a pool closed in finally": (POOL_IN_FINALLY, "[0, 1, 4, 9]\n"),
    "classes and an initializer": (CLASSES, "[10, 11, 12] {True}\n"),
    "executors": (EXECUTOR, "[0, 1, 4, 9]\n25\n"),
    "an executor under asyncio": (ASYNCIO, "49\n"),
    "a manager": (MANAGER, "{'answer': 42}\n"),
    "sys.exit around it": (FROM_A_FUNCTION, "[0, 1, 4, 9]\n"),
    "except Exception around it": (EXCEPT_EXCEPTION, "[0, 1, 4, 9]\n"),
    "a pool in a thread": (FROM_A_THREAD_POOL, "[0, 1, 4, 9]\n"),
    "a dataclass": (DATACLASS_AFTER_IMPORTS, "[Point(x=8)]\n"),
}

HEADERS = {
    "manyhands": "import manyhands as mp\nctx = mp.get_context({method!r})\n",
    "default context": "import manyhands as mp\nmp.set_start_method({method!r})\nctx = mp\n",
    "install": (
        "import manyhands\nmanyhands.install()\n"
        "import multiprocessing as ctx\nctx.set_start_method({method!r})\n"
    ),
}

# Each process that runs the main module leaves a line, the parent included.
COUNTED = "import os\nwith open({log!r}, 'a') as log: log.write(f'{{os.getpid()}}\\n')\n"


@pytest.fixture
def run(ctx: Any, tmp_path: Path) -> Run:
    """Runs a program that has the context as `ctx`; what it does must be over in 30 s."""

    def run(
        text: str, header: str = "manyhands", launcher: list[str] | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "program.py"
        script.write_text(
            HEADERS[header].format(method=ctx.get_start_method())
            + COUNTED.format(log=str(tmp_path / "log"))
            + text
        )
        command = [sys.executable, "-W", "error::DeprecationWarning", *(launcher or [str(script)])]
        return subprocess.run(
            command,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            env={**os.environ, **environment},
        )

    return run


@pytest.fixture
def runs_of_main(tmp_path: Path) -> Callable[[], int]:
    """How often the program's main module has run, in the parent and its children."""
    return lambda: len((tmp_path / "log").read_text().split())


class TestWorks:
    @pytest.mark.parametrize("name", PROGRAMS)
    def test_program(self, run: Run, name: str) -> None:
        text, expected = PROGRAMS[name]
        done = run(text)
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")

    @pytest.mark.parametrize("header", ["default context", "install"])
    @pytest.mark.parametrize("name", ["processes", "pools", "a manager"])
    def test_however_it_is_imported(self, run: Run, name: str, header: str) -> None:
        text, expected = PROGRAMS[name]
        done = run(text, header)
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")

    @pytest.mark.parametrize("command", ["-m program", "-m manyhands program.py", "-m manyhands -m program"])
    @pytest.mark.parametrize("name", ["processes", "pools"])
    def test_however_it_is_run(self, run: Run, name: str, command: str) -> None:
        text, expected = PROGRAMS[name]
        done = run(text, launcher=command.split())
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")

    @fresh
    def test_as_many_processes_as_were_asked_for(
        self, run: Run, ctx: Any, runs_of_main: Callable[[], int]
    ) -> None:
        assert run(POOL).returncode == 0
        # Three workers, and this one; the fork server runs the main module once for all.
        # A worker that is not up when the pool ends has not run it.
        assert 2 <= runs_of_main() <= (4 if ctx.get_start_method() == "spawn" else 2)

    @fresh
    def test_what_stands_above_runs_again(self, run: Run, tmp_path: Path) -> None:
        # Where the fork server runs it, its output is written once, not by each child.
        done = run("print('above')\n" + PROCESS)
        assert done.stdout.count("above") in (2, 3)
        assert done.returncode == 0

    @fresh
    def test_in_a_module_that_main_imports(self, run: Run, tmp_path: Path, ctx: Any) -> None:
        (tmp_path / "package").mkdir()
        (tmp_path / "package/__init__.py").touch()
        helper = HEADERS["manyhands"].format(method=ctx.get_start_method()) + POOL
        (tmp_path / "package/helper.py").write_text(helper)
        done = run(
            "import package.helper\n"
            "def nothing(): print(package.helper.square(3))\n"
            "process = ctx.Process(target=package.helper.square, args=(3,))\n"
            "process.start(); process.join(); print(process.exitcode)\n"
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == PROGRAMS["pools"][1] + "0\n"


# --- what cannot work says why, once, and ends ---

SWALLOWED = """
def square(n):
    return n * n

try:
    pool = ctx.Pool(2)
    print(pool.map(square, range(4)))
except BaseException as error:
    if __name__ == "__main__":
        print(type(error).__name__, error)
"""

SWALLOWED_BY_A_PROCESS = """
def work():
    print("worked")

try:
    process = ctx.Process(target=work)
    process.start()
    process.join()
    print(process.exitcode)
except BaseException:
    print("swallowed")
"""

RETRIED = """
def work():
    print("worked")

while True:
    try:
        process = ctx.Process(target=work)
        process.start()
        break
    except:
        pass
process.join()
print(process.exitcode)
"""

BELOW = """
def above(n):
    return n + 1

pool = ctx.Pool(2)

factor = -1

class Below:
    def __init__(self, n):
        self.n = n

def below(n):
    return n * factor

def is_one(thing):
    return isinstance(thing, Below)

print(pool.map(above, [1, 2]))
print(pool.map(below, [1, 2]))
print(pool.map(is_one, [Below(1), Below(2)]))
answer = pool.apply(Below, (3,))
print(type(answer).__name__, type(answer) is Below)

class Alias(Below):
    pass

answers = ctx.SimpleQueue()
process = ctx.Process(target=answers.put, args=(Alias(9),))
process.start()
answer = answers.get()
process.join()
print(type(answer).__name__, answer.n)
print(pool.map(above, [3]))
"""


def lines_of(text: str) -> list[str]:
    return text.strip().splitlines()


@fresh
class TestFails:
    def test_a_pool_whose_script_takes_the_exception(self, run: Run, runs_of_main: Callable[[], int]) -> None:
        done = run(SWALLOWED)
        assert done.returncode == 0, done.stderr
        assert re.match(r"RuntimeError .*program\.py, line \d+, starts a process without", done.stdout)
        assert 'if __name__ == "__main__":' in done.stdout
        assert done.stderr == ""
        assert runs_of_main() <= 5

    def test_an_executor_whose_script_takes_the_exception(self, run: Run) -> None:
        text = SWALLOWED.replace(
            "ctx.Pool(2)", "__import__('manyhands').ProcessPoolExecutor(2, mp_context=ctx)"
        )
        done = run(text.replace("pool.map(", "pool.submit(square, 1).result() or ("))
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("BrokenProcessPool ")
        assert "starts a process without" in done.stdout
        assert done.stderr == ""

    def test_a_process_whose_script_takes_the_exception(self, run: Run) -> None:
        done = run(SWALLOWED_BY_A_PROCESS)
        assert done.returncode == 0
        # The fork server tries first; its child reports.
        assert set(lines_of(done.stdout)) == {"1", "swallowed"}
        assert done.stderr.count("\nRuntimeError: ") == 1
        assert "starts a process without" in lines_of(done.stderr)[-1]

    def test_a_script_that_tries_again_for_ever(self, run: Run, runs_of_main: Callable[[], int]) -> None:
        done = run(RETRIED)
        assert (done.returncode, done.stdout) == (0, "1\n")
        assert all(line.startswith("RuntimeError: ") for line in lines_of(done.stderr))
        assert 1 <= len(lines_of(done.stderr)) <= 2
        assert runs_of_main() <= 3

    def test_a_name_below_the_start(self, run: Run) -> None:
        done = run(BELOW)
        assert (done.returncode, done.stderr) == (0, "")
        assert lines_of(done.stdout) == ["[2, 3]", "[-1, -2]", "[True, True]", "Below True", "Alias 9", "[4]"]


@fresh
class TestStandardBehaviour:
    """`MANYHANDS_UNGUARDED=error`."""

    STANDARD = "An attempt has been made to start a new process before the"

    def test_a_process(self, run: Run, runs_of_main: Callable[[], int]) -> None:
        done = run(
            SWALLOWED_BY_A_PROCESS.replace("BaseException", "ImportError"), MANYHANDS_UNGUARDED="error"
        )
        assert (done.returncode, done.stdout) == (0, "1\n")
        assert done.stderr.count(self.STANDARD) == 1
        assert runs_of_main() <= 3

    def test_a_pool_fails_instead_of_starting_workers_for_ever(
        self, run: Run, runs_of_main: Callable[[], int]
    ) -> None:
        done = run(POOL, MANYHANDS_UNGUARDED="error")
        assert (done.returncode, done.stdout) == (1, "")
        assert lines_of(done.stderr).count("RuntimeError: ") >= 1
        assert self.STANDARD in done.stderr
        assert runs_of_main() <= 6
