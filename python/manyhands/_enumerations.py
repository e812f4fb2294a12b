"""Enumerations by value: the class with its members, none of which is made by the program's code a second time.

`enum` makes members by calling ``__new__`` and ``__init__`` with what the class's body said, which is not known any
more; a name for a member that there is already (an *alias*) and one for several flags are no members of their own. So
the receiver makes the class with a ``__new__`` of ours, to which each name is a number, and gives the members their
values and attributes.
"""

from __future__ import annotations

import enum
from typing import Any

import cloudpickle

__all__ = ["attributes", "give", "is_one", "make", "parts", "set_state", "state"]

#: What the metaclass gives each member.
_OF_EVERY_MEMBER = ("_value_", "_name_", "__objclass__", "_sort_order_")
#: What the metaclass gives the class.
_OF_EVERY_CLASS = (
    "_member_names_",
    "_member_map_",
    "_member_type_",
    "_value2member_map_",
    "_unhashable_values_",
)
#: What newer ones give it besides.
_OF_NEWER = ("_hashable_values_", "_unhashable_values_map_", "_generate_next_value_")


def is_one(cls: type) -> bool:
    """Whether it is an enumeration with members, or one to derive others from."""
    return issubclass(type(cls), enum.EnumMeta)


# --- in the sender ---


def parts(cls: Any, module: Any) -> tuple[Any, ...]:
    """What `make` needs."""
    members = [(name, member._value_, _of_data_type(cls, member)) for name, member in cls.__members__.items()]
    return type(cls), cls.__name__, cls.__bases__, cls.__qualname__, module, members


def _of_data_type(cls: Any, member: Any) -> tuple[Any, ...]:
    """What the data type, such as `int`, makes the member of."""
    if cls._member_type_ is object:
        return ()
    _make, arguments, *_ = cls._member_type_.__reduce_ex__(member, 2)
    return tuple(arguments[1:] if arguments and arguments[0] is cls else arguments)


def state(cls: Any, names: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is set on it and on its members then; ``names`` is what it has as any class."""
    for name in (*_OF_EVERY_CLASS, *_OF_NEWER, *cls.__members__):
        names.pop(name, None)
    if "_generate_next_value_" in vars(cls):
        names["_generate_next_value_"] = vars(cls)["_generate_next_value_"]
    return names, {
        name: attributes(member) for name, member in cls._member_map_.items() if name == member._name_
    }


def attributes(member: Any) -> dict[str, Any]:
    """Those that the program has given it."""
    return {name: value for name, value in vars(member).items() if name not in _OF_EVERY_MEMBER}


# --- in the receiver ---


def give(member: Any, has: dict[str, Any]) -> None:
    """The program's attributes, and no others; those that are the same already stay the objects that they are."""
    own = attributes(member)
    for name in own.keys() - has.keys():
        del vars(member)[name]
    for name, value in has.items():
        if name not in own or not _are_same(own[name], value):
            vars(member)[name] = value


def _are_same(one: Any, other: Any) -> bool:
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:
        # They compare themselves as they like; arrays do not say.
        return False


def make(kind: Any, name: str, bases: Any, qualname: str, module: str, members: list[Any]) -> Any:
    """The class, with its members and nothing else."""
    if not members:
        return kind(name, bases, _namespace(kind, name, bases, qualname, module))
    names = _namespace(kind, name, bases, qualname, module)

    def new(cls: Any, number: Any) -> Any:
        # Those of a data type that is a tuple's.
        _name, value, made_of = members[number[0] if isinstance(number, tuple) else number]
        data_type = cls._member_type_
        made = (data_type if data_type is not object else object).__new__(cls, *made_of)
        made._value_ = value
        return made

    names["__new__"] = new
    names["__init__"] = lambda _self, *_arguments: None
    for number, (each, _value, _made_of) in enumerate(members):
        names[each] = number
    cls = kind(name, bases, names)
    del cls.__init__
    return cls


def _namespace(kind: Any, name: str, bases: Any, qualname: str, module: str) -> Any:
    names = kind.__prepare__(name, bases)
    names["__module__"], names["__qualname__"] = module, qualname
    return names


def set_state(cls: Any, state: Any) -> None:
    """What `state` has found."""
    names, members = state
    names = dict(names)
    for name in ("__new__", "__new_member__", "_new_member_"):
        # Not by the metaclass, which sees a member in each.
        if name in names:
            type.__setattr__(cls, name, names.pop(name))
    cloudpickle.cloudpickle._class_setstate(cls, (names, {}))
    for name, has in members.items():
        vars(cls._member_map_[name]).update(has)
