"""Where cloudpickle is missing, what would be sent by value is refused with one clear error, each time."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

#: On standard input, so that spawned children have no such main module.
PROGRAM = """
import sys

sys.modules["cloudpickle"] = None

import manyhands

def double(number):
    return number * 2

ctx = manyhands.get_context("spawn")
for _ in range(3):
    process = ctx.Process(target=double, args=(4,))
    try:
        process.start()
    except ModuleNotFoundError as error:
        print(error.name, "needs cloudpickle" in str(error))
    else:
        process.join()
        print("started")
"""


@pytest.mark.deadline(60)
def test_the_error_is_the_same_each_time() -> None:
    done = subprocess.run(
        [sys.executable, "-"],
        input=PROGRAM,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "cloudpickle True\n" * 3
