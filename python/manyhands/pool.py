"""A pool of worker processes, with the standard library's face and without its threads.

A caller that waits does the pool's work itself: it collects results, and buries and replaces workers. Only for calls
whose results nobody may be waiting for (`Pool.apply_async` and its kin) a driver thread stands by; it ends before any
fork and is started again afterwards. See ``docs/journeys.md`` for the way of a task.
"""

from __future__ import annotations

import os
import signal
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sized
from multiprocessing import util
from multiprocessing.pool import CLOSE, INIT, RUN, TERMINATE, MaybeEncodingError  # type: ignore[attr-defined]
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import _manyhands, _worker
from ._outcomes import decode_error as _decode_error
from ._outcomes import undecodable as _undecodable

__all__ = [
    "ApplyResult",
    "AsyncResult",
    "IMapIterator",
    "IMapUnorderedIterator",
    "MapResult",
    "MaybeEncodingError",
    "Pool",
]

S = TypeVar("S")
T = TypeVar("T")

#: How long workers get to end after SIGTERM before they are killed, in seconds.
_TERM_GRACE = 2.0


class ApplyResult(_manyhands.Job, Generic[T]):
    """What `Pool.apply_async` returns: ``get``, ``wait``, ``ready``, ``successful``."""

    if TYPE_CHECKING:  # the engine's, who knows nothing of types

        def get(self, timeout: float | None = None) -> T: ...


AsyncResult = ApplyResult


class MapResult(ApplyResult[list[T]]):
    """What `Pool.map_async` and `Pool.starmap_async` return."""


class IMapIterator(_manyhands.Job, Generic[T]):
    """What `Pool.imap` returns: results in the order of the items."""

    if TYPE_CHECKING:  # the engine's, who knows nothing of types

        def next(self, timeout: float | None = None) -> T: ...

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        return self.next()


class IMapUnorderedIterator(IMapIterator[T]):
    """What `Pool.imap_unordered` returns: results as they come.

    When a worker dies, the item it was at raises `manyhands.WorkerDied`, once; the results after it still come.
    """


