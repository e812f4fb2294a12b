"""How a fresh interpreter is started that becomes a child of this family."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from multiprocessing import context, resource_tracker, spawn, util
from multiprocessing.reduction import ForkingPickler
from multiprocessing.spawn import (
    _main,
    freeze_support,
    get_command_line,
    get_executable,
    get_preparation_data,
    import_main_path,
    set_executable,
)
from types import BuiltinFunctionType

from . import _install, _manyhands, _pickler, process
from .context import _default_context

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    StartsProgram = Callable[[str, list[str], list[int]], int]

__all__ = [
    "_main",
    "freeze_support",
    "get_command_line",
    "get_executable",
    "get_preparation_data",
    "import_main_path",
    "set_executable",
]


if not TYPE_CHECKING:

    def __getattr__(name):
        """What else the standard library's module has."""
        from ._standard_names import standard_name

        return standard_name(__name__, name)


def job_of(popen: Any, process_obj: Any) -> _manyhands.JobDescriptor:
    """A descriptor from which the child reads what it needs to know and what it is to do."""
    # The method in force, or the one that would be; a start by a context does not set it.
    method = _default_context.get_start_method(allow_none=True) or _default_context._default_context._name  # type: ignore[attr-defined]
    installed = _install.installed(), _install.starts_what_is_sent_ours()
    head = _dumps((*installed, method)) + _dumps(preparation_of(process_obj._name))
    popen._job = (process_obj, len(popen._fds))
    job = head + _pickler.dumps_with(_dump, process_obj)
    popen._job = None
    return _manyhands.JobDescriptor(job)


def preparation_of(name: str) -> dict[str, Any]:
    """What a child of that name is told to make it ready.

    `spawn.get_preparation_data` is asked through its module, because coverage and others replace it.
    """
    theirs: Any = context._default_context
    unset = theirs._actual_context is None
    try:
        return without_missing_main(spawn.get_preparation_data(name))
    finally:
        # In older Pythons this has set the standard library's start method.
        if unset and theirs._actual_context is theirs._default_context:
            theirs._actual_context = None


def described(obj: object) -> _manyhands.JobDescriptor:
    """A descriptor from which a process reads ``obj``."""
    return _manyhands.JobDescriptor(_dumps(obj))


def _dumps(obj: object) -> bytes:
    buffer = io.BytesIO()
    _dump(obj, buffer)
    return buffer.getvalue()


def _dump(obj: object, file: Any) -> None:
    pickler = ForkingPickler(file, _pickler._PROTOCOL)
    # The table is the pickler's own copy; what others have registered goes first.
    pickler.dispatch_table = {**_STANDARD_PROCESSES, **_pickler.own_reducers, **pickler.dispatch_table}
    pickler.dump(obj)


#: How process objects of the standard library's own classes are sent.
_STANDARD_PROCESSES: dict[type, Any] = dict.fromkeys(
    (context.Process, context.ForkProcess, context.SpawnProcess, context.ForkServerProcess),
    process.reduce_standard,
)


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
    if tracker._fd is not None and not (
        _is_as_it_was(tracker) or _is_trackers_pipe(tracker._pid, tracker._fd)
    ):
        # Other code has closed it, as daemons do: asked now, the tracker would write to whatever has its number.
        tracker._fd = tracker._pid = None
    if tracker._fd is None:
        # In a thread, where no signal's handler runs: one that raised in the middle would leave a process that nobody
        # knows.
        starter = threading.Thread(target=_start_tracker)
        try:
            starter.start()
        except RuntimeError:
            # There can be none, after an `unshare` of pid namespaces say, or at a limit.
            _start_tracker()
        else:
            starter.join()
    descriptor = resource_tracker.getfd()
    assert descriptor is not None, "getfd starts the tracker"
    if not _is_as_it_was(tracker):
        status = os.fstat(descriptor)
        _tracker = (tracker._pid or 0, descriptor, status.st_dev, status.st_ino)
    return descriptor


def _is_as_it_was(tracker: Any) -> bool:
    """Whether the resource tracker and its pipe are those that are known."""
    if _tracker is None or _tracker[:2] != (tracker._pid or 0, tracker._fd):
        return False
    # `os.fstat` would make a dozen objects.
    return _manyhands.is_file(*_tracker[1:])


def _start_tracker() -> None:
    # The call that asks for its descriptor then raises the reason.
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


#: What the fork server runs.
_SERVER = "manyhands._zygote"


def command(call: str) -> tuple[str, list[str]]:
    """Program and arguments of an interpreter with this one's flags that runs ``call``, a ``module.function(...)``.

    Behind it stands the standard library's module that would do it: tools, and the tests of libraries, tell by the
    command line what a process of multiprocessing is there for.
    """
    module = call.partition("(")[0].rpartition(".")[0]
    stands_for = "multiprocessing.forkserver" if module == _SERVER else "multiprocessing.spawn"
    code = f"import sys; sys.path.append({_HOME!r}); import {module}; {call}  # {stands_for}"
    executable = os.fsdecode(spawn.get_executable())
    flags: list[str] = util._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return executable, [executable, *flags, "-c", code, "--multiprocessing-fork"]


def start_interpreter(
    start: _manyhands.Start, call: str, passed: list[int], interruptible: bool = True
) -> _manyhands.Process:
    """Start an interpreter that runs ``call`` and inherits these descriptors under their numbers.

    Args:
        interruptible: if not, it begins with SIGINT blocked.
    """
    program, argv = command(call)
    tools = tools_start()
    if tools is None:
        return start.spawn(program, argv, passed, interruptible)
    # If a handler of a signal raises before the child is ours, the child finds its place taken back, and ends.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [] if interruptible else [signal.SIGINT])
    try:
        return start.start_by(lambda: tools(program, argv, passed))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def tools_start() -> StartsProgram | None:
    """What starts programs instead of the engine, if a debugger or a tracer has replaced a function that does.

    Such a tool follows the children of a program through the functions by which the interpreter starts programs: it
    changes their command lines. The standard library's `multiprocessing` starts them through ``util.spawnv_passfds``,
    which calls ``_posixsubprocess.fork_exec``; the engine starts them as ``os.posix_spawn`` does.
    """
    passfds: Any = util.spawnv_passfds
    if getattr(passfds, "__globals__", None) is not vars(util):
        return _spawnv_passfds
    # Without an import: what has not been imported, nobody has replaced anything in.
    subprocesses: Any = sys.modules.get("_posixsubprocess")
    if subprocesses is not None and not isinstance(subprocesses.fork_exec, BuiltinFunctionType):
        return _spawnv_passfds
    for name in ("posix_spawn", "posix_spawnp"):
        function = getattr(os, name)
        if not isinstance(function, BuiltinFunctionType):
            return lambda *arguments, function=function: _posix_spawn(function, *arguments)
    return None


def _spawnv_passfds(program: str, argv: list[str], passed: list[int]) -> int:
    # In bytes, as the standard library gives it.
    return util.spawnv_passfds(os.fsencode(program), argv, passed)


def _posix_spawn(function: Callable[..., int], program: str, argv: list[str], passed: list[int]) -> int:
    # A descriptor that is duplicated onto itself stays open in the child.
    actions = [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in passed]
    return function(program, argv, os.environ, file_actions=actions)
