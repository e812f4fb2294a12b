"""Somebody else collects the children's statuses: a handler of SIGCHLD, a thread, the kernel where SIGCHLD is ignored.

A child that is gone before its parent could look is a process that has ended, with the status that it noted.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import reapers

TESTS = Path(__file__).parent.parent

pytestmark = pytest.mark.deadline(120)


def run(call: str, inherit_ignored: bool = False) -> None:
    """In a program of its own: what it does to its children must not reach other tests'."""
    program = f"""
import sys
sys.path.append({str(TESTS)!r})
import manyhands, reapers

if __name__ == "__main__":
    {call}
"""
    argv = [sys.executable, "-c", program]
    if inherit_ignored:
        # Not every shell can.
        code = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
        code += "; os.execv(sys.argv[1], sys.argv[1:])"
        argv = [sys.executable, "-c", code, *argv]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=110)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("reaper", list(reapers.REAPERS))
def test_everything_works_beside(ctx: Any, reaper: str) -> None:
    method = ctx.get_start_method()
    call = f"reapers.everything(manyhands.get_context({method!r}), {reaper!r})"
    run(call, inherit_ignored=reaper == "inherited")


@pytest.mark.methods("fork")
def test_a_child_that_was_reaped_before_start_could_look_has_ended(ctx: Any) -> None:
    run(f"reapers.gone_at_once(manyhands.get_context({ctx.get_start_method()!r}))")


def test_subprocesses_beside_processes(ctx: Any) -> None:
    run(f"reapers.subprocesses_beside(manyhands.get_context({ctx.get_start_method()!r}))")
