"""Whether a receiver finds a function, a class or a module by its name. Used by `_by_value`."""

from __future__ import annotations

import sys
import types
from typing import Any

import cloudpickle

from . import _pickler

__all__ = ["has_no_name", "main_globals", "module_of"]

_MAIN = ("__main__", "__mp_main__")


def has_no_name(obj: Any) -> bool:
    """Whether the receiver may not find the function or class by its name."""
    if obj.__module__ in _MAIN:
        return not _main_has(obj)
    found = cloudpickle.cloudpickle._lookup_module_and_qualname(obj)
    return found is None or cloudpickle.cloudpickle._is_registered_pickle_by_value(found[0])


def _main_has(obj: Any) -> bool:
    """Whether it is a named thing of the main module, and the receiver has that module."""
    if _pickler.main_by_value() or obj.__qualname__.partition(".")[0] in _pickler.names_below():
        return False
    found: Any = sys.modules.get(obj.__module__)
    for name in obj.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is obj


def module_of(function: types.FunctionType) -> str | None:
    """The module whose globals are the function's, if the receiver has it under the same name."""
    name = function.__globals__.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    if name is None or module is None:
        return None
    if name in _MAIN:
        return "__main__" if function.__globals__ is main_globals() else None
    if vars(module) is not function.__globals__:
        return None
    return name if name not in cloudpickle.list_registry_pickle_by_value() and _is_found(name) else None


def _is_found(name: str) -> bool:
    """Whether an import of that name, elsewhere, finds the module that has it here."""
    known = _found.get(name)
    if known is None or known[0] is not sys.modules[name]:
        _found[name] = known = (sys.modules[name], _find(name))
    return known[1]


_found: dict[str, tuple[types.ModuleType, bool]] = {}


def _find(name: str) -> bool:
    package = name.rpartition(".")[0]
    if package and (package not in sys.modules or not _is_found(package)):
        return False
    path = getattr(sys.modules[package], "__path__", None) if package else None
    here = getattr(sys.modules[name], "__spec__", None)
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        there = find(name, path) if find is not None else None
        if there is not None:
            return here is not None and there.origin == here.origin
    return False


def main_globals() -> dict[str, Any]:
    """The globals of the main module's functions; in some children, those of what `runpy` ran and not the module's."""
    main = vars(sys.modules["__main__"])
    if main.get("__name__") == "__mp_main__":
        for value in list(main.values()):
            if isinstance(value, types.FunctionType) and value.__globals__.get("__name__") == "__mp_main__":
                return value.__globals__
    return main
