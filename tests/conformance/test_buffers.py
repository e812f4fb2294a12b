"""Buffers of every kind over connections and into slices of shared arrays, compared with the standard library."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent.parent / "buffers.py"

#: What differs on purpose: which call, what the standard library does, and what we do; see `docs/differences.md`.
DIFFERENT = [
    # A buffer that cannot be written to is refused before the message is read.
    (r"receive .*", "BufferTooShort", "TypeError"),
    # So is one with gaps, even if the message would not reach them.
    (r"receive .*(every other|Fortran).*", r"\([08], .*", "TypeError"),
    # Offsets need not be multiples of an item's size.
    (r"receive .* into (ctypes array of Pair|numpy (c16|S3|i4,f8)) .*", r"\(8, .*", r"\(8, .*"),
    # In several dimensions there are bytes, not rows.
    (r"receive .*(table|2-d).*", "BufferTooShort|ValueError", r"\(.*"),
    (r"receive .*(table|2-d).*", "ValueError", "BufferTooShort"),
]


def outcomes(module: str) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", PROGRAM, module], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.deadline(580)
def test_buffers_go_where_they_go_in_the_standard_library() -> None:
    theirs, ours = outcomes("multiprocessing"), outcomes("manyhands")
    assert theirs.keys() == ours.keys()
    assert len(theirs) > 7_000
    wrong = []
    for call, wanted in theirs.items():
        got = ours[call]
        known = any(
            re.fullmatch(which, call) and re.fullmatch(said, wanted) and re.fullmatch(says, got)
            for which, said, says in DIFFERENT
        )
        if got != wanted and not known:
            wrong.append(f"{call}: {got}, in the standard library {wanted}")
    assert not wrong, "\n".join(wrong)
