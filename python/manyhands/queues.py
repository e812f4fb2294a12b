"""Queues in shared memory, with the standard library's face.

``put`` pickles in the caller and returns when the bytes are in shared memory: an object that cannot be pickled raises
there, and a process may end, in whatever way, right after ``put`` without losing the item. There is no feeder thread,
so joining a process before draining its queue cannot deadlock.
"""

from __future__ import annotations

from . import _kin, _manyhands

TYPE_CHECKING = (
    False  # as typing's, without importing it: each spawned child that is given a queue would pay for it
)
if TYPE_CHECKING:
    from collections.abc import Iterable
    from queue import Empty as Empty
    from queue import Full as Full
    from typing import Any, Generic, TypeVar

    from ._queue_ends import Reader, Writer
    from ._shut_down import ShutDown as ShutDown

    T = TypeVar("T")
else:
    T = None

    class Generic:
        """What typing's class of this name does at run time for a queue: `Queue[int]` says no more than `Queue`."""

        __slots__ = ()

        def __class_getitem__(cls, item):
            return cls if cls is Generic else type(list[int])(cls, item)


__all__ = ["Empty", "Full", "JoinableQueue", "Queue", "ShutDown", "SimpleQueue"]


def __getattr__(name: str) -> Any:
    value: Any
    if name == "ShutDown":
        from ._shut_down import ShutDown as value
    elif name in ("Empty", "Full"):
        import queue

        value = getattr(queue, name)
    else:
        from ._standard_names import standard_name

        return standard_name(__name__, name)
    globals()[name] = value
    return value


def _note_children_of(ctx: Any) -> None:
    """Something may be put into the queue before the first child is started that will take it out."""
    if ctx is not None and ctx.get_start_method() != "fork":
        from . import _pickler

        _pickler.note_fresh_children()


class _EndAttribute:
    """A queue's ``_reader`` or ``_writer``: made when it is asked for, and the same for as long as somebody has it.

    The queue remembers it weakly, because the end has the queue: a queue goes, and its descriptor and thread with it,
    when nobody has either any more. Without a ``__set__`` here, what is assigned to a queue's attribute is found in its
    stead.
    """

    def __init__(self, kind: str, slot: str) -> None:
        self._kind = kind
        self._slot = slot

    def __get__(self, queue: Any, owner: type | None = None) -> Any:
        if queue is None:
            return self
        known = getattr(queue, self._slot, None)
        end = None if known is None else known()
        if end is None:
            from . import _queue_ends

            end = getattr(_queue_ends, self._kind)(queue)
            setattr(queue, self._slot, _queue_ends.ref(end))
        return end


def _load() -> None:
    """What `put` pickles by, and the class of `Full`: later there may be no descriptor to import them by."""
    import queue  # noqa: F401

    from . import _pickler  # noqa: F401


class _LockAttribute:
    """A simple queue's ``_rlock`` or ``_wlock``: made when it is asked for, and kept by this process's object.

    Code that uses the ends takes them, to be alone at an end in its own process. `get`, `put`
    and the ends take none, in no process: a message is put and taken in one step.
    """

    def __init__(self, slot: str) -> None:
        self._slot = slot

    def __get__(self, queue: Any, owner: type | None = None) -> Any:
        if queue is None:
            return self
        lock = getattr(queue, self._slot, None)
        if lock is None:
            import threading

            lock = threading.Lock()
            setattr(queue, self._slot, lock)
        return lock


#: The bound of a queue; 0 without one.
_bound: Any = vars(_manyhands.Queue)["_maxsize"].__get__


class _Queue(_manyhands.Queue, Generic[T]):
    """What all queues have: their way to another process, and their ends."""

    __reduce_ex__ = _kin.reduce_ex

    def __getstate__(self) -> tuple[int, int]:
        _manyhands.assert_sending(self)
        return self._handle()

    def __setstate__(self, state: tuple[int, int]) -> None:
        self._attach(*state)

    if TYPE_CHECKING:
        _reader: Reader
        _writer: Writer
    else:
        # Not among the instance's attributes, which a subclass may send.
        __slots__ = ("__dict__", "__weakref__", "_reader_ref", "_writer_ref")
        _reader = _EndAttribute("Reader", "_reader_ref")
        _writer = _EndAttribute("Writer", "_writer_ref")


