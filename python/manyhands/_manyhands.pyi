"""The contract of the extension: what the Python package may ask of the engine.

Its classes are the rough side of `manyhands.queues`, `manyhands.pool` and the ``popen_*`` modules; nobody else uses
them. Times are in seconds, descriptors and process ids are numbers, and where ``timeout`` is ``None`` a wait ends only
with what is waited for. ``stubtest`` holds this file to the compiled module.
"""

from collections.abc import Callable, Iterable, Sequence
from multiprocessing.process import BaseProcess
from types import CodeType
from typing import Any, Self, SupportsIndex, TypeAlias, TypeVar, final

from typing_extensions import Buffer, disjoint_base

__all__ = [
    "Barrier",
    "Block",
    "Calls",
    "Condition",
    "Connection",
    "Event",
    "Job",
    "JobDescriptor",
    "Lock",
    "Parcel",
    "Pool",
    "Process",
    "Queue",
    "Semaphore",
    "SharedArray",
    "Sink",
    "Start",
    "Starting",
    "Synchronized",
    "SynchronizedArray",
    "SynchronizedBase",
    "Worker",
    "Zygote",
    "ZygoteClient",
    "after_fork_in_child",
    "after_fork_in_parent",
    "assert_sending",
    "before_fork",
    "carrying",
    "compile_source",
    "die_with_parent",
    "doctor",
    "family_descriptor",
    "forget_children_at_fork",
    "is_file",
    "is_notebook",
    "join_family",
    "keep_locks",
    "note_exit",
    "note_label",
    "note_offer",
    "notebook_descriptor",
    "offers_so_far",
    "pipe",
    "sending",
    "unpack",
    "wait",
    "withdraw_offers",
]

#: By what another process of the family finds a thing in shared memory: where it lies, and its generation, so that a
#: handle kept too long is noticed.
_Handle: TypeAlias = tuple[int, int]
_T = TypeVar("_T")

@disjoint_base
class Queue:
    """A queue in shared memory; `manyhands.queues` gives it the standard library's face."""

    def __new__(cls, *_args: object, **_kwargs: object) -> Self:
        """Whatever a subclass is made with: `_create` or `_attach` gives the object its queue, once."""

    def _create(self, maxsize: int) -> None:
        """Makes a new queue; no bound when ``maxsize`` is 0 or less."""

    def _attach(self, offset: int, generation: int) -> None:
        """Becomes another object of a queue that a process of the family made."""

    def _handle(self) -> _Handle:
        """By what another process of the family opens the queue; that one may know it from now on."""

    @property
    def _closed(self) -> bool:
        """Whether `close` was called on this object."""

    @property
    def _reader_closed(self) -> bool:
        """Whether this object takes nothing any more."""

    @property
    def _writer_closed(self) -> bool:
        """Whether this object puts nothing any more."""

    @property
    def _maxsize(self) -> int:
        """The bound; 0 when there is none."""

    def put(self, obj: Any, block: Any = True, timeout: Any = None, *, move: Any = False) -> None:
        """Put an item into the queue, or raise ``queue.Full`` or ``ShutDown``."""

    def get(self, block: Any = True, timeout: Any = None) -> Any:
        """Take an item out of the queue, or raise ``queue.Empty`` or ``ShutDown``."""

    def put_many(self, items: Iterable[Any], block: Any = True, timeout: Any = None) -> None:
        """Put each item of an iterable."""

    def get_many(self, max_items: int = 256, block: Any = True, timeout: Any = None) -> list[Any]:
        """Take what is there, after waiting for a first item."""

    def shutdown(self, immediate: bool = False) -> None:
        """Nothing is put any more, and with ``immediate`` nothing taken."""

    def _task_done(self) -> None:
        """An item is done with; ``ValueError`` when all are."""

    def _join(self) -> None:
        """Waits until all items are done with."""

    def _unfinished(self) -> int:
        """How many items are not done with."""

    def _poll(self, timeout: Any) -> bool:
        """Waits until `get` need not wait."""

    def _doorbell(self) -> int:
        """The number of a descriptor that is readable while there is something to get."""

    def _always_writable(self) -> int:
        """The number of a descriptor that is always writable."""

    def qsize(self) -> int:
        """How many items lie in the queue."""

    def empty(self) -> bool:
        """Whether no item lies in the queue.

        ``OSError`` when the reading end was closed, and after `close` on an object that was put to.
        """

    def full(self) -> bool:
        """Whether the queue holds as many items as it may."""

    def close(self) -> None:
        """This process will neither put nor get any more through this object."""

    def _close_reader(self) -> None:
        """This object takes nothing any more."""

    def _close_writer(self) -> None:
        """This object puts nothing any more."""

