"""Contexts: the standard library's, with our processes, queues and pools in them."""

# What these contexts make is ours, not derived from what the standard library's make.
# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

import sys
from multiprocessing.context import (
    AuthenticationError,
    BufferTooShort,
    ProcessError,
    TimeoutError,
    assert_spawning,
    get_spawning_popen,
    set_spawning_popen,
)

# The engine is loaded with the first context: an installation without it is found here, not at the first start.
from . import _install, _manyhands, _own, _unguarded, process  # noqa: F401
from .process import ForkProcess, ForkServerProcess, Process, SpawnProcess

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    import multiprocessing.context as _std  # the form that pyright finds
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, ClassVar, Literal

    from . import synchronize
    from .connection import Connection
    from .pool import Pool
    from .queues import JoinableQueue, Queue, SimpleQueue
else:
    from multiprocessing import context as _std

__all__ = [
    "AuthenticationError",
    "BaseContext",
    "BufferTooShort",
    "DefaultContext",
    "ForkContext",
    "ForkProcess",
    "ForkServerContext",
    "ForkServerProcess",
    "Process",
    "ProcessError",
    "SpawnContext",
    "SpawnProcess",
    "TimeoutError",
    "assert_spawning",
    "get_spawning_popen",
    "set_spawning_popen",
]


if not TYPE_CHECKING:

    def __getattr__(name):
        """What else the standard library's module has."""
        from ._standard_names import standard_name

        return standard_name(__name__, name)


