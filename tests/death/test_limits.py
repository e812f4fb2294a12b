"""A limit on virtual memory, as batch systems and containers set it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import targets

GIB = 1 << 30
MIB = 1 << 20

PROGRAM = """
import resource, sys

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

import manyhands
import targets

if __name__ == "__main__":
    ctx = manyhands.get_context(sys.argv[1])
    with ctx.Pool(2) as pool:
        assert pool.map(targets.square, range(1000)) == [n * n for n in range(1000)]
        assert [len(each) for each in pool.map(targets.identity, [bytes(1 << 20)] * 8)] == [1 << 20] * 8
        assert set(pool.map(targets.address_space_limit, range(10))) == {1 << 30}
    queue = ctx.Queue()
    child = ctx.Process(target=targets.put_all, args=(queue, [bytes(1 << 20)] * 8))
    child.start()
    assert sum(len(queue.get(timeout=30)) for _ in range(8)) == 8 << 20
    child.join()
    assert child.exitcode == 0
    queue.close()
    print("done")
"""


def test_address_space_limited_before_the_import(ctx: Any, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", str(script), ctx.get_start_method()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"


def test_address_space_limited_in_an_initializer(ctx: Any) -> None:
    with ctx.Pool(2, targets.limit_address_space, (GIB,)) as pool:
        assert set(pool.map(targets.address_space_limit, range(10))) == {GIB}
        assert pool.map(targets.square, range(1000)) == [n * n for n in range(1000)]
        assert [len(each) for each in pool.map(targets.identity, [bytes(MIB)] * 32)] == [MIB] * 32
