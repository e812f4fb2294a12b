"""Functions and classes by value, through cloudpickle. Imported only when there is something that has no name.

What differs from cloudpickle: a function that travels by value works on the globals of its module in the receiving
process, as one that travels by name does, and not on a copy of its own; classes and functions of the main module go
by name where the receiver has that module; and reducers registered with the standard library's `ForkingPickler` hold
inside.
"""

from __future__ import annotations

import copyreg
import importlib
import sys
import types
import weakref
from typing import Any

import cloudpickle

from . import _descriptors, _pickler
from ._manyhands import Sink

__all__ = ["dump_into"]

_MAIN = ("__main__", "__mp_main__")


def dump_into(obj: object, sink: Sink) -> None:
    """As `_pickler.dump_into`, functions and classes without a name by value. The sink is empty."""
    noted = _descriptors.Noted.by_name(obj)
    noted.forget()
    pickler = _Pickler(sink)
    try:
        pickler.dump(obj)
    except Exception:
        pickler.clear_memo()
        noted.forget()
        if not pickler.has_sent_globals or _pickler.main_by_value():
            raise
        # The receiver's main module has its own of what is named there: locks, connections and the like may stay
        # behind.
        sink.clear()
        _Pickler(sink, _Sendable()).dump(obj)


class _Reducers:
    """The reducers in force: `ForkingPickler`'s, cloudpickle's, `copyreg`'s, and `own`."""

    def __init__(self, own: dict[type, Any]) -> None:
        self._own = own

    def __getitem__(self, cls: type) -> Any:
        # The standard library's way with methods looks them up by name, which need not be there.
        if cls is not types.MethodType:
            reducer = _pickler.registered(cls)
            if reducer is not None:
                return reducer
        reducer = cloudpickle.Pickler.dispatch_table.get(cls)
        return self._own[cls] if reducer is None else reducer


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, sink: Sink, sendable: _Sendable | None = None) -> None:
        self.dispatch_table = _Reducers({} if sink.is_standard else _pickler.own_reducers)
        super().__init__(sink, buffer_callback=sink.keep)
        self._sendable = sendable
        #: Whether values of the main module's globals went along with a function.
        self.has_sent_globals = False

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type):
            reducer = _pickler.registered(type(obj)) or copyreg.dispatch_table.get(type(obj))
            if reducer is not None:
                return reducer(obj)
        elif not isinstance(obj, types.FunctionType):
            return NotImplemented
        if _main_has(obj):
            return NotImplemented
        reduced = super().reducer_override(obj)
        # What is not reduced with a state of its own goes by name.
        if not isinstance(reduced, tuple) or len(reduced) != 6:
            return reduced
        return _as_made_here(obj, reduced) if isinstance(obj, type) else self._on_its_module(obj, reduced)

    def _on_its_module(self, function: types.FunctionType, reduced: Any) -> Any:
        """cloudpickle's reduction, changed so that the function gets its module's globals and not a copy."""
        make, (code, _copied, *rest), (state, slots), *unused, set_state = reduced
        used = slots["__globals__"]
        module = _module_of(function)
        if module is None or (not used and module not in _MAIN):
            # A function that uses nothing of its module does not have it imported.
            return reduced
        if module not in _MAIN:
            used = {}
        elif self._sendable is not None:
            used = {name: value for name, value in used.items() if self._sendable.is_sendable(value)}
        self.has_sent_globals |= bool(used)
        slots = {**slots, "__globals__": {}}
        arguments = (make, module, code, *rest)
        return (_make_function, arguments, (set_state, (state, slots), used), *unused, _set_state)


def _as_made_here(cls: type, reduced: Any) -> Any:
    """cloudpickle's reduction, changed so that a class that comes back does not overwrite the one that it was."""
    if cls not in _received:
        _own.add(cls)
    *made, state, lists, dicts, set_state = reduced
    return (*made, (set_state, state), lists, dicts, _set_class_state)


#: Classes of this process's that it has sent by value, and classes that it has got so.
_own: weakref.WeakSet[type] = weakref.WeakSet()
_received: weakref.WeakSet[type] = weakref.WeakSet()


class _Sendable:
    """Which values can be pickled, each asked once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, bool]] = {}

    def is_sendable(self, value: object) -> bool:
        if id(value) not in self._known:
            # A function may use itself; the value is kept so that its identity stays its own.
            self._known[id(value)] = (value, True)
            noted, pickler = _descriptors.Noted(), _Pickler(Sink(True), self)
            try:
                pickler.dump(value)
            except Exception:
                self._known[id(value)] = (value, False)
            pickler.clear_memo()
            noted.forget()
        return self._known[id(value)][1]


def _main_has(obj: Any) -> bool:
    """Whether it is a named thing of the main module, and the receiver has that module."""
    module = getattr(obj, "__module__", None)
    if module not in _MAIN or _pickler.main_by_value():
        return False
    if obj.__qualname__.partition(".")[0] in _pickler.names_below():
        return False
    found: Any = sys.modules.get(module)
    for name in obj.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is obj


def _module_of(function: types.FunctionType) -> str | None:
    """The module whose globals are the function's, if the receiver has it under the same name."""
    name = function.__globals__.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    if name is None or module is None:
        return None
    if name in _MAIN:
        return "__main__" if function.__globals__ is _main_globals() else None
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


def _main_globals() -> dict[str, Any]:
    """The globals of the main module's functions; in some children, those of what `runpy` ran and not the module's."""
    main = vars(sys.modules["__main__"])
    if main.get("__name__") == "__mp_main__":
        for value in list(main.values()):
            if isinstance(value, types.FunctionType) and value.__globals__.get("__name__") == "__mp_main__":
                return value.__globals__
    return main


# --- in the receiving process ---


def _make_function(make: Any, module: str, code: types.CodeType, *rest: Any) -> Any:
    where = _main_globals() if module == "__main__" else vars(importlib.import_module(module))
    return make(code, where, *rest)


def _set_state(function: types.FunctionType, state: Any) -> None:
    set_state, own, used = state
    _bring(function.__globals__, used)
    set_state(function, own)


def _set_class_state(cls: type, state: Any) -> None:
    set_state, own = state
    if cls not in _own:
        _received.add(cls)
        set_state(cls, own)


#: The main module's globals that came with functions.
_brought: dict[str, object] = {}


def _bring(main: dict[str, Any], used: dict[str, Any]) -> None:
    """Names that this main module does not have, or has from an earlier function and has not changed since."""
    nothing = object()
    for name, value in used.items():
        before = main.get(name, nothing)
        if before is nothing or (name in _brought and before is _brought[name]):
            main[name] = _brought[name] = value
