"""A fork server that is stopped, killed, out of descriptors, refused forks, or long in coming up: each `start` gets an
answer, or an error; signal handlers run meanwhile; nothing is left behind, and better times find it serving."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent

pytestmark = pytest.mark.deadline(90)


def run(name: str, folder: Path, **environment: str) -> None:
    """In a program of its own: other tests need a server in good health."""
    program = f"""
import sys
sys.path.append({str(TESTS)!r})

if __name__ == "__main__":
    import needy_servers

    needy_servers.{name}({str(folder)!r})
"""
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=80, env={**os.environ, **environment})
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "name",
    [
        "children_have_the_clients_limit",
        "client_out_of_descriptors",
        "given_up_when_it_had_begun",
        "handler_starts_another",
        "interrupted_in_a_long_preload",
        "killed_at_random",
        "no_descriptor_at_all",
        "out_of_descriptors",
        "preloaded_reaper",
        "refused_forks",
        "stopped_and_given_up",
        "stopped_with_a_full_socket",
        "stopped_runs_handlers",
        "stopped_server_and_a_status",
    ],
)
def test_server(name: str, tmp_path: Path) -> None:
    run(name, tmp_path)


def test_a_preloaded_thread_that_reaps(tmp_path: Path) -> None:
    if sys.version_info >= (3, 12):
        # Its fork beside a thread is warned of there.
        run("preloaded_reaper", tmp_path, IN_A_THREAD="1", PYTHONWARNINGS="ignore::DeprecationWarning")
    else:
        run("preloaded_reaper", tmp_path, IN_A_THREAD="1")


PROGRAM = """
import manyhands, os, signal, sys, threading, time

def nothing():
    pass

if __name__ == "__main__":
    context = manyhands.get_context("forkserver")
    process = context.Process(target=nothing)
    process.start()
    process.join()
    os.kill(manyhands.forkserver._forkserver._forkserver_pid, signal.SIGSTOP)
    threading.Thread(target=context.Process(target=nothing).start, daemon=True).start()
    time.sleep(0.5)
    print("ends")
"""


def test_the_end_of_a_program_does_not_wait_for_a_start(tmp_path: Path) -> None:
    """A daemon thread starts a process, and the server is stopped: the thread would never give the lock back."""
    (tmp_path / "program.py").write_text(PROGRAM)
    argv = [sys.executable, str(tmp_path / "program.py")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "ends\n")
