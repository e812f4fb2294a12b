"""Who dies with a killed parent, and who does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import descendants, describe, held_elsewhere, is_running, kill, stat, wait_gone, wait_until

# Prints the pids of what must not outlive it, does what the test says with its workers, and waits for its end.
POOL = """
import os, sys
import manyhands
import targets

if __name__ == "__main__":
    method, work, end = sys.argv[1:]
    pool = manyhands.get_context(method).Pool(3)
    pids = set()
    while len(pids) < 3:
        pids.update(pool.map(targets.pid, range(300), 1))
    if work == "busy":
        calls = [pool.apply_async(targets.spin_forever) for _ in range(6)]
    print(*pids, flush=True)
    sys.stdin.readline()
    os._exit(0)
"""
EXECUTOR = """
import os, sys
import manyhands
import targets

if __name__ == "__main__":
    method, work, end = sys.argv[1:]
    executor = manyhands.ProcessPoolExecutor(3, mp_context=manyhands.get_context(method))
    warm = [executor.submit(targets.sleep, 0.01) for _ in range(9)]
    for future in warm:
        future.result()
    pids = list(executor._processes)
    if work == "busy":
        calls = [executor.submit(targets.spin_forever) for _ in range(6)]
    print(*pids, flush=True)
    sys.stdin.readline()
    os._exit(0)
"""

PROCESS = """
import sys
import manyhands
import targets

if __name__ == "__main__":
    method, daemon, _ = sys.argv[1:]
    process = manyhands.get_context(method).Process(target=targets.sleep, args=(600,), daemon=daemon == "daemon")
    process.start()
    print(process.pid, flush=True)
    sys.stdin.readline()
"""


class Program:
    """A program in an interpreter of its own, whose first line of output is the pids that it has started."""

    def __init__(self, folder: Path, text: str, *args: str) -> None:
        script = folder / "program.py"
        script.write_text(text)
        self.popen = subprocess.Popen(
            [sys.executable, "-W", "error::DeprecationWarning", str(script), *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert self.popen.stdout is not None
        self.pids = [int(word) for word in self.popen.stdout.readline().split()]

    def end(self, how: str) -> None:
        if how == "SIGKILL":
            self.popen.kill()
        else:
            assert self.popen.stdin is not None
            self.popen.stdin.write(b"\n")
            self.popen.stdin.flush()
        self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout):
            assert stream is not None
            stream.close()


def is_busy(pid: int) -> bool:
    found = stat(pid)
    return found is not None and found.state == "R"


@pytest.mark.parametrize("end", ["SIGKILL", "os._exit"])
@pytest.mark.parametrize("work", ["busy", "idle"])
@pytest.mark.parametrize("workers_of", [POOL, EXECUTOR], ids=["pool", "executor"])
def test_no_worker_outlives_its_parent(
    ctx: Any, tmp_path: Path, figure: Any, workers_of: str, work: str, end: str
) -> None:
    names = set(os.listdir("/dev/shm"))
    program = Program(tmp_path, workers_of, ctx.get_start_method(), work, end)
    assert len(program.pids) == 3
    if work == "busy":
        for pid in program.pids:
            wait_until(lambda pid=pid: is_busy(pid), 30)  # type: ignore[misc]
    everybody = {*program.pids, *descendants(program.popen.pid)}
    program.end(end)
    gone_after = wait_gone(everybody)
    figure(f"{len(everybody)} processes gone {gone_after * 1000:.0f} ms after the parent")
    left = set(os.listdir("/dev/shm")) - names
    assert left <= held_elsewhere(left)


def test_no_daemon_outlives_its_parent(ctx: Any, tmp_path: Path, figure: Any) -> None:
    program = Program(tmp_path, PROCESS, ctx.get_start_method(), "daemon", "")
    everybody = {*program.pids, *descendants(program.popen.pid)}
    program.end("SIGKILL")
    gone_after = wait_gone(everybody)
    figure(f"{len(everybody)} processes gone {gone_after * 1000:.0f} ms after the parent")


def test_other_processes_outlive_their_parent(ctx: Any, tmp_path: Path) -> None:
    program = Program(tmp_path, PROCESS, ctx.get_start_method(), "no daemon", "")
    (pid,) = program.pids
    # The resource tracker lives as long as anyone who may need it, as in the standard library.
    others = {
        other
        for other in set(descendants(program.popen.pid)) - {pid}
        if "resource_tracker" not in describe(other)
    }
    program.end("SIGKILL")
    # The zygote, which has to end, ends; when that has happened, the child would be gone too.
    wait_gone(others)
    assert is_running(pid), describe(pid)
    kill(pid)
    wait_gone([pid])
