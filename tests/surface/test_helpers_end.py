"""What may live as long as a program (fork server, anything like it) ends with it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from processes import wait_gone

PROGRAM = """
import os, sys
import manyhands
import targets
from processes import descendants

if __name__ == "__main__":
    ctx = manyhands.get_context(sys.argv[1])
    process = ctx.Process(target=targets.nothing)
    process.start()
    process.join()
    with ctx.Pool(2) as pool:
        pool.map(targets.square, range(10))
    print(os.getpid(), *descendants())
"""


def test_helpers_end_with_the_program(ctx: Any, tmp_path: Any) -> None:
    script = tmp_path / "program.py"
    script.write_text(f"import sys; sys.path[:] = {sys.path!r}\n{PROGRAM}")
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", str(script), ctx.get_start_method()],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    wait_gone(int(word) for word in done.stdout.split())
