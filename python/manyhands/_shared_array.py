"""`SharedArray`: numbers in shared memory, for `numpy` or whoever else takes a buffer."""

from __future__ import annotations

import sys
from _operator import index

from . import _manyhands

TYPE_CHECKING = False  # as typing's, without importing it: each child that is given an array would pay for it
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, SupportsIndex

__all__ = ["SharedArray"]

#: By the name of the type: its format as of `struct`, and how many bytes an item has.
_FORMATS = {
    "bool": ("?", 1),
    "int8": ("b", 1),
    "uint8": ("B", 1),
    "int16": ("h", 2),
    "uint16": ("H", 2),
    "int32": ("i", 4),
    "uint32": ("I", 4),
    "int64": ("l", 8),
    "uint64": ("L", 8),
    "float16": ("e", 2),
    "float32": ("f", 4),
    "float64": ("d", 8),
    "complex64": ("Zf", 8),
    "complex128": ("Zd", 16),
}
#: The letters that `numpy` has for kinds of types.
_KINDS = {"bool": "b", "int": "i", "uint": "u", "float": "f", "complex": "c"}
_ALIASES: dict[Any, str] = {bool: "bool", int: "int64", float: "float64", complex: "complex128"}
_ALIASES |= {"int": "int64", "float": "float64", "complex": "complex128", "q": "int64", "Q": "uint64"}
_ALIASES |= {format: name for name, (format, _) in _FORMATS.items()} | {"F": "complex64", "D": "complex128"}


def _typestr(name: str) -> str:
    """The type as the array interface of `numpy` spells it."""
    kind, bytes_ = _KINDS[name.rstrip("0123456789")], _FORMATS[name][1]
    order = "|" if bytes_ == 1 else "<" if sys.byteorder == "little" else ">"
    return f"{order}{kind}{bytes_}"


_ALIASES |= {spelling: name for name in _FORMATS for spelling in (_typestr(name), _typestr(name)[1:])}


def _name_of(dtype: Any) -> str:
    """The name of the type that `dtype` means."""
    name: Any = dtype
    if not isinstance(dtype, str) and not (isinstance(dtype, type) and dtype in _ALIASES):
        # A type of numpy's, or an instance of its dtype: whoever has one has it imported.
        numpy = sys.modules.get("numpy")
        name = numpy.dtype(dtype).str if numpy is not None else None
    name = _ALIASES.get(name, name)
    if name not in _FORMATS:
        raise TypeError(
            f"SharedArray holds numbers in the machine's byte order, not {dtype!r}: give one of {', '.join(_FORMATS)}"
        )
    return str(name)


class SharedArray(_manyhands.SharedArray):
    """Numbers in shared memory, all zero at first, in C order.

    It has no operations of its own: ``numpy.asarray(a)`` and ``memoryview(a)`` are the same memory, which is there as
    long as the array or any view of it is. It may be sent to any process of the family at any time, through queues or
    as an argument of a process or a pool's call, and is the same memory there; a view of it, sent, is a copy. The
    memory is given back with the last process that has it. Nothing orders what several processes write: a process that
    is killed leaves what it had written so far.

    Args:
        shape: how many items there are, or how many in each dimension.
        dtype: their type, as a name (``"float64"``), a code of `array` or `struct` (``"d"``), a `numpy.dtype`, or
            ``bool``, ``int``, ``float`` or ``complex``.

    Raises:
        MemoryError: there is no shared memory left; the message has the size and the limit.
        TypeError: the type is not one of numbers.

    A large one is made ready as a whole, so that no later write meets a full system: about a second for some gigabytes.
    """

    dtype: str
    """The name of the items' type, which `numpy` takes for it."""

    def __init__(self, shape: SupportsIndex | Iterable[SupportsIndex], dtype: Any = "float64") -> None:
        from collections.abc import Iterable

        extents = tuple(shape) if isinstance(shape, Iterable) else (shape,)
        self._be([index(extent) for extent in extents], _name_of(dtype))

    def _be(self, shape: Iterable[int], dtype: str, *handle: int) -> None:
        self._create(list(shape), *_FORMATS[dtype], *handle)
        self.dtype = dtype

    def __getstate__(self) -> tuple[Any, ...]:
        _manyhands.assert_sending(self)
        return (self.shape, self.dtype, *self._handle())

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._be(*state)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": _typestr(self.dtype),
            "data": (self._address, False),
            "strides": None,
        }

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of an array without dimensions")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shape}, {self.dtype!r})"
