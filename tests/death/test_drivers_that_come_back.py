"""A pool that ends while a thread forks: the driver that ended for the fork does not come back for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys, threading, time

pool = None


def end_the_pool():
    # As another thread might, while this one forks: between the hooks of manyhands, which come after this one's.
    if pool is not None:
        END[sys.argv[2]]()


os.register_at_fork(after_in_parent=end_the_pool)
import manyhands
from manyhands.futures import ProcessPoolExecutor


def close_and_join():
    pool.close()
    pool.join()


def has_driver():
    return any(thread.name == "PoolDriver" for thread in threading.enumerate())


if __name__ == "__main__":
    ctx = manyhands.get_context(sys.argv[1])
    if sys.argv[2] == "shutdown":
        made = ProcessPoolExecutor(2, mp_context=ctx)
        call = made.submit(time.sleep, 0.2)
    else:
        made = ctx.Pool(2)
        call = made.apply_async(time.sleep, (0.2,))
    END = {
        "terminate": lambda: pool.terminate(),
        "join": close_and_join,
        "shutdown": lambda: pool.shutdown(),
    }
    while not has_driver():
        time.sleep(0.001)
    pool = made
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    assert os.waitpid(pid, 0) == (pid, 0)
    end = time.monotonic() + 10
    while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < end:
        time.sleep(0.01)
    print(os.listdir("/proc/self/task") == [str(os.getpid())], has_driver())
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("how", ["terminate", "join", "shutdown"])
def test_no_thread_is_left_of_a_pool_that_ends_during_a_fork(method: str, how: str, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(script), method, how]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, env=environment)
    assert (done.stdout, done.stderr) == ("True False\n", "")
