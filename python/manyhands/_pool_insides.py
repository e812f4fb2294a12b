"""What recipes on the web and instrumentation find inside a pool and its results.

All of it is worked out when somebody looks: a pool that nobody looks into keeps no books for it. What recipes *put*
into the pool's task queue is submitted as the pool submits its own calls.
"""

from __future__ import annotations

from . import _worker

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__ = ["Number", "TaskQueue", "chunksize", "number", "number_left", "success", "value"]


class Number(int):
    """A job's number; what is put into the task queue under it is found to be that job's."""

    job: Any


@property  # type: ignore[misc]
def number(job: Any) -> Number:
    """The job's number in its pool."""
    number = Number(job._id)
    number.job = job
    return number


@property  # type: ignore[misc]
def success(job: Any) -> bool:
    """Whether the call went well; no attribute before that is known, as in the standard library."""
    return bool(_outcome(job, "_success")[0])


@property  # type: ignore[misc]
def value(job: Any) -> Any:
    """What the call returned, or raised; of a list the results so far, ``None`` for those that are not there."""
    return _outcome(job, "_value")[1]


def _outcome(job: Any, name: str) -> tuple[bool, Any]:
    outcome: tuple[bool, Any] | None = job._outcome
    if outcome is None:
        raise AttributeError(f"{type(job).__name__!r} object has no attribute {name!r} before it is ready")
    return outcome


def names(job: Any) -> list[str]:
    """What `dir` lists: attributes that are there. (Managers look at each of them.)"""
    later = ("_success", "_value") if job._outcome is None else ()
    return [name for name in object.__dir__(job) if name not in later]


@property  # type: ignore[misc]
def chunksize(job: Any) -> int:
    """The size of chunks that was asked for, or that the standard library would have taken."""
    return int(job._progress[1])


@property  # type: ignore[misc]
def number_left(job: Any) -> int:
    """How many chunks of that size are not done."""
    left, size = job._progress
    return -int(-left // max(size, 1))


class TaskQueue:
    """A pool's ``_taskqueue``."""

    def __init__(self, pool: Any, feeder: Callable[[Any, Iterable[Any], int], Callable[[], object]]) -> None:
        self._pool = pool
        self._feeder = feeder

    def qsize(self) -> int:
        """How many calls are not done and have no worker to themselves."""
        jobs: int = len(self._pool._core.unfinished)
        return max(0, jobs - int(self._pool._processes))

    def empty(self) -> bool:
        """Whether every call has a worker."""
        return self.qsize() == 0

    def put(self, work: tuple[Iterable[tuple[Any, ...]], Any]) -> None:
        """Submit tasks, ``(job, index, func, args, kwds)``: a stream's, which is known by its ``_set_length`` beside
        them, or the one task of an `ApplyResult`."""
        tasks, set_length = work
        self._pool._check_running()
        if set_length is None:
            self._put_one(tasks)
            return
        job = set_length.__self__
        calls = (tuple(task[2:5]) for task in tasks)
        # As the standard library's handler of tasks, a thread takes them from where they come from.
        feeder = self._feeder(job, calls, 1)
        self._pool._core.submit_stream(job, _worker.call_task, job._is_ordered, 1, feeder=feeder)

    def _put_one(self, tasks: Iterable[tuple[Any, ...]]) -> None:
        ((number, _, func, args, kwds),) = tasks
        if not isinstance(number, Number):
            raise TypeError(f"a pool's tasks belong to the job whose _job they name, not to {number!r}")
        self._pool._core.submit_call(number.job, func, tuple(args), dict(kwds), True)
