"""Limits that are lowered under a running program: waits go on, errors are told, and what is full says "later"."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parent.parent / "needy.py"


def run(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.deadline(120)
@pytest.mark.parametrize("limit", [0, 2])
@pytest.mark.parametrize("name", ["waits", "endings", "first_uses"])
def test_descriptors(ctx: Any, name: str, limit: int) -> None:
    """Below the number of those that are polled, the kernel refuses to poll any."""
    run(name, ctx.get_start_method(), str(limit))


@pytest.mark.deadline(120)
@pytest.mark.methods("fork")
def test_places_for_processes(ctx: Any) -> None:
    run("full_table")