@final
class Block:
    """Bytes in shared memory, all zero at first; a writable buffer. It pickles as what it is: the same bytes."""

    def __new__(cls, size: int, offset: int | None = None, generation: int = 0) -> Self:
        """A new block (or ``MemoryError``), or the one that a process of the family made (or ``OSError``)."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __reduce__(self) -> tuple[type[Block], tuple[int, int, int]]: ...
    @classmethod
    def unset(cls, size: int) -> Block:
        """A new block, whatever is in it."""

    @property
    def _address(self) -> int:
        """Where it begins in this process."""

@final
class Parcel:
    """Bytes that came with a message: a writable buffer, in shared memory that this process alone uses. It pickles as a
    `bytearray` of the same bytes."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __reduce_ex__(self, protocol: SupportsIndex, /) -> tuple[type[bytearray], tuple[object]]: ...

@final
class Sink:
    """Where the pickler writes to. Its pieces are kept as they come; what could change before the message is sent is
    copied into a parcel at once."""

    def __new__(cls, in_one: bool = False, standard: bool = False) -> Self:
        """With `in_one`, one that takes no buffers: everything is in the pickle. With `standard` it is for readers that
        may know nothing of manyhands."""

    @property
    def is_standard(self) -> bool:
        """Whether the pickle's reader may know nothing of manyhands."""

    def write(self, piece: Buffer) -> int:
        """What the pickler calls: a piece of the pickle."""

    def keep(self, buffer: Buffer) -> bool:
        """What the pickler calls for each buffer it is offered: whether it has to be written into the pickle."""

    def clear(self) -> None:
        """Forgets what was written: the object is pickled in another way."""

    def names_main(self, searched: int = ...) -> bool:
        """Whether the main module is named in the pickle; perhaps also when its name is in somebody's bytes."""

    def main_names(self) -> list[str] | None:
        """The names of the main module's in the pickle, nested ones with their dots; ``None`` where that is not found
        out."""

    def pickle(self) -> bytes:
        """The pickle as bytes."""

@disjoint_base
class SharedArray:
    """An array in shared memory; `manyhands.SharedArray` gives it a face."""

    def __new__(cls, *_args: object, **_kwargs: object) -> Self:
        """Whatever a subclass is made with: `_create` gives it its memory, once."""

    def _create(
        self,
        shape: Sequence[int],
        format: str,
        item_bytes: int,
        offset: int | None = None,
        generation: int = 0,
    ) -> None:
        """Makes a new array, or with ``offset`` and ``generation`` opens one; ``format`` as of `struct`."""

    def _handle(self) -> _Handle:
        """By what another process of the family opens the array; that one may know it from now on."""

    @property
    def _address(self) -> int:
        """Where it begins in this process."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def nbytes(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@disjoint_base
class SynchronizedBase:
    """A `ctypes` object and its lock; `manyhands.sharedctypes` gives it the standard library's face."""

    def __new__(cls, *_args: object, **_kwargs: object) -> Self:
        """Whatever a subclass is made with: `_wrap` says what it is about, once."""

    def _wrap(self, object: Any, lock: Any, plain: bool, block: Block | None, code: str) -> None:
        """What it wraps: ``block`` and ``code`` of an object of a simple type, ``plain`` for a lock of exactly ours."""

    _obj: Any
    _lock: Any
    acquire: Any
    release: Any

    def get_obj(self) -> Any: ...
    def get_lock(self) -> Any: ...
    def __enter__(self) -> Any: ...
    def __exit__(self, *args: Any) -> Any: ...

class Synchronized(SynchronizedBase):
    """One value of a simple type, read and written while the lock is held."""

    value: Any
    def fetch_add(self, number: int) -> int:
        """Add to an integer and return what was there before, in one step and without the lock; sums wrap around."""

    def exchange(self, number: int) -> int:
        """Write an integer and return what was there before, in one step and without the lock."""

    def compare_exchange(self, expected: int, new: int) -> bool:
        """Write ``new`` if ``expected`` is there, in one step and without the lock; whether it was there."""

