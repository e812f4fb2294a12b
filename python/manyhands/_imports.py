"""What follows a module's own execution: hooks that run at its end, before its importer gets a name of it.

A finder, first in ``sys.meta_path``, has the other finders find a module that somebody waits for, and lets the module's
own loader execute it. So no order of imports hands out a name before the hooks have run, and a module that nobody
imports costs nothing. `_install` and `_child` use it; it imports nothing.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    Hook = Callable[[ModuleType], object]

__all__ = ["drop", "executed", "is_executed", "when_executed"]

#: By the modules' names. They stay: a module that is reloaded is executed again.
_hooks: dict[str, list[Hook]] = {}
#: Modules whose bodies were running, in the thread that asked, when a hook was wanted; and the hook.
_unfinished: list[tuple[ModuleType, Hook]] = []


def when_executed(name: str, hook: Hook) -> None:
    """Call ``hook(module)`` each time the module of that name has been executed; now, if it has been."""
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    _hooks.setdefault(name, []).append(hook)
    module = sys.modules.get(name)
    if module is None or _is_put_off(module):
        return
    if _is_under_way(module):
        # Another thread's import is waited for; this thread's own cannot be.
        __import__(name)
        if _is_under_way(module):
            _unfinished.append((module, hook))
            return
    hook(module)


def drop(hook: Hook) -> None:
    """Call it no more."""
    for name, hooks in list(_hooks.items()):
        hooks[:] = [other for other in hooks if other is not hook]
        if not hooks:
            del _hooks[name]
    _unfinished[:] = [pair for pair in _unfinished if pair[1] is not hook]
    if not _hooks and _finder in sys.meta_path:
        sys.meta_path.remove(_finder)


def executed(module: ModuleType) -> None:
    """The code that has executed a module calls this."""
    for hook in list(_hooks.get(module.__name__, ())):
        hook(module)


def is_executed(name: str) -> bool:
    """Whether the module is there, and its body has run."""
    module = sys.modules.get(name)
    return module is not None and not _is_put_off(module) and not _is_under_way(module)


def _is_put_off(module: ModuleType) -> bool:
    """Whether `_lazy` has put it there without running its body."""
    return hasattr(type(getattr(vars(module).get("__getattr__"), "__self__", None)), "runs_body_of_a_module")


def _is_under_way(module: ModuleType) -> bool:
    return bool(getattr(vars(module).get("__spec__"), "_initializing", False))


class _Finder:
    """Finds, by the other finders, the modules that have hooks."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if _unfinished:
            self._finish()
        if name not in _hooks:
            return None
        for finder in list(sys.meta_path):
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = None if find is None else find(name, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader)
                return spec
        return None

    @staticmethod
    def _finish() -> None:
        for pair in list(_unfinished):
            if not _is_under_way(pair[0]) and pair in _unfinished:
                _unfinished.remove(pair)
                pair[1](pair[0])


class _Loader:
    """A module's loader, until it executes the module: then it has its own again."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        spec.loader = self._loader
        try:
            create = getattr(self._loader, "create_module", None)
            return None if create is None else create(spec)
        finally:
            spec.loader = self

    def exec_module(self, module: Any) -> None:
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        executed(module)


_finder: Any = _Finder()
