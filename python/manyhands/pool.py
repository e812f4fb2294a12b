"""A pool of worker processes, with the standard library's face and without its threads.

A caller that waits does the pool's work itself: it collects results, and buries and replaces workers. Only for calls
whose results nobody may be waiting for (`Pool.apply_async` and its kin) a driver thread stands by; it ends before any
fork and is started again afterwards. See ``docs/journeys.md`` for the way of a task.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from _operator import index
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from multiprocessing import util
from multiprocessing.pool import (  # type: ignore[attr-defined]
    CLOSE,
    INIT,
    RUN,
    TERMINATE,
    MaybeEncodingError,
    mapstar,  # noqa: F401  # what recipes give to `_guarded_task_generation`
    starmapstar,
)
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from . import _kin, _manyhands, _pool_insides, _standard, _worker
from ._call_arguments import chunks_of_stream, each_with, list_of, plain_call, read, size_of_chunks
from ._outcomes import decode_error as _decode_error
from ._outcomes import undecodable as _undecodable
from ._readying import Readying, Workers
from .context import context_for_workers, default_context

if TYPE_CHECKING:
    from multiprocessing.pool import ThreadPool as ThreadPool

    _StandardPool = object
else:
    # A class whose only base is `object` cannot be given another one later, as `_kin` does with the results' classes.
    from multiprocessing.pool import Pool as _StandardPool

__all__ = [
    "ApplyResult",
    "AsyncResult",
    "IMapIterator",
    "IMapUnorderedIterator",
    "MapResult",
    "MaybeEncodingError",
    "Pool",
    "ThreadPool",
]

S = TypeVar("S")
T = TypeVar("T")


if not TYPE_CHECKING:

    def __getattr__(name):
        """What else the standard library's module has; of this, `ThreadPool` has nothing to do with processes."""
        from ._standard_names import standard_name

        return standard_name(__name__, name)


#: How long workers get to end after SIGTERM before they are killed, in seconds.
_TERM_GRACE = 2.0
#: What the standard library's pool has inside, and a subclass of ours may change.
_HEEDED = ("_check_running",)


class ApplyResult(_manyhands.Job, Generic[T]):
    """What `Pool.apply_async` returns: ``get``, ``wait``, ``ready``, ``successful``."""

    if not TYPE_CHECKING:
        # Not the standard library's, which `_kin` puts behind ours.
        __init__ = object.__init__
    _job = _pool_insides.number
    _success = _pool_insides.success
    __dir__ = _pool_insides.names
    _value = _pool_insides.value

    if TYPE_CHECKING:  # the engine's, who knows nothing of types

        def get(self, timeout: float | None = None) -> T: ...


AsyncResult = ApplyResult


class MapResult(ApplyResult[list[T]]):
    """What `Pool.map_async` and `Pool.starmap_async` return."""

    _chunksize = _pool_insides.chunksize
    _number_left = _pool_insides.number_left


class IMapIterator(_manyhands.Job, Generic[T]):
    """What `Pool.imap` returns: results in the order of the items."""

    if not TYPE_CHECKING:
        __init__ = object.__init__
    _job = _pool_insides.number
    _is_ordered = True

    if TYPE_CHECKING:  # the engine's, who knows nothing of types

        def next(self, timeout: float | None = None) -> T: ...

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        return self.next()

    def _set_length(self, length: int) -> None:
        """What recipes put into ``_taskqueue`` beside tasks: says whose they are. It need not be called."""


class IMapUnorderedIterator(IMapIterator[T]):
    """What `Pool.imap_unordered` returns: results as they come.

    When a worker dies, the item it was at raises `manyhands.WorkerDied`, once; the results after it still come.
    """

    _is_ordered = False