class SynchronizedArray(SynchronizedBase):
    """An array, read and written while the lock is held."""

    def __len__(self) -> int: ...
    def __getitem__(self, key: Any, /) -> Any: ...
    def __setitem__(self, key: Any, value: Any, /) -> None: ...
    def __delitem__(self, key: Any, /) -> None: ...

@disjoint_base
class Lock:
    """A lock in shared memory; `manyhands.synchronize` gives it the standard library's face."""

    def __new__(cls, *_args: object, **_kwargs: object) -> Self:
        """Whatever a subclass is made with: `_create` or `_attach` gives the object its lock, once."""

    def _create(self, recursive: bool, on_owner_death: str) -> None:
        """Makes a new lock; ``on_owner_death`` as `manyhands.synchronize.Lock` takes it."""

    def _attach(self, offset: int, generation: int) -> None:
        """Becomes another object of a lock that a process of the family made."""

    def _handle(self) -> _Handle:
        """By what another process of the family opens the lock; that one may know it from now on."""

    def acquire(self, block: Any = True, timeout: Any = None) -> bool:
        """Take the lock; ``False`` when it could not be had in time.

        Raises:
            OwnerDied: the process that held it was killed; the lock is free, and not acquired.
        """

    def __enter__(self) -> bool: ...
    def __exit__(self, _type: Any = None, _value: Any = None, _traceback: Any = None) -> None: ...
    def release(self) -> None:
        """Give the lock back.

        Raises:
            ValueError: nobody holds it.
            AssertionError: it is recursive, and this thread does not hold it.
        """

    def locked(self) -> bool:
        """Whether somebody holds the lock."""

    def _is_mine(self) -> bool:
        """Whether this thread holds the lock."""

    def _count(self) -> int:
        """How often this process has taken the lock and not released it."""

@disjoint_base
class Connection:
    """One end of a connection; `manyhands.connection` gives it the standard library's face."""

    _handle: int | None
    _readable: bool
    _writable: bool
    def __new__(cls, *_args: object, **_kwargs: object) -> Self:
        """Closed, whatever a subclass is made with: ``_open`` gives it its descriptor."""

    def _open(self, number: int, readable: bool, writable: bool) -> None:
        """Becomes the end with that descriptor, which is the connection's from then on."""

    @property
    def closed(self) -> bool:
        """Whether the connection is closed."""

    @property
    def readable(self) -> bool:
        """Whether it can be read from."""

    @property
    def writable(self) -> bool:
        """Whether it can be written to."""

    def fileno(self) -> int:
        """The number of its descriptor; `OSError` when it is closed."""

    def close(self) -> None:
        """Close it; again does nothing."""

    def _close(self) -> None:
        """What the standard library's finalizer calls."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_exception: object) -> None: ...
    def send(self, obj: Any) -> None:
        """Send an object as a pickle; `BrokenPipeError` when nobody holds the other end any more."""

    def send_bytes(self, buf: Any, offset: Any = 0, size: Any = None) -> None:
        """Send a message of plain bytes: ``size`` bytes of a buffer from ``offset`` on, or all that follow."""

    def recv(self) -> Any:
        """Receive an object; `EOFError` when there is none and nobody holds the other end any more."""

    def recv_bytes(self, maxlength: Any = None) -> bytes:
        """Receive a message as bytes; `OSError` when it has more than ``maxlength``, after which no other can be
        received."""

    def recv_bytes_into(self, buf: Any, offset: Any = 0) -> int:
        """Receive a message into a writable buffer, ``offset`` bytes from its beginning; how many bytes it has.
        `BufferTooShort`, with the message, when it does not fit."""

    def poll(self, timeout: Any = 0.0) -> bool:
        """Whether there is something to receive, or nobody holds the other end any more; waits for that at most
        ``timeout`` seconds, or for as long as it takes."""

@disjoint_base
class Event:
    """An event in shared memory; `manyhands.synchronize` gives it the standard library's face."""

    def __new__(cls, *_args: object, **_kwargs: object) -> Self:
        """Whatever a subclass is made with: `_create` or `_attach` gives the object its event, once."""

    def _create(self) -> None:
        """Makes a new event."""

    def _attach(self, offset: int, generation: int) -> None:
        """Becomes another object of an event that a process of the family made."""

    def _handle(self) -> _Handle:
        """By what another process of the family opens the event; that one may know it from now on."""

    def is_set(self) -> bool:
        """Whether the flag is up."""

    def set(self) -> None:
        """Raise the flag; everybody who waits goes on."""

    def clear(self) -> None:
        """Lower the flag."""

    def wait(self, timeout: Any = None) -> bool:
        """Wait until the flag is up, or was since this call began; ``False`` when the time (seconds) passed first."""

