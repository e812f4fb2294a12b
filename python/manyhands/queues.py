"""Queues in shared memory, with the standard library's face.

``put`` pickles in the caller and returns when the bytes are in shared memory: an object that cannot be pickled raises
there, and a process may end, in whatever way, right after ``put`` without losing the item. There is no feeder thread,
so joining a process before draining its queue cannot deadlock.
"""

from __future__ import annotations

from . import _manyhands

TYPE_CHECKING = (
    False  # as typing's, without importing it: each spawned child that is given a queue would pay for it
)
if TYPE_CHECKING:
    from queue import Empty as Empty
    from queue import Full as Full
    from typing import Any, Generic, TypeVar

    T = TypeVar("T")
else:
    T = None

    class Generic:
        """What typing's class of this name does at run time for a queue: `Queue[int]` says no more than `Queue`."""

        __slots__ = ()

        def __class_getitem__(cls, item):
            return cls if cls is Generic else type(list[int])(cls, item)


__all__ = ["Empty", "Full", "Queue", "SimpleQueue"]


def __getattr__(name: str) -> Any:
    if name not in ("Empty", "Full"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import queue

    globals()[name] = getattr(queue, name)
    return globals()[name]


def _note_children_of(ctx: Any) -> None:
    """Something may be put into the queue before the first child is started that will take it out."""
    if ctx is not None and ctx.get_start_method() != "fork":
        from . import _pickler

        _pickler.note_fresh_children()


class Queue(_manyhands.Queue, Generic[T]):
    """A queue for any number of producers and consumers, first in first out.

    Args:
        maxsize: the most items it may hold; 0 for as many as there is memory for.

    When a producer dies in the middle of ``put``, the item is not in the queue and everybody else goes on; when a
    consumer dies after it has taken an item, that item is gone with it, as with a pipe.
    """

    if TYPE_CHECKING:  # the engine's, who knows nothing of types

        def put(self, obj: T, block: bool = True, timeout: float | None = None) -> None: ...
        def get(self, block: bool = True, timeout: float | None = None) -> T: ...

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        _note_children_of(ctx)
        self._create(maxsize)

    def __getstate__(self) -> tuple[int, int]:
        return self._handle()

    def __setstate__(self, state: tuple[int, int]) -> None:
        self._attach(*state)

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


class SimpleQueue(_manyhands.Queue, Generic[T]):
    """A queue without a bound and without timeouts."""

    def __init__(self, *, ctx: Any = None) -> None:
        _note_children_of(ctx)
        self._create(0)

    def __getstate__(self) -> tuple[int, int]:
        return self._handle()

    def __setstate__(self, state: tuple[int, int]) -> None:
        self._attach(*state)

    def close(self) -> None:
        """This process will neither put nor get any more."""
        super().close()

    def get(self) -> T:  # type: ignore[override]
        """Take the next item, waiting for it."""
        if self._closed:
            raise OSError("handle is closed")
        item: T = super().get()
        return item

    def put(self, obj: T) -> None:  # type: ignore[override]
        """Put an item."""
        if self._closed:
            raise OSError("handle is closed")
        super().put(obj)

    def empty(self) -> bool:
        """Whether no item lies in the queue."""
        if self._closed:
            raise OSError("handle is closed")
        return super().empty()
