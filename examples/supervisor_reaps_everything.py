"""A supervisor collects every child that ends, as init does in a container, beside a pool and processes of its own.

It takes the exit statuses away from whoever started the processes. With manyhands each process also notes its status
before it ends, so `exitcode` is right all the same, and a start never fails because its process was too fast.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import Any

import manyhands

collected: list[int] = []


def collect(_signal: int, _frame: Any) -> None:
    """Collects whatever has ended: the classic handler of SIGCHLD."""
    with contextlib.suppress(ChildProcessError):
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            collected.append(pid)


def check(number: int) -> None:
    """A check that fails for every third number."""
    sys.exit(2 if number % 3 == 0 else 0)


def square(number: int) -> int:
    return number * number


def main() -> None:
    signal.signal(signal.SIGCHLD, collect)
    checks = [manyhands.Process(target=check, args=(number,)) for number in range(12)]
    for process in checks:
        process.start()
    for process in checks:
        process.join()
    assert [process.exitcode for process in checks] == [2 if n % 3 == 0 else 0 for n in range(12)]

    with manyhands.Pool(2) as pool:
        assert pool.map(square, range(100)) == [n * n for n in range(100)]
        # A command of somebody else's is collected, too.
        subprocess.Popen(["true"]).wait()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    assert collected, "the supervisor has done its work"
    print("every check ended as it said, whoever collected it")


if __name__ == "__main__":
    main()
