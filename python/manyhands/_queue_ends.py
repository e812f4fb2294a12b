"""`_reader` and `_writer` of queues, as much of the standard library's connections as a queue in shared memory can be.

Programs give a queue's reading end to ``multiprocessing.connection.wait``, ``select`` or an event loop, to learn when
`get` need not wait. Its descriptor is made when somebody asks for it; see ``queue_watch.rs`` of the engine.
"""

from __future__ import annotations

import pickle
from _weakref import ref

from . import _pickler

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self

    from . import _manyhands

__all__ = ["Reader", "Writer", "ref"]


class _End:
    """One end of one object of a queue. Closing it closes no other object's of that queue, here or elsewhere.

    `queues._EndAttribute` gives out one of a kind; if two threads ask for the first at once, theirs are equal at least.
    """

    readable = False
    writable = False

    def __init__(self, queue: _manyhands.Queue) -> None:
        self._queue = queue

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._queue is self._queue

    def __hash__(self) -> int:
        return hash((type(self), id(self._queue)))

    @property
    def closed(self) -> bool:
        """Whether this end was closed, or the queue's object with both."""
        raise NotImplementedError

    def close(self) -> None:
        """Close this end of the queue's object."""
        raise NotImplementedError

    def _check_open(self) -> None:
        if self.closed:
            raise OSError("handle is closed")


class Reader(_End):
    """What `_reader` is: readable while there is something to get, or after ``shutdown`` nothing will come."""

    readable = True

    @property
    def closed(self) -> bool:
        """Whether this end was closed, or the queue's object with both."""
        return self._queue._reader_closed

    def close(self) -> None:
        """Nothing is taken by this object of the queue any more; it may still put."""
        self._queue._close_reader()

    def fileno(self) -> int:
        """The number of a descriptor that is readable as the queue is now, and follows it. Poll it; do not read it."""
        return self._queue._doorbell()

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether there is something to get, after waiting that many seconds for it; ``None`` is for ever."""
        self._check_open()
        return self._queue._poll(timeout)

    def recv(self) -> Any:
        """Take the next item, waiting for it."""
        self._check_open()
        return self._queue.get()

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Take the next item, as its pickle; ``OSError``, and it is lost, when that is longer than ``maxlength``."""
        pickled = _pickler.standard_dumps(self.recv())
        if maxlength is not None and len(pickled) > maxlength:
            raise OSError("bad message length")
        return pickled


class Writer(_End):
    """What `_writer` is. Its descriptor is always writable, whatever the queue's bound."""

    writable = True

    @property
    def closed(self) -> bool:
        """Whether this end was closed, or the queue's object with both."""
        return self._queue._writer_closed

    def close(self) -> None:
        """Nothing is put by this object of the queue any more; it may still get."""
        self._queue._close_writer()

    def fileno(self) -> int:
        """The number of a descriptor that is writable. Poll it; do not write to it."""
        return self._queue._always_writable()

    def send(self, obj: Any) -> None:
        """Put an item."""
        self._check_open()
        self._queue.put(obj)

    def send_bytes(self, buf: Any, offset: int = 0, size: int | None = None) -> None:
        """Put the item whose pickle this is."""
        end = None if size is None else offset + size
        self.send(pickle.loads(memoryview(buf).cast("B")[offset:end]))
