"""``concurrent.futures``, with a `ProcessPoolExecutor` on manyhands' own pool.

Futures are real ``concurrent.futures.Future`` objects, so that ``as_completed``, ``wait`` and ``asyncio`` take them. A
thread that waits in `Future.result` does the pool's work itself, as with `manyhands.Pool`: no other thread stands
between it and the workers. Everything but the executor and its future is the standard library's.
"""

from __future__ import annotations

import itertools
import operator
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    BrokenExecutor,
    CancelledError,
    Executor,
    InvalidStateError,
    TimeoutError,
    _base,
    as_completed,
    wait,
)
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from . import _executor_insides, _kin, _manyhands, _outcomes, _pickler, _standard, _typed_in, _worker, pool
from ._readying import Readying, Workers
from .context import context_for_workers, default_context
from .errors import TaskError

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "BrokenExecutor",
    "BrokenProcessPool",
    "CancelledError",
    "Executor",
    "Future",
    "InvalidStateError",
    "ProcessPoolExecutor",
    "TimeoutError",
    "as_completed",
    "wait",
]

P = ParamSpec("P")
T = TypeVar("T")

#: The most workers that a pool can have.
_MOST_WORKERS = 512

_FINISHED = "FINISHED"
_DONE = {_FINISHED, "CANCELLED", "CANCELLED_AND_NOTIFIED"}
#: What the standard library's executor has inside, and a subclass of ours may change.
_HEEDED = ("_force_shutdown",)


class _Made:
    """An attribute of a future that is made when it is first looked at: most futures are only asked for their result.

    From then on the future is *shared*: the engine changes it by its methods, under its lock.
    """

    def __init__(self, make: Callable[[Future[Any]], Any]) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, future: Any, owner: type | None = None) -> Any:
        if future is None:
            return self
        future._shared = True
        # Another thread may have been faster: both get what it made.
        return future.__dict__.setdefault(self._name, self._make(future))


class _Waiters(list[Any]):
    """Who waits for a future by ``concurrent.futures.wait`` or ``as_completed``: they cannot lead the pool."""

    def __init__(self, calls: _manyhands.Calls | None) -> None:
        super().__init__()
        self._calls = calls

    def append(self, waiter: Any) -> None:
        super().append(waiter)
        if self._calls is not None:
            self._calls.urge()


