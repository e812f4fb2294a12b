"""Debuggers and tracers follow a program's children through the functions that start programs: they replace them.

The tool here does as pydevd does. What it puts in the place of such a function changes the command line of an
interpreter, so that the tool is loaded there first and replaces the functions again; its `os.fork` tells the child.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.standard, pytest.mark.deadline(90)]

TOOL = """
import functools
import os

#: How this process came under the tool's eyes.
seen = "not at all"


def follow(place):
    globals()["place"] = place
    module, name = place.split(":")
    module = __import__(module, fromlist=["*"])
    # As careful tools do: what stands in for a function has its name and its module.
    setattr(module, name, functools.wraps(getattr(module, name))(PUT_THERE[name](getattr(module, name))))
    os.fork = fork_of(os.fork)


def changed(argv):
    argv = list(argv)
    at = argv.index("-c") + 1
    argv[at] = f"import tool_by_test as tool; tool.seen = 'started'; tool.follow({place!r}); {argv[at]}"
    return argv


def fork_of(original):
    def fork():
        note("fork")
        pid = original()
        if pid == 0:
            globals()["seen"] = "forked"
        return pid

    return fork


def note(what):
    with open(os.environ["NOTES_BY_TEST"], "a") as notes:
        notes.write(f"{what}\\n")


def starts_children(argv):
    # The resource tracker is none.
    return "--multiprocessing-fork" in argv or any("forkserver" in part for part in map(str, argv))


def first(original):
    def function(argv, *others):
        return original(changed(argv) if starts_children(argv) else argv, *others)

    return function


def second(original):
    def function(program, argv, *others, **named):
        return original(program, changed(argv) if starts_children(argv) else argv, *others, **named)

    return function


PUT_THERE = {"fork_exec": first, "spawnv_passfds": second, "posix_spawn": second, "posix_spawnp": second}
"""

PROGRAM = """
import sys
import tool_by_test as tool

def look(depth):
    print(tool.seen, flush=True)
    if depth:
        start(look, depth - 1)

def start(function, *args):
    process = ctx.Process(target=function, args=args)
    process.start()
    process.join()
    assert process.exitcode == 0

if __name__ == "__main__":
    tool.follow(sys.argv[1])
    start(look, 1)
    start(look, 0)
    pool = ctx.Pool(2)
    assert pool.map(abs, range(-9, 0)) == list(range(9, 0, -1))
    pool.close()
    pool.join()
"""

SEEN = {"fork": "forked", "forkserver": "forked", "spawn": "started"}


@pytest.fixture
def followed(ctx: Any, tmp_path: Path) -> Callable[..., list[str]]:
    """Runs a program that has the context as `ctx`; the lines that it prints."""
    implementation = type(ctx).__module__.split(".")[0]
    (tmp_path / "tool_by_test.py").write_text(TOOL)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    variables = {**os.environ, "PYTHONPATH": path, "NOTES_BY_TEST": str(tmp_path / "notes")}

    def run(text: str, *arguments: str) -> list[str]:
        script = tmp_path / "program.py"
        header = f"import {implementation} as mp\nctx = mp.get_context({ctx.get_start_method()!r})\n"
        script.write_text(header + text)
        argv = [sys.executable, "-W", "ignore", str(script), *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=80, env=variables)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    return run


@pytest.mark.parametrize("place", ["_posixsubprocess:fork_exec", "multiprocessing.util:spawnv_passfds"])
def test_children_are_followed(
    ctx: Any, followed: Callable[..., list[str]], tmp_path: Path, place: str
) -> None:
    assert followed(PROGRAM, place) == [SEEN[ctx.get_start_method()]] * 3
    if ctx.get_start_method() == "forkserver":
        # One for each process: a debugger would show a child that waits for a request as a process of the program's.
        assert (tmp_path / "notes").read_text() == "fork\n" * 5


@pytest.mark.ours_only
@pytest.mark.methods("forkserver", "spawn")
@pytest.mark.parametrize("place", ["os:posix_spawn", "os:posix_spawnp"])
def test_children_are_followed_through_what_the_engine_does(
    ctx: Any, followed: Callable[..., list[str]], place: str
) -> None:
    assert followed(PROGRAM, place) == [SEEN[ctx.get_start_method()]] * 3


TOOL_COMES_LATER = """
import tool_by_test as tool

def look():
    print(tool.seen, flush=True)

def start():
    process = ctx.Process(target=look)
    process.start()
    process.join()
    assert process.exitcode == 0

if __name__ == "__main__":
    start()
    tool.follow("_posixsubprocess:fork_exec")
    start()
    start()
"""


# The standard library's fork server goes on without the tool.
@pytest.mark.ours_only
def test_a_tool_that_comes_later_follows_too(ctx: Any, followed: Callable[..., list[str]]) -> None:
    assert followed(TOOL_COMES_LATER) == ["not at all"] + [SEEN[ctx.get_start_method()]] * 2


FAILING = """
import os
import _posixsubprocess

def refuse(*arguments):
    raise PermissionError("not while the tool says no")

if __name__ == "__main__":
    original = _posixsubprocess.fork_exec
    _posixsubprocess.fork_exec = refuse
    process = ctx.Process(target=print, args=("done",))
    try:
        process.start()
    except PermissionError as error:
        print(error, flush=True)
    _posixsubprocess.fork_exec = original
    process = ctx.Process(target=print, args=("done",))
    process.start()
    process.join()
"""


@pytest.mark.ours_only
@pytest.mark.methods("forkserver", "spawn")
def test_what_a_tool_raises_reaches_the_caller(ctx: Any, followed: Callable[..., list[str]]) -> None:
    assert followed(FAILING) == ["not while the tool says no", "done"]


BOOTSTRAP = """
import functools
from multiprocessing.process import BaseProcess

def trace():
    original = BaseProcess._bootstrap

    @functools.wraps(original)
    def traced(self, *args, **kwargs):
        print("traced", flush=True)
        return original(self, *args, **kwargs)

    BaseProcess._bootstrap = traced

trace()

if __name__ == "__main__":
    process = ctx.Process(target=print, args=("ran",))
    process.start()
    process.join()
"""


def test_a_bootstrap_with_the_originals_name_is_heeded(followed: Callable[..., list[str]]) -> None:
    assert followed(BOOTSTRAP) == ["traced", "ran"]


COMMAND_LINES = """
import os

def look(pids):
    def about(pid):
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read()
    print(*("multiprocessing.spawn" in about(pid) for pid in pids), flush=True)
    print(*("multiprocessing.forkserver" in about(pid) for pid in pids), flush=True)

def wait(ready, gate):
    ready.put(None)
    gate.get()

if __name__ == "__main__":
    process = ctx.Process(target=look, args=([os.getpid()],))
    process.start()
    process.join()
    ready, gate = ctx.SimpleQueue(), ctx.SimpleQueue()
    process = ctx.Process(target=wait, args=(ready, gate))
    process.start()
    # It has no command line yet while the kernel puts it together.
    ready.get()
    look([process.pid])
    gate.put(None)
    process.join()
"""

#: Of the parent and of a child: whether the command line names these modules.
NAMED = {
    "fork": ["False", "False", "False", "False"],
    "forkserver": ["False", "False", "False", "True"],
    "spawn": ["False", "False", "True", "False"],
}


def test_command_lines_tell_what_a_process_is_there_for(ctx: Any, followed: Callable[..., list[str]]) -> None:
    assert followed(COMMAND_LINES) == NAMED[ctx.get_start_method()]
