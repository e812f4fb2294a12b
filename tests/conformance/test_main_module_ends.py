"""What the main module has is gone before the modules that its finalizers need, as without manyhands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LATE = """
import os

class Late:
    def __del__(self):
        os.write(1, b"finalized\\n")
"""

PROGRAM = """
import manyhands, sys

def nothing():
    pass

if __name__ == "__main__":
    context = manyhands.get_context({method!r})
    queue = context.Queue()
    queue.put(1)
    child = context.Process(target={target}, args=({argument},))
    child.start()
    child.join()
    with context.Pool(1) as pool:
        pool.apply({target}, ({argument},))
    # Imported after all of ours: it is taken apart before them.
    sys.path.insert(0, {folder!r})
    from late import Late
    kept = Late()
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("target", ["abs", "lambda n: n"])
@pytest.mark.parametrize("way", ["-c", "script"])
def test_a_finalizer_at_the_end_has_its_modules(method: str, target: str, way: str, tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(LATE)
    program = PROGRAM.format(method=method, target=target, argument=1, folder=str(tmp_path))
    command = ["-c", program]
    if way == "script":
        (tmp_path / "script.py").write_text(program)
        command = [str(tmp_path / "script.py")]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=100)
    assert (done.stdout, done.stderr, done.returncode) == ("finalized\n", "", 0)
