"""`ctypes` objects in shared memory, with and without a lock, with the standard library's face.

They lie in the family's arena: they may be sent to any of its processes at any time, are there as long as somebody has
them, and are given back with the last one, also when that one is killed. A process that is killed while it writes
leaves what it had written so far; what becomes of the lock that it held is the lock's affair (see
`manyhands.synchronize`).
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from multiprocessing import sharedctypes as _std
from multiprocessing.reduction import ForkingPickler

from . import _manyhands, synchronize

TYPE_CHECKING = False  # as typing's, without importing it: each child that is given a value would pay for it
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]


if not TYPE_CHECKING:

    def __getattr__(name):
        """What else the standard library's module has."""
        from ._standard_names import standard_name

        return standard_name(__name__, name)


typecode_to_type: dict[str, type[Any]] = {
    "c": ctypes.c_char,
    "u": ctypes.c_wchar,
    "b": ctypes.c_byte,
    "B": ctypes.c_ubyte,
    "h": ctypes.c_short,
    "H": ctypes.c_ushort,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "l": ctypes.c_long,
    "L": ctypes.c_ulong,
    "q": ctypes.c_longlong,
    "Q": ctypes.c_ulonglong,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
}

#: The types that the engine reads and writes itself, and their codes.
_CODES: dict[Any, str] = {type_: code for code, type_ in typecode_to_type.items() if code != "u"}
_CODES[ctypes.c_bool] = "?"


# --- in shared memory, without a lock ---


def RawValue(typecode_or_type: Any, *args: Any) -> Any:
    """A `ctypes` object in shared memory.

    Args:
        typecode_or_type: a code as of `array.array`, or a type of `ctypes`.
        args: what the type is called with; zero without.

    Raises:
        MemoryError: there is no shared memory left.
    """
    obj = _new_value(typecode_to_type.get(typecode_or_type, typecode_or_type))
    obj.__init__(*args)
    return obj


def RawArray(typecode_or_type: Any, size_or_initializer: int | Sequence[Any]) -> Any:
    """A `ctypes` array in shared memory.

    Args:
        typecode_or_type: of its items; as for `RawValue`.
        size_or_initializer: how many there are, all zero, or what they are.

    Raises:
        MemoryError: there is no shared memory left.
    """
    type_ = typecode_to_type.get(typecode_or_type, typecode_or_type)
    if isinstance(size_or_initializer, int):
        return _new_value(type_ * size_or_initializer)
    obj = _new_value(type_ * len(size_or_initializer))
    obj.__init__(*size_or_initializer)
    return obj


def copy(obj: Any) -> Any:
    """A copy of a `ctypes` object, in shared memory and without a lock."""
    made = _new_value(type(obj))
    ctypes.pointer(made)[0] = obj
    return made


def _new_value(type_: Any) -> Any:
    size = ctypes.sizeof(type_)
    return _laid_over(type_, _manyhands.Block(size))


def _laid_over(type_: Any, block: _manyhands.Block) -> Any:
    ForkingPickler.register(type_, reduce_ctype)
    obj = type_.from_buffer(block)
    obj._wrapper = block
    return obj


def reduce_ctype(obj: Any) -> Any:
    """How a `ctypes` object of a type that is in shared memory somewhere is pickled: by name if it is there itself."""
    block = getattr(obj, "_wrapper", None)
    if block is not None and not isinstance(block, _manyhands.Block):
        # In the standard library's memory. One table says for each type how it is pickled, and its last entry holds.
        return _standard_reduce_ctype()(obj)
    if block is None:
        return obj.__reduce_ex__(2)
    _manyhands.assert_sending(obj)
    if isinstance(obj, ctypes.Array):
        return rebuild_ctype, (obj._type_, block, obj._length_)
    return rebuild_ctype, (type(obj), block, None)


def _standard_reduce_ctype() -> Any:
    patches: Any = sys.modules.get(f"{__package__}._patches")
    name = "multiprocessing.sharedctypes"
    return _std.reduce_ctype if patches is None else patches.original(name, "reduce_ctype")  # type: ignore[attr-defined]


def rebuild_ctype(type_: Any, wrapper: Any, length: int | None) -> Any:
    """The object that `reduce_ctype` was given, in another process."""
    return _laid_over(type_ if length is None else type_ * length, wrapper)


# --- behind a lock ---


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None) -> Any:
    """A `ctypes` object in shared memory, behind a lock.

    Args:
        typecode_or_type: a code as of `array.array`, or a type of `ctypes`.
        args: what the type is called with; zero without.
        lock: ``True`` for a new recursive lock, ``False`` for none (as `RawValue`), or a lock.

    Raises:
        MemoryError: there is no shared memory left.
    """
    return _behind(RawValue(typecode_or_type, *args), lock, ctx)


