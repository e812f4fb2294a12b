"""Locks, semaphores, conditions, events and barriers in shared memory, with the standard library's face.

Taking and releasing one that is free is one instruction on a word that all processes of the family see. They may be
sent to any of them, at any time, and live as long as somebody has them. A lock whose holder is *killed* becomes free
again, and one of those who want it gets `OwnerDied`; a semaphore has no holders, so what a killed process has taken of
it stays taken. Nobody waits for a waiter that was killed: a notification may be spent on it, and a barrier at which it
waits breaks.
"""

from __future__ import annotations

from . import _kin, _manyhands

TYPE_CHECKING = False  # as typing's, without importing it: each child that is given a lock would pay for it
if TYPE_CHECKING:
    from multiprocessing.synchronize import SemLock as SemLock
    from typing import Any, Literal, Self

    from ._barrier import Barrier as Barrier

__all__ = ["BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]

RECURSIVE_MUTEX, SEMAPHORE = range(2)
SEM_VALUE_MAX = 2**31 - 1


def __getattr__(name: str) -> Any:
    """What not everybody needs: `Barrier`, which imports threading, and what else the standard library's module has."""
    if name == "Barrier":
        from . import _barrier

        return globals().setdefault(name, _barrier.Barrier)
    from ._standard_names import standard_name

    return standard_name(__name__, name)


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

    __reduce_ex__ = _kin.reduce_ex

    def __getstate__(self) -> tuple[int, int]:
        _manyhands.assert_sending(self)
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

    __reduce_ex__ = _kin.reduce_ex

    def __getstate__(self) -> tuple[int, int]:
        _manyhands.assert_sending(self)
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

    __reduce_ex__ = _kin.reduce_ex

    def __getstate__(self) -> tuple[int, int]:
        _manyhands.assert_sending(self)
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


# --- conditions, events (barriers are in a file of their own) ---


class Condition(_manyhands.Condition):
    """Waiting, without a lock, until somebody who holds it says that something has changed.

    Args:
        lock: a `Lock` or `RLock` of this module; a new `RLock` if there is none. With a lock of another kind, one of
            the standard library's say, the standard library's condition is made instead.

    A notification goes to one who waited when it was given. One who waits and is killed may take a notification with
    it, once; nobody waits for it. The lock's own rule holds when a wait takes it again: `OwnerDied` comes out of it,
    without the lock.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        # What a subclass is made with is its own affair.
        if cls is Condition:
            lock = args[0] if args else kwargs.get("lock")
            if lock and not isinstance(lock, _manyhands.Lock):
                return _standard_condition(lock, kwargs.get("ctx"))
        return super().__new__(cls)

    def __init__(self, lock: Lock | RLock | None = None, *, ctx: Any = None) -> None:
        self._create(lock or RLock(ctx=ctx))

    __reduce_ex__ = _kin.reduce_ex

    def __getstate__(self) -> tuple[_manyhands.Lock, int, int]:
        _manyhands.assert_sending(self)
        return (self._lock, *self._handle())

    def __setstate__(self, state: tuple[_manyhands.Lock, int, int]) -> None:
        self._attach(*state)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({self._lock}, {self._waiters})>"

    # What the standard library's condition is made of; tests read it.
    _sleeping_count = property(lambda self: _Count(self._waiters))
    _woken_count = property(lambda self: _Count(0))
    _wait_semaphore = property(lambda self: _Count(0))


# For programs that ask for the signature.
Condition.__new__.__wrapped__ = Condition.__init__  # type: ignore[attr-defined]

#: What refuses to be pickled in an event or a barrier of the standard library's, by whose name it is refused here.
A_CONDITION = Condition.__new__(Condition)


class _Count:
    """A number that is asked for as a semaphore's."""

    def __init__(self, value: int) -> None:
        self._value = value

    def get_value(self) -> int:
        return self._value


def _standard_condition(lock: Any, ctx: Any) -> Any:
    from multiprocessing import synchronize

    if ctx is None:
        from . import context

        ctx = context._default_context.get_context()
    # Called from here, it is the standard library's whatever is installed; see `_own`.
    return synchronize.Condition(lock, ctx=ctx)


class Event(_manyhands.Event):
    """A flag that can be waited for.

    Whoever began to wait before `set` goes on, even if `clear` follows at once. What a process has set before it was
    killed stays set.
    """

    def __init__(self, *, ctx: Any = None) -> None:
        self._create()

    __reduce_ex__ = _kin.reduce_ex

    # With the attributes of a subclass, as in the standard library, whose event is an ordinary object.
    def __getstate__(self) -> tuple[int, int, dict[str, Any]]:
        _manyhands.assert_sending(A_CONDITION)
        return (*self._handle(), self.__dict__)

    def __copy__(self) -> Self:
        """Another object of the same event, as in the standard library."""
        made = type(self).__new__(type(self))
        made.__setstate__((*self._handle(), self.__dict__))
        return made

    def __setstate__(self, state: tuple[int, int, dict[str, Any]]) -> None:
        offset, generation, attributes = state
        self._attach(offset, generation)
        self.__dict__.update(attributes)

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__} at {id(self):#x} {'set' if self.is_set() else 'unset'}>"


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


_kin.recognise("synchronize")