class Future(_base.Future[T]):
    """The outcome of a call that `ProcessPoolExecutor.submit` has taken; a ``concurrent.futures.Future``."""

    _state = "PENDING"
    _result = None
    _exception = None
    _shared = False
    _condition = _Made(lambda future: threading.Condition())
    _waiters = _Made(lambda future: _Waiters(future._calls))
    _done_callbacks = _Made(lambda future: [])

    _calls: _manyhands.Calls | None

    def __init__(self, calls: _manyhands.Calls | None = None) -> None:
        self._calls = calls

    def done(self) -> bool:
        """Whether the call was cancelled or has its outcome."""
        return self._state in _DONE

    def cancel(self) -> bool:
        """Cancel the call, unless a worker may have it already; whether it is cancelled."""
        cancelled = super().cancel()
        if cancelled and self._calls is not None:
            self._calls.look_again()
        return cancelled

    def add_done_callback(self, fn: Callable[[_base.Future[T]], object]) -> None:
        """Have ``fn`` called with the future when it is done, in whichever thread settles it."""
        super().add_done_callback(fn)
        if self._calls is not None and self._state not in _DONE:
            self._calls.urge()

    def result(self, timeout: float | None = None) -> T:
        """What the call returned, or its exception raised.

        Raises ``TimeoutError`` after ``timeout`` seconds, ``CancelledError`` when the call was cancelled, and
        `manyhands.WorkerDied` when its worker died.
        """
        try:
            exception = self._settled(timeout)
            if exception is not None:
                raise exception
            return self._result  # type: ignore[return-value]
        finally:
            # The exception's traceback leads to this frame: no circle.
            exception = None
            del self

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The exception that the call raised, or ``None``; waits as `result` does."""
        return self._settled(timeout)

    def _settled(self, timeout: float | None) -> BaseException | None:
        """Wait for the outcome; the exception, if it is one."""
        if self._state not in _DONE:
            if self._calls is None:
                return super().exception(timeout)
            if not self._calls.wait(self, timeout):
                raise TimeoutError
        if self._state != _FINISHED:
            raise CancelledError
        return self._exception


class ProcessPoolExecutor(Executor):
    """``concurrent.futures.ProcessPoolExecutor``, on manyhands' pool.

    Args:
        max_workers: how many worker processes; by default as many as the standard library of this Python takes. More
            than 512 are not started.
        mp_context: says by which start method workers are started.
        initializer, initargs: called in each worker before its first call. If it raises, every call fails with
            ``BrokenProcessPool``.
        max_tasks_per_child: replace a worker after so many calls; not with ``fork``.

    When a worker dies (killed, crashed, out of memory), exactly the call it was at fails, with `manyhands.WorkerDied`,
    a ``BrokenProcessPool``; the worker is replaced and the executor stays usable. Workers die with the process that
    made the executor.
    """

    def __new__(cls, *_args: Any, **_kwds: Any) -> Self:
        if cls is not ProcessPoolExecutor:
            # One that changes the insides of the standard library's executor is the standard library's.
            _standard.settle(cls, ProcessPoolExecutor, _standard.standard_executor, _HEEDED)
        return super().__new__(cls)

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        if max_workers is None:
            max_workers = _default_workers()
        elif max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        self._max_workers = operator.index(max_workers)
        if mp_context is None:
            mp_context = default_context("spawn" if max_tasks_per_child is not None else None)
        self._mp_context = mp_context
        method = mp_context.get_start_method(allow_none=False)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._initializer = initializer
        self._initargs = initargs
        self._readying = Readying(initializer, initargs)
        if max_tasks_per_child is not None:
            _check_share(max_tasks_per_child, method)
        self._max_tasks_per_child = max_tasks_per_child
        #: Forked workers are all started at the first call, others when there is more to do than there are workers.
        self._safe_to_dynamically_spawn_children = method != "fork"
        self._shutdown_thread = False
        self._crew: _Crew | None = None
        #: The crew before everything is done that makes it one.
        self._forming: _Crew | None = None
        self._crew_lock = threading.RLock()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Start ``fn(*args, **kwargs)`` in a worker; the outcome is asked from the future that this returns.

        What cannot be pickled fails the future. Raises ``RuntimeError`` after `shutdown`, and in a forked child, which
        must make an executor of its own; ``BrokenProcessPool`` when workers cannot be started.
        """
        if self._shutdown_thread:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if _exiting:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        known = self._crew
        crew = known or self._assemble()
        calls = crew.calls
        future: Future[T] = Future(calls)
        try:
            calls.submit(future, fn, args, kwargs)
        except BrokenProcessPool as broken:
            # The workers that this very call has started may have failed by now.
            if known is not None:
                raise
            future.set_exception(broken)
        return future

    # The standard library's, with its own signature on each version.
    if TYPE_CHECKING or sys.version_info >= (3, 14):

        def map(
            self,
            fn: Callable[..., T],
            *iterables: Iterable[Any],
            timeout: float | None = None,
            chunksize: int = 1,
            buffersize: int | None = None,
        ) -> Iterator[T]:
            """An iterator over the results of ``fn`` for each group of items, in order.

            Args:
                timeout: seconds from now until ``TimeoutError``.
                chunksize: items sent, and lost, together.
                buffersize: calls submitted ahead of what was taken from the iterator; by default all, at once.
            """
            return self._map(fn, iterables, chunksize, timeout=timeout, buffersize=buffersize)

    else:

        def map(
            self,
            fn: Callable[..., T],
            *iterables: Iterable[Any],
            timeout: float | None = None,
            chunksize: int = 1,
        ) -> Iterator[T]:
            """An iterator over the results of ``fn`` for each group of items, in order.

            Args:
                timeout: seconds from now until ``TimeoutError``.
                chunksize: items sent, and lost, together.
            """
            return self._map(fn, iterables, chunksize, timeout=timeout)

    def _map(
        self, fn: Callable[..., T], iterables: tuple[Iterable[Any], ...], chunksize: int, **how: Any
    ) -> Iterator[T]:
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1 and isinstance(chunksize, int):
            return Executor.map(self, fn, *iterables, **how)
        chunks = _chunks(zip(*iterables, strict=False), chunksize)
        return _each_of(Executor.map(self, _worker.call_each, itertools.repeat(fn), chunks, **how))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; those there are will still be done.

        Args:
            wait: return when that is so, and the workers are gone.
            cancel_futures: cancel the calls that no worker may have yet.
        """
        self._shutdown_thread = True
        crew = self._forming
        if crew is not None:
            crew.close(bool(cancel_futures))
            if wait:
                crew.finish()

    def terminate_workers(self) -> None:
        """Shut down at once: SIGTERM for the workers, and every call that is not done fails."""
        self._force_shutdown(operation="terminate")

    def kill_workers(self) -> None:
        """Shut down at once: SIGKILL for the workers, and every call that is not done fails."""
        self._force_shutdown(operation="kill")

    def _force_shutdown(self, operation: str) -> None:
        """What the two above do, and where the standard library's, from 3.14 on, may be changed."""
        if operation not in ("terminate", "kill"):
            raise ValueError(f"Unsupported operation: {operation!r}")
        self._shutdown_thread = True
        if self._forming is not None:
            self._forming.end_workers(operation)

    def _assemble(self) -> _Crew:
        """The crew; it begins with the first call."""
        with self._crew_lock:
            if self._crew is None:
                # Each step may be the last one before an interruption; the next call takes all that are left.
                if self._forming is None:
                    self._forming = _Crew(self)
                crew = self._forming
                weakref.finalize(self, crew.close, False).atexit = False
                for other in [other for other in _crews if other.calls.is_over]:
                    _crews.discard(other)
                _crews.add(crew)
                # There from now on, so that a finalizer need not start a thread.
                crew.core.want_driver()
                self._crew = crew
            return self._crew

    @_standard.Seen
    def _processes(self) -> dict[int, Any] | None:
        """The workers' processes by their ids, as they are now; ``None`` after `shutdown`."""
        if self._shutdown_thread:
            return None
        processes = self._crew.core.processes if self._crew is not None else []
        return {process.pid: process for process in processes if process.pid is not None}

    @_standard.Seen
    def _broken(self) -> str | bool:
        """Why no worker can do anything, if so."""
        if self._crew is None or self._crew.core.state_name != "BROKEN":
            return False
        return "the workers cannot make themselves ready"

    @_standard.Seen
    def _executor_manager_thread(self) -> _executor_insides.ManagerThread | None:
        """What can be waited for until all is over; ``None`` before the first call and after `shutdown`."""
        if self._crew is None or self._shutdown_thread:
            return None
        return _executor_insides.ManagerThread(self._crew)

    @_standard.Seen
    def _call_queue(self) -> _executor_insides.CallQueue | None:
        """The calls on their way to workers; ``None`` after `shutdown`."""
        return None if self._shutdown_thread else _executor_insides.CallQueue(self._crew)

    @_standard.Seen
    def _pending_work_items(self) -> dict[int, _executor_insides.WorkItem]:
        """The calls that have no outcome, as they are now."""
        futures = self._forming.calls.unsettled[1] if self._forming is not None else []
        return dict(enumerate(map(_executor_insides.WorkItem, futures)))

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")


