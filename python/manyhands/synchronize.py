"""Locks and semaphores in shared memory, with the standard library's face.

Taking and releasing one that is free is one instruction on a word that all processes of the family see. They may be
sent to any of them, at any time, and live as long as somebody has them. A lock whose holder is *killed* becomes free
again, and one of those who want it gets `OwnerDied`; a semaphore has no holders, so what a killed process has taken of
it stays taken.

What is not here is the standard library's own.
"""

from __future__ import annotations

from . import _at_fork, _manyhands  # noqa: F401

TYPE_CHECKING = False  # as typing's, without importing it: each child that is given a lock would pay for it
if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier as Barrier
    from multiprocessing.synchronize import Condition as Condition
    from multiprocessing.synchronize import Event as Event
    from multiprocessing.synchronize import SemLock as SemLock
    from typing import Any, Literal

__all__ = ["BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]

RECURSIVE_MUTEX, SEMAPHORE = range(2)
SEM_VALUE_MAX = 2**31 - 1


def __getattr__(name: str) -> Any:
    """The standard library's names that are not ours yet; it is not imported before somebody asks for one."""
    if name not in ("Barrier", "Condition", "Event", "SemLock"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from multiprocessing import synchronize

    return getattr(synchronize, name)


# --- locks ---


class Lock(_manyhands.Lock):
    """A lock that any process or thread may release, whoever took it.

    Args:
        on_owner_death: what happens when the process that holds the lock is killed. ``"raise"``: the lock becomes free,
            and one of those who want it gets `OwnerDied` instead. ``"recover"``: one of those who want it gets it.
            ``"block"``: it stays locked, as in the standard library. A process that ends in an orderly way, or by an
            exception, and has not released it, leaves it locked in any case.

    A death is noticed about half a second later by those who wait already, and at once by those who come later.
    """

    def __init__(
        self, *, ctx: Any = None, on_owner_death: Literal["raise", "block", "recover"] = "raise"
    ) -> None:
        self._create(False, on_owner_death)

    def __getstate__(self) -> tuple[int, int]:
        return self._handle()

    def __setstate__(self, state: tuple[int, int]) -> None:
        self._attach(*state)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(owner={_owner(self)[0]})>"

    @property
    def _semlock(self) -> _SemLock:
        return _SemLock(self, SEMAPHORE, 1)


class RLock(_manyhands.Lock):
    """A lock that the thread that holds it may take again, and only that thread may release, as often.

    Args:
        on_owner_death: as for `Lock`.
    """

    def __init__(
        self, *, ctx: Any = None, on_owner_death: Literal["raise", "block", "recover"] = "raise"
    ) -> None:
        self._create(True, on_owner_death)

    def __getstate__(self) -> tuple[int, int]:
        return self._handle()

    def __setstate__(self, state: tuple[int, int]) -> None:
        self._attach(*state)

    def __repr__(self) -> str:
        name, count = _owner(self)
        return f"<{type(self).__name__}({name}, {count})>"

    @property
    def _semlock(self) -> _SemLock:
        return _SemLock(self, RECURSIVE_MUTEX, 1)


def _owner(lock: _manyhands.Lock) -> tuple[str, int | str]:
    """Who holds the lock, in the standard library's words, and how often."""
    try:
        if lock._is_mine():
            return _own_name(), lock._count()
        if not lock.locked():
            return "None", 0
        return ("SomeOtherThread" if lock._count() > 0 else "SomeOtherProcess"), "nonzero"
    except Exception:
        return "unknown", "unknown"


def _own_name() -> str:
    import threading
    from multiprocessing import process

    name, thread = process.current_process().name, threading.current_thread().name
    return name if thread == "MainThread" else f"{name}|{thread}"


# --- semaphores ---


class Semaphore(_manyhands.Semaphore):
    """A count that `acquire` lowers, waiting while it is 0, and `release` raises. Nobody owns what was taken.

    Args:
        value: the count to begin with, at most 2,147,483,647.
    """

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:
        self._create(value)

    def __getstate__(self) -> tuple[int, int]:
        return self._handle()

    def __setstate__(self, state: tuple[int, int]) -> None:
        self._attach(*state)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(value={_value(self)})>"

    @property
    def _semlock(self) -> _SemLock:
        return _SemLock(self, SEMAPHORE, self._most)


class BoundedSemaphore(Semaphore):
    """A semaphore whose count never exceeds what it began with: a release too many raises ``ValueError``."""

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:
        self._create(value, value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(value={_value(self)}, maxvalue={self._most})>"


def _value(semaphore: _manyhands.Semaphore) -> int | str:
    try:
        return semaphore.get_value()
    except Exception:
        return "unknown"


class _SemLock:
    """What the standard library's own modules ask of the attribute ``_semlock``."""

    __slots__ = ("_of", "acquire", "kind", "maxvalue", "release")
    name = None

    def __init__(self, of: _manyhands.Lock | _manyhands.Semaphore, kind: int, maxvalue: int) -> None:
        self._of = of
        self.kind = kind
        self.maxvalue = maxvalue
        self.acquire = of.acquire
        self.release = of.release

    @property
    def handle(self) -> int:
        return self._of._handle()[0]

    def _is_mine(self) -> bool:
        return isinstance(self._of, _manyhands.Lock) and self._of._is_mine()

    def _count(self) -> int:
        return self._of._count() if isinstance(self._of, _manyhands.Lock) else 0

    def _is_zero(self) -> bool:
        return self._of.locked()

    def _get_value(self) -> int:
        return int(not self._of.locked()) if isinstance(self._of, _manyhands.Lock) else self._of.get_value()
