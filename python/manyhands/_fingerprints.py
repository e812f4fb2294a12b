"""What a function or a class is made of, as digests on which any two processes of one interpreter agree.

Used by `_by_value`: a receiver that has a function or class of a name takes its own if the digests are the same. Hash
randomisation, the order of sets, line numbers and file names have no say. Two digests:

- a *fingerprint* of what the code does: bytecode, constants, defaults, what the functions close over, the bases of a
  class and what in its dictionary is code; members of an enumeration, names of slots. Not of what changes while a
  program runs: attributes that hold data, mutable containers, variables that the code itself assigns.
- the *state* of a function, which has all of it; there is none of what can hold anything. The same of a class that goes
  by no name (`whole`), but for objects of which the interpreter's own modules make classes.
"""

from __future__ import annotations

import abc
import dis
import enum
import functools
import sys
import types
import weakref
from _blake2 import blake2b  # without hashlib's imports
from typing import Any

__all__ = ["fingerprint", "main_named", "state", "whole", "wrapped_functions"]

_SIZE = 16
_ATOMS = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented))
_CONTAINERS = (list, dict, set, bytearray)
#: What holds functions in the dictionary of a class, and where.
_HOLDERS: dict[type, tuple[str, ...]] = {
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    functools.cached_property: ("func",),
    functools.partial: ("func", "args", "keywords"),
    functools.partialmethod: ("func", "args", "keywords"),
    functools.singledispatchmethod: ("func",),
    types.MethodType: ("__func__", "__self__"),
    type(functools.lru_cache(abs)): ("__wrapped__",),
}
_MAIN = ("__main__", "__mp_main__")


#: Of what `functools.singledispatch` makes, beside which lies a cache.
_DISPATCH = functools.singledispatch(lambda _value: None).__code__  # type: ignore[attr-defined]


class NoDigest(Exception):
    """There is something in it that can hold anything."""


def fingerprint(obj: Any) -> bytes:
    """Of a function or a class: what its code does."""
    return _Describer(strict=False).whole(obj)


def state(function: Any) -> bytes | None:
    """All that a function is, with what may change; ``None`` when that is not told."""
    try:
        return _Describer(strict=True).whole(function)
    except (NoDigest, RecursionError):
        return None


def whole(cls: type) -> bytes | None:
    """Of a class: what its code does, and the data in it; ``None`` when there is something that can hold anything."""
    try:
        return _Describer(strict=False, has_data=True).whole(cls)
    except (NoDigest, RecursionError):
        return None


def main_named(module: Any) -> Any:
    """The module's name; one for the main module, whatever it is called in this process."""
    return "__main__" if module in _MAIN else module


def wrapped_functions(value: Any) -> list[Any]:
    """The parts of a property, class method and the like; nothing if it is none."""
    parts = _HOLDERS.get(type(value), ())
    return [getattr(value, part, None) for part in parts]


