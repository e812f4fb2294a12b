"""The child that a fork server has in reserve: killed, interrupted, sent away, or left without its server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import targets
from manyhands import forkserver
from processes import descendants, is_reserve, kill, stat, wait_gone, wait_until

pytestmark = pytest.mark.methods("forkserver")

SERVER = forkserver._forkserver


#: Longer than a child in reserve waits, in seconds. (What the module says here may be a test's: `patient_server`.)
IDLE = 0.6


@pytest.fixture
def new_server(ctx: Any) -> Iterator[None]:
    """The next process is a new server's."""
    SERVER._stop()
    yield
    SERVER._stop()
    ctx.set_forkserver_preload(["__main__"])


@pytest.fixture
def reserve(ctx: Any, new_server: None) -> int:
    """Its pid; the server has made it by the time the second process is started."""
    ctx.set_forkserver_preload(["patient_server"])
    run_one(ctx)
    wait_until(lambda: len(reserves()) == 1)
    return reserves()[0]


def reserves() -> list[int]:
    return [pid for pid in descendants() if is_reserve(pid)]


def servers_children() -> list[int]:
    return descendants(SERVER._forkserver_pid)


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


def test_sent_away_when_there_is_nothing_to_do(ctx: Any, new_server: None) -> None:
    for _ in range(3):
        run_one(ctx)
        run_one(ctx)
        wait_until(lambda: not servers_children())


def test_sent_away_while_it_stands_still(ctx: Any, new_server: None) -> None:
    for _ in range(20):
        pid = stopped_reserve(ctx)
        time.sleep(IDLE)
        process = ctx.Process(target=targets.nothing)
        process.start()
        missed = process.pid == pid
        os.kill(pid, signal.SIGCONT)
        process.join()
        assert process.exitcode == 0
        process.close()
        if not missed:
            break
    else:
        pytest.fail("the server did not send it away")
    wait_gone([pid])
    run_one(ctx)


def stopped_reserve(ctx: Any) -> int:
    while True:
        # Two, so that one in reserve pays.
        run_one(ctx)
        run_one(ctx)
        for pid in reserves():
            os.kill(pid, signal.SIGSTOP)
            wait_until(lambda pid=pid: (found := stat(pid)) is None or found.state in "TZX")  # type: ignore[misc]
            if (found := stat(pid)) is not None and found.state == "T":
                return pid


def test_starts_that_are_far_apart_fork_once_each(
    ctx: Any, new_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = tmp_path / "forks"
    count.touch()
    (tmp_path / "hasty_server.py").write_text(
        "import os\n"
        "from manyhands import forkserver\n"
        "forkserver.RESERVE_SECONDS = 0.01\n"
        f"file = open({str(count)!r}, 'ab', buffering=0)\n"
        "os.register_at_fork(before=lambda: file.write(b'.'))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    ctx.set_forkserver_preload(["hasty_server"])
    # Its first reserves wait in vain.
    for forks in (2, 4):
        run_one(ctx)
        wait_until(lambda forks=forks: count.stat().st_size == forks and not servers_children())  # type: ignore[misc]
        time.sleep(0.05)
    for _ in range(4):
        run_one(ctx)
        time.sleep(0.05)
    assert count.stat().st_size == 8


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
    ctx.set_forkserver_preload(["patient_server"])
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
