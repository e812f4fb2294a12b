"""Programs of a test's own, run in an interpreter of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run(
    folder: Path,
    text: str,
    *arguments: str,
    launched: bool = False,
    expected: str = "well\n",
    seconds: float = 80,
) -> None:
    """Run the program in ``folder``: it has to print what is expected, and nothing on standard error.

    Args:
        launched: it is run by ``python -m manyhands``.
        seconds: how long it may take.
    """
    script = folder / "script.py"
    script.write_text(text)
    launcher = ["-m", "manyhands"] if launched else []
    argv = [sys.executable, *launcher, str(script), *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds, env=environment)
    assert done.stderr == ""
    assert (done.returncode, done.stdout) == (0, expected)