@disjoint_base
class Condition:
    """A condition in shared memory; `manyhands.synchronize` gives it the standard library's face."""

    def __new__(cls, *_args: object, **_kwargs: object) -> Self:
        """Whatever a subclass is made with: `_create` or `_attach` gives the object its condition, once."""

    def _create(self, lock: Lock) -> None:
        """Makes a new condition that goes with that lock."""

    def _attach(self, lock: Lock, offset: int, generation: int) -> None:
        """Becomes another object of a condition that a process of the family made."""

    def _handle(self) -> _Handle:
        """By what another process of the family opens the condition; that one may know it from now on."""

    @property
    def _lock(self) -> Lock: ...
    @property
    def _waiters(self) -> int:
        """How many wait and were not notified."""

    def acquire(self, block: Any = True, timeout: Any = None) -> bool:
        """Take the lock: see `Lock.acquire`."""

    def release(self) -> None:
        """Give the lock back: see `Lock.release`."""

    def __enter__(self) -> bool: ...
    def __exit__(self, exception: Any = None, _value: Any = None, _traceback: Any = None) -> None:
        """Gives the lock back; nothing happens when an exception leaves a wait that could not take it again."""

    def wait(self, timeout: Any = None) -> bool:
        """Wait until notified, the lock let go of meanwhile; ``False`` when the time (seconds) passed first.

        Whatever happens, the lock is held again afterwards, as often as before, with two exceptions:

        Raises:
            AssertionError: this thread does not hold the lock.
            OwnerDied: the process that held the lock was killed; the lock is free, and not held.
            KeyboardInterrupt: or what else signal handlers raise: the first is raised when the lock is held again, a
                second one while waiting for the lock at once, and without it.
        """

    def wait_for(self, predicate: Callable[[], _T], timeout: Any = None) -> _T:
        """Wait until the predicate holds, or the time (seconds) is over; its last value."""

    def notify(self, n: Any = 1) -> None:
        """Notify at most ``n`` of those who wait, the first come first; ``AssertionError`` without the lock."""

    def notify_all(self) -> None:
        """Notify everybody who waits; ``AssertionError`` without the lock."""

@disjoint_base
class Barrier:
    """A barrier in shared memory; `manyhands.synchronize` gives it the standard library's face."""

    def __new__(cls, *_args: object, **_kwargs: object) -> Self:
        """Whatever a subclass is made with: `_create` or `_attach` gives the object its barrier, once."""

    def _create(self, parties: Any, acts: bool, timeout: Any = None) -> None:
        """Makes a new barrier; with ``acts`` the last one to come calls the object's ``_action``."""

    def _attach(self, offset: int, generation: int, acts: bool, timeout: Any = None) -> None:
        """Becomes another object of a barrier that a process of the family made."""

    def _handle(self) -> _Handle:
        """By what another process of the family opens the barrier; that one may know it from now on."""

    @property
    def _timeout(self) -> Any: ...
    @property
    def parties(self) -> int:
        """How many wait for each other."""

    @property
    def n_waiting(self) -> int:
        """How many wait at this moment; 0 when the barrier is broken."""

    @property
    def broken(self) -> bool:
        """Whether the barrier is broken."""

    def wait(self, timeout: Any = None) -> int:
        """Wait until everybody is there; how many were there before.

        Raises:
            threading.BrokenBarrierError: the barrier is broken, or becomes so: a wait took too long, `abort` or `reset`
                was called, the action raised, or a process that waits was killed.
        """

    def abort(self) -> None:
        """Break the barrier: who waits, or comes before `reset`, gets a ``BrokenBarrierError``."""

    def reset(self) -> None:
        """Begin anew: who waits gets a ``BrokenBarrierError``."""

