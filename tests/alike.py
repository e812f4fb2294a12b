"""Programs that do the same with the standard library and with manyhands, and what may come of it: the same."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent


#: Against hangs only: how long a program may take on a busy machine. A test that runs one has a longer deadline.
SECONDS = 900


def outcomes(program: str, *arguments: str) -> list[dict[str, str]]:
    """By what was done, what came of it: what a program of this folder writes as JSON, for each of both modules.

    Both run at the same time: most of what they do is to wait.
    """
    found = []
    with contextlib.ExitStack() as started:
        running = []
        for module in ("multiprocessing", "manyhands"):
            command = [sys.executable, "-W", "ignore", str(FOLDER / program), module, *arguments]
            out, told = (started.enter_context(tempfile.TemporaryFile("w+")) for _ in range(2))
            process = started.enter_context(subprocess.Popen(command, stdout=out, stderr=told))
            started.callback(process.kill)
            running.append((process, out, told))
        for process, out, told in running:
            process.wait(SECONDS)
            for file in (out, told):
                file.seek(0)
            assert process.returncode == 0, told.read()[-3000:]
            found.append(json.load(out))
    return found


def same_outcomes(
    program: str, different: Iterable[tuple[str, str, str]], least: int, *arguments: str
) -> None:
    """Fails unless everything, more than ``least`` things, comes out alike.

    Args:
        different: what may not: expressions for what was done, what the standard library says, and what we say.
    """
    theirs, ours = outcomes(program, *arguments)
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