class _Describer:
    """One digest. What it is in the middle of, it does not describe again."""

    def __init__(self, strict: bool, has_data: bool = False) -> None:
        self._strict = strict
        self._has_data = has_data
        self._under_way: set[int] = set()

    def whole(self, obj: Any) -> bytes:
        if isinstance(obj, types.FunctionType):
            return self._function(obj)
        return self._class(obj) if isinstance(obj, type) else self._value(obj)

    def _value(self, value: Any) -> bytes:
        cls = type(value)
        if cls in _ATOMS:
            return _atom(value)
        if cls is types.CodeType:
            return code_digest(value)
        if id(value) in self._under_way:
            return b"again"
        self._under_way.add(id(value))
        try:
            return self._compound(value, cls)
        finally:
            self._under_way.discard(id(value))

    def _compound(self, value: Any, cls: type) -> bytes:
        if cls is types.FunctionType:
            return _join("function", _name(value), self._function(value))
        if issubclass(cls, type):
            return _join("class", *self._class_name(value))
        if cls is tuple:
            return _join("tuple", *map(self._value, value))
        if cls is frozenset:
            return _join("set", *sorted(map(self._value, value)))
        if cls in _CONTAINERS and not self._strict and not self._has_data:
            return _join(cls.__name__)
        if cls in (set, bytearray, list):
            parts = map(self._value, value) if cls is not bytearray else [bytes(value)]
            return _join(cls.__name__, *(sorted(parts) if cls is set else parts))
        if cls is dict:
            return _join("dict", *(part for item in value.items() for part in map(self._value, item)))
        if cls is types.ModuleType:
            return _join("module", value.__name__)
        if cls is types.BuiltinFunctionType:
            return _join("builtin", _name(value), self._value(value.__self__))
        if cls in _HOLDERS:
            return _join(cls.__qualname__, *map(self._value, wrapped_functions(value)))
        if self._strict or (self._has_data and not self._is_of_making(cls)):
            raise NoDigest
        return _join("object", *self._class_name(cls))

    def _is_of_making(self, cls: type) -> bool:
        """Whether its objects are what classes are made of, or objects of the class that is described."""
        return cls.__module__ in _MAKERS or id(cls) in self._under_way

    def _class_name(self, cls: type) -> tuple[Any, ...]:
        if not self._strict:
            return main_named(cls.__module__), cls.__qualname__
        return main_named(cls.__module__), cls.__qualname__, _token_of(cls) or b""

    def _function(self, function: types.FunctionType) -> bytes:
        code = code_digest(function.__code__)
        if function.__code__ == _DISPATCH and hasattr(function, "registry"):
            registry: Any = function.registry
            ways = [_join(self._value(cls), self._value(way)) for cls, way in registry.items()]
            return _join("dispatch", function.__name__, *sorted(ways))
        if not self._strict and not function.__closure__ and not function.__defaults__:
            return code if not function.__kwdefaults__ else _join(code, self._keywords(function))
        parts = [code, self._value(function.__defaults__), self._keywords(function), *self._cells(function)]
        if self._strict:
            parts.append(self._value(vars(function)))
        return _join("def", *parts)

    def _keywords(self, function: types.FunctionType) -> bytes:
        items = sorted((function.__kwdefaults__ or {}).items())
        return _join("keywords", *(part for name, value in items for part in (name, self._value(value))))

    def _cells(self, function: types.FunctionType) -> list[bytes]:
        found = []
        assigned = () if self._strict or self._has_data else _assigned(function.__code__)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:
                found.append(b"empty")
                continue
            found.append(b"assigned" if name in assigned else self._value(value))
        return found

    def _class(self, cls: type) -> bytes:
        self._under_way.add(id(cls))
        kind = type(cls)
        parts: list[Any] = [kind.__qualname__]
        if is_made_by_program(kind) and id(kind) not in self._under_way:
            parts.append(self._class(kind))
        for base in cls.__bases__:
            parts += (main_named(base.__module__), base.__qualname__)
            if is_made_by_program(base) and id(base) not in self._under_way:
                parts.append(self._class(base))
        if issubclass(type(cls), enum.EnumMeta):
            members: Any = cls.__members__  # type: ignore[attr-defined]
            for name, member in members.items():
                parts += (name, self._value(getattr(member, "_value_", None)))
        slots = cls.__dict__.get("__slots__", ())
        parts.append(_join(*((slots,) if isinstance(slots, str) else sorted(map(str, slots)))))
        for name in sorted(cls.__dict__):
            value = cls.__dict__[name]
            if isinstance(value, type) and self._is_part(value, cls, name):
                parts += (name, self._class(value))
            elif name not in _VOLATILE and (
                _is_code(value) or (self._has_data and name not in _OF_EVERY_CLASS)
            ):
                parts += (name, self._value(value))
        return _join("type", *parts)

    def _is_part(self, inner: type, cls: type, name: str) -> bool:
        """Whether the class was defined in the other one, under that name."""
        is_defined_there = (
            inner.__qualname__ == f"{cls.__qualname__}.{name}" and id(inner) not in self._under_way
        )
        return is_defined_there and main_named(inner.__module__) == main_named(cls.__module__)