@disjoint_base
class Semaphore:
    """A semaphore in shared memory; `manyhands.synchronize` gives it the standard library's face."""

    def __new__(cls, *_args: object, **_kwargs: object) -> Self:
        """Whatever a subclass is made with: `_create` or `_attach` gives the object its semaphore, once."""

    def _create(self, value: int, most: int | None = None) -> None:
        """Makes a new semaphore; ``most`` is the highest count it may have."""

    def _attach(self, offset: int, generation: int) -> None:
        """Becomes another object of a semaphore that a process of the family made."""

    def _handle(self) -> _Handle:
        """By what another process of the family opens the semaphore; that one may know it from now on."""

    def acquire(self, block: Any = True, timeout: Any = None) -> bool:
        """Lower the count by one; ``False`` when that was not possible in time."""

    def __enter__(self) -> bool: ...
    def __exit__(self, _type: Any = None, _value: Any = None, _traceback: Any = None) -> None: ...
    def release(self) -> None:
        """Raise the count by one; ``ValueError`` when it is as high as it may be."""

    def locked(self) -> bool:
        """Whether one who comes now would have to wait: the count is 0, or it is a waiter's turn."""

    def get_value(self) -> int:
        """The count."""

    @property
    def _most(self) -> int:
        """The highest count there may be."""

