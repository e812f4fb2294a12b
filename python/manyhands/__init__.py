"""manyhands: ``multiprocessing``, made again in Rust.

``import manyhands as multiprocessing`` gives the same names with the same meaning; `install` puts them in place of the
standard library's for a whole program, and ``python -m manyhands script.py`` runs an unmodified script so.

General layout: the modules of this package bear the standard library's names; those with an underscore, and
`manyhands.errors` and `manyhands.demo`, are ours. Nothing heavy is imported before a name is asked for, because a
spawned child imports this package first.
"""

from __future__ import annotations

import importlib
import sys

if sys.platform != "linux":
    raise ImportError(f"manyhands runs on Linux only, not on {sys.platform}: use the standard library's multiprocessing")
if sys.implementation.name != "cpython" or sys.version_info < (3, 11):
    raise ImportError("manyhands needs CPython 3.11 or later: use the standard library's multiprocessing")
if not getattr(sys, "_is_gil_enabled", lambda: True)():
    raise ImportError("manyhands needs a CPython with the GIL: use the standard library's multiprocessing")

TYPE_CHECKING = False  # as typing's, without importing it: a spawned child pays for each millisecond
if TYPE_CHECKING:
    from multiprocessing import *  # noqa: F403
    from typing import Any

    from ._install import install
    from .errors import WorkerDied
    from .pool import Pool
    from .process import Process
    from .queues import Queue, SimpleQueue

#: The standard library's public names, all of them.
_STANDARD = [
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
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "TimeoutError",
    "Value",
    "active_children",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "log_to_stderr",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
]

#: Submodules that the standard library's users reach without importing them.
_IMPORTED_WITH_PACKAGE = {"context", "process", "reduction"}

_OURS = {"WorkerDied": "errors", "install": "_install"}

__all__ = [*_STANDARD, *_OURS]


def __getattr__(name: str) -> Any:
    if name in _OURS:
        value = getattr(importlib.import_module(f"{__name__}.{_OURS[name]}"), name)
    elif name in _STANDARD:
        value = getattr(importlib.import_module(f"{__name__}.context")._default_context, name)
    elif name in _IMPORTED_WITH_PACKAGE:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_IMPORTED_WITH_PACKAGE})
