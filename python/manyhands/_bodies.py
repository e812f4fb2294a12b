"""What a class that travels by value is made of, apart from the messages that name it.

Used by `_by_value`. A body is pickled once, and again when the class has changed; it lies in the family's memory, so
that a message has a reference to it in place of it, and a process reads it that lacks the class. Two pickles behind one
another: how the class is made, and what is set on it then. Other classes that travel by value are not in it but beside
it, in the message, by number: so a class is sent once however many refer to it, and classes may refer to each other.
"""

from __future__ import annotations

import abc
import io
import types
import typing
import weakref
from _blake2 import blake2b
from _pickle import Unpickler
from typing import Any

from . import _enumerations, _fingerprints, _identities
from ._manyhands import Block

__all__ = ["Body", "bases_of", "look", "made_of", "put_bases_on", "put_members_on", "put_on", "state_of"]

#: A shorter one goes with each message.
_SHORT = 256


class Body:
    """A class as it was sent last."""

    def __init__(
        self, pickles: list[bytes], beside: list[list[Any]], names: tuple[str, ...], fingerprint: bytes
    ) -> None:
        made, put = pickles
        self.pickles = len(made).to_bytes(4, "little") + made + put
        # In the pickles, the classes beside them are but numbers.
        which = [next(iter(_identities.record_of(each).tokens)) for some in beside for each in some]
        self.version = blake2b(b"".join((self.pickles, *which)), digest_size=8).digest()
        self._beside = tuple([weakref.ref(each) for each in some] for some in beside)
        #: Names of the main module that its functions use.
        self.names = names
        self.fingerprint = fingerprint
        self.block: Block | None = None

    def beside(self) -> tuple[list[Any], list[Any]] | None:
        """The classes that its pickles name by number; ``None`` if one is gone."""
        made, put = ([each() for each in some] for some in self._beside)
        return None if None in made or None in put else (made, put)

    def sent(self, carries: bool) -> bytes | Block:
        """What goes into a message: a reference to the bytes where a message carries such."""
        if not carries or len(self.pickles) < _SHORT:
            return self.pickles
        if self.block is None:
            block = Block.unset(len(self.pickles))
            memoryview(block)[:] = self.pickles
            self.block = block
        return self.block


# --- in the sender ---

#: The interpreter puts them on each class, and `abc` what it keeps of its answers.
_OF_THE_RECEIVERS_OWN = (
    "__dict__",
    "__weakref__",
    "__slotnames__",
    "__annotate_func__",
    "_abc_cache",
    "_abc_negative_cache",
    "_abc_negative_cache_version",
    "_abc_registry",
    "_abc_impl",
)


