"""Subclasses of our pool and executor that change what only the standard library's have inside.

A subclass that overrides, say, ``_setup_queues`` (joblib's pools do) was written for the standard library's machinery:
ours has no such step, and would leave the override out without a word. So its objects are the standard library's:
`settle` gives the class itself, when it is first called, a base before ours that behaves as the standard library's
class. ``super()`` reaches that.
"""

from __future__ import annotations

import threading
from importlib import import_module

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Seen", "insides", "settle", "standard_executor", "standard_pool"]


class Seen:
    """An attribute that is worked out when somebody looks at it, unless the object has one of its own.

    A property would not let the standard library's ``__init__`` set it.
    """

    def __init__(self, get: Callable[[Any], Any]) -> None:
        self._get = get
        self.__doc__ = get.__doc__

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else self._get(instance)


def standard_pool() -> Any:
    """The standard library's pool, whatever is installed; by default it uses our context."""
    pools = import_module("multiprocessing.pool")

    class Pool(pools.Pool):  # type: ignore[misc, name-defined]
        def __init__(
            self,
            processes: Any = None,
            initializer: Any = None,
            initargs: Any = (),
            maxtasksperchild: Any = None,
            context: Any = None,
        ) -> None:
            if context is None:
                from .context import default_context

                context = default_context()
            pools.Pool.__init__(self, processes, initializer, initargs, maxtasksperchild, context)

    return Pool


def standard_executor() -> Any:
    """The standard library's executor, whatever is installed."""
    return vars(import_module("concurrent.futures.process"))["ProcessPoolExecutor"]


def insides(standard: Any, *heeded: str) -> frozenset[str]:
    """The names with an underscore that the standard library's class has and ours does not call."""
    names = (name for kind in standard.__mro__[:-1] for name in vars(kind))
    private = (name for name in names if name.startswith("_") and not name.endswith("__"))
    return frozenset(private).difference(heeded)


def settle(cls: type, ours: type, standard: Callable[[], Any], heeded: tuple[str, ...]) -> None:
    """Decide what objects of ``cls``, a subclass of ``ours``, are: if it changes the insides of the standard library's
    class, those come before what ``ours`` has wherever they look for an attribute."""
    changed = {name for kind in cls.__mro__[: cls.__mro__.index(ours)] for name in vars(kind)}
    # Most subclasses change nothing of the kind: then the standard library's class is not even imported.
    if not any(name.startswith("_") and not name.endswith("__") for name in changed.difference(heeded)):
        return
    with _settling:
        theirs, before = _combined.get(ours) or (standard(), None)
        if before in cls.__mro__ or changed.isdisjoint(insides(theirs, *heeded)):
            return
        if before is None:
            before = _behaving_as(theirs, ours)
            _combined[ours] = theirs, before
        _BASES.__set__(cls, _with(cls.__bases__, ours, before))


def _behaving_as(theirs: type, ours: type) -> type:
    """A subclass of ``ours`` with everything that the standard library's class has.

    That stands among the bases of ours, last (see `_kin`), and so cannot be a base that is looked at before.
    """
    names: dict[str, Any] = {}
    for kind in theirs.__mro__[-2::-1]:
        names.update(vars(kind))
    for name in ("__dict__", "__weakref__", "__new__", "__slotnames__"):
        names.pop(name, None)
    names.update(__module__=ours.__module__, __qualname__=ours.__qualname__, __doc__=ours.__doc__)
    return type(ours.__name__, (ours,), names)


def _with(bases: tuple[type, ...], ours: type, before: type) -> tuple[type, ...]:
    """These bases, and before ``ours`` the class that comes ``before`` it: behind the last one that leads there."""
    last = max(place for place, base in enumerate(bases) if issubclass(base, ours))
    kept = bases[:last] if bases[last] is ours else bases[: last + 1]
    return (*kept, before, *bases[last + 1 :])


#: Where two threads make objects of one class.
_settling = threading.Lock()
#: By our class, the standard library's, and ours with everything that that has.
_combined: dict[type, tuple[type, type]] = {}
#: Whatever the class's own class says to a change of it.
_BASES: Any = vars(type)["__bases__"]