def Array(
    typecode_or_type: Any, size_or_initializer: int | Sequence[Any], *, lock: Any = True, ctx: Any = None
) -> Any:
    """A `ctypes` array in shared memory, behind a lock.

    Args:
        typecode_or_type: of its items; as for `Value`.
        size_or_initializer: how many there are, all zero, or what they are.
        lock: as for `Value`.

    Raises:
        MemoryError: there is no shared memory left.
    """
    return _behind(RawArray(typecode_or_type, size_or_initializer), lock, ctx)


def _behind(obj: Any, lock: Any, ctx: Any) -> Any:
    if lock is False:
        return obj
    if lock in (True, None):
        lock = _new_lock(ctx)
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return synchronized(obj, lock, ctx=ctx)


def _new_lock(ctx: Any) -> Any:
    if ctx is None:
        from .context import _default_context

        ctx = _default_context.get_context()
    return ctx.RLock()


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> Any:
    """Put a `ctypes` object behind a lock; a new recursive one if none is given."""
    assert not isinstance(obj, (SynchronizedBase, _std.SynchronizedBase)), "object already synchronized"
    if isinstance(obj, ctypes._SimpleCData):
        return Synchronized(obj, lock, ctx)
    if isinstance(obj, ctypes.Array):
        if obj._type_ is ctypes.c_char:
            return SynchronizedString(obj, lock, ctx)
        return SynchronizedArray(obj, lock, ctx)
    return _class_for(type(obj))(obj, lock, ctx)


#: For each structure, the class of what is around it.
class_cache: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def _class_for(cls: Any) -> Any:
    try:
        return class_cache[cls]
    except KeyError:
        fields = {field[0]: make_property(field[0]) for field in cls._fields_}
        made = class_cache[cls] = type("Synchronized" + cls.__name__, (SynchronizedBase,), fields)
        return made


prop_cache: dict[str, property] = {}


def make_property(name: str) -> property:
    """An attribute of the wrapped object, read and written while the lock is held."""
    if name not in prop_cache:

        def get(self: Any) -> Any:
            self.acquire()
            try:
                return getattr(self._obj, name)
            finally:
                self.release()

        def put(self: Any, value: Any) -> None:
            self.acquire()
            try:
                setattr(self._obj, name, value)
            finally:
                self.release()

        prop_cache[name] = property(get, put)
    return prop_cache[name]


class SynchronizedBase(_manyhands.SynchronizedBase, _std.SynchronizedBase):  # type: ignore[type-arg]
    """A `ctypes` object and its lock: ``with`` holds it, `get_lock` gives it, `get_obj` the object."""

    def __init__(self, obj: Any, lock: Any = None, ctx: Any = None) -> None:
        if not lock:
            lock = _new_lock(ctx)
        block = getattr(obj, "_wrapper", None)
        if not isinstance(block, _manyhands.Block):
            # Not in shared memory, or not ours.
            block = None
        # A user's own lock or type may do more than ours.
        plain = type(lock) in (synchronize.RLock, synchronize.Lock)
        self._wrap(obj, lock, plain, block, _code_of(obj))

    def __reduce__(self) -> Any:
        _manyhands.assert_sending(self)
        obj = self._obj
        if not isinstance(getattr(obj, "_wrapper", None), _manyhands.Block):
            return synchronized, (obj, self._lock)
        # By handle whichever pickler it is: only some of them know how the object itself is pickled.
        return _rebuild, (*reduce_ctype(obj)[1], self._lock)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} wrapper for {self._obj}>"


def _code_of(obj: Any) -> str:
    """What the engine calls the type of a value or of an array's items; nothing when it leaves it to `ctypes`."""
    type_ = type(obj)
    if isinstance(obj, ctypes.Array):
        if type_ is not obj._type_ * obj._length_:
            return ""
        type_ = obj._type_
    return _CODES.get(type_, "")


def _rebuild(type_: Any, block: _manyhands.Block, length: int | None, lock: Any) -> Any:
    return synchronized(rebuild_ctype(type_, block, length), lock)


class Synchronized(_manyhands.Synchronized, SynchronizedBase, _std.Synchronized):  # type: ignore[type-arg]
    """One value. `value` is read and written while the lock is held; ``+=`` is a read and a write, so hold the lock
    around it, or use `fetch_add`."""


class SynchronizedArray(_manyhands.SynchronizedArray, SynchronizedBase, _std.SynchronizedArray):  # type: ignore[type-arg]
    """An array. Items and slices are read and written while the lock is held."""


class SynchronizedString(SynchronizedArray, _std.SynchronizedString):
    """An array of characters, which has its content as `value`, up to the first zero, and as `raw`."""

    value = make_property("value")
    raw = make_property("raw")
