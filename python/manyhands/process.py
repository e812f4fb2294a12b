"""Processes: the standard library's `BaseProcess`, started by our engine.

Light to import: a spawned child imports this before anything of the user's.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from multiprocessing import process as _std
from multiprocessing.process import (
    BaseProcess,
    active_children,
    current_process,
    parent_process,
)

from . import _imports, _manyhands

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

__all__ = [
    "BaseProcess",
    "ForkProcess",
    "ForkServerProcess",
    "Process",
    "SpawnProcess",
    "active_children",
    "current_process",
    "parent_process",
]


if not TYPE_CHECKING:

    def __getattr__(name):
        """What else the standard library's module has."""
        from ._standard_names import standard_name

        return standard_name(__name__, name)


class _Process(BaseProcess):
    """What our processes add to the standard library's.

    Args:
        die_with_parent: the kernel ends the process when this one is gone, however it went. Daemonic processes always
            do; by default others outlive a parent that is *killed*, as in the standard library.
    """

    _start_method: str | None

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] = {},
        *,
        daemon: bool | None = None,
        die_with_parent: bool = False,
    ) -> None:
        super().__init__(group, target, name, args, kwargs, daemon=daemon)
        self._die_with_parent = die_with_parent

    def start(self) -> None:
        """Start the process. In a worker of a pool, too: there, what is started ends with the worker.

        When a signal's handler raises meanwhile there is no process, or it is ended.
        """
        start_from_worker(self, BaseProcess.start)

    def interrupt(self) -> None:
        """Send the process SIGINT, as Ctrl-C does."""
        self._check_closed()  # type: ignore[attr-defined]
        self._popen.interrupt()  # type: ignore[attr-defined]

    @staticmethod
    def _after_fork() -> None:
        util: Any = sys.modules.get("multiprocessing.util")
        if util is not None:
            if util._finalizer_registry:
                util._finalizer_registry.clear()
            # The dictionary behind it, whose length no function of Python's tells.
            if util._afterfork_registry.data:
                util._run_after_forkers()

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        """The life of the process in itself; its exit status."""
        original: Any = BaseProcess._bootstrap  # type: ignore[attr-defined]
        return (
            _bootstrap(self, parent_sentinel) if _is_standard(original) else original(self, parent_sentinel)
        )


# The standard library's text of a call with wrong arguments.
_Process.__init__.__qualname__ = BaseProcess.__init__.__qualname__


class ForkProcess(_Process):
    """A process that begins as a copy of this one."""

    _start_method = "fork"

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        return _popen("fork")(process_obj)


#: What starts processes by each method, once one was: an import at each start would look at many objects, and where
#: they are in pages that the last fork has shared with a child, each of these would have to be copied.
_popens: dict[str, Any] = {}


def _popen(method: str) -> Any:
    popen = _popens.get(method)
    if popen is None:
        if method == "fork":
            from .popen_fork import Popen as popen
        elif method == "spawn":
            from .popen_spawn_posix import Popen as popen
        else:
            from .popen_forkserver import Popen as popen
        _popens[method] = popen
    return popen


class SpawnProcess(_Process):
    """A process that begins as a fresh interpreter."""

    _start_method = "spawn"

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        return _popen("spawn")(process_obj)

    @staticmethod
    def _after_fork() -> None:
        # Not a fork: there is nothing of a parent's to clear.
        pass


class ForkServerProcess(_Process):
    """A process that begins as a copy of the fork server, which has imported what all children need."""

    _start_method = "forkserver"

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        return _popen("forkserver")(process_obj)


class Process(_Process):
    """A process of the default start method."""

    _start_method = None

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from .context import _default_context

        return _default_context.get_context().Process._Popen(process_obj)  # type: ignore[attr-defined]

    @staticmethod
    def _after_fork() -> None:
        child = sys.modules.get(f"{__package__}._child")
        if getattr(child, "start_method", None) != "spawn":
            _Process._after_fork()


class StartedByOthers(RuntimeError):
    """Something in shared memory is sent to a process that the standard library starts: it could not open it."""


