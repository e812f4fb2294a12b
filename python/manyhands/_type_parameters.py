"""Type variables, `typing.NewType` and what ``type X = ...`` makes, by value. Used by `_by_value`.

Each has a token as classes have (`_identities`): two type variables of one name are two in the receiver, and the way
back meets the first. One of the main module's goes by its name where the receiver has that module. What the syntax of
Python 3.12 makes is evaluated when somebody asks, and may refer to itself: it is made anew so that it asks for its
values later, and these come behind it in the message.
"""

from __future__ import annotations

import keyword
import sys
import typing
from typing import Any, NamedTuple

from . import _brought, _fingerprints, _found_by_name, _identities, _pickler

__all__ = ["KINDS", "reduce"]

_Alias: Any = getattr(typing, "TypeAliasType", None)
KINDS = frozenset(
    kind
    for kind in (typing.TypeVar, typing.ParamSpec, typing.TypeVarTuple, typing.NewType, _Alias)
    if kind is not None
)
#: Whether a ``type`` statement can be given parameters that are there, in place of the `None` that it is compiled with.
#: Where not (3.15), one with parameters that refers to itself cannot be sent.
_TAKES_PARAMETERS = _Alias is not None and None in compile("type X = 0", "<type>", "exec").co_consts
#: By this name the syntax finds the values.
_VALUES = "_manyhands_values"
_FUNCTION = "_manyhands_function"


class _Said(NamedTuple):
    """What a message says first."""

    tokens: tuple[bytes, ...]
    kind: Any
    module: str | None
    name: str
    #: Whether the sender has it under that name.
    is_named: bool
    #: In words, what comes later: by these a receiver knows its own of the name.
    words: str | None
    #: What the constructor is called with; of what asks later, how many constraints, whether there are a bound and a
    #: default; of an alias that asks later, its type parameters.
    made_of: Any
    is_lazy: bool


# --- in the sender ---


def reduce(variable: Any, tells_all: bool) -> Any:
    """For a pickler; without ``tells_all`` what it refers to stays behind, for another pickle to tell."""
    name, module = variable.__name__, _fingerprints.main_named(variable.__module__)
    found = vars(sys.modules[variable.__module__]).get(name) if variable.__module__ in sys.modules else None
    if found is variable and (module != "__main__" or not _by_value_in_main(name)):
        return str(name)
    is_lazy = _is_lazy(variable)
    values = _values_of(variable) if is_lazy else {}
    made_of = _shape_of(variable, values) if is_lazy else _arguments_of(variable)
    words = _words_for(variable, values) if is_lazy and found is variable else None
    said = _Said(
        _identities.tokens_of(variable),
        type(variable),
        module,
        name,
        found is variable,
        words,
        made_of,
        is_lazy,
    )
    if not values or not tells_all:
        return _make, tuple(said)
    return _make, tuple(said), values, None, None, _complete


def _by_value_in_main(name: str) -> bool:
    return _pickler.main_by_value() or name in _pickler.names_below()


def _is_lazy(variable: Any) -> bool:
    """Whether it is made by syntax, as far as can be told."""
    if not (variable.__name__.isidentifier() and not keyword.iskeyword(variable.__name__)):
        return False
    if type(variable) is _Alias:
        return _TAKES_PARAMETERS or not variable.__type_params__
    has_variance = type(variable) in (typing.TypeVar, typing.ParamSpec)
    return has_variance and getattr(variable, "__infer_variance__", False)


def _values_of(variable: Any) -> dict[str, Any]:
    if type(variable) is _Alias:
        return {"value": variable.__value__}
    values: dict[str, Any] = {}
    if getattr(variable, "__constraints__", ()):
        values["constraints"] = variable.__constraints__
    elif variable.__bound__ is not None:
        values["bound"] = variable.__bound__
    if _has_default(variable):
        values["default"] = variable.__default__
    return values


def _has_default(variable: Any) -> bool:
    return hasattr(variable, "has_default") and variable.has_default()


