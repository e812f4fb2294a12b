"""A function that a pool has by its name, when what it uses is defined again between calls."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

PROGRAM = """
import manyhands

def used(x):
    return 1

class Holder:
    value = 1

class Maker:
    def __init__(self, x):
        self.made = used(x)

def function(x):
    return used(x), Holder.value

def other(x):
    return x

def answers(pool, executor):
    return {
        pool.apply(function, (0,)), *pool.map(function, [0, 0, 0]), *pool.imap(function, [0, 0]),
        pool.apply_async(function, (0,)).get(30), executor.submit(function, 0).result(30),
    }

if __name__ == "__main__":
    context = manyhands.get_context(METHOD)
    with context.Pool(1) as pool, manyhands.ProcessPoolExecutor(1, mp_context=context) as executor:
        for _ in range(3):
            print(answers(pool, executor), pool.apply(Maker, (0,)).made)
        exec("def used(x): return 2", globals())
        for _ in range(3):
            print(answers(pool, executor), pool.apply(Maker, (0,)).made)
        exec("class Holder: value = 2", globals())
        print(answers(pool, executor), pool.apply(other, (5,)))
        # What was given out before goes on.
        pending = pool.imap(function, [0] * 5000, 1)
        first = next(pending)
        exec("def used(x): return 3", globals())
        print(answers(pool, executor), first, len(list(pending)))
"""
LATER = """\
{(1, 1)} 1
{(1, 1)} 1
{(1, 1)} 1
{(2, 1)} 2
{(2, 1)} 2
{(2, 1)} 2
{(2, 2)} 5
{(3, 2)} (2, 2) 4999
"""
# A child that has run the whole script has what that says.
OWN = "{(1, 1)} 1\n" * 6 + "{(1, 1)} 5\n{(1, 1)} (1, 1) 4999\n"


@pytest.mark.parametrize("way", ["-c", "script"])
def test_the_later_one_is_used(ctx: Any, way: str, tmp_path: Any) -> None:
    method = ctx.get_start_method()
    program = PROGRAM.replace("METHOD", repr(method))
    script = tmp_path / "script.py"
    script.write_text(program)
    arguments = ["-c", program] if way == "-c" else [str(script)]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=50)
    expected = LATER if way == "-c" or method == "fork" else OWN
    assert (done.stdout, done.stderr) == (expected, "")
