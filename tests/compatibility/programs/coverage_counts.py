"""Coverage counts the lines that children run, in a program of its own and by pytest's plugin."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

METHODS = ["fork", "forkserver", "spawn"]

#: A line with a word in its comment is run by that: by the parent, a child, a worker, or by nobody.
WORKED = """
import multiprocessing as mp
import os

def in_child(queue):
    queue.put(os.getpid())  # child

def in_worker(number):
    if number < 0:
        return -number  # nobody
    return 2 * number  # worker

class Other(mp.Process):
    def run(self):
        self.value = 3  # child

def in_parent(method):
    ctx = mp.get_context(method)  # parent
    queue = ctx.Queue()
    children = [ctx.Process(target=in_child, args=(queue,)) for _ in range(2)]
    if method == mp.get_start_method():
        children.append(Other())  # parent
    for child in children:
        child.start()
    pids = {queue.get() for _ in range(2)}
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert len(pids) == 2 and os.getpid() not in pids
    with ctx.Pool(2) as pool:
        assert pool.map(in_worker, range(100)) == list(range(0, 200, 2))
        pool.close()
        pool.join()
    return True  # parent
"""

MAIN = """
import sys
import multiprocessing
import worked

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    worked.in_parent(sys.argv[1])
"""

TEST = """
import multiprocessing
import worked

def test_it():
    multiprocessing.set_start_method({method!r}, force=True)
    assert worked.in_parent({method!r})
"""

SETTINGS = """
[run]
concurrency = {concurrency}
parallel = true
include = */worked.py
{more}
"""

NOT_RUN = [n for n, line in enumerate(WORKED.splitlines(), 1) if line.endswith("# nobody")]


#: The two ways in which coverage follows children.
SETTINGS_FOR = {
    "multiprocessing": ("multiprocessing", ""),
    "patched subprocesses": ("thread", "patch = subprocess, _exit, fork"),
}


@pytest.fixture(params=SETTINGS_FOR)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    concurrency, more = SETTINGS_FOR[request.param]
    (tmp_path / "worked.py").write_text(WORKED)
    (tmp_path / ".coveragerc").write_text(SETTINGS.format(concurrency=concurrency, more=more))
    return tmp_path


def run(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, (done.stdout, done.stderr)


def check(folder: Path) -> None:
    files = json.loads((folder / "coverage.json").read_text())["files"]
    (counted,) = (counts for name, counts in files.items() if name.endswith("worked.py"))
    assert counted["missing_lines"] == NOT_RUN


@pytest.mark.parametrize("method", METHODS)
def test_a_program(folder: Path, method: str) -> None:
    (folder / "main.py").write_text(MAIN)
    run(folder, "coverage", "run", "main.py", method)
    run(folder, "coverage", "combine")
    run(folder, "coverage", "json")
    check(folder)


@pytest.mark.parametrize("method", METHODS)
def test_a_program_by_its_option(tmp_path: Path, method: str) -> None:
    folder = tmp_path
    # Without a file for the children to read, coverage refuses.
    (folder / ".coveragerc").write_text("[run]\nparallel = true\n")
    (folder / "worked.py").write_text(WORKED)
    (folder / "main.py").write_text(MAIN)
    run(folder, "coverage", "run", "--concurrency=multiprocessing", "main.py", method)
    run(folder, "coverage", "combine")
    run(folder, "coverage", "json")
    check(folder)


@pytest.mark.parametrize("method", METHODS)
def test_pytest(folder: Path, method: str) -> None:
    (folder / "test_it.py").write_text(TEST.format(method=method))
    run(folder, "pytest", "--cov=worked", "--cov-report=json", "-p", "no:cacheprovider", "test_it.py")
    check(folder)