class BaseContext(_std.BaseContext):
    """What our contexts make that is not the standard library's."""

    #: Each start method's own.
    Process: ClassVar[type[process._Process]]

    current_process = staticmethod(process.current_process)
    parent_process = staticmethod(process.parent_process)
    active_children = staticmethod(process.active_children)

    def Pipe(self, duplex: bool = True) -> tuple[Connection, Connection]:
        """Two ends of a new connection; see `manyhands.connection.Pipe`."""
        from .connection import Pipe

        if self.get_start_method(allow_none=True) not in (None, "fork"):
            # Something may be sent before the first child is started that will receive it.
            from . import _pickler

            _pickler.note_fresh_children()
        return Pipe(duplex)

    def Queue(self, maxsize: int = 0) -> Queue[Any]:  # type: ignore[override]
        """A queue in shared memory; see `manyhands.queues.Queue`."""
        from .queues import Queue

        return Queue(maxsize, ctx=self.get_context())

    def JoinableQueue(self, maxsize: int = 0) -> JoinableQueue[Any]:  # type: ignore[override]
        """A queue whose items are unfinished until `task_done`; see `manyhands.queues.JoinableQueue`."""
        from .queues import JoinableQueue

        return JoinableQueue(maxsize, ctx=self.get_context())

    def SimpleQueue(self) -> SimpleQueue[Any]:  # type: ignore[override]
        """A queue without a bound; see `manyhands.queues.SimpleQueue`."""
        frame = sys._getframe(1)
        if _own.is_called_by_its_pool(frame) or _own.makes_its_pool(frame):
            # At its end the pool keeps its workers off their queue by a lock of the queue's that they take to read, and
            # then takes what it has polled: on ours a worker could be faster, and the pool would wait for ever.
            from multiprocessing.queues import SimpleQueue as theirs

            queue: Any = theirs(ctx=self.get_context())
            return queue  # type: ignore[no-any-return]
        from .queues import SimpleQueue

        return SimpleQueue(ctx=self.get_context())

    def Pool(  # type: ignore[override]
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> Pool:
        """A pool of worker processes; see `manyhands.pool.Pool`."""
        from .pool import Pool

        return Pool(processes, initializer, initargs, maxtasksperchild, context=self.get_context())

    def Value(self, typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:
        """A value in shared memory; see `manyhands.sharedctypes.Value`."""
        from .sharedctypes import Value

        return Value(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    def Array(
        self, typecode_or_type: Any, size_or_initializer: int | Sequence[Any], *, lock: Any = True
    ) -> Any:
        """An array in shared memory; see `manyhands.sharedctypes.Array`."""
        from .sharedctypes import Array

        return Array(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context())

    def RawValue(self, typecode_or_type: Any, *args: Any) -> Any:
        """A value in shared memory, without a lock; see `manyhands.sharedctypes.RawValue`."""
        from .sharedctypes import RawValue

        return RawValue(typecode_or_type, *args)

    def RawArray(self, typecode_or_type: Any, size_or_initializer: int | Sequence[Any]) -> Any:
        """An array in shared memory, without a lock; see `manyhands.sharedctypes.RawArray`."""
        from .sharedctypes import RawArray

        return RawArray(typecode_or_type, size_or_initializer)

    def Lock(  # type: ignore[override]
        self, *, on_owner_death: Literal["raise", "block", "recover"] = "raise"
    ) -> synchronize.Lock:
        """A lock that anybody may release; see `manyhands.synchronize.Lock`."""
        from .synchronize import Lock

        return Lock(ctx=self.get_context(), on_owner_death=on_owner_death)

    def RLock(  # type: ignore[override]
        self, *, on_owner_death: Literal["raise", "block", "recover"] = "raise"
    ) -> synchronize.RLock:
        """A lock that its holder may take again; see `manyhands.synchronize.RLock`."""
        from .synchronize import RLock

        return RLock(ctx=self.get_context(), on_owner_death=on_owner_death)

    def Semaphore(self, value: int = 1) -> synchronize.Semaphore:  # type: ignore[override]
        """A count to wait for; see `manyhands.synchronize.Semaphore`."""
        from .synchronize import Semaphore

        return Semaphore(value, ctx=self.get_context())

    def BoundedSemaphore(self, value: int = 1) -> synchronize.BoundedSemaphore:  # type: ignore[override]
        """A semaphore that is never above its first count; see `manyhands.synchronize.BoundedSemaphore`."""
        from .synchronize import BoundedSemaphore

        return BoundedSemaphore(value, ctx=self.get_context())

    def Condition(self, lock: Any = None) -> synchronize.Condition:  # type: ignore[override]
        """Waiting without a lock, for who holds it; see `manyhands.synchronize.Condition`."""
        from .synchronize import Condition

        return Condition(lock, ctx=self.get_context())

    def Event(self) -> synchronize.Event:  # type: ignore[override]
        """A flag to wait for; see `manyhands.synchronize.Event`."""
        from .synchronize import Event

        return Event(ctx=self.get_context())

    def Barrier(  # type: ignore[override]
        self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None
    ) -> synchronize.Barrier:
        """Where processes wait for each other; see `manyhands.synchronize.Barrier`."""
        from .synchronize import Barrier

        return Barrier(parties, action, timeout, ctx=self.get_context())

    def set_forkserver_preload(
        self, module_names: list[str], *, on_error: Literal["ignore", "warn", "fail"] = "ignore"
    ) -> None:
        """Modules that the fork server imports before it forks its first child.

        ``on_error`` tells what becomes of one that cannot be imported; see `manyhands.forkserver`. (The standard
        library's takes it from Python 3.15 on.)
        """
        from .forkserver import set_forkserver_preload

        set_forkserver_preload(module_names, on_error=on_error)

    def get_context(self, method: str | None = None) -> BaseContext:  # type: ignore[override]
        """This context, or the one of that start method."""
        if method is None:
            return self
        try:
            return _concrete_contexts[method]
        except KeyError:
            raise ValueError(f"cannot find context for {method!r}") from None


class ForkContext(BaseContext, _std.ForkContext):
    """Children begin as copies of this process."""

    _name = "fork"
    Process = ForkProcess  # type: ignore[assignment]


class SpawnContext(BaseContext, _std.SpawnContext):
    """Children begin as fresh interpreters."""

    _name = "spawn"
    Process = SpawnProcess  # type: ignore[assignment]


class ForkServerContext(BaseContext, _std.ForkServerContext):
    """Children begin as copies of the fork server."""

    _name = "forkserver"
    Process = ForkServerProcess  # type: ignore[assignment]


class DefaultContext(BaseContext, _std.DefaultContext):
    """The context whose start method can be set, once."""

    Process = Process  # type: ignore[assignment]
    _default_context: BaseContext

    def __init__(self, context: BaseContext) -> None:
        self._default_context = context
        #: The one that is set, while manyhands is not installed.
        self._own_context: BaseContext | None = None

    if TYPE_CHECKING:
        _actual_context: BaseContext | None
    else:

        @property
        def _actual_context(self) -> BaseContext | None:
            """The context that is set. Where manyhands is installed, the standard library's is asked."""
            if not _install.installed():
                return self._own_context
            context: Any = _std._default_context._actual_context
            name = None if context is None else context._name
            return (
                context
                if _std._concrete_contexts.get(name) is not context
                else _concrete_contexts.get(name, context)
            )

        @_actual_context.setter
        def _actual_context(self, context: BaseContext | None) -> None:
            if not _install.installed():
                self._own_context = context
            else:
                known = None if context is None else _std._concrete_contexts.get(context._name, context)
                _std._default_context._actual_context = known

    def get_context(self, method: str | None = None) -> BaseContext:  # type: ignore[override]
        """The context of that start method; by default of the one that is set."""
        if method is not None:
            return super().get_context(method)
        if self._actual_context is None:
            self._actual_context = self._default_context
        return self._actual_context

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Set the start method, once; again only with ``force``.

        In a child it is set already: what its main module says, when it runs again, is only checked.
        """
        if _unguarded.is_importing_main() and method is not None and not force:
            self.get_context(method)
        else:
            super().set_start_method(method, force)


_concrete_contexts: dict[str, BaseContext] = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}


def _force_start_method(method: str | None) -> None:
    if method not in _concrete_contexts:
        return
    if _install._installed:
        _default_context._actual_context = _concrete_contexts[method]
    else:
        _default_context._own_context = _concrete_contexts[method]


def context_for_workers(context: Any) -> Any:
    """The context by which workers are started for somebody who has given that one: where the standard library starts
    its processes itself, ours in its place."""
    if _install.installed() or getattr(context, "Process", None) not in _STANDARD_PROCESSES:
        return context
    return _concrete_contexts.get(context.get_start_method(), context)


_STANDARD_PROCESSES = [_std.Process, _std.ForkProcess, _std.SpawnProcess, _std.ForkServerProcess]


def default_context(method: str | None = None) -> Any:
    """The context of a start method, by default of the one that is set: ours, or where manyhands is installed the
    standard library's, which makes the same."""
    default: Any = _std._default_context if _install.installed() else _default_context
    return default.get_context(method)


def _make_default() -> DefaultContext:
    # The running interpreter's own default: fork up to 3.13, forkserver from 3.14.
    own = _std._default_context._default_context.get_start_method()  # type: ignore[attr-defined]
    return DefaultContext(_concrete_contexts[own])


_default_context: DefaultContext = _make_default()


def _in_child() -> None:
    """In a child that was started before it imported this module: its start method is the one it was started by."""
    child = sys.modules.get(f"{__package__}._child")
    _force_start_method(getattr(child, "start_method", None))


_in_child()
