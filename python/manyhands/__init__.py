"""manyhands: ``multiprocessing``, made again in Rust.

``import manyhands as multiprocessing`` gives the same names with the same meaning; `install` puts them in place of the
standard library's for a whole program, and ``python -m manyhands script.py`` runs an unmodified script so.

General layout: the modules of this package bear the standard library's names; those with an underscore, and
`manyhands.errors` and `manyhands.demo`, are ours. Nothing heavy is imported before a name is asked for, because a
spawned child imports this package first.
"""

from __future__ import annotations

import sys

if sys.platform != "linux":
    raise ImportError(
        f"manyhands runs on Linux, not on {sys.platform}: use the standard library's multiprocessing"
    )
if sys.implementation.name != "cpython" or sys.version_info < (3, 11):
    raise ImportError("manyhands needs CPython 3.11 or later: use the standard library's multiprocessing")
if not getattr(sys, "_is_gil_enabled", lambda: True)():
    raise ImportError("manyhands needs a CPython with the GIL: use the standard library's multiprocessing")

TYPE_CHECKING = False  # as typing's, without importing it: a spawned child pays for each millisecond
if TYPE_CHECKING:
    from multiprocessing import freeze_support as freeze_support
    from multiprocessing import reducer as reducer
    from typing import Any

    from . import context
    from ._arrays import asarray as asarray
    from ._arrays import empty as empty
    from ._arrays import zeros as zeros
    from ._doctor import doctor as doctor
    from ._install import install as install
    from ._install import uninstall as uninstall
    from ._shared_array import SharedArray as SharedArray
    from .context import AuthenticationError as AuthenticationError
    from .context import BufferTooShort as BufferTooShort
    from .context import Process as Process
    from .context import ProcessError as ProcessError
    from .context import TimeoutError as TimeoutError
    from .errors import OwnerDied as OwnerDied
    from .errors import TaskError as TaskError
    from .errors import WorkerDied as WorkerDied
    from .futures import ProcessPoolExecutor as ProcessPoolExecutor
    from .process import active_children as active_children
    from .process import current_process as current_process
    from .process import parent_process as parent_process

    # Bound methods in truth, but people annotate with these two, and so type checkers know the standard library's.
    from .queues import JoinableQueue as JoinableQueue
    from .queues import Queue as Queue
    from .queues import ShutDown as ShutDown
    from .queues import SimpleQueue as SimpleQueue

    Array = context._default_context.Array
    Barrier = context._default_context.Barrier
    BoundedSemaphore = context._default_context.BoundedSemaphore
    Condition = context._default_context.Condition
    Event = context._default_context.Event
    Lock = context._default_context.Lock
    Manager = context._default_context.Manager
    Pipe = context._default_context.Pipe
    Pool = context._default_context.Pool
    RLock = context._default_context.RLock
    RawArray = context._default_context.RawArray
    RawValue = context._default_context.RawValue
    Semaphore = context._default_context.Semaphore
    Value = context._default_context.Value
    allow_connection_pickling = context._default_context.allow_connection_pickling
    cpu_count = context._default_context.cpu_count
    get_all_start_methods = context._default_context.get_all_start_methods
    get_context = context._default_context.get_context
    get_logger = context._default_context.get_logger
    get_start_method = context._default_context.get_start_method
    log_to_stderr = context._default_context.log_to_stderr
    set_executable = context._default_context.set_executable
    set_forkserver_preload = context._default_context.set_forkserver_preload
    set_start_method = context._default_context.set_start_method

#: The standard library's public names, all of them, and ours; written out for type checkers.
__all__ = [
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "OwnerDied",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "ProcessPoolExecutor",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SharedArray",
    "ShutDown",
    "SimpleQueue",
    "TaskError",
    "TimeoutError",
    "Value",
    "WorkerDied",
    "active_children",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "doctor",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "install",
    "log_to_stderr",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
    "uninstall",
]

#: Submodules that the standard library's users reach without importing them.
_IMPORTED_WITH_PACKAGE = {"context", "futures", "process", "reduction"}
#: Submodules that the standard library imports at some later time: with the first queue, process, manager, ... Here,
#: and in `multiprocessing` under `install`, they are imported when they are asked for.
_IMPORTED_LATER = {
    "connection",
    "dummy",
    "forkserver",
    "heap",
    "managers",
    "pool",
    "popen_fork",
    "popen_forkserver",
    "popen_spawn_posix",
    "queues",
    "resource_sharer",
    "resource_tracker",
    "shared_memory",
    "sharedctypes",
    "spawn",
    "synchronize",
    "util",
}
#: Levels of the logger.
SUBDEBUG = 5
SUBWARNING = 25

_OURS = {
    "OwnerDied": "errors",
    "ProcessPoolExecutor": "futures",
    "SharedArray": "_shared_array",
    "ShutDown": "queues",
    "TaskError": "errors",
    "WorkerDied": "errors",
    "asarray": "_arrays",
    "doctor": "_doctor",
    "empty": "_arrays",
    "install": "_install",
    "uninstall": "_install",
    "zeros": "_arrays",
}
#: Not in `__all__`: they import numpy, which need not be there.
_WITH_NUMPY = {"asarray", "empty", "zeros"}


def __getattr__(name: str) -> Any:
    submodule = name in _IMPORTED_WITH_PACKAGE or name in _IMPORTED_LATER
    if not submodule and name not in _OURS and name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _OURS:
        value = getattr(_submodule(_OURS[name]), name)
    elif name in __all__:
        value = getattr(_submodule("context")._default_context, name)
    else:
        value = _submodule(name)
    globals()[name] = value
    return value


def _submodule(name: str) -> Any:
    # Without `importlib`, which a child that asks for a name would import for nothing else.
    return __import__(f"{__name__}.{name}", fromlist=["*"])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_IMPORTED_WITH_PACKAGE, *_WITH_NUMPY})
