"""What pools are called with, as the standard library takes it."""

from __future__ import annotations

import sys
from _operator import index

from . import _worker

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["chunks_of_stream", "each_with", "list_of", "plain_call", "read", "size_of_chunks"]


def plain_call(func: Any, args: Any, kwds: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The call with a tuple and a dict for its arguments; if they are none, with the error that it then is, in the
    worker."""
    try:
        return func, tuple(args), {**kwds}
    except TypeError:
        return _worker.call, (func, args, kwds), {}


def each_with(func: Any, items: Iterable[Any], star: bool = False) -> Any:
    """The items for `_worker.call_with`: the descriptors that ``func`` offers one receiver gets, so it goes with each
    chunk of items, as in the standard library."""
    return ((func, item, star) for item in items)


def chunks_of_stream(chunksize: Any, ordered: bool) -> tuple[int, Exception | None]:
    """The size of a stream's chunks, and what its first item raises, as the standard library finds out there."""
    if chunksize == 1:
        # Whatever number it is.
        return 1, None
    if chunksize < 1:
        shown = "{0:n}" if ordered else "{0!r}"
        raise ValueError(f"Chunksize must be 1+, not {shown.format(chunksize)}")
    try:
        return size_of_chunks(chunksize), None
    except ValueError as error:
        return 1, error.with_traceback(None)


def size_of_chunks(chunksize: Any) -> int:
    """A size of chunks as an integer; as the standard library, which hands it to `itertools.islice`."""
    try:
        size = index(chunksize)
    except TypeError:
        size = sys.maxsize + 1
    if size > sys.maxsize:
        raise ValueError("Stop argument for islice() must be None or an integer: 0 <= x <= sys.maxsize.")
    return size


#: What lists its items without running anybody's code.
_PLAIN = (list, tuple, range, dict, set, frozenset, str, bytes)


def list_of(iterable: Iterable[Any]) -> list[Any]:
    """The items as a list of its own. What ``__len__`` says is not asked of classes that may be wrong about it."""
    return list(iterable) if type(iterable) in _PLAIN else [*iter(iterable)]


def read(iterable: Iterable[Any]) -> tuple[list[Any], Exception | None]:
    """The items, and what the iterable raised behind the last of them."""
    if type(iterable) in _PLAIN:
        return list(iterable), None
    items: list[Any] = []
    try:
        items.extend(iter(iterable))
    except Exception as error:
        return items, error
    return items, None
