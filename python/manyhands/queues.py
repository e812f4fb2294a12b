"""Queues in shared memory, with the standard library's face.

``put`` pickles in the caller and returns when the bytes are in shared memory: an object that cannot be pickled raises
there, and a process may end, in whatever way, right after ``put`` without losing the item. There is no feeder thread,
so joining a process before draining its queue cannot deadlock.
"""

from __future__ import annotations

from queue import Empty, Full
from types import GenericAlias

from . import _manyhands

__all__ = ["Empty", "Full", "Queue", "SimpleQueue"]

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from typing import Any


class Queue(_manyhands.Queue):
    """A queue for any number of producers and consumers, first in first out.

    Args:
        maxsize: the most items it may hold; 0 for as many as there is memory for.

    When a producer dies in the middle of ``put``, the item is not in the queue and everybody else goes on; when a
    consumer dies after it has taken an item, that item is gone with it, as with a pipe.
    """

    __class_getitem__ = classmethod(GenericAlias)

    def __init__(self, maxsize: int = 0, *, ctx: object = None) -> None:
        self._create(maxsize)

    def __getstate__(self) -> tuple[int, int]:
        return self._handle()

    def __setstate__(self, state: tuple[int, int]) -> None:
        self._attach(*state)

    def put_nowait(self, obj: Any) -> None:
        """Put an item without waiting; `Full` when the queue holds as many items as it may."""
        self.put(obj, False)

    def get_nowait(self) -> Any:
        """Take an item without waiting; `Empty` when there is none."""
        return self.get(False)

    def join_thread(self) -> None:
        """For compatibility: there is no thread, and nothing that was put can be lost. Close the queue first."""
        assert self._closed, f"Queue {self!r} not closed"

    def cancel_join_thread(self) -> None:
        """For compatibility: there is no thread."""


class SimpleQueue(_manyhands.Queue):
    """A queue without a bound and without timeouts."""

    __class_getitem__ = classmethod(GenericAlias)

    def __init__(self, *, ctx: object = None) -> None:
        self._create(0)

    def __getstate__(self) -> tuple[int, int]:
        return self._handle()

    def __setstate__(self, state: tuple[int, int]) -> None:
        self._attach(*state)

    def close(self) -> None:
        """This process will neither put nor get any more."""
        super().close()

    def get(self) -> Any:  # type: ignore[override]
        """Take the next item, waiting for it."""
        if self._closed:
            raise OSError("handle is closed")
        return super().get()

    def put(self, obj: Any) -> None:  # type: ignore[override]
        """Put an item."""
        if self._closed:
            raise OSError("handle is closed")
        super().put(obj)

    def empty(self) -> bool:
        """Whether no item lies in the queue."""
        if self._closed:
            raise OSError("handle is closed")
        return super().empty()
