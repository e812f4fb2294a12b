"""The text of code that travels by value and was never in a file: of a notebook's cell, or typed in.

What makes such code puts its text where `linecache` has it from; a traceback in another process shows it from there.
"""

from __future__ import annotations

import linecache
from typing import Any

__all__ = ["note", "of"]

#: A longer text does not go along.
_LONGEST = 16 << 10


def of(file: str) -> list[str] | None:
    """The lines under that name, unless they are in a file of which any process can read them."""
    entry: Any = linecache.cache.get(file)
    if entry is None or len(entry) != 4:
        return None
    size, modified, lines, _path = entry
    return lines if modified is None and type(lines) is list and size <= _LONGEST else None


def note(file: str, lines: list[str]) -> None:
    """Keep what came with code, unless this process has a text of that name."""
    linecache.cache.setdefault(file, (sum(map(len, lines)), None, lines, file))
