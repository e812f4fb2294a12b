"""`empty`, `zeros` and `asarray`: numpy arrays whose memory is the family's, and which are sent by reference.

Sending such an array, or any view of it, copies nothing: the receiver's array is the same memory. That holds for
queues, for arguments, items and results of pools and executors, and for arguments of processes. What the plain
`pickle` module makes of it is a copy, as of any array, and so is what goes through a connection, and a view of a
subclass of numpy's arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy

from . import _pickler
from ._manyhands import Block
from ._shared_array import SharedArray

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    Shape = int | Iterable[int]

__all__ = ["asarray", "empty", "zeros"]


def empty(shape: Shape, dtype: DTypeLike = float) -> NDArray[Any]:
    """A new array in C order, whatever is in its memory, as `numpy.empty` makes one, but in the family's memory.

    Sent to another process, it is there the same memory: what one process writes, the others see, at once and with
    nothing to order it; use a lock, or leave the array to the receiver. The memory is given back when no process has
    the array or a view of it any more, however the processes ended. Processes that are forked have it too.

    Raises:
        MemoryError: there is no shared memory left; the message has the size and the limit.
        TypeError: the type has Python objects in it.
    """
    return _new(shape, dtype, Block.unset)


def zeros(shape: Shape, dtype: DTypeLike = float) -> NDArray[Any]:
    """As `empty`, and all zero."""
    return _new(shape, dtype, Block)


def asarray(a: ArrayLike, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """The same as an array that is sent by reference: itself if it is one already, else a copy in new memory.

    A `SharedArray` becomes an array over its memory (which `numpy.asarray` makes of it too, but one that is sent as a
    copy). A copy that is made here is in C order.

    Raises:
        MemoryError, TypeError: as `empty`.
    """
    if isinstance(a, SharedArray):
        # A buffer, for which the types of Python 3.11 have no name.
        memory: Any = Block(a.nbytes, *a._handle())
        a = numpy.ndarray(a.shape, a.dtype, memory)
    array = numpy.asarray(a, dtype)
    if _owner_of(array) is not None:
        return array
    copy = empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def _new(shape: Shape, dtype: DTypeLike, make: Any) -> NDArray[Any]:
    kind = numpy.dtype(dtype)
    if kind.itemsize == 0:
        # Of texts whose length is not said numpy makes room for one character.
        kind = numpy.empty(0, dtype).dtype
    if kind.hasobject:
        raise TypeError(f"an array in shared memory cannot hold Python objects: {kind!r}")
    # numpy's own view of what a shape is, without any memory.
    extents = numpy.broadcast_to(0, shape).shape
    items = 1
    for extent in extents:
        items *= extent
    return numpy.ndarray(extents, kind, make(items * kind.itemsize))


def _owner_of(array: NDArray[Any]) -> Block | None:
    """What holds the array's memory, if it is sent by reference."""
    base: Any = array.base
    while True:
        if isinstance(base, numpy.ndarray):
            base = base.base
        elif isinstance(base, memoryview):
            base = base.obj
        else:
            return base if isinstance(base, Block) else None


def _reduce(array: NDArray[Any]) -> Any:
    owner = _owner_of(array)
    if owner is None or array.dtype.hasobject:
        return array.__reduce_ex__(5)
    address: int = array.__array_interface__["data"][0]
    place = (array.shape, array.dtype, owner, address - owner._address, array.strides)
    return _view, (place, array.flags.writeable)


def _view(place: Any, writeable: bool) -> NDArray[Any]:
    array: NDArray[Any] = numpy.ndarray(*place)
    array.flags.writeable = writeable
    return array


#: A process that unpickles such an array imports this module, and so sends it on by reference too.
_pickler.own_reducers[numpy.ndarray] = _reduce
