"""Which classes of the standard library's ours stand beside, and how ``isinstance`` learns of it.

A program may ask whether what we made is a ``multiprocessing.queues.Queue``, say. Our classes do not derive from the
standard library's where they are written: that would import its modules into every spawned child. Instead, as soon as
both exist in a process, the standard library's class becomes the *last* base of ours (`recognise`). Nothing
is imported for that, nothing is said that is not so (``x.__class__`` is ``type(x)``), and subclasses of ours, whenever
they were made, inherit it.

Behind our own bases it lends only names that ours lack: what was added to it (``Pool.istarmap = ...``), and some of its
insides, which do not work on our objects. `tests/surface/test_recognised.py` holds us to having all others.
"""

from __future__ import annotations

import sys

from . import _imports

TYPE_CHECKING = False  # as typing's, without importing it: a spawned child pays for each millisecond
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

__all__ = ["KIN", "made_by_call", "recognise", "reduce_ex"]

#: For each module of ours the standard library's, and the names that classes have in both: those that make ours when
#: they are called where manyhands is installed (see `_patches`), and those that do not.
KIN = {
    "process": ("multiprocessing.context", "", "Process ForkProcess SpawnProcess ForkServerProcess"),
    "queues": ("multiprocessing.queues", "Queue JoinableQueue SimpleQueue", ""),
    "synchronize": (
        "multiprocessing.synchronize",
        "Lock RLock Semaphore BoundedSemaphore Condition Event",
        "",
    ),
    "_barrier": ("multiprocessing.synchronize", "Barrier", ""),
    "pool": ("multiprocessing.pool", "Pool", "ApplyResult MapResult IMapIterator IMapUnorderedIterator"),
    "futures": ("concurrent.futures.process", "ProcessPoolExecutor", ""),
    # Written as subclasses; `recognise` has nothing to do for these.
    "context": (
        "multiprocessing.context",
        "",
        "BaseContext ForkContext SpawnContext ForkServerContext DefaultContext",
    ),
    "connection": ("multiprocessing.connection", "Connection Listener", ""),
    "sharedctypes": (
        "multiprocessing.sharedctypes",
        "SynchronizedBase Synchronized SynchronizedArray SynchronizedString",
        "",
    ),
}


def made_by_call(theirs: str) -> dict[str, str]:
    """The classes of a module of the standard library's that make ours when they are called, and our module of each."""
    return {
        name: ours for ours, (module, made, _) in KIN.items() if module == theirs for name in made.split()
    }


def recognise(ours: str) -> None:
    """A module of ours, of this short name, has all its classes: they get their bases now, or when these exist."""
    theirs = KIN[ours][0]
    if theirs not in _followed:
        _followed.add(theirs)
        _imports.when_executed(theirs, _join_all)
    elif theirs in sys.modules:
        _join_all(sys.modules[theirs])


#: Modules of the standard library's whose execution is followed.
_followed: set[str] = set()


def _join_all(module: ModuleType) -> None:
    """A module of the standard library's has its classes: ours of the same names that are there get them as bases."""
    for ours, (theirs, made, others) in KIN.items():
        if theirs == module.__name__ and f"{__package__}.{ours}" in sys.modules:
            known = vars(sys.modules[f"{__package__}.{ours}"])
            for name in (*made.split(), *others.split()):
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
