"""What starting a process by a context leaves alone: the start method, and what it can carry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

METHODS = ("fork", "forkserver", "spawn")

BY_CONTEXT = """
import multiprocessing as theirs, sys
import manyhands
{install}
mp = {module}

def work(queue):
    queue.put(mp.get_start_method())

if __name__ == "__main__":
    ctx = mp.get_context({method!r})
    queue = ctx.SimpleQueue()
    child = ctx.Process(target=work, args=(queue,))
    child.start()
    assert queue.get() == {method!r}
    child.join()
    assert child.exitcode == 0
    assert manyhands.get_start_method(allow_none=True) is None
    assert theirs.get_start_method(allow_none=True) is None
    mp.set_start_method("fork")
    theirs.set_start_method("fork", force={installed})
    print("done")
"""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("way", ["plain", "installed"])
def test_a_start_by_a_context_does_not_set_the_method(method: str, way: str, tmp_path: Path) -> None:
    installed = way == "installed"
    script = tmp_path / "script.py"
    script.write_text(
        BY_CONTEXT.format(
            install="manyhands.install()" if installed else "",
            module="theirs" if installed else "manyhands",
            method=method,
            installed=installed,
        )
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=100)
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


ARGUMENTS = """
import sys
import {module} as mp

# The fork server has run this before its first child.
ran = len(sys.argv), sum(map(len, sys.argv[1:]))

def work(queue):
    queue.put((len(sys.argv), sum(map(len, sys.argv[1:])), ran))

if __name__ == "__main__":
    sys.argv[1:] = ["x" * 1000] * 3000
    ctx = mp.get_context({method!r})
    queue = ctx.SimpleQueue()
    child = ctx.Process(target=work, args=(queue,))
    child.start()
    print(queue.get())
    child.join()
"""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("way", ["plain", "installed"])
def test_arguments_longer_than_a_command_line_may_be(method: str, way: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        ARGUMENTS.format(module="manyhands" if way == "plain" else "multiprocessing", method=method)
    )
    assert os.sysconf("SC_ARG_MAX") < 3000 * 1000
    command = [sys.executable, str(script)]
    if way == "installed":
        command[1:1] = ["-m", "manyhands"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    before = (1, 0) if method == "fork" else (3001, 3_000_000)
    assert (done.stdout, done.stderr, done.returncode) == (f"{(3001, 3_000_000, before)}\n", "", 0)
