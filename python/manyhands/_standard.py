"""Subclasses of our pool and executor that change what only the standard library's have inside.

A subclass that overrides, say, ``_setup_queues`` (joblib's pools do) was written for the standard library's machinery:
ours has no such step, and would leave the override out without a word. So its objects are the standard library's:
`stand_in` gives the class that they are made of. It is the subclass with one change: where our class would be looked at
for an attribute, the standard library's is looked at first. Whoever calls ``super()`` reaches that.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

__all__ = ["Seen", "insides", "stand_in", "standard_executor", "standard_pool"]


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
                from .context import _default_context

                context = _default_context.get_context()
            super().__init__(processes, initializer, initargs, maxtasksperchild, context)

    return Pool


def standard_executor() -> Any:
    """The standard library's executor, whatever is installed."""
    return vars(import_module("concurrent.futures.process"))["ProcessPoolExecutor"]


def insides(standard: Any, *heeded: str) -> frozenset[str]:
    """The names with an underscore that the standard library's class has and ours does not call."""
    names = (name for kind in standard.__mro__[:-1] for name in vars(kind))
    private = (name for name in names if name.startswith("_") and not name.endswith("__"))
    return frozenset(private).difference(heeded)


def stand_in(cls: type[T], ours: type, standard: Callable[[], Any], heeded: tuple[str, ...]) -> type[T]:
    """The class of which an object of ``cls``, a subclass of ``ours``, is made: ``cls``, unless it changes the insides
    of the standard library's class."""
    changed = {name for kind in cls.__mro__[: cls.__mro__.index(ours)] for name in vars(kind)}
    # Most subclasses change nothing of the kind: then the standard library's class is not even imported.
    if not any(name.startswith("_") and not name.endswith("__") for name in changed.difference(heeded)):
        return cls
    theirs = standard()
    if changed.isdisjoint(insides(theirs, *heeded)):
        return cls
    made: type[T] | None = cls.__dict__.get(_MADE)
    if made is None:
        made = _make(cls, ours, theirs)
        type.__setattr__(cls, _MADE, made)
    return made


#: Where a class keeps its stand-in.
_MADE = "_manyhands_stand_in"


def _make(cls: type[T], ours: type, theirs: Any) -> type[T]:
    metaclass: Any = type(cls)

    class StandIn(metaclass):  # type: ignore[misc]
        def mro(self) -> list[type]:
            order: list[type] = super().mro()
            before = order.index(ours)
            return [*order[:before], *(kind for kind in theirs.__mro__ if kind not in order), *order[before:]]

    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    made: type[T] = type.__new__(StandIn, cls.__name__, (cls,), names)
    return made