def _shape_of(variable: Any, values: dict[str, Any]) -> Any:
    if type(variable) is _Alias:
        return variable.__type_params__
    return len(values.get("constraints", ())), "bound" in values, "default" in values


def _words_for(variable: Any, values: dict[str, Any]) -> str | None:
    try:
        return repr((values, [type(each) for each in getattr(variable, "__type_params__", ())]))
    except Exception:
        # What the program refers to shows itself as it likes.
        return None


def _arguments_of(variable: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Those of the constructor, but for the name."""
    kind = type(variable)
    if kind is typing.NewType:
        return (variable.__supertype__,), {}
    if kind is _Alias:
        return (variable.__value__,), {"type_params": variable.__type_params__}
    named = {"default": variable.__default__} if _has_default(variable) else {}
    if kind is typing.TypeVarTuple:
        return (), named
    for key in ("bound", "covariant", "contravariant", "infer_variance"):
        value = getattr(variable, f"__{key}__", None)
        if value:
            named[key] = value
    return getattr(variable, "__constraints__", ()), named


# --- in the receiver ---


def _make(*parts: Any) -> Any:
    said = _Said._make(parts)
    found = _identities.known_by(said.tokens)
    if found is None:
        found = _own(said) or _create(said)
    if said.is_named and said.module == "__main__":
        _brought.bring({said.name: (found, None)})
    return found


def _own(said: _Said) -> Any:
    """This process's own of that name in the main module, if it says the same."""
    own = (
        _found_by_name.main_globals().get(said.name) if said.is_named and said.module == "__main__" else None
    )
    if type(own) is not said.kind or _is_lazy(own) != said.is_lazy:
        return None
    if _identities.is_another(own, said.tokens):
        return None
    try:
        if said.is_lazy:
            is_same = said.words is not None and said.words == _words_for(own, _values_of(own))
        else:
            is_same = _arguments_of(own) == said.made_of
    except Exception:
        # It refers to what is not there.
        return None
    return _identities.note_variable(own, said.tokens, is_own=True) if is_same else None


def _create(said: _Said) -> Any:
    if not said.is_lazy:
        arguments, named = said.made_of
        made = said.kind(said.name, *arguments, **named)
        if said.kind is not _Alias:
            made.__module__ = said.module
        return _identities.note_variable(made, said.tokens)
    if not said.name.isidentifier():
        raise ValueError(f"no type parameter is called {said.name!r}")
    values: dict[str, Any] = {}
    names = {"__name__": said.module, _VALUES: values}
    made = _create_alias(said, names) if said.kind is _Alias else _create_variable(said, names)
    return _identities.note_variable(made, said.tokens, values)


def _create_alias(said: _Said, names: dict[str, Any]) -> Any:
    code = compile(f"type {said.name} = {_VALUES}['value']", "<type>", "exec")
    if said.made_of:
        constants = (said.made_of if each is None else each for each in code.co_consts)
        code = code.replace(co_consts=tuple(constants))
    exec(code, names)
    return names[said.name]


def _create_variable(said: _Said, names: dict[str, Any]) -> Any:
    constraints, has_bound, has_default = said.made_of
    text = said.name if said.kind is typing.TypeVar else f"**{said.name}"
    if constraints:
        text += (
            ": (" + "".join(f"{_VALUES}['constraints'][{number}], " for number in range(constraints)) + ")"
        )
    elif has_bound and said.kind is typing.TypeVar:
        text += f": {_VALUES}['bound']"
    if has_default:
        text += f" = {_VALUES}['default']"
    exec(compile(f"def {_FUNCTION}[{text}](): pass", "<type>", "exec"), names)
    made: Any = names[_FUNCTION].__type_params__[0]
    made.__module__ = said.module
    return made


def _complete(variable: Any, values: dict[str, Any]) -> None:
    record = _identities.record_of(variable)
    if not record.is_complete:
        record.body.update(values)
        record.is_complete = True
