"""`doctor`: a look into a running family, and its command line."""

from __future__ import annotations

import sys

from . import _manyhands

__all__ = ["doctor", "main"]


def doctor(pid: int | None = None) -> str:
    """What the processes of a family are doing at the moment, as a text to read.

    Who is there, and who is dead; who waits for what, and for how long; what each pool worker is working on; what
    queues and pools hold; how much shared memory is in use. It comes from shared memory and ``/proc``: nothing is
    stopped, traced, locked or changed.

    Args:
        pid: any process of the family to look at; by default this process's own family.

    Raises:
        ProcessLookupError: there is no such process.
        PermissionError: the system does not let this user look into it.
        ValueError: it has not used manyhands.
        RuntimeError: its family runs another build of manyhands.

    >>> import manyhands
    >>> queue = manyhands.Queue()
    >>> text = manyhands.doctor()
    >>> "empty, no bound" in text
    True
    """
    text = _manyhands.doctor(pid)
    if text is None:
        return "this process has not used manyhands yet: there is no family to look into\n"
    return text


def main(argv: list[str]) -> int:
    """``python -m manyhands doctor``: print one report; the exit status.

    0 when there was one, 1 when that process cannot be looked into, 2 when the command line makes no sense.
    """
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m manyhands doctor",
        description="Show what the processes of a manyhands family are doing, without disturbing them.",
        epilog="exit status: 0 for a report, 1 when the process cannot be looked into",
    )
    parser.add_argument("pid", metavar="PID", type=_pid, help="any process of the family; it must be yours")
    parser.add_argument(
        "--once",
        action="store_true",
        help="print one report and leave; so far that is what happens without it too",
    )
    pid: int = parser.parse_args(argv).pid
    try:
        text = doctor(pid)
    except (OSError, ValueError, RuntimeError) as refused:
        print(f"manyhands doctor: {getattr(refused, 'strerror', None) or refused}", file=sys.stderr)
        return 1
    sys.stdout.write(text)
    return 0


def _pid(text: str) -> int:
    """A process id; anything else is a mistake in the command line."""
    pid = int(text)
    if not 0 < pid < 1 << 31:
        raise ValueError
    return pid