def state_of(cls: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What cloudpickle sets on a class when it is made. It leaves out all that is identical in a base; but a number or
    a function that is the same in both need not stay so in the base, nor is the base always the next one to be asked.
    """
    names = {
        # Not interned: cloudpickle says why.
        "".join(name): value
        for name, value in sorted(vars(cls).items())
        if name not in _OF_THE_RECEIVERS_OWN
        and not _is_slot_of(cls, name, value)
        and not (_is_inherited(cls, name, value) and not _is_seen(value))
    }
    if issubclass(type(cls), abc.ABCMeta):
        names["_abc_impl"] = [registered() for registered in abc._get_dump(cls)[0]]  # type: ignore[attr-defined]
    return names, {}


def _is_slot_of(cls: Any, name: str, value: Any) -> bool:
    return type(value) is types.MemberDescriptorType and value.__objclass__ is cls and value.__name__ == name


def _is_inherited(cls: Any, name: str, value: Any) -> bool:
    for base in cls.__mro__[1:]:
        if name in vars(base):
            return vars(base)[name] is value
    return False


def _is_seen(value: Any) -> bool:
    """Whether it can be sent twice. Otherwise it is left out: what can change is shared with the base; the class that
    has it is looked at anew for each message.
    """
    try:
        return type(value) in _OF_BUILTIN_TYPES or _look_of(value) is not None
    except _Unknown:
        return False


#: Named by the type that has them, and never changed.
_OF_BUILTIN_TYPES = (
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)


# --- in the receiver ---

#: The interpreter lets none delete them from a class.
_NEVER_DELETED = frozenset(vars(type)) | {"__weakref__", "__slots__"}


def made_of(body: bytes | Block, beside: list[Any]) -> tuple[Any, tuple[Any, ...]]:
    """What to call for the class, without what is set on it, and with what."""
    data = bytes(body)
    make, arguments = _Reader(data[4 : 4 + int.from_bytes(data[:4], "little")], None, beside).load()
    return make, arguments


def put_on(cls: Any, body: bytes | Block, beside: list[Any], before: frozenset[Any]) -> frozenset[Any]:
    """Sets on the class all that it has, and takes away what it had ``before``; the names of what it has."""
    set_state, state = _put_of(cls, body, beside)
    names = _names_in(state)
    for name in before - names - _NEVER_DELETED:
        if isinstance(name, tuple):
            member, attribute = name
            vars(cls._member_map_[member]).pop(attribute, None)
        elif name in vars(cls):
            delattr(cls, name)
    set_state(cls, state)
    return names


def put_members_on(cls: Any, body: bytes | Block, beside: list[Any]) -> frozenset[Any]:
    """Of what `put_on` sets, only what members of an enumeration have and this class's do not; all the names."""
    state = _put_of(cls, body, beside)[1]
    for name, has in state[1].items():
        _enumerations.give(cls._member_map_[name], has)
    return _names_in(state)


def _names_in(state: Any) -> frozenset[Any]:
    """Those of the class, and in pairs those of an enumeration's members."""
    names, members = state
    return frozenset(names).union((member, name) for member, has in members.items() for name in has)


def _put_of(cls: Any, body: bytes | Block, beside: list[Any]) -> Any:
    data = bytes(body)
    return _Reader(data[4 + int.from_bytes(data[:4], "little") :], cls, beside).load()


def put_bases_on(cls: Any, body: bytes | Block, beside: list[Any]) -> None:
    """The bases of a class that was made from an earlier body."""
    bases = bases_of(*made_of(body, beside))
    if bases is not None and cls.__bases__ != bases:
        cls.__bases__ = bases


def bases_of(_make: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """What they are in the class that is so made; ``None`` where the function that makes it says so."""
    bases = arguments[2]
    if typing.TypedDict in bases:
        return None
    return types.resolve_bases(bases) or (object,)


class _Reader(Unpickler):
    def __init__(self, data: bytes, cls: Any, beside: list[Any]) -> None:
        super().__init__(io.BytesIO(data))
        self._cls = cls
        self._beside = beside

    def persistent_load(self, number: int) -> Any:
        return self._cls if number < 0 else self._beside[number]


# --- whether a class has changed ---


class _Unknown(Exception):
    """There is something in it that can change without being seen."""


def look(cls: Any) -> Any:
    """How the class looks: equal to an earlier look if nothing on it was changed. ``None`` if that cannot be seen."""
    try:
        return _look_of_class(cls)
    except _Unknown:
        return None


def _look_of_class(cls: Any) -> tuple[Any, ...]:
    is_enum = _enumerations.is_one(cls)
    parts: list[Any] = [_weak(base) for base in cls.__bases__]
    for name, value in cls.__dict__.items():
        if name == "__slotnames__":
            continue
        parts.append(name)
        if name == "_abc_impl":
            parts.append(_fingerprints.registered_with(cls))
        elif is_enum and ((name.startswith("_") and name.endswith("_")) or type(value) is cls):
            # Set by the metaclass; the members themselves, whose values follow.
            parts.append(id(value))
        elif name.startswith("__") and type(value) in _PARTS_OF_DEFINITIONS:
            # Put there as a whole by what defines classes, and not changed afterwards.
            parts.append((id(value), len(value) if isinstance(value, (dict, tuple, frozenset)) else 0))
        else:
            parts.append(_look_of(value))
    if is_enum:
        for member in cls.__members__.values():
            parts += [_look_of(member._value_), _look_of(tuple(_enumerations.attributes(member).items()))]
    return tuple(parts)


_PARTS_OF_DEFINITIONS = (
    dict,
    tuple,
    frozenset,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.MappingProxyType,
)


def _look_of(value: Any) -> Any:
    kind = type(value)
    if kind in (type(None), bool, int, str, bytes):
        return (kind, value)
    if kind in (float, complex):
        return (kind, repr(value))
    if kind in (tuple, frozenset):
        return (kind, *map(_look_of, value)) if kind is tuple else (kind, frozenset(map(_look_of, value)))
    if kind is types.FunctionType:
        return _look_of_function(value)
    if issubclass(kind, type):
        return _weak(value)
    if kind in (
        types.MemberDescriptorType,
        types.GetSetDescriptorType,
        types.BuiltinFunctionType,
        types.ModuleType,
    ):
        return id(value)
    held = _fingerprints.wrapped_functions(value)
    if held and kind in (staticmethod, classmethod, property):
        return (kind, *map(_look_of, held))
    return _unknown()


def _look_of_function(function: types.FunctionType) -> Any:
    if (
        vars(function)
        and set(vars(function)) != {"__wrapped__"}
        and set(vars(function)) != {"__isabstractmethod__"}
    ):
        _unknown()
    keywords = tuple((function.__kwdefaults__ or {}).items())
    attributes = tuple(map(_look_of, vars(function).values()))
    cells = tuple(_look_of_cell(cell) for cell in function.__closure__ or ())
    defaults = _look_of(function.__defaults__)
    code = weakref.ref(function.__code__)
    return weakref.ref(function), _Same(code), defaults, _look_of(keywords), attributes, cells


def _look_of_cell(cell: Any) -> Any:
    try:
        value = cell.cell_contents
    except ValueError:
        return None
    return _look_of(value)


class _Same:
    """A weak reference that is compared by identity: code is equal to other code."""

    def __init__(self, ref: weakref.ref[Any]) -> None:
        self._ref = ref

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._ref() is other._ref() is not None

    def __hash__(self) -> int:
        return 1


def _weak(cls: Any) -> _Same:
    return _Same(weakref.ref(cls))


def _unknown() -> Any:
    raise _Unknown