#: Modules whose objects classes are made of: descriptors, fields of dataclasses and the like.
_MAKERS = frozenset(
    (
        "_abc",
        "_collections",
        "abc",
        "builtins",
        "collections",
        "dataclasses",
        "enum",
        "functools",
        "types",
        "typing",
    )
)
#: What says nothing of how a class differs from another one.
_OF_EVERY_CLASS = frozenset(
    (
        *("__abstractmethods__", "__annotations__", "__annotations_cache__", "__dict__"),
        *(
            "__firstlineno__",
            "__module__",
            "__orig_bases__",
            "__parameters__",
            "__qualname__",
            "__slotnames__",
        ),
        *("__slots__", "__static_attributes__", "__weakref__", "_abc_impl"),
    )
)
#: What the interpreter or a metaclass puts into a class at some time or other.
_VOLATILE = frozenset({"__annotate__", "__annotate_func__", "__subclasshook__"})


def _is_code(value: Any) -> bool:
    if type(value) is types.FunctionType:
        # What `typing` puts into protocols it also takes out again.
        return value.__module__ != "typing"
    return type(value) in _HOLDERS or issubclass(type(value), type)


def is_made_by_program(cls: type) -> bool:
    """Whether it may differ from process to process under its name."""
    return main_named(cls.__module__) == "__main__" or "<locals>" in cls.__qualname__


def _name(obj: Any) -> str:
    return f"{main_named(getattr(obj, '__module__', None))}:{getattr(obj, '__qualname__', '')}"


def _atom(value: Any) -> bytes:
    if type(value) is float or type(value) is complex:
        return _join(type(value).__name__, repr(value))
    if type(value) is bytes:
        return _join("bytes", value)
    text = value if type(value) is str else repr(value)
    return _join(type(value).__name__, text)


def _join(*parts: Any) -> bytes:
    digest = blake2b(digest_size=_SIZE)
    for part in parts:
        data = part if type(part) is bytes else str(part).encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.digest()


_of_codes: weakref.WeakKeyDictionary[types.CodeType, bytes] = weakref.WeakKeyDictionary()


def code_digest(code: types.CodeType) -> bytes:
    """Of what it does, and the names that it does it to; not where it was written."""
    known = _of_codes.get(code)
    if known is None:
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        constants = _join(*map(_constant, code.co_consts))
        parts = (code.co_name, counts, code.co_code, names, constants, code.co_exceptiontable)
        _of_codes[code] = known = _join("code", *parts)
    return known


def _constant(value: Any) -> bytes:
    if type(value) is types.CodeType:
        return code_digest(value)
    if type(value) is tuple:
        return _join("tuple", *map(_constant, value))
    if type(value) is frozenset:
        return _join("set", *sorted(map(_constant, value)))
    return _atom(value)


_assigns: weakref.WeakKeyDictionary[types.CodeType, frozenset[str]] = weakref.WeakKeyDictionary()


def _assigned(code: types.CodeType) -> frozenset[str]:
    """The variables of enclosing functions that it assigns: counters and the like."""
    known = _assigns.get(code)
    if known is None:
        free = set(code.co_freevars)
        known = frozenset(
            step.argval
            for step in dis.get_instructions(code)
            if step.opname in ("STORE_DEREF", "DELETE_DEREF") and step.argval in free
        )
        for constant in code.co_consts:
            if type(constant) is types.CodeType:
                known |= _assigned(constant) & free
        _assigns[code] = known
    return known


def _token_of(cls: type) -> bytes | None:
    identities: Any = sys.modules.get("manyhands._identities")
    return identities.token_if_known(cls) if identities is not None else None


def registered_with(cls: Any) -> frozenset[int]:
    """The identities of the classes that are registered with an abstract one."""
    dump: Any = vars(abc)["_get_dump"]
    return frozenset(id(each()) for each in dump(cls)[0])