def assert_starting_ours(obj: object) -> None:
    """Raise `StartedByOthers` if the process for which this thread pickles the object is not started by manyhands."""
    from multiprocessing.context import get_spawning_popen

    popen: Any = get_spawning_popen()
    # What only stands in for one, so that something can be pickled, starts no process.
    if not hasattr(type(popen), "_launch"):
        return
    if not any(kind.__module__.startswith(f"{__package__}.") for kind in type(popen).__mro__):
        raise StartedByOthers(
            f"a {type(obj).__name__} of manyhands can be sent only to a process that manyhands starts,"
            f" not to one that {type(popen).__module__} does"
        )


# --- what is done for processes of the standard library's classes, too ---


def start_from_worker(process_obj: Any, start: Callable[[Any], object]) -> None:
    """``start(process_obj)``, for which a worker of a pool counts as no daemon.

    The standard library lets no daemon have children, because they would outlive it. A worker's do not.
    """
    current: Any = current_process()
    config = current._config
    if not getattr(current, "_is_pool_worker", False) or "daemon" not in config:
        with _manyhands.Starting():
            start(process_obj)
        return
    process_obj._die_with_parent = True
    with _manyhands.Starting(config):
        start(process_obj)


def dies_with_parent(process_obj: Any) -> bool:
    """Whether the kernel is to end the process when its parent is gone."""
    return bool(process_obj.daemon or getattr(process_obj, "_die_with_parent", False))


def run(process_obj: Any, life: int, is_fork: bool = False) -> int:
    """Run the process in itself, to its end; its exit status. ``life`` is readable once the parent is gone."""
    original: Any = BaseProcess._bootstrap  # type: ignore[attr-defined]
    given = getattr(process_obj._bootstrap, "__func__", None)
    if (given is original or given is _Process._bootstrap) and _is_standard(original):
        return _bootstrap(process_obj, life)
    # Called as the standard library does, of which only the forked child names the argument.
    code: int = process_obj._bootstrap(parent_sentinel=life) if is_fork else process_obj._bootstrap(life)
    return code


def _is_standard(bootstrap: Any) -> bool:
    """Whether nobody has replaced it, as coverage and others do (by a function that may have taken over its name)."""
    return getattr(bootstrap, "__globals__", None) is vars(_std)


def note_status(code: int) -> int:
    """The status with which a forked child of this exit code ends, noted for a parent that cannot have it from the
    kernel. The standard library's `os._exit` raises for what is no C int, and the child ends with status 1.
    """
    if not -1 << 31 <= code < 1 << 31:
        print("OverflowError: Python int too large to convert to C int", file=sys.stderr, flush=True)
        code = 1
    _manyhands.note_exit(code & 0xFF)
    return code


def end(util: Any, at_exit: Callable[[], object]) -> None:
    """Calls ``at_exit``, the at-exit function of ``util`` or somebody else's in its place.

    The calls of the standard library's mostly find no finalizer, no child and no logger: then they are left out.
    """
    is_standard = getattr(at_exit, "__globals__", None) is vars(util)
    if is_standard and not util._finalizer_registry and not _std._children and util._logger is None:  # type: ignore[attr-defined]
        util._exiting = True
    else:
        at_exit()


def reduce_standard(process_obj: Any) -> tuple[Any, ...]:
    """How an object of one of the standard library's own process classes is sent to the child that it starts.

    By its class's name the child would import the module of the contexts, and all that this imports. The state is no
    argument: what leads back to the object (its target's owner, which keeps it) finds it in the pickler's memo.
    """
    return stand_for, (type(process_obj).__name__,), vars(process_obj)


def stand_for(name: str) -> Any:
    """An object of the standard library's class of that name; of ours until the module of that class has run here."""
    kind: Any = vars(sys.modules.get("multiprocessing.context") or _std).get(name)
    stands = kind is None
    if stands:
        kind = globals()[name]
    process_obj = object.__new__(kind)
    if stands:
        from . import _imports

        _imports.when_executed(
            "multiprocessing.context", lambda context: become_standard(process_obj, context)
        )
    return process_obj


def become_standard(process_obj: Any, context: Any) -> None:
    """Give a process object that stands for one of the standard library's the class that is there now."""
    if type(process_obj).__module__ == __name__:
        process_obj.__class__ = vars(context)[type(process_obj).__name__]


def _recognise(_contexts: object) -> None:
    from . import _kin

    _kin.recognise("process")


# By then a program can ask for the standard library's classes; most spawned children never can.
_imports.when_executed("multiprocessing.context", _recognise)