@final
class Calls:
    """An executor's calls on its pool; see `manyhands.futures`."""

    def __new__(cls, pool: Pool, broken: Callable[[Any], BaseException], on_demand: bool) -> Self:
        """Makes a pool an executor's, once.

        Args:
            broken: the exception for calls that no worker can do, from the reason.
            on_demand: start workers one by one, when there are more calls than workers.
        """

    def submit(
        self,
        future: Any,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Submits a call, whose outcome ``future`` will have; the driver thread sees to it."""

    def wait(self, future: Any, timeout: Any = None) -> bool:
        """Waits until the future is done, leading the pool if nobody does; whether it is done."""

    def look_again(self) -> None:
        """A future was cancelled: whoever waits for it looks again."""

    def urge(self) -> None:
        """Somebody waits who cannot lead the pool: the driver thread shall, now."""

    def close(self, cancel: Any) -> None:
        """Takes no more calls, and with ``cancel`` cancels those that wait; workers leave when the others are done."""

    def give_up(self) -> None:
        """As `close`, cancelling, and no worker that ends is replaced: the caller ends them."""

    def finish(self, timeout: Any = None) -> bool:
        """Waits until all is done and the workers are gone, and frees the shared memory.

        ``False`` when so many seconds have passed, and from a callback, where the last is left to the driver.
        """

    @property
    def unsettled(self) -> tuple[int, list[Any]]:
        """The futures of calls that have no outcome: first of those that workers may have, and how many these are."""

    @property
    def is_over(self) -> bool:
        """Whether nothing will ever happen any more."""

@final
class Pool:
    """The engine of `manyhands.pool.Pool`: whoever waits on it does its work."""

    def __new__(
        cls,
        seats: int,
        make: Callable[[int, int], tuple[BaseProcess, tuple[bool, bool]]],
        died: Callable[[BaseProcess, int | None], BaseException],
        decode_error: Callable[[bytes], BaseException],
        undecodable: Callable[[BaseException], BaseException],
    ) -> Self:
        """A pool without workers; `start_workers` starts them, once Python can reach the pool.

        Args:
            seats: how many workers.
            make: makes the worker for a seat, to be started, given the number of the bell that it must inherit; and
                says whether SIGINT, which stays blocked in the worker, and whether every signal, is kept away from this
                thread meanwhile.
            died: the exception for an item whose worker died; the item's index, or ``None`` for a single call.
            decode_error: the exception that a worker sent.
            undecodable: the exception for an item whose result cannot be unpickled, from why not.
        """

    def _address(self) -> tuple[_Handle, int]:
        """By what workers find the pool, and the descriptor they must inherit."""

    def start_workers(self) -> None:
        """Starts a worker for every seat; when one cannot be started, those that were end and the error is raised."""

    def submit_call(
        self,
        job: Job,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwds: dict[str, Any] | None = None,
        drive: bool = False,
    ) -> None:
        """Submits one call, as the whole of ``job``. With ``drive``, as `want_driver`."""

    def submit_map(
        self,
        job: Job,
        func: Callable[..., Any],
        items: list[Any],
        star: bool,
        chunksize: int | None = None,
        drive: bool = False,
    ) -> bool:
        """Submits a list of items, as the whole of ``job``; with ``star``, items are tuples of arguments. `False`, and
        nothing done, for a function that has to go with each item: it offers descriptors, which one receiver gets. With
        ``drive``, as `want_driver`."""

    def submit_stream(
        self,
        job: Job,
        func: Callable[..., Any],
        ordered: bool,
        chunksize: int,
        items: list[Any] | None = None,
        error: Exception | None = None,
        feeder: Callable[[], object] | None = None,
    ) -> bool:
        """Makes ``job`` a stream of results; `False` as `submit_map`. It has these items, behind which comes the error,
        if there is one; or the feeder, called in a thread of its own, pushes them. When this raises, the stream has
        ended."""

    def close(self) -> None:
        """No more jobs: workers leave when those there are done."""

    def shut_down(self, tell: bool, grace: float) -> None:
        """Ends everything: workers are told to end, and killed when they have not within ``grace`` seconds; whatever
        was not done fails, and without ``tell`` nobody hears of it. Does not wait for whoever leads. Once more, it does
        what was left."""

    def join(self, timeout: Any = None) -> bool:
        """Waits until every worker is gone and every callback has run; whether they are. Then the memory is freed.
        ``RuntimeError`` in code that the pool itself runs, while workers are there."""

    @property
    def processes(self) -> list[BaseProcess]:
        """The workers' processes, as they are now."""

    @property
    def state_name(self) -> str:
        """Where the pool is in its life: ``RUN``, ``CLOSE``, ``TERMINATE`` or ``BROKEN``."""

    @property
    def outstanding(self) -> int:
        """Items submitted and not settled."""

    @property
    def unfinished(self) -> list[tuple[int, Job]]:
        """Jobs that are not complete, or whose callbacks have not run, with their numbers."""

    def look_after_workers(self) -> None:
        """Buries and replaces workers that have died, without waiting."""

    def _drive(self) -> None:
        """The body of the driver thread: leads whenever there is work and nobody else leads."""

    def want_driver(self) -> None:
        """There is work that nobody may wait for: a driver thread does it, from now on if there was none."""

    def stop_driver(self) -> None:
        """Tells the driver thread to end, and waits for it, if it is not in a callback for long."""

    @property
    def is_ours(self) -> bool:
        """Whether the pool is this process's, and not that of one it was forked from."""

    def check_owner(self) -> None:
        """``RuntimeError`` in a process that was forked from the pool's."""

    def destroy(self) -> None:
        """Frees the pool's shared memory, as soon as nobody leads; nothing happens while a worker is there, or in a
        forked child."""

@disjoint_base
class Job:
    """A job: what ``apply_async``, ``map_async`` and ``imap`` return is one of these."""

    def __new__(
        cls,
        pool: Any,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        keeper: object = None,
        return_exceptions: Any = False,
        fail_fast: Any = False,
    ) -> Self:
        """A job that `Pool.submit_call` or its kin give something to do.

        Args:
            pool: the engine's, or Python's, which is kept alive until the job is done.
            keeper: kept alive until the job is done.
            return_exceptions: exceptions of items take the items' places.
            fail_fast: the first failing item fails the job, at once; for `Pool.submit_map`.
        """

    @property
    def _id(self) -> int:
        """Its number in its pool; 0 before it has something to do."""

    @property
    def _progress(self) -> tuple[int, int]:
        """Of a list: how many items have no outcome, and the size of chunks that was asked for, or is the standard
        library's."""

    @property
    def _outcome(self) -> tuple[bool, Any] | None:
        """Whether it went well, and what came of it: the results so far of a list; ``None`` while a call has no
        outcome."""

    def ready(self) -> bool:
        """Whether the call has completed."""

    def successful(self) -> bool:
        """Whether the call completed without raising; ``ValueError`` when it has not completed."""

    def wait(self, timeout: Any = None) -> None:
        """Waits until the call has completed."""

    def get(self, timeout: Any = None) -> Any:
        """The result, or its exception raised; ``multiprocessing.TimeoutError`` when the time passes first."""

    def next(self, timeout: Any = None) -> Any:
        """The next result of a stream, or its exception raised; ``StopIteration`` behind the last."""

    def push(self, items: Sequence[Any], last: bool) -> bool:
        """Adds items to a stream; ``last`` says that no more come. ``False`` when the stream takes no more."""

    def push_error(self, exception: BaseException) -> None:
        """The iterable of a stream raised: that is what comes after the items before."""

@final
class Worker:
    """A pool worker's loop."""

    def __new__(
        cls,
        pool: _Handle,
        seat: int,
        bell: int,
        encode_error: Callable[[BaseException], bytes],
        encode_result_error: Callable[[BaseException, object], bytes],
    ) -> Self:
        """Takes a seat in the pool.

        Args:
            pool: the first half of what `Pool._address` gave.
            bell: the other half, in this process; a duplicate of it is kept.
            encode_error: what a task raised, as bytes.
            encode_result_error: why a result cannot be pickled, and the result, as bytes.
        """

    def unready(self, reason: bytes) -> None:
        """The initializer failed: says so, and why."""

    def run(self, most: int) -> bool:
        """Works until the pool wants it to leave, or for ``most`` tasks (0: no limit); whether it left after its
        share."""

@final
class Start:
    """A child about to be started; it can be started once, by one of `fork`, `spawn`, `start_by` and `request`."""

    def __new__(cls) -> Self:
        """Reserves the child's slot in the process table and makes its life pipe."""

    @property
    def place(self) -> int:
        """The child's place in the process table."""

    def pack(self, carried: Sequence[tuple[int, int]]) -> None:
        """Takes references to queues along for the child, as `carrying` names them."""

    @property
    def life(self) -> int:
        """The child's end of its life pipe; it is this object's."""

    def in_child(self) -> int:
        """In a forked child: takes the slot; the life pipe that it returns is the caller's."""

    def fork(self, fork: Callable[[], int], intent: object | None) -> Process | None:
        """Forks by ``fork``, an ``os.fork``; ``None`` in the child. No signal's handler runs until either process knows
        what it is: in the child not before `let_signals_in`.

        ``intent`` is where the standard library's resource tracker looks whether a fork is of multiprocessing.
        ``MemoryError`` when there is none for what the child will hold.
        """

    @staticmethod
    def let_signals_in() -> None:
        """In a forked child, which can be interrupted from now on."""

    def spawn(
        self, program: str, argv: Sequence[str], passed: Sequence[int], interruptible: bool = True
    ) -> Process:
        """Starts a program with this process's environment; it inherits the descriptors with the numbers in
        ``passed``, and begins with SIGINT blocked unless it is ``interruptible``."""

    def start_by(self, start: Callable[[], int]) -> Process:
        """Has ``start`` start the child, as a debugger or tracer does; its result is the child's pid."""

    def request(self, zygote: ZygoteClient, job: JobDescriptor, passed: Sequence[int]) -> Process:
        """Has a fork server start it; ``job`` and the descriptors in ``passed`` reach the child. ``BrokenPipeError``
        when the server is gone. When a signal handler raises meanwhile, there is no child, or it is ended."""

@final
class Process:
    """A process that was started."""

    @property
    def pid(self) -> int: ...
    @property
    def sentinel(self) -> int:
        """A descriptor that becomes readable when the process has ended; it is this object's."""

    def poll(self) -> int | None:
        """The exit code, or minus the signal; ``None`` while it runs."""

    def wait(self, timeout: Any = None) -> int | None:
        """Waits for the end; then as `poll`."""

    def signal(self, signal: int) -> None:
        """Sends a signal; nothing happens when the process has ended."""

@final
class JobDescriptor:
    """A descriptor from which a child reads its job."""

    def __new__(cls, bytes: bytes) -> Self:
        """Puts these bytes behind it."""

    @property
    def number(self) -> int:
        """Its number; it is this object's. ``OSError`` when other code of this program has closed it."""

@final
class ZygoteClient:
    """The client's end of a connection to a fork server."""

    def __new__(cls) -> Self: ...
    @property
    def servers_end(self) -> int | None:
        """The number of the socket that the fork server must inherit; ``None`` when it was closed here."""

    def started(self, server: Process) -> None:
        """The fork server is that process, and has its socket: this process needs it no more."""

@final
class Zygote:
    """The fork server's end."""

    def __new__(cls, socket: int, kept_for: float) -> Self:
        """Keeps a duplicate of the socket. A child in reserve that has had nothing to do for so many seconds is sent
        away."""

    def next_request(self) -> bool:
        """Waits for a request; ``False`` when the client is gone."""

    def hand_over(self) -> bool:
        """Has the child in reserve carry out the request; ``False`` when there is none, so that one must be forked."""

    def make_room(self) -> None:
        """In the server: a child is about to be forked for the request."""

    def forked(self, pid: int) -> None:
        """In the server: the request became this child."""

    def refuse(self, errno: int) -> None:
        """In the server: no child can be forked for the request."""

    def wants_reserve(self) -> bool:
        """In the server: whether a child is to be forked before there is a request for it."""

    def prepare_reserve(self) -> None:
        """In the server: the next child is forked before there is a request for it."""

    def reserved(self, pid: int) -> None:
        """In the server: this child waits in reserve."""

    def not_reserved(self) -> None:
        """In the server: none was forked."""

    def in_child(self) -> tuple[int, int, list[int]] | None:
        """In the child, which keeps nothing of the server's: its request. A child in reserve waits for it; ``None``
        when nobody wants it any more. The slot is taken; the descriptors of the job, the life pipe and what was passed
        are the caller's."""

def pipe(duplex: bool) -> tuple[int, int]:
    """The descriptors of a new connection; if it is not duplex, to read from and to write to."""

def wait(object_list: Iterable[Any], timeout: Any = None) -> list[Any]:
    """Waits until some of these have something to read, or have ended; which, in their order. Each is the number of a
    descriptor or has a ``fileno``."""

def family_descriptor() -> int:
    """The number of the family's descriptor; founds the family if there is none."""

def join_family(descriptor: int, place: int) -> None:
    """Joins the family behind an inherited descriptor, on the slot the parent reserved."""

def notebook_descriptor() -> int:
    """The number of a descriptor behind which this process's children keep something for one another: empty at first,
    and when other code of this program has closed it."""

def is_file(number: int, device: int, inode: int) -> bool:
    """Whether a number means the file of that device and inode at this moment."""

def is_notebook(number: int) -> bool:
    """Whether a number that was passed to this process is such a descriptor, and no user's file."""

def compile_source(source: bytes, path: bytes) -> CodeType:
    """The code of a script whose file is named ``path`` and contains ``source``, which has no null bytes."""

def die_with_parent(life: int) -> bool:
    """The kernel kills this process when its parent is gone; ``False`` when it is gone already."""

def keep_locks() -> None:
    """This process ends in an orderly way, now: the locks that it holds stay locked until somebody releases them."""

def note_exit(status: int) -> None:
    """Notes the status this process is about to end with, for a parent from whom the kernel's is taken."""

def note_label(text: str) -> None:
    """Says what this process runs, for `doctor`: the first 64 bytes of the text in UTF-8."""

def doctor(pid: int | None = None) -> str | None:
    """What there is to see in the family of that process, or of this one; ``None`` when this one has none."""

def after_fork_in_child() -> None:
    """In a forked child, by `os.fork` or C: what the parent's memory says of this process holds no more. Called by the
    interpreter."""

def after_fork_in_parent() -> None:
    """After a fork, in the parent, whether there is a child or not: pools' driver threads come back. Called by the
    interpreter."""

def forget_children_at_fork(module: dict[str, object], ours: type) -> None:
    """From now on, a forked child forgets the processes in the set ``_children`` of ``module``, the names of
    ``multiprocessing.process``, whose ``_popen`` is of the class ``ours``: they are its parent's."""

def before_fork() -> None:
    """Before a fork, by `os.fork` or C: pools' driver threads end, and the child gets references to the queues that
    it will find open. Called by the interpreter."""

def carrying(pickle: Callable[[], _T], popen: object) -> tuple[_T, list[tuple[int, int]]]:
    """Calls ``pickle`` and returns what it returns, and the queues that it has pickled; it is for the child that
    ``popen`` starts."""

@final
class Starting:
    """Around a start of a process: when it raises, there is no process, or it is ended.

    Meanwhile ``config``, the current process's, does not say that it is a daemon.
    """

    def __new__(cls, config: dict[str, Any] | None = None) -> Self: ...
    def __enter__(self) -> None: ...
    def __exit__(self, raised: Any, _value: Any, _traceback: Any) -> None: ...

def unpack() -> None:
    """In a child that has opened what it was sent: what it was packed is not needed any more."""

def sending(pickle: Callable[..., _T], *arguments: Any) -> _T:
    """Calls ``pickle(*arguments)``, whose result is sent by us: shared objects may be pickled meanwhile. What it names
    and offers is added to what is being pickled around it."""

def assert_sending(object: object) -> None:
    """Raises the standard library's `RuntimeError` for an object that should be shared through inheritance, unless this
    thread pickles something that is sent by us."""

def note_offer(offer: tuple[Any, tuple[Any, int]]) -> None:
    """Notes a descriptor that what is being pickled offers: a weak reference to it, and where it is to be had."""

def offers_so_far() -> int:
    """How many descriptors what is being pickled offers."""

def withdraw_offers(count: int) -> None:
    """Withdraws all but the first so many of these."""