class Queue(_Queue[T]):
    """A queue for any number of producers and consumers, first in first out.

    Args:
        maxsize: the most items it may hold; 0 for as many as there is memory for.

    When a producer dies in the middle of ``put``, the item is not in the queue and everybody else goes on; when a
    consumer dies after it has taken an item, that item is gone with it, as with a pipe.
    """

    if TYPE_CHECKING:  # the engine's, who knows nothing of types

        def put(
            self, obj: T, block: bool = True, timeout: float | None = None, *, move: bool = False
        ) -> None:
            """Put an item.

            Waits while the queue holds ``maxsize`` items, ``timeout`` seconds at most; not at all without ``block``.
            The item is pickled before that. With ``move`` the queue may take the object's memory instead of copying
            it: the caller promises not to use the object again.

            Raises:
                Full: there was no room in that time.
                ShutDown: the queue was shut.
                ValueError: this object of the queue was closed.
                OSError: its ``_writer`` was.
                MemoryError: there is no shared memory for it.
            """

        def get(self, block: bool = True, timeout: float | None = None) -> T:
            """Take the next item.

            Waits while there is none, ``timeout`` seconds at most; not at all without ``block``.

            Raises:
                Empty: nothing came in that time.
                ShutDown: nothing is left, and the queue was shut.
                ValueError: this object of the queue was closed.
                OSError: its ``_reader`` was.
            """

        def put_many(self, items: Iterable[T], block: bool = True, timeout: float | None = None) -> None:
            """Put each item of an iterable, as a loop over ``put`` would, at a fraction of its cost.

            Items are put some hundred at a time: one lock and one wake for all of them. An iterable that is no list
            or tuple, and takes more than 0.1 ms for an item, has what it gave put before it is asked again; one that
            stalls after it was fast holds up to 255 items back. ``timeout`` is for all items together.

            Raises what ``put`` and the iterable raise. What came before is then in the queue, and the exception's
            attribute ``items_put`` says how many items that are.
            """

        def get_many(self, max_items: int = 256, block: bool = True, timeout: float | None = None) -> list[T]:
            """Take what is there, at least one item and at most ``max_items``.

            Waits for the first item as ``get`` does, and for no other.

            Raises what ``get`` raises. When an item cannot be unpickled, or a signal's handler raises, nothing more is
            taken, and that is raised; of several errors the first that is no ``Exception`` (``KeyboardInterrupt`` is
            none), else the first. Its attribute ``items`` is the list of the items that were taken, its attribute
            ``errors`` that of the other errors.
            """

        def shutdown(self, immediate: bool = False) -> None:
            """Nothing is put any more, in no process: ``put`` raises ``ShutDown``.

            ``get`` raises it when what was put before has been taken; with ``immediate`` at once, and what lies in
            the queue is thrown away and counts as done. Everybody who waits is told. As in ``queue.Queue`` of Python
            3.13, on every version.
            """

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        _load()
        _note_children_of(ctx)
        self._create(0 if maxsize <= 0 else maxsize)

    @property
    def _maxsize(self) -> int:
        """The bound as the standard library has it: without one, the most that a semaphore counts."""
        return _bound(self) or 2**31 - 1

    @property
    def _buffer(self) -> Any:
        """What was put and is not in the queue so far: nothing, ever."""
        from collections import deque

        return deque()

    def put_nowait(self, obj: T) -> None:
        """Put an item without waiting; `Full` when the queue holds as many items as it may."""
        self.put(obj, False)

    def get_nowait(self) -> T:
        """Take an item without waiting; `Empty` when there is none."""
        return self.get(False)

    def join_thread(self) -> None:
        """For compatibility: there is no thread, and nothing that was put can be lost. Close the queue first."""
        assert self._closed, f"Queue {self!r} not closed"

    def cancel_join_thread(self) -> None:
        """For compatibility: there is no thread."""


class JoinableQueue(Queue[T]):
    """A queue whose items are unfinished until somebody says that they are done with.

    An item is unfinished from the moment it is put, in one step, whoever is killed. One whose taker is killed before
    ``task_done`` stays unfinished, as in the standard library: nobody can know whether it was handed on.
    """

    def task_done(self) -> None:
        """One of the items that were taken is done with; ``ValueError`` when all that were ever put are."""
        self._task_done()

    def join(self) -> None:
        """Wait until every item that was put is done with."""
        self._join()


# Found without a look through the classes, for each of the simple queue's calls.
_get, _put = _manyhands.Queue.get, _manyhands.Queue.put


class SimpleQueue(_Queue[T]):
    """A queue without a bound and without timeouts."""

    if TYPE_CHECKING:
        _rlock: Any
        _wlock: Any
    else:
        # Not among the instance's attributes, which a subclass may send.
        __slots__ = ("_rlock_made", "_wlock_made")
        _rlock = _LockAttribute("_rlock_made")
        _wlock = _LockAttribute("_wlock_made")

    def __init__(self, *, ctx: Any = None) -> None:
        _load()
        _note_children_of(ctx)
        self._create(0)

    def _poll(self, timeout: float | None = 0.0) -> bool:
        return super()._poll(timeout)

    def close(self) -> None:
        """This process will neither put nor get any more."""
        super().close()

    def get(self) -> T:  # type: ignore[override]
        """Take the next item, waiting for it."""
        if self._closed:
            raise OSError("handle is closed")
        return _get(self)  # type: ignore[no-any-return]

    def put(self, obj: T, *, move: bool = False) -> None:  # type: ignore[override]
        """Put an item; ``move`` as in `Queue.put`."""
        if self._closed:
            raise OSError("handle is closed")
        if move:
            super().put(obj, move=True)
        else:
            _put(self, obj)

    def empty(self) -> bool:
        """Whether no item lies in the queue."""
        if self._closed:
            raise OSError("handle is closed")
        return super().empty()


_kin.recognise("queues")