def label(process_obj: Any) -> str:
    """What `manyhands.doctor` shows of a process: its name, and the function that it runs."""
    target = getattr(process_obj, "_target", None)
    if target is None:
        return f"{process_obj.name}: {type(process_obj).__qualname__}"
    try:
        if getattr(target, "__module__", "") == "manyhands._worker":
            # What a pool's worker runs, its pool knows.
            return str(process_obj.name)
        return f"{process_obj.name}: {getattr(target, '__qualname__', type(target).__qualname__)}"
    except Exception:
        # What stands for another object asks that one, which need not be there.
        return f"{process_obj.name}: {type(target).__qualname__}"


#: What the next forked child has for its standard input; made by its parent, see `make_stdin`.
_stdin: Any = None
#: Its number, and which file that was when it was opened: other code may have closed it and have the number for another
#: one by now. (Nobody else has the object: it is not closed by itself.)
_stdin_is = (-1, 0, 0)


def make_stdin(is_file: Callable[[int, int, int], bool]) -> None:
    """Open the null device for the children that this process is going to fork, which would each open it again.

    ``is_file`` tells whether a number means the file of that device and inode.
    """
    global _stdin, _stdin_is
    # `os.fstat` would make a dozen objects, at each start, in pages that the last fork has shared with the child.
    if _stdin is None or not is_file(*_stdin_is):
        _stdin = _null_stdin()
        number = _stdin.fileno()
        status = os.fstat(number)
        _stdin_is = (number, status.st_dev, status.st_ino)


def _null_stdin() -> Any:
    fd = os.open(os.devnull, os.O_RDONLY)
    try:
        return open(fd, encoding="utf-8", closefd=False)
    except BaseException:
        os.close(fd)
        raise


def _bootstrap(process_obj: Any, parent_sentinel: int | None) -> int:
    """What `BaseProcess._bootstrap` does, without the calls that find nothing to do.

    A fresh interpreter would import their modules for them, and in a forked child each page that they touch is copied.
    """
    util: Any = None
    try:
        util = _become(process_obj, parent_sentinel)
        process_obj.run()
        code = 0
    except SystemExit as error:
        code = _exit_code(error)
    except BaseException:
        code = 1
        import traceback

        sys.stderr.write(f"Process {process_obj.name}:\n")
        traceback.print_exc()
    finally:
        if util is not None and not RUNS_AT_EXIT:
            util._exit_function()
        threading._shutdown()  # type: ignore[attr-defined]
        if util is not None and util._logger is not None:
            util.info(f"process exiting with exitcode {code}")
        flush_std_streams()
    return code


#: Whether a forked child's end runs the functions that were registered with `atexit` in it. Up to 3.12 it does not, and
#: a process ends what it has started before it waits for its threads; later, `atexit` does that.
RUNS_AT_EXIT = sys.version_info >= (3, 13)


def _become(process_obj: Any, parent_sentinel: int | None) -> Any:
    """This process is that one now; what is imported of ``multiprocessing.util``."""
    util: Any = sys.modules.get("multiprocessing.util")
    context: Any = sys.modules.get("multiprocessing.context")
    # One that has not run is told when it does.
    if "_force_start_method" in vars(context or _std) and process_obj._start_method is not None:
        context._force_start_method(process_obj._start_method)
    module: Any = _std
    module._process_counter = itertools.count(1)
    module._children = set()
    _close_stdin()
    # Its end waits until others have had their say about the fork.
    before = module._current_process
    module._current_process = process_obj
    module._parent_process = module._ParentProcess(
        process_obj._parent_name, process_obj._parent_pid, parent_sentinel
    )
    threading._main_thread._set_native_id()  # type: ignore[attr-defined]
    try:
        process_obj._after_fork()
    finally:
        del before
    if util is not None and util._logger is not None:
        util.info("child process calling self.run()")
    return util


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code
    sys.stderr.write(str(error.code) + "\n")
    return 1


def _close_stdin() -> None:
    global _stdin
    if sys.stdin is None:
        return
    try:
        sys.stdin.close()
    except (OSError, ValueError):
        pass
    made, _stdin = _stdin, None
    try:
        sys.stdin = made or _null_stdin()
    except (OSError, ValueError):
        pass


def flush_std_streams() -> None:
    """As ``multiprocessing.util._flush_std_streams``."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError):
            pass