_kin.recognise("futures")
# For whoever asks for the signature.
ProcessPoolExecutor.__new__.__wrapped__ = ProcessPoolExecutor.__init__  # type: ignore[attr-defined]


class _Crew:
    """What an executor has once it has calls: the pool, its workers and its driver.

    It outlives the executor until every call is done, and knows nothing of it.
    """

    def __init__(self, executor: ProcessPoolExecutor) -> None:
        method = executor._mp_context.get_start_method(allow_none=False)
        if method != "fork":
            # Calls are pickled before the first worker is started.
            _pickler.note_fresh_children()
        else:
            _typed_in.note_forks()
        workers = _Workers(context_for_workers(executor._mp_context), executor)
        seats = min(executor._max_workers, _MOST_WORKERS)
        self.core = _manyhands.Pool(seats, workers.make, workers.died, _decode_error, _undecodable)
        workers.found(self.core)
        executor._readying.workers = workers
        self.calls = _manyhands.Calls(self.core, _broken, method != "fork")
        if method == "fork":
            self.core.start_workers()

    def close(self, cancel: bool) -> None:
        if self.core.is_ours:
            self.calls.close(cancel)

    def finish(self, timeout: float | None = None) -> None:
        if self.core.is_ours and self.calls.finish(timeout):
            _crews.discard(self)

    def end_workers(self, how: str) -> None:
        if not self.core.is_ours:
            return
        self.calls.give_up()
        for process in self.core.processes:
            getattr(process, how)()


