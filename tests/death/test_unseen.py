"""Families whose processes cannot see each other: nothing is taken from the living, and the known dead come back.

The scenarios are programs of their own (`tests/unseen.py`), each run as it is and in surroundings that hide processes:
other users' by `hidepid=2`, all by a `/proc` without any, those of another pid namespace. Where this machine refuses
such surroundings the same program runs without them; the whole table of decisions is tried in the engine's own tests
(`sys/liveness.rs`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

_MOUNTS = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
_PIDS = ["unshare", "--pid", "--fork", "--kill-child"]
#: What is put before a program's command line.
SURROUNDINGS = {
    "as it is": [],
    "hidden": [*_MOUNTS, 'mount -t proc -o hidepid=2 proc /proc && exec "$@"', "sh"],
    "no proc": [*_MOUNTS, 'mount -t tmpfs none /proc && exec "$@"', "sh"],
    "own pids": [*_PIDS, "--mount-proc"],
    "own pids, the outer proc": _PIDS,
}
EVERYWHERE = list(SURROUNDINGS)
HERE = ["as it is"]

SCENARIOS = {
    "strangers": EVERYWHERE,
    "orphans": EVERYWHERE,
    "inner_orphans": EVERYWHERE,
    "no_descriptors": [*HERE, "no proc"],
    "namespaces": EVERYWHERE,
    "namesakes": [*HERE, "own pids", "own pids, the outer proc"],
    "clocks": HERE,
    "pids": [*HERE, "own pids"],
    "first_thread_gone": EVERYWHERE,
}


@cache
def wrapper(surroundings: str) -> list[str]:
    """What goes before the command line there: nothing where this machine refuses."""
    before = SURROUNDINGS[surroundings]
    tried = (
        subprocess.run([*before, "true"], capture_output=True, timeout=50, check=False) if before else None
    )
    return before if tried is not None and tried.returncode == 0 else []


@pytest.mark.deadline(120)
@pytest.mark.parametrize(
    ("scenario", "surroundings"),
    [
        pytest.param(each, where, id=f"{each}-{where}")
        for each, places in SCENARIOS.items()
        for where in places
    ],
)
def test_nothing_is_taken_from_the_living(ctx: Any, root: Path, scenario: str, surroundings: str) -> None:
    program = [sys.executable, "-W", "error::DeprecationWarning", str(root / "tests" / "unseen.py")]
    done = subprocess.run(
        [*wrapper(surroundings), *program, scenario, ctx.get_start_method()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "right\n"), done.stderr
