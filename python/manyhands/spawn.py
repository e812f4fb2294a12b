"""How a fresh interpreter is started that becomes a child of this family."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from multiprocessing import resource_tracker, spawn, util
from multiprocessing.reduction import ForkingPickler
from multiprocessing.spawn import (
    freeze_support,
    get_executable,
    get_preparation_data,
    set_executable,
)

from . import _install, _manyhands, _pickler
from .context import _default_context

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from typing import Any

__all__ = ["freeze_support", "get_executable", "get_preparation_data", "set_executable"]


def job_of(popen: Any, process_obj: Any) -> _manyhands.JobDescriptor:
    """A descriptor from which the child reads what it needs to know and what it is to do.

    `spawn.get_preparation_data` is asked through its module, because coverage and others replace it.
    """
    preparation = without_missing_main(spawn.get_preparation_data(process_obj._name))
    head = _dumps((_install.installed(), _default_context.get_start_method())) + _dumps(preparation)
    popen._job = (process_obj, len(popen._fds))
    job = head + _pickler.dumps_with(_dump, process_obj)
    popen._job = None
    return _manyhands.JobDescriptor(job)


def _dumps(obj: object) -> bytes:
    buffer = io.BytesIO()
    _dump(obj, buffer)
    return buffer.getvalue()


def _dump(obj: object, file: Any) -> None:
    pickler = ForkingPickler(file, _pickler._PROTOCOL)
    # The table is the pickler's own copy; what others have registered goes first.
    pickler.dispatch_table = {**_pickler.own_reducers, **pickler.dispatch_table}
    pickler.dump(obj)


def without_missing_main(preparation: dict[str, Any]) -> dict[str, Any]:
    """What a child is told, without a main module that it would not find (a program on standard input)."""
    path = preparation.get("init_main_from_path")
    if path is not None and not _pickler.main_file_exists(path):
        del preparation["init_main_from_path"]
    return preparation


#: The resource tracker's process and the pipe to it, as they were when it was last asked for.
_tracker: tuple[int, int, int, int] | None = None


def tracker_descriptor() -> int:
    """The resource tracker's pipe: one tracker serves the whole family, as in the standard library."""
    global _tracker
    tracker: Any = resource_tracker._resource_tracker
    if tracker._fd is not None and not _is_trackers_pipe(tracker._pid, tracker._fd):
        # Other code has closed it, as daemons do: asked now, the tracker would write to whatever has its number.
        tracker._fd = tracker._pid = None
    if tracker._fd is None:
        # In a thread, where no signal's handler runs: one that raised in the middle would leave a process that nobody
        # knows.
        starter = threading.Thread(target=_start_tracker)
        starter.start()
        starter.join()
    descriptor = resource_tracker.getfd()
    assert descriptor is not None, "getfd starts the tracker"
    status = os.fstat(descriptor)
    _tracker = (tracker._pid or 0, descriptor, status.st_dev, status.st_ino)
    return descriptor


def _start_tracker() -> None:
    # Who asks for its descriptor then hears why not.
    with contextlib.suppress(Exception):
        resource_tracker.ensure_running()


def _is_trackers_pipe(pid: int | None, descriptor: int) -> bool:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    now = (pid or 0, descriptor, status.st_dev, status.st_ino)
    # Of one that the standard library has started since, no more is known than that it is a pipe.
    same = _tracker is None or _tracker[:2] != now[:2] or _tracker == now
    return same and status.st_mode & _TYPE_OF_FILE == _PIPE


#: As in ``stat``, which children would import for them.
_TYPE_OF_FILE, _PIPE = 0o170000, 0o010000


def compiled_descriptor() -> int:
    """Memory in which the children of this process keep the compiled main module for one another."""
    return _manyhands.notebook_descriptor()


#: Where this package lies: a child must find it before it is told the parent's path.
_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def command(call: str) -> tuple[str, list[str]]:
    """Program and arguments of an interpreter with this one's flags that runs ``call``, a ``module.function(...)``."""
    module = call.partition("(")[0].rpartition(".")[0]
    code = f"import sys; sys.path.append({_HOME!r}); import {module}; {call}"
    executable = os.fsdecode(spawn.get_executable())
    flags: list[str] = util._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return executable, [executable, *flags, "-c", code, "--multiprocessing-fork"]