class Pool:
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

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        """A process of the pool's context."""
        return ctx.Process(*args, **kwds)

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
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if context is None:
            from .context import _default_context

            context = _default_context.get_context()
        self._processes = processes
        self._maxtasksperchild = maxtasksperchild
        self._ctx = context
        self._workers = _Workers(context, initializer, tuple(initargs), maxtasksperchild or 0)
        self._core = _manyhands.Pool(
            processes, self._workers.start, self._workers.died, _decode_error, _undecodable
        )
        self._workers.address = _worker.Address(*self._core._address())
        try:
            self._core.start_workers()
        except BaseException:
            self._state = TERMINATE
            raise
        self._driver = _Driver(self._core)
        self._terminate = util.Finalize(
            self, _shut_down, args=(self._core, self._driver, os.getpid()), exitpriority=15
        )
        self._state = RUN

    def __del__(self, _warn: Any = warnings.warn, RUN: str = RUN) -> None:
        # A forked child drops what is only a picture of its parent's pool.
        if self._state == RUN and self._core.is_ours:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    def __repr__(self) -> str:
        cls = self.__class__
        return f"<{cls.__module__}.{cls.__qualname__} state={self._state} pool_size={len(self._pool)}>"

    @property
    def _pool(self) -> list[Any]:
        """The workers' processes, as they are now."""
        return self._core.processes

    def _repopulate_pool(self) -> None:
        """Bury and replace workers that have ended, now rather than at the next wait."""
        self._core.look_after_workers()

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")

    def apply(self, func: Callable[..., T], args: Iterable[Any] = (), kwds: dict[str, Any] = {}) -> T:
        """``func(*args, **kwds)``, in a worker."""
        self._check_running()
        job: ApplyResult[T] = ApplyResult(self._core)
        self._core.submit_call(job, func, tuple(args), kwds)
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
        kwds: dict[str, Any] = {},
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> ApplyResult[T]:
        """Start ``func(*args, **kwds)`` in a worker; the result is asked from what this returns.

        Callbacks run in the pool's own thread; ``get`` returns when they have returned.
        """
        self._check_running()
        job: ApplyResult[T] = ApplyResult(self._core, callback, error_callback, self)
        if not self._core.submit_call(job, func, tuple(args), kwds, True):
            self._driver.start()
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
        job = self._submit_map(
            func, iterable, False, chunksize, callback, error_callback, return_exceptions, fail_fast, self
        )
        self._driver.want()
        return job

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
        job = self._submit_map(
            func, iterable, True, chunksize, callback, error_callback, return_exceptions, fail_fast, self
        )
        self._driver.want()
        return job

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
        items = _list_of(iterable)
        if chunksize is None and self._maxtasksperchild is not None:
            # A worker's life is counted in chunks: their size must not depend on how fast the machine is.
            chunksize = -(-len(items) // (4 * self._processes))
        job: MapResult[T] = MapResult(
            self._core, callback, error_callback, keeper, return_exceptions, fail_fast
        )
        self._core.submit_map(job, func, items, star, chunksize)
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
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        job = cls(self._core, None, None, self, return_exceptions)
        if isinstance(iterable, Sized):
            # Read before there is a stream: it may raise what is no error of an item (Ctrl-C).
            items, error = _read(iterable)
            self._core.submit_stream(job, func, ordered, chunksize)
            job.push(items, error is None)
            if error is not None:
                job.push_error(error)
        else:
            self._core.submit_stream(job, func, ordered, chunksize)
            # It may wait for something that the caller does with earlier results, so it gets a thread of its own.
            feeder = threading.Thread(
                target=_feed, args=(job, iterable, chunksize), daemon=True, name="PoolFeeder"
            )
            try:
                feeder.start()
            except BaseException as error:
                # Somebody must end the stream, or close() would wait for its items.
                job.push_error(error)
                raise
        self._driver.want()
        return job

    def close(self) -> None:
        """Take no more calls; workers leave when those there are done."""
        if self._state == RUN:
            self._core.close()
            self._state = CLOSE
            self._driver.want()

    def terminate(self) -> None:
        """End the workers, whatever they do; what was not done fails.

        Returns when they are gone: at most a few seconds later, from wherever it is called.
        """
        self._core.check_owner()
        self._state = TERMINATE
        self._terminate()

    def join(self) -> None:
        """Wait until the workers have ended and every callback has run; call `close` or `terminate` first.

        ``RuntimeError`` inside a callback of this pool, which would wait for itself.
        """
        self._core.check_owner()
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        self._core.join()
        self._driver.stop()
        self._core.destroy()

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


class _Workers:
    """How a pool's workers are started, and how their deaths are told. It knows nothing of the pool object."""

    address: _worker.Address

    def __init__(
        self, ctx: Any, initializer: Callable[..., object] | None, initargs: tuple[Any, ...], most_tasks: int
    ) -> None:
        self._ctx = ctx
        self._initializer = initializer
        self._initargs = initargs
        self._most_tasks = most_tasks

    def start(self, seat: int, bell: int) -> Any:
        address = _worker.Address(self.address.pool, bell)
        args = (address, seat, self._initializer, self._initargs, self._most_tasks)
        process = self._ctx.Process(target=_worker.main, args=args)
        process.name = process.name.replace("Process", "PoolWorker")
        process.daemon = True
        process._is_pool_worker = True
        if self._ctx.get_start_method() != "fork":
            from .spawn import tracker_descriptor

            # Whoever starts the tracker has SIGINT let in afterwards.
            tracker_descriptor()
        # A Ctrl-C that reaches the worker before it can deal with it would have it write a traceback.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process._lets_sigint_in = signal.SIGINT not in mask
            try:
                process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        except BaseException:
            # Interrupted when it had been started already: nobody will hear of it.
            if getattr(process, "pid", None) is not None:
                process.kill()
                process.join()
            raise
        util.debug("added worker")
        return process

    @staticmethod
    def died(process: Any, item: int | None) -> BaseException:
        from .errors import WorkerDied

        return WorkerDied(process.pid, process.exitcode, item)


class _Driver:
    """The thread that does a pool's work while nobody waits for it; started when it is first wanted.

    It is ended before this process forks and started again afterwards, so that a fork meets no thread of ours.
    """

    _all: weakref.WeakSet[_Driver] = weakref.WeakSet()

    def __init__(self, core: _manyhands.Pool) -> None:
        self._core = core
        self._thread: threading.Thread | None = None
        self._all.add(self)

    def want(self, after_all: bool = False) -> None:
        """There is work that nobody may wait for."""
        if not self._core.want_driver(after_all):
            self.start()

    def start(self) -> None:
        """Start the thread; for whom the core has told that it is wanted and not there."""
        with self._starts:
            if self._forks_under_way:
                self._core.forget_driver()
                self._stopped.add(self)
                return
            self._thread = threading.Thread(target=self._core.drive, daemon=True, name="PoolDriver")
            try:
                self._thread.start()
            except BaseException:
                # Without a thread to be had, whoever waits does what it would do.
                self._thread = None
                self._core.forget_driver()

    def stop(self, for_good: bool = True) -> bool:
        """End the thread, and wait until the system has forgotten it; whether there was one. One that is in a callback
        for longer than a moment ends later, and so does the thread that calls this, if it is the driver."""
        thread = self._thread
        if thread is None or thread.ident is None:
            return False
        if thread is threading.current_thread():
            # The driver forks itself, to replace a worker, and goes on; or its callback has ended the pool.
            if for_good:
                self._core.stop_driver()
            return False
        self._thread = None
        self._core.stop_driver()
        thread.join(_TERM_GRACE)
        if thread.is_alive():
            self._thread = thread
        while not thread.is_alive() and os.path.exists(f"/proc/self/task/{thread.native_id}"):
            os.sched_yield()
        return True

    @classmethod
    def stop_all(cls) -> None:
        with cls._starts:
            cls._forks_under_way += 1
        cls._stopped.update([driver for driver in list(cls._all) if driver.stop(for_good=False)])

    @classmethod
    def restart_all(cls) -> None:
        with cls._starts:
            cls._forks_under_way -= 1
            if cls._forks_under_way:
                return
        stopped, cls._stopped = cls._stopped, set()
        for driver in stopped:
            driver.want(after_all=True)

    @classmethod
    def forget_all(cls) -> None:
        cls._all.clear()
        cls._stopped = set()
        cls._forks_under_way = 0
        cls._starts = threading.RLock()

    _starts = threading.RLock()
    #: Threads that are between these two at the moment.
    _forks_under_way = 0
    #: Those to be started when the last of them is done.
    _stopped: set[_Driver] = set()


os.register_at_fork(
    before=_Driver.stop_all, after_in_parent=_Driver.restart_all, after_in_child=_Driver.forget_all
)


def _shut_down(core: _manyhands.Pool, driver: _Driver, owner: int) -> None:
    """End a pool's workers: SIGTERM, then, for those who do not heed it, SIGKILL. Waits for nobody else."""
    if owner != os.getpid():
        return
    try:
        # At the interpreter's end nobody needs to be told, and daemonic threads that wait would write tracebacks.
        core.terminate(not util.is_exiting())
        core.end_workers(_TERM_GRACE)
    finally:
        driver.stop()
        core.give_up_callbacks()
        core.destroy()


#: What lists its items without running anybody's code.
_PLAIN = (list, tuple, range, dict, set, frozenset, str, bytes)


def _list_of(iterable: Iterable[Any]) -> list[Any]:
    """The items as a list of its own. What ``__len__`` says is not asked of classes that may be wrong about it."""
    return list(iterable) if type(iterable) in _PLAIN else [*iter(iterable)]


def _read(iterable: Iterable[Any]) -> tuple[list[Any], Exception | None]:
    """The items, and what the iterable raised behind the last of them."""
    if type(iterable) in _PLAIN:
        return list(iterable), None
    items: list[Any] = []
    try:
        items.extend(iter(iterable))
    except Exception as error:
        return items, error
    return items, None


def _feed(job: IMapIterator[Any], iterable: Iterable[Any], chunksize: int) -> None:
    """Push the items of an iterable of unknown length, as they come, until the pool ends."""
    try:
        chunk = []
        for item in iterable:
            chunk.append(item)
            if len(chunk) >= chunksize:
                if not job.push(chunk, False):
                    return
                chunk = []
        job.push(chunk, True)
    except BaseException as error:
        job.push_error(error)


def _usable_processors() -> int:
    count = getattr(os, "process_cpu_count", None)
    return (count() if count else len(os.sched_getaffinity(0))) or 1
