"""What a callback starts, threads and processes, takes signals, also when the callback runs while its program forks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, signal, subprocess, sys, time
import manyhands

masks = []


def note(_):
    run = subprocess.run(["grep", "SigBlk", "/proc/self/status"], capture_output=True, text=True)
    masks.append((signal.pthread_sigmask(signal.SIG_BLOCK, []), run.stdout.split()[1]))


def same(value):
    return value


if __name__ == "__main__":
    pool = manyhands.get_context(sys.argv[1]).Pool(2)
    pool.map(same, range(4))
    for round in range(120):
        call = pool.apply_async(same, (1,), callback=note)
        # The driver wakes up, and wants the GIL, while this thread is about to fork.
        end = time.perf_counter() + round % 6 * 0.0004
        while time.perf_counter() < end:
            pass
        call.ready()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        call.get()
    pool.close()
    pool.join()
    assert len(masks) == 120, len(masks)
    print({(frozenset(here), int(there, 16)) for here, there in masks} == {(frozenset(), 0)})
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_it_blocks_no_signal(method: str, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(script), method]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    assert (done.stdout, done.stderr) == ("True\n", "")
