"""Buffers of every kind over connections and into slices of shared arrays, compared with the standard library."""

from __future__ import annotations

import alike
import pytest

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


@pytest.mark.deadline(alike.SECONDS + 60)
def test_buffers_go_where_they_go_in_the_standard_library() -> None:
    alike.same_outcomes("buffers.py", DIFFERENT, 7_000)
