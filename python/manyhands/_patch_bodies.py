"""The code that functions of the standard library's run where manyhands is installed; see `_patches`.

Each is run with the globals of the standard module whose function it is given to, so it names nothing but what it
imports, and imports nothing before it is called.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from typing import Any

__all__ = ["BODIES", "LEFT"]


# --- multiprocessing.context ---


def _Pipe(self: Any, duplex: bool = True) -> Any:
    """Two ends of a new connection; see `manyhands.connection.Pipe`."""
    from manyhands import _patches

    return _patches.of_context(self, "Pipe", "connection", duplex)


def _Queue(self: Any, maxsize: int = 0) -> Any:
    """A queue in shared memory; see `manyhands.queues.Queue`."""
    from manyhands import _patches

    return _patches.of_context(self, "Queue", "queues", maxsize)


def _JoinableQueue(self: Any, maxsize: int = 0) -> Any:
    """A queue whose items are unfinished until `task_done`; see `manyhands.queues.JoinableQueue`."""
    from manyhands import _patches

    return _patches.of_context(self, "JoinableQueue", "queues", maxsize)


def _SimpleQueue(self: Any) -> Any:
    """A queue without a bound; see `manyhands.queues.SimpleQueue`."""
    from manyhands import _patches

    return _patches.of_context(self, "SimpleQueue", "queues")


def _Pool(
    self: Any,
    processes: Any = None,
    initializer: Any = None,
    initargs: Any = (),
    maxtasksperchild: Any = None,
) -> Any:
    """A pool of worker processes; see `manyhands.pool.Pool`."""
    from manyhands import _patches

    return _patches.of_context(self, "Pool", "pool", processes, initializer, initargs, maxtasksperchild)


def _Value(self: Any, typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:
    """A value in shared memory; see `manyhands.sharedctypes.Value`."""
    from manyhands import _patches

    return _patches.of_context(self, "Value", "sharedctypes", typecode_or_type, *args, lock=lock)


def _Array(self: Any, typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True) -> Any:
    """An array in shared memory; see `manyhands.sharedctypes.Array`."""
    from manyhands import _patches

    return _patches.of_context(
        self, "Array", "sharedctypes", typecode_or_type, size_or_initializer, lock=lock
    )


def _RawValue(self: Any, typecode_or_type: Any, *args: Any) -> Any:
    """A value in shared memory, without a lock; see `manyhands.sharedctypes.RawValue`."""
    from manyhands import _patches

    return _patches.of_context(self, "RawValue", "sharedctypes", typecode_or_type, *args)


def _RawArray(self: Any, typecode_or_type: Any, size_or_initializer: Any) -> Any:
    """An array in shared memory, without a lock; see `manyhands.sharedctypes.RawArray`."""
    from manyhands import _patches

    return _patches.of_context(self, "RawArray", "sharedctypes", typecode_or_type, size_or_initializer)


def _Lock(self: Any, *, on_owner_death: str = "raise") -> Any:
    """A lock that anybody may release; see `manyhands.synchronize.Lock`."""
    from manyhands import _patches

    how = {} if on_owner_death == "raise" else {"on_owner_death": on_owner_death}
    return _patches.of_context(self, "Lock", "synchronize", **how)


def _RLock(self: Any, *, on_owner_death: str = "raise") -> Any:
    """A lock that its holder may take again; see `manyhands.synchronize.RLock`."""
    from manyhands import _patches

    how = {} if on_owner_death == "raise" else {"on_owner_death": on_owner_death}
    return _patches.of_context(self, "RLock", "synchronize", **how)


def _Semaphore(self: Any, value: int = 1) -> Any:
    """A count to wait for; see `manyhands.synchronize.Semaphore`."""
    from manyhands import _patches

    return _patches.of_context(self, "Semaphore", "synchronize", value)


def _BoundedSemaphore(self: Any, value: int = 1) -> Any:
    """A semaphore that is never above its first count; see `manyhands.synchronize.BoundedSemaphore`."""
    from manyhands import _patches

    return _patches.of_context(self, "BoundedSemaphore", "synchronize", value)


def _Condition(self: Any, lock: Any = None) -> Any:
    """Waiting without a lock, for its holder; see `manyhands.synchronize.Condition`."""
    from manyhands import _patches

    return _patches.of_context(self, "Condition", "synchronize", lock)


def _Event(self: Any) -> Any:
    """A flag to wait for; see `manyhands.synchronize.Event`."""
    from manyhands import _patches

    return _patches.of_context(self, "Event", "synchronize")


def _Barrier(self: Any, parties: int, action: Any = None, timeout: Any = None) -> Any:
    """Where processes wait for each other; see `manyhands.synchronize.Barrier`."""
    from manyhands import _patches

    return _patches.of_context(self, "Barrier", "synchronize", parties, action, timeout)


def _set_start_method(self: Any, method: Any, force: bool = False) -> None:
    """Set the start method, once; in a child, where it is set, what its main module says is only checked."""
    from manyhands import _patches, _unguarded

    if _unguarded.is_importing_main() and method is not None and not force:
        self.get_context(method)
    else:
        _patches.kept["multiprocessing.context", "DefaultContext.set_start_method"](self, method, force)


def _fork(process_obj: Any) -> Any:
    from manyhands.popen_fork import Popen

    return Popen(process_obj)


def _spawn(process_obj: Any) -> Any:
    from manyhands.popen_spawn_posix import Popen

    return Popen(process_obj)


def _ask_fork_server(process_obj: Any) -> Any:
    from manyhands.popen_forkserver import Popen

    return Popen(process_obj)


def _spawn_theirs(process_obj: Any) -> Any:
    from manyhands import _patches

    return _patches.start_theirs(process_obj, "SpawnProcess._Popen", "popen_spawn_posix")


def _ask_their_fork_server(process_obj: Any) -> Any:
    from manyhands import _patches

    return _patches.start_theirs(process_obj, "ForkServerProcess._Popen", "popen_forkserver")


# --- multiprocessing.process ---


def _start(self: Any) -> None:
    """Start child process"""
    from manyhands import _patches, process

    process.start_from_worker(self, _patches.kept["multiprocessing.process", "BaseProcess.start"])


# --- multiprocessing.connection ---


def _pipe(duplex: bool = True) -> Any:
    """Two ends of a new connection; see `manyhands.connection.Pipe`."""
    from manyhands import _patches

    theirs = _patches.original_for_asker("multiprocessing.connection", "Pipe", "Connection")
    if theirs is not None:
        return theirs(duplex)
    from manyhands.connection import Pipe

    return Pipe(duplex)


def _wait(object_list: Any, timeout: Any = None) -> Any:
    """Wait until some of these are ready; see `manyhands.connection.wait`."""
    from manyhands import _patches

    theirs = _patches.original_for_asker("multiprocessing.connection", "wait")
    if theirs is not None:
        return theirs(object_list, timeout)
    from manyhands.connection import wait

    return wait(object_list, timeout)


def _client(address: Any, family: Any = None, authkey: Any = None) -> Any:
    """Connect to a listener; see `manyhands.connection.Client`."""
    from manyhands import _patches

    theirs = _patches.original_for_asker("multiprocessing.connection", "Client", "Connection")
    if theirs is not None:
        return theirs(address, family, authkey)
    from manyhands.connection import Client

    return Client(address, family, authkey)


# --- multiprocessing.sharedctypes ---


def _value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None) -> Any:
    """A value in shared memory; see `manyhands.sharedctypes.Value`."""
    from manyhands import _patches

    theirs = _patches.original_of_shared("Value", ctx)
    if theirs is not None:
        return theirs(typecode_or_type, *args, lock=lock, ctx=ctx)
    from manyhands.sharedctypes import Value

    return Value(typecode_or_type, *args, lock=lock, ctx=ctx)


def _array(typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True, ctx: Any = None) -> Any:
    """An array in shared memory; see `manyhands.sharedctypes.Array`."""
    from manyhands import _patches

    theirs = _patches.original_of_shared("Array", ctx)
    if theirs is not None:
        return theirs(typecode_or_type, size_or_initializer, lock=lock, ctx=ctx)
    from manyhands.sharedctypes import Array

    return Array(typecode_or_type, size_or_initializer, lock=lock, ctx=ctx)


def _raw_value(typecode_or_type: Any, *args: Any) -> Any:
    """A value in shared memory, without a lock; see `manyhands.sharedctypes.RawValue`."""
    from manyhands import _patches

    theirs = _patches.original_of_shared("RawValue", None)
    if theirs is not None:
        return theirs(typecode_or_type, *args)
    from manyhands.sharedctypes import RawValue

    return RawValue(typecode_or_type, *args)


def _raw_array(typecode_or_type: Any, size_or_initializer: Any) -> Any:
    """An array in shared memory, without a lock; see `manyhands.sharedctypes.RawArray`."""
    from manyhands import _patches

    theirs = _patches.original_of_shared("RawArray", None)
    if theirs is not None:
        return theirs(typecode_or_type, size_or_initializer)
    from manyhands.sharedctypes import RawArray

    return RawArray(typecode_or_type, size_or_initializer)


def _new(type_: Any) -> Any:
    from manyhands import _patches

    theirs = _patches.original_of_shared("_new_value", None)
    if theirs is not None:
        return theirs(type_)
    from manyhands.sharedctypes import _new_value

    return _new_value(type_)


def _copy(obj: Any) -> Any:
    """A copy in shared memory, without a lock; see `manyhands.sharedctypes.copy`."""
    from manyhands.sharedctypes import copy

    return copy(obj)


def _synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> Any:
    """Put a `ctypes` object behind a lock; see `manyhands.sharedctypes.synchronized`."""
    from manyhands import _patches

    theirs = _patches.original_of_shared("synchronized", ctx)
    if theirs is not None:
        return theirs(obj, lock, ctx)
    from manyhands.sharedctypes import synchronized

    return synchronized(obj, lock, ctx)


def _reduce_ctype(obj: Any) -> Any:
    from manyhands.sharedctypes import reduce_ctype

    return reduce_ctype(obj)


# --- multiprocessing.forkserver ---


def _ensure_running(self: Any) -> None:
    """Make sure that a fork server is running: manyhands'."""
    from manyhands import _patches

    theirs = _patches.original_for_asker("multiprocessing.forkserver", "ForkServer.ensure_running")
    if theirs is not None or not _patches.is_the_server(self):
        _patches.kept["multiprocessing.forkserver", "ForkServer.ensure_running"](self)
    else:
        from manyhands.forkserver import ensure_running

        ensure_running()


