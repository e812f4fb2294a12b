"""Which files the demonstration reads."""

from __future__ import annotations

import sysconfig
from pathlib import Path

# Installed packages and compiled leftovers lie within the library's folder, but are not the library.
_NOT_SOURCES = {"site-packages", "dist-packages", "__pycache__"}


def standard_library() -> Path:
    """The folder that every machine with CPython has: over a thousand files of real code."""
    return Path(sysconfig.get_path("stdlib"))


def python_files(folder: Path) -> list[str]:
    """Every `.py` file under `folder`, relative to it, sorted: the order must be the same in every run."""
    return sorted(
        relative.as_posix()
        for path in folder.rglob("*.py")
        if not _NOT_SOURCES.intersection((relative := path.relative_to(folder)).parts) and path.is_file()
    )


def warm(folder: Path, paths: list[str]) -> int:
    """Reads every file once, so that no run pays for a cold disk; returns how many bytes that is."""
    return sum(len((folder / path).read_bytes()) for path in paths)
