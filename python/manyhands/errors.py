"""Exceptions beyond the standard library's."""

from __future__ import annotations

import signal
from concurrent.futures.process import BrokenProcessPool

__all__ = ["WorkerDied"]


class WorkerDied(BrokenProcessPool):
    """A worker process ended while it was working on an item; the item is lost, everything else goes on.

    A subclass of ``concurrent.futures.process.BrokenProcessPool``, so that existing handlers catch it. The pool stays
    usable: the worker is replaced.

    Attributes:
        pid: the worker's process id.
        exitcode: its exit status, negative for a signal; ``None`` when nobody could tell.
        signal: the name of the signal that ended it, such as ``"SIGKILL"``, or ``None``.
        item: the index of the lost item within the call (``map``, ``imap``), or ``None`` for a single call.
    """

    def __init__(self, pid: int | None, exitcode: int | None, item: int | None = None) -> None:
        self.pid = pid
        self.exitcode = exitcode
        self.item = item
        self.signal = _signal_name(exitcode)
        super().__init__(self._describe())

    def __reduce__(self) -> tuple[type[WorkerDied], tuple[int | None, int | None, int | None]]:
        return type(self), (self.pid, self.exitcode, self.item)

    def _describe(self) -> str:
        if self.signal is not None:
            how = f"was killed by {self.signal}"
        elif self.exitcode is None:
            how = "ended"
        else:
            how = f"exited with status {self.exitcode}"
        what = "its call" if self.item is None else f"item {self.item}"
        return f"worker process {self.pid} {how} while working on {what}; only that is lost"


def _signal_name(exitcode: int | None) -> str | None:
    if exitcode is None or exitcode >= 0:
        return None
    try:
        return signal.Signals(-exitcode).name
    except ValueError:
        return f"signal {-exitcode}"
