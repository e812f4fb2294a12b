"""Programs that do the same with the standard library and with manyhands, and what may come of it: the same."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent


def outcomes(program: str, module: str, *arguments: str) -> dict[str, str]:
    """By what was done, what came of it: what a program of this folder writes as JSON."""
    command = [sys.executable, "-W", "ignore", str(FOLDER / program), module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=290)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, str] = json.loads(done.stdout)
    return found


def same_outcomes(
    program: str, different: Iterable[tuple[str, str, str]], least: int, *arguments: str
) -> None:
    """Fails unless everything, more than ``least`` things, comes out alike.

    Args:
        different: what may not: expressions for what was done, what the standard library says, and what we say.
    """
    theirs = outcomes(program, "multiprocessing", *arguments)
    ours = outcomes(program, "manyhands", *arguments)
    assert theirs.keys() == ours.keys()
    assert len(theirs) > least

    def is_known(done: str) -> bool:
        told = (done, theirs[done], ours[done])
        return any(all(map(re.fullmatch, expressions, told)) for expressions in different)

    wrong = [
        f"{done}: {ours[done]}; in the standard library {wanted}"
        for done, wanted in theirs.items()
        if ours[done] != wanted and not is_known(done)
    ]
    assert not wrong, "\n".join(wrong)
