"""Which classes of the standard library's ours stand beside, and how ``isinstance`` learns of it.

A program may ask whether what we made is a ``multiprocessing.queues.Queue``, say. Our classes do not derive from the
standard library's where they are written: that would import its modules into every spawned child. Instead, as soon as
both exist in a process, the standard library's class becomes the *last* base of ours (`recognise`, `executed`). Nothing
is imported for that, nothing is said that is not so (``x.__class__`` is ``type(x)``), and subclasses of ours, whenever
they were made, inherit it.

Behind our own bases it lends only names that ours lack: what was added to it (``Pool.istarmap = ...``), and some of its
insides, which do not work on our objects. `tests/surface/test_recognised.py` holds us to having all others.
"""

from __future__ import annotations

import sys
from _thread import get_ident

TYPE_CHECKING = False  # as typing's, without importing it: a spawned child pays for each millisecond
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

__all__ = ["KIN", "executed", "reduce_ex"]

#: For each module of ours the standard library's, and the names that classes have in both.
KIN = {
    "process": ("multiprocessing.context", "Process ForkProcess SpawnProcess ForkServerProcess"),
    "queues": ("multiprocessing.queues", "Queue JoinableQueue SimpleQueue"),
    "synchronize": (
        "multiprocessing.synchronize",
        "Lock RLock Semaphore BoundedSemaphore Condition Event",
    ),
    "_barrier": ("multiprocessing.synchronize", "Barrier"),
    "pool": ("multiprocessing.pool", "Pool ApplyResult MapResult IMapIterator IMapUnorderedIterator"),
    "futures": ("concurrent.futures.process", "ProcessPoolExecutor"),
    # Written as subclasses; here for those who ask what stands beside what.
    "context": (
        "multiprocessing.context",
        "BaseContext ForkContext SpawnContext ForkServerContext DefaultContext",
    ),
    "connection": ("multiprocessing.connection", "Connection Listener"),
    "sharedctypes": (
        "multiprocessing.sharedctypes",
        "SynchronizedBase Synchronized SynchronizedArray SynchronizedString",
    ),
}


def recognise(ours: str) -> None:
    """A module of ours, of this short name, has all its classes: they get their bases now or when these exist."""
    theirs = KIN[ours][0]
    module = sys.modules.get(theirs)
    if module is not None:
        executed(module)
    _finder.await_(theirs)


def executed(module: ModuleType) -> None:
    """A module of the standard library's has its classes: ours of the same names that are there get them as bases."""
    for ours, (theirs, names) in KIN.items():
        if theirs == module.__name__ and f"{__package__}.{ours}" in sys.modules:
            known = vars(sys.modules[f"{__package__}.{ours}"])
            for name in names.split():
                # What has not run so far is not asked: the question would run it.
                if name in known and name in vars(module):
                    _join(known[name], vars(module)[name])


def _join(ours: type, theirs: type) -> None:
    if theirs in ours.__mro__:
        return
    bases = [base for base in ours.__bases__ if base not in theirs.__mro__]
    try:
        ours.__bases__ = (*bases, theirs)
    except TypeError:
        # A subclass with an order of bases of its own (a metaclass's) has no place for it. Nobody who imports a module
        # of the standard library's shall hear of that.
        pass


def reduce_ex(self: object, protocol: Any) -> Any:
    """The ``__reduce_ex__`` of classes with a base written in Rust, which pickle's first two protocols would call to
    have it copied."""
    return object.__reduce_ex__(self, max(protocol, 2))


class _Finder:
    """Tells of the end of a standard module's execution, if it comes after our module of the same subject."""

    def __init__(self) -> None:
        self._awaited: set[str] = set()
        #: What is being looked for: a finder that we ask may ask us.
        self._asked: set[tuple[str, int]] = set()

    def await_(self, name: str) -> None:
        self._awaited.add(name)
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        question = (name, get_ident())
        if name not in self._awaited or question in self._asked:
            return None
        self._asked.add(question)
        try:
            for finder in sys.meta_path:
                spec: Any = finder.find_spec(name, path, target) if hasattr(finder, "find_spec") else None
                if spec is not None:
                    if hasattr(spec.loader, "exec_module"):
                        spec.loader = _Loader(spec.loader)
                    return spec
        finally:
            self._asked.discard(question)
        return None


class _Loader:
    """The module's own loader, and a word at its end."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        # What asks the module for its loader wants that one.
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        executed(module)


_finder = _Finder()
