"""A limit of files' sizes (`ulimit -f`): shared memory counts as a file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import resource, sys
import manyhands
import targets

if __name__ == "__main__":
    size, hard = int(sys.argv[2]), resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size if sys.argv[3:] else hard))
    ctx = manyhands.get_context(sys.argv[1])
    try:
        queue = ctx.Queue()
    except OSError as error:
        print(error.errno, error)
        sys.exit()
    queue.put(bytes(8 << 20))
    assert len(queue.get(timeout=30)) == 8 << 20
    with ctx.Pool(2) as pool:
        assert pool.map(targets.square, range(100)) == [n * n for n in range(100)]
        assert [len(each) for each in pool.map(targets.identity, [bytes(1 << 20)] * 8)] == [1 << 20] * 8
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == (size, hard)
    print("done")
"""


def run(tmp_path: Path, *arguments: str) -> str:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.deadline(100)
@pytest.mark.parametrize("size", [0, 1 << 20])
def test_a_soft_limit(ctx: Any, tmp_path: Path, size: int) -> None:
    assert run(tmp_path, ctx.get_start_method(), str(size)) == "done\n"


@pytest.mark.deadline(100)
def test_a_hard_limit_is_named(tmp_path: Path) -> None:
    told = run(tmp_path, "fork", str(1 << 20), "hard")
    assert told.startswith("27 ")
    assert "RLIMIT_FSIZE" in told
    assert "ulimit" in told
