"""The child that a fork server has in reserve: killed, interrupted, or left without its server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import targets
from processes import descendants, is_reserve, kill, stat, wait_gone, wait_until

pytestmark = pytest.mark.methods("forkserver")


@pytest.fixture
def reserve(ctx: Any) -> int:
    """Its pid; the server has made it by the time the second process is started."""
    run_one(ctx)
    wait_until(lambda: len(reserves()) == 1)
    return reserves()[0]


def reserves() -> list[int]:
    return [pid for pid in descendants() if is_reserve(pid)]


def run_one(ctx: Any) -> int:
    queue = ctx.SimpleQueue()
    process = ctx.Process(target=targets.put, args=(queue, "done"))
    process.start()
    pid = process.pid
    process.join()
    assert (queue.get(), process.exitcode) == ("done", 0)
    queue.close()
    process.close()
    assert isinstance(pid, int)
    return pid


def test_it_becomes_the_next_process(ctx: Any, reserve: int) -> None:
    assert run_one(ctx) == reserve
    wait_until(lambda: len(reserves()) == 1)
    assert reserves() != [reserve]


def test_killed(ctx: Any, reserve: int) -> None:
    kill(reserve)
    wait_gone([reserve])
    assert run_one(ctx) != reserve
    wait_until(lambda: len(reserves()) == 1)


def test_killed_while_it_stands_still(ctx: Any, reserve: int) -> None:
    # It has the request then, and nobody will carry it out.
    os.kill(reserve, signal.SIGSTOP)
    process = ctx.Process(target=targets.nothing)
    process.start()
    assert process.pid == reserve
    kill(reserve)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    process.close()
    run_one(ctx)


def test_interrupted_before_it_has_anything_to_do(ctx: Any, reserve: int) -> None:
    os.kill(reserve, signal.SIGINT)
    assert run_one(ctx) == reserve


def test_ends_with_its_server() -> None:
    # In a program of its own, whose server is not needed by the next test.
    here = Path(__file__).parent
    program = f"""
import sys
sys.path += [{str(here)!r}, {str(here.parent)!r}]
import manyhands, test_reserve

if __name__ == "__main__":
    test_reserve.lose_the_server(manyhands.get_context("forkserver"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")


def lose_the_server(ctx: Any) -> None:
    run_one(ctx)
    wait_until(lambda: len(reserves()) == 1)
    found = stat(reserves()[0])
    assert found is not None
    lost = [*reserves(), found.parent]
    kill(found.parent)
    wait_gone(lost)
    run_one(ctx)
    wait_until(lambda: len(reserves()) == 1)
    assert reserves() != lost[:1]