#: Crews that may have something to do, so that all is done before the interpreter exits.
_crews: set[_Crew] = set()
_exiting = False


def _finish_all() -> None:
    global _exiting
    _exiting = True
    crews = list(_crews)
    for crew in crews:
        crew.close(False)
    for crew in crews:
        crew.finish()


def _in_forked_child() -> None:
    global _exiting
    _exiting = False
    _crews.clear()


# Before the threads of the program are waited for, as with the standard library's executor: they may wait for futures.
threading._register_atexit(_finish_all)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=_in_forked_child)


class _Workers(Workers):
    """How an executor's workers are started, and how their deaths are told."""

    def __init__(self, context: Any, executor: ProcessPoolExecutor) -> None:
        super().__init__(executor._readying)
        self._context = context
        self._most_calls = min(executor._max_tasks_per_child or 0, sys.maxsize)

    def make(self, seat: int, bell: int) -> tuple[Any, tuple[bool, bool]]:
        """As `manyhands.pool._Workers.make`."""
        given = self.given()
        args = (self.address(bell), seat, given.initializer, given.initargs, self._most_calls)
        process = self._context.Process(target=_worker.serve_calls, args=args)
        process._die_with_parent = True
        return process, (False, self._context.get_start_method() == "fork")

    died = staticmethod(pool._Workers.died)


def _default_workers() -> int:
    count: Callable[[], int | None] = getattr(os, "process_cpu_count", os.cpu_count)
    return count() or 1


def _check_share(calls: int, method: str) -> None:
    if not isinstance(calls, int):
        raise TypeError("max_tasks_per_child must be an integer")
    if calls <= 0:
        raise ValueError("max_tasks_per_child must be >= 1")
    if method == "fork":
        raise ValueError(
            "max_tasks_per_child is incompatible with the 'fork' multiprocessing start method;"
            " supply a different mp_context."
        )


def _chunks(groups: Iterator[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    if sys.version_info >= (3, 13):
        # As there, for what it says to a size that is no integer.
        yield from map(list, itertools.batched(groups, size, strict=False))
        return
    while chunk := list(itertools.islice(groups, size)):
        yield chunk


def _each_of(chunks: Iterator[list[T]]) -> Iterator[T]:
    """The items of all chunks; none is kept once it was given out."""
    for chunk in chunks:
        chunk.reverse()
        while chunk:
            yield chunk.pop()


def _decode_error(encoded: bytes) -> BaseException:
    error = _outcomes.decode_error(encoded)
    text = _outcomes.cause_of(error).tb
    if isinstance(error, TaskError) and error.exception is not None:
        # A future has whatever was raised, `SystemExit` too, as in the standard library.
        error = error.exception
    _outcomes.set_cause(error, _RemoteTraceback(text))
    return error


def _undecodable(refused: BaseException) -> BaseException:
    """What a call fails with whose result cannot be unpickled here; the standard library breaks the whole executor."""
    error = BrokenProcessPool(f"the result of this call cannot be unpickled here: {_outcomes.shown(refused)}")
    error.__cause__ = refused
    return error


def _broken(reason: BaseException | None) -> BaseException:
    """Why calls fail when no worker can do them."""
    if reason is None:
        return BrokenProcessPool("the workers were ended before this call was done")
    error = BrokenProcessPool(f"the workers cannot make themselves ready: {_outcomes.shown(reason)}")
    error.__cause__ = reason
    return error
