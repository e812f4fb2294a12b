"""What instrumentation and tests find inside an executor: worked out when somebody looks.

Each of these knows the executor's crew and not the executor, which so goes when its user drops it.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from typing import Any

__all__ = ["CallQueue", "ManagerThread", "WorkItem"]


class ManagerThread:
    """Stands for the standard library's thread that manages an executor: its life lasts until all is over."""

    name = "ExecutorManagerThread"
    daemon = False

    def __init__(self, crew: Any) -> None:
        self._crew = crew

    def is_alive(self) -> bool:
        """Whether a call may get its outcome, or a worker is there."""
        return self._crew.core.is_ours and not self._crew.calls.is_over

    def join(self, timeout: float | None = None) -> None:
        """Wait until the executor was shut down or dropped, its calls are done and its workers have ended."""
        self._crew.finish(timeout)


class CallQueue:
    """Stands for the queue of calls on their way to workers; before the first call there is no crew."""

    def __init__(self, crew: Any) -> None:
        self._crew = crew

    def qsize(self) -> int:
        """How many calls lie before the workers that each have one."""
        if self._crew is None:
            return 0
        given: int = self._crew.calls.unsettled[0]
        return max(0, given - len(self._crew.core.processes))

    def empty(self) -> bool:
        """Whether no call waits for the one before it."""
        return self.qsize() == 0

    def close(self) -> None:
        """For compatibility: the queue goes with the executor."""

    def join_thread(self) -> None:
        """For compatibility: there is no thread."""


class WorkItem:
    """A call that has no outcome so far."""

    def __init__(self, future: Any) -> None:
        self.future = future
