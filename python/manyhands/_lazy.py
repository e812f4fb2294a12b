"""Modules whose bodies run when somebody first asks them for a name.

A spawned child needs few of the standard library's modules, but the few import others: most of the time to start one
would go into modules that its job never looks into. Here such a module is put into ``sys.modules`` without running its
body; the first name that is asked of it runs the body, as its import would have.
"""

from __future__ import annotations

import _thread
import sys
from _frozen_importlib_external import PathFinder

from . import _imports

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any


def put(name: str, found: Callable[[str], Any] | None = None) -> ModuleType | None:
    """Put a module into ``sys.modules`` without running its body; ``None`` when it is there or cannot be found.

    Args:
        name: the module's; the package that it is in must be there.
        found: what to answer for a name without running the body; raises `KeyError` where it knows of nothing.
    """
    package = sys.modules.get(name.rpartition(".")[0])
    folders = None if package is None else package.__path__
    spec = None if name in sys.modules else PathFinder.find_spec(name, folders)
    if spec is None or spec.loader is None:
        return None
    module: ModuleType = type(sys)(name)
    vars(module).update(__spec__=spec, __loader__=spec.loader, __file__=spec.origin, __cached__=spec.cached)
    vars(module)["__package__"] = spec.parent
    if spec.submodule_search_locations is not None:
        vars(module)["__path__"] = spec.submodule_search_locations
    _Body(module, spec.loader, found or _nothing)
    sys.modules[name] = module
    if package is not None:
        setattr(package, name.rpartition(".")[2], module)
    return module


def load(name: str) -> None:
    """Run the module's body now, if it has not run."""
    body = getattr(vars(sys.modules[name]).get("__getattr__"), "__self__", None)
    if isinstance(body, _Body):
        body.load()


def _nothing(name: str) -> object:
    raise KeyError(name)


class _Body:
    """What stands in for the body of a module until it has run."""

    #: `_imports` knows it by this.
    runs_body_of_a_module = True

    def __init__(self, module: ModuleType, loader: Any, found: Callable[[str], Any]) -> None:
        self._module = module
        self._loader = loader
        self._found = found
        self._running = False
        # Held while the body runs: another thread waits for it, as it would for an import.
        self._lock = _thread.RLock()
        vars(module).update(__getattr__=self.getattr, __dir__=self.dir)

    def getattr(self, name: str) -> Any:
        """The module's ``__getattr__``."""
        known = vars(self._module)
        if name not in known and (name == "__all__" or not (name[:2] == name[-2:] == "__")):
            try:
                return self._found(name)
            except KeyError:
                self.load()
        if name in known:
            return known[name]
        raise AttributeError(f"module {self._module.__name__!r} has no attribute {name!r}")

    def dir(self) -> list[str]:
        """The module's ``__dir__``."""
        self.load()
        return sorted(vars(self._module))

    def load(self) -> None:
        """Run the body, if it has not run."""
        with self._lock:
            # Its own thread may come by again while it runs: what is not there yet is not there.
            if self._running or not self._stands_in():
                return
            self._running = True
            try:
                self._loader.exec_module(self._module)
            finally:
                self._running = False
            for name in ("__getattr__", "__dir__"):
                if getattr(vars(self._module).get(name), "__self__", None) is self:
                    del vars(self._module)[name]
            _imports.executed(self._module)

    def _stands_in(self) -> bool:
        return getattr(vars(self._module).get("__getattr__"), "__self__", None) is self