class Pool(_StandardPool):
    """A pool of ``processes`` workers.

    Args:
        processes: how many workers; by default as many as this process may use processors.
        initializer, initargs: called in each worker before its first task. If it raises, every call on the pool raises
            that error.
        maxtasksperchild: replace a worker after so many tasks.
        context: the context to start workers with.

    When a worker dies (killed, crashed, out of memory), exactly the item it was at fails, with
    `manyhands.WorkerDied`; the worker is replaced and the pool stays usable. Workers die with the process that made the
    pool, busy or idle.
    """

    #: What one is whose making was interrupted, or raised.
    _state: str = INIT

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        """A process of the pool's context; a subclass may make another one for its workers."""
        return ctx.Process(*args, **kwds)

    def __new__(cls, *_args: Any, **_kwds: Any) -> Self:
        if cls is not Pool:
            # One that changes the insides of the standard library's pool is the standard library's.
            _standard.settle(cls, Pool, _standard.standard_pool, _HEEDED)
        return super().__new__(cls)

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
    ) -> None:
        self._state = INIT
        if processes is None:
            processes = _usable_processors()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        processes = index(processes)
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if not context:
            context = default_context()
        # For those who look at the standard library's insides.
        self._initializer, self._initargs = initializer, initargs
        # The engine looks at no arguments of no initializer.
        initargs = tuple(initargs) if initializer is not None else ()
        self._processes = processes
        self._maxtasksperchild = maxtasksperchild
        self._ctx = context
        most_tasks = min(maxtasksperchild or 0, sys.maxsize)
        self._readying = Readying(initializer, initargs, self.Process)
        self._workers = _Workers(self._readying, context_for_workers(context), most_tasks)
        self._core = _manyhands.Pool(
            processes, self._workers.make, self._workers.died, _decode_error, _undecodable
        )
        self._workers.found(self._core)
        # There before the workers are: an interruption from now on leaves somebody to end them.
        self._terminate = util.Finalize(self, _shut_down, args=(self._core,), exitpriority=15)
        try:
            self._core.start_workers()
            self._state = RUN
        except BaseException:
            self._state = TERMINATE
            _shut_down(self._core)
            raise

    def __del__(self, _warn: Any = warnings.warn, RUN: str = RUN) -> None:
        # A forked child drops what is only a picture of its parent's pool.
        if self._state == RUN and self._core.is_ours:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    def __repr__(self) -> str:
        cls = self.__class__
        # The standard library's pool keeps the processes that have left it when it was closed.
        size = len(self._pool) if self._state == RUN else self._processes
        return f"<{cls.__module__}.{cls.__qualname__} state={self._state} pool_size={size}>"

    @_standard.Seen
    def _pool(self) -> list[Any]:
        """The workers' processes, as they are now."""
        processes: list[Any] = self._core.processes
        return processes

    @_standard.Seen
    def _cache(self) -> dict[int, _manyhands.Job]:
        """The jobs that are not done, as they are now."""
        return dict(self._core.unfinished)

    @_standard.Seen
    def _taskqueue(self) -> _pool_insides.TaskQueue:
        """Where recipes put tasks of their own, and look how many calls no worker is at."""
        return _pool_insides.TaskQueue(self, _feeder)

    def _map_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        mapper: Callable[..., Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[Any]:
        """For recipes: `map_async` or, with `starmapstar`, `starmap_async`."""
        submit = self.starmap_async if mapper is starmapstar else self.map_async
        return submit(func, iterable, chunksize, callback, error_callback)

    def _repopulate_pool(self) -> None:
        """Bury and replace workers that have ended, now rather than at the next wait."""
        self._core.look_after_workers()

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")

    def apply(self, func: Callable[..., T], args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}) -> T:
        """``func(*args, **kwds)``, in a worker."""
        self._check_running()
        if type(args) is not tuple or type(kwds) is not dict:
            func, args, kwds = plain_call(func, args, kwds)
        job: ApplyResult[T] = ApplyResult(self._core)
        self._core.submit_call(job, func, args, kwds)
        return job.get()

    def map(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: int | None = None,
        *,
        return_exceptions: bool = False,
        fail_fast: bool = False,
    ) -> list[T]:
        """``[func(item) for item in iterable]``, in the workers.

        Args:
            chunksize: items sent together. By default sizes follow how long items take; with ``maxtasksperchild`` they
                are the standard library's, four chunks for each worker.
            return_exceptions: an item that fails has its exception in its place in the list, and nothing is raised.
            fail_fast: raise at the first item that fails. Items that are being worked on are finished and forgotten;
                those not begun are dropped.

        Without either, raises the exception of an item that failed once everything else is done; a chunk ends with its
        first failing item, as in the standard library. When a worker dies over an item, that is a
        `manyhands.WorkerDied`.
        """
        return self._submit_map(
            func, iterable, False, chunksize, None, None, return_exceptions, fail_fast
        ).get()

    def starmap(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        return_exceptions: bool = False,
        fail_fast: bool = False,
    ) -> list[T]:
        """As `map`, for items that are tuples of arguments."""
        return self._submit_map(
            func, iterable, True, chunksize, None, None, return_exceptions, fail_fast
        ).get()

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> ApplyResult[T]:
        """Start ``func(*args, **kwds)`` in a worker; the result is asked from what this returns.

        Callbacks run in the pool's own thread; ``get`` returns when they have returned.
        """
        self._check_running()
        if type(args) is not tuple or type(kwds) is not dict:
            func, args, kwds = plain_call(func, args, kwds)
        job: ApplyResult[T] = ApplyResult(self._core, callback, error_callback, self)
        self._core.submit_call(job, func, args, kwds, True)
        return job

    def map_async(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        return_exceptions: bool = False,
        fail_fast: bool = False,
    ) -> MapResult[T]:
        """As `map`, without waiting."""
        return self._submit_map(
            func, iterable, False, chunksize, callback, error_callback, return_exceptions, fail_fast, self
        )

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        return_exceptions: bool = False,
        fail_fast: bool = False,
    ) -> MapResult[T]:
        """As `starmap`, without waiting."""
        return self._submit_map(
            func, iterable, True, chunksize, callback, error_callback, return_exceptions, fail_fast, self
        )

    def imap(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: int = 1,
        *,
        return_exceptions: bool = False,
    ) -> IMapIterator[T]:
        """An iterator over ``map(func, iterable)``: each result as soon as it and those before it are there.

        Args:
            return_exceptions: the exception of an item that fails comes as its result, instead of being raised. One
                that the iterable raises is raised in any case, behind the results of the items before.
        """
        return self._submit_stream(IMapIterator, func, iterable, True, chunksize, return_exceptions)

    def imap_unordered(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: int = 1,
        *,
        return_exceptions: bool = False,
    ) -> IMapUnorderedIterator[T]:
        """As `imap`, with results in the order in which they come."""
        stream = self._submit_stream(
            IMapUnorderedIterator, func, iterable, False, chunksize, return_exceptions
        )
        assert isinstance(stream, IMapUnorderedIterator)
        return stream

    def _submit_map(
        self,
        func: Callable[..., T],
        iterable: Iterable[Any],
        star: bool,
        chunksize: int | None,
        callback: Callable[[list[T]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        return_exceptions: bool,
        fail_fast: bool,
        keeper: Pool | None = None,
    ) -> MapResult[T]:
        self._check_running()
        if return_exceptions and fail_fast:
            raise ValueError("return_exceptions and fail_fast exclude each other")
        items = list_of(iterable)
        if chunksize is None and self._maxtasksperchild is not None:
            # A worker's life is counted in chunks: their size must not depend on how fast the machine is.
            chunksize = -(-len(items) // (4 * self._processes))
        elif chunksize is not None:
            if chunksize < 1:
                raise ValueError(f"Chunksize must be 1+, not {chunksize!r}")
            chunksize = size_of_chunks(chunksize)
        job: MapResult[T] = MapResult(
            self._core, callback, error_callback, keeper, return_exceptions, fail_fast
        )
        # Nobody may wait for what was asked for with a keeper.
        drive = keeper is not None
        if not self._core.submit_map(job, func, items, star, chunksize, drive):
            items = list(each_with(func, items, star))
            self._core.submit_map(job, _worker.call_with, items, False, chunksize, drive)
        return job

    def _submit_stream(
        self,
        cls: type[IMapIterator[T]],
        func: Callable[[S], T],
        iterable: Iterable[S],
        ordered: bool,
        chunksize: int,
        return_exceptions: bool,
    ) -> IMapIterator[T]:
        self._check_running()
        chunksize, refused = chunks_of_stream(chunksize, ordered)
        job = cls(self._core, None, None, self, return_exceptions)
        if refused is not None:
            self._core.submit_stream(job, abs, ordered, chunksize, [], refused)
        elif isinstance(iterable, Sized):
            # Read before there is a stream: it may raise what is no error of an item (Ctrl-C).
            items, error = read(iterable)
            if not self._core.submit_stream(job, func, ordered, chunksize, items, error):
                items = list(each_with(func, items))
                self._core.submit_stream(job, _worker.call_with, ordered, chunksize, items, error)
        else:
            # It may wait for something that the caller does with earlier results, so it gets a thread of its own.
            feeder = _feeder(job, iterable, chunksize)
            if not self._core.submit_stream(job, func, ordered, chunksize, feeder=feeder):
                feeder = _feeder(job, each_with(func, iterable), chunksize)
                self._core.submit_stream(job, _worker.call_with, ordered, chunksize, feeder=feeder)
        return job

    def close(self) -> None:
        """Take no more calls; workers leave when those there are done."""
        if self._state == RUN:
            self._core.close()
            self._state = CLOSE

    def terminate(self) -> None:
        """End the workers, whatever they do; what was not done fails.

        Returns when they are gone: at most a few seconds later, from wherever it is called.
        """
        self._core.check_owner()
        self._state = TERMINATE
        self._terminate()
        # Once more, for one that was interrupted: it does what was left.
        _shut_down(self._core)

    def join(self) -> None:
        """Wait until the workers have ended and every callback has run; call `close` or `terminate` first.

        ``RuntimeError`` inside a callback of this pool, which would wait for itself.
        """
        self._core.check_owner()
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        if self._state == TERMINATE:
            # Of a `terminate` that a signal's handler has interrupted, something may be left to do.
            _shut_down(self._core)
        self._core.join()

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        # A child that was forked inside the block may leave it, too.
        if self._core.is_ours:
            self.terminate()


_kin.recognise("pool")
# For whoever asks for the signature.
Pool.__new__.__wrapped__ = Pool.__init__  # type: ignore[attr-defined]


class _Workers(Workers):
    """How a pool's workers are started, and how their deaths are told."""

    def __init__(self, readying: Readying, ctx: Any, most_tasks: int) -> None:
        super().__init__(readying)
        self._ctx = ctx
        self._most_tasks = most_tasks

    def make(self, seat: int, bell: int) -> tuple[Any, tuple[bool, bool]]:
        """A process to be started; whether SIGINT, and all signals, are kept away from this thread meanwhile."""
        given = self.given()
        args = (self.address(bell), seat, given.initializer, given.initargs, self._most_tasks)
        assert given.process is not None, "a pool gives one"
        process = given.process(self._ctx, target=_worker.main, args=args)
        process.name = process.name.replace("Process", "PoolWorker")
        process.daemon = True
        # Some recipes have processes that let nobody make them daemons, so that they may have children.
        process._die_with_parent = True
        process._is_pool_worker = True
        util.debug("added worker")
        method = self._ctx.get_start_method()
        if method != "fork":
            from .spawn import tracker_descriptor

            # Whoever starts the tracker has SIGINT let in afterwards.
            tracker_descriptor()
        # A Ctrl-C that reaches the worker before it can deal with it would have it write a traceback.
        return process, (True, method == "fork")

    @staticmethod
    def died(process: Any, item: int | None) -> BaseException:
        from .errors import WorkerDied

        return WorkerDied(process.pid, process.exitcode, item)


def _shut_down(core: _manyhands.Pool) -> None:
    """End a pool's workers: SIGTERM, then, for those who do not heed it, SIGKILL. Waits for nobody else."""
    # Not by its pid: a forked child in a pid namespace of its own may have its parent's.
    # One that an at-exit function has made may be garbage when the interpreter is gone, which the engine needs; its
    # workers die with this process.
    if core.is_ours and not sys.is_finalizing():
        # At the interpreter's end nobody needs to be told, and daemonic threads that wait would write tracebacks.
        core.shut_down(not util.is_exiting(), _TERM_GRACE)


def _feeder(job: IMapIterator[Any], iterable: Iterable[Any], chunksize: int) -> Callable[[], object]:
    """What a thread calls that pushes the items of an iterable of unknown length, as they come, until the pool ends.

    It stands inside its `try` already: an exception that other code raises in the thread at its first step
    (``PyThreadState_SetAsyncExc``) is told to the stream, too. All of it is Python's: the interpreter's end finds no
    frame of ours to unwind.
    """
    feeding = _feed(job, iterable, chunksize)
    next(feeding)
    return feeding.__next__


def _feed(job: IMapIterator[Any], iterable: Iterable[Any], chunksize: int) -> Iterator[None]:
    begun = False
    try:
        yield
        begun = True
        threading.current_thread().name = "PoolFeeder"
        if (trace := threading.gettrace()) is not None:
            sys.settrace(trace)
        if (profile := threading.getprofile()) is not None:
            sys.setprofile(profile)
        chunk = []
        going = True
        for item in iterable:
            chunk.append(item)
            if len(chunk) >= chunksize:
                going = job.push(chunk, False)
                if not going:
                    break
                chunk = []
        if going:
            job.push(chunk, True)
    except BaseException as error:
        job.push_error(error)
        if not begun and isinstance(error, GeneratorExit):
            return  # Dropped: there is no thread to call for it.
    finally:
        # Threads that were not made by `threading` stay on its list, on some versions. (What was not begun is dropped
        # by the thread that has made it.)
        if begun:
            threading._active.pop(threading.get_ident(), None)  # type: ignore[attr-defined]
    # The thread has called for one step, and ends with it.
    yield


def _usable_processors() -> int:
    count = getattr(os, "process_cpu_count", None)
    return (count() if count else len(os.sched_getaffinity(0))) or 1
