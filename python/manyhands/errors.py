"""Exceptions beyond the standard library's."""

from __future__ import annotations

import signal

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from concurrent.futures.process import BrokenProcessPool
else:
    try:
        from concurrent.futures.process import BrokenProcessPool
    except RuntimeError:
        # That module registers something with `threading`, which takes nothing once the main thread has ended. A
        # program that has not imported it by then never can, and so has no handler that asks for this class.
        from concurrent.futures import BrokenExecutor as BrokenProcessPool

__all__ = ["OwnerDied", "TaskError", "WorkerDied"]


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


class OwnerDied(RuntimeError):
    """The process that held a lock was killed, and whoever gets this wanted the lock next.

    Exactly one of those who want it gets this, and does *not* hold the lock, which is free. What the lock guards may be
    half changed: put it right under the lock, which is acquired once more for that.

    Attributes:
        pid: the process id of the one that was killed; ``None`` when it was killed too early for anybody to know.
        lock: the lock's ``repr``.
    """

    def __init__(self, pid: int | None, lock: str) -> None:
        self.pid = pid
        self.lock = lock
        who = "a process" if pid is None else f"process {pid}"
        super().__init__(f"{who} was killed while it held {lock}, which is free now and was not acquired")

    def __reduce__(self) -> tuple[type[OwnerDied], tuple[int | None, str]]:
        return type(self), (self.pid, self.lock)


class TaskError(RuntimeError):
    """What a task raised, where the exception itself cannot be raised here.

    Either it cannot be made again from its pickle, or it is no ``Exception`` (``SystemExit`` after ``sys.exit`` in a
    task, ``KeyboardInterrupt``) and would end this program instead of telling it about one item.

    Attributes:
        type_name: the exception's class, with its module.
        message: what it said; for ``sys.exit``, its argument.
        traceback: the worker's traceback, as text; also this error's ``__cause__``.
        reason: why the exception could not be made again, or ``None``.
        exception: the exception, when it could be made again.
    """

    def __init__(
        self,
        summary: str,
        traceback: str = "",
        reason: str | None = None,
        exception: BaseException | None = None,
    ) -> None:
        self.type_name, _, self.message = summary.partition(": ")
        self.traceback = traceback
        self.reason = reason
        self.exception = exception
        self._summary = summary
        super().__init__(self._describe())

    def __reduce__(self) -> tuple[type[TaskError], tuple[str, str, str | None]]:
        return type(self), (self._summary, self.traceback, self.reason)

    def _describe(self) -> str:
        name = self.type_name.removeprefix("builtins.")
        what = f"{name}: {self.message}" if self.message else name
        if self.reason is None:
            return f"the task raised {what}"
        return f"the task raised {what}; that exception cannot be unpickled here: {self.reason}"


def _signal_name(exitcode: int | None) -> str | None:
    if exitcode is None or exitcode >= 0:
        return None
    try:
        return signal.Signals(-exitcode).name
    except ValueError:
        return f"signal {-exitcode}"