def _get_inherited_fds(self: Any) -> Any:
    """The descriptors that the fork server has passed to this process; ``None`` when it was started otherwise."""
    from manyhands import _patches

    known = _patches.kept["multiprocessing.forkserver", "ForkServer.get_inherited_fds"](self)
    if known is None and _patches.is_the_server(self):
        from manyhands.forkserver import get_inherited_fds

        known = get_inherited_fds()
    return known


def _stop(self: Any) -> None:
    from manyhands import _patches

    _patches.kept["multiprocessing.forkserver", "ForkServer._stop"](self)
    if _patches.is_the_server(self):
        from manyhands.forkserver import _forkserver

        _forkserver._stop()


#: What these have when the rest is taken back: a process that is sent something of ours is started by us even then.
LEFT: dict[tuple[str, str], Any] = {
    ("multiprocessing.context", "ForkServerProcess._Popen"): _ask_their_fork_server,
    ("multiprocessing.context", "SpawnProcess._Popen"): _spawn_theirs,
}

#: Which functions get which, by module and qualified name.
BODIES: dict[str, dict[str, Any]] = {
    "multiprocessing.connection": {"Pipe": _pipe, "wait": _wait, "Client": _client},
    "multiprocessing.context": {
        "BaseContext.Array": _Array,
        "BaseContext.Barrier": _Barrier,
        "BaseContext.BoundedSemaphore": _BoundedSemaphore,
        "BaseContext.Condition": _Condition,
        "BaseContext.Event": _Event,
        "BaseContext.JoinableQueue": _JoinableQueue,
        "BaseContext.Lock": _Lock,
        "BaseContext.Pipe": _Pipe,
        "BaseContext.Pool": _Pool,
        "BaseContext.Queue": _Queue,
        "BaseContext.RLock": _RLock,
        "BaseContext.RawArray": _RawArray,
        "BaseContext.RawValue": _RawValue,
        "BaseContext.Semaphore": _Semaphore,
        "BaseContext.SimpleQueue": _SimpleQueue,
        "BaseContext.Value": _Value,
        "DefaultContext.set_start_method": _set_start_method,
        "ForkProcess._Popen": _fork,
        "ForkServerProcess._Popen": _ask_fork_server,
        "SpawnProcess._Popen": _spawn,
    },
    "multiprocessing.forkserver": {
        "ForkServer._stop": _stop,
        "ForkServer.ensure_running": _ensure_running,
        "ForkServer.get_inherited_fds": _get_inherited_fds,
    },
    "multiprocessing.process": {"BaseProcess.start": _start},
    "multiprocessing.sharedctypes": {
        "Array": _array,
        "RawArray": _raw_array,
        "RawValue": _raw_value,
        "Value": _value,
        "_new_value": _new,
        "copy": _copy,
        "reduce_ctype": _reduce_ctype,
        "synchronized": _synchronized,
    },
}
