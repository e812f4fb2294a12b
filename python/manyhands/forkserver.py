"""The fork server: a single-threaded process that has imported what children need, and forks them.

Each process that uses the ``forkserver`` start method has a server of its own, started at first use and again when it
was killed: a child's status comes from the process that forked it, and a server that dies with its one client can
leave nobody behind.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from multiprocessing import util
from types import BuiltinFunctionType

from . import _install, _manyhands, _unguarded, spawn

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from multiprocessing.forkserver import connect_to_new_process as connect_to_new_process
    from typing import Any, Literal

__all__ = [
    "ForkServer",
    "connect_to_new_process",
    "ensure_running",
    "get_inherited_fds",
    "set_forkserver_preload",
    "start",
]


if not TYPE_CHECKING:

    def __getattr__(name):
        """What else the standard library's module has."""
        from ._standard_names import standard_name

        return standard_name(__name__, name)


#: How long a server whose socket is closed may take to be gone, in seconds.
_ENDS_WITHIN = 5.0
#: How long the end of this process waits for another thread that starts a process.
_STARTS_WITHIN = 1.0

#: How long a child in reserve waits for something to do. It saves about a millisecond, which a program that starts
#: processes less often does not notice; and a program that counts processes soon finds none that it has not started.
RESERVE_SECONDS = 0.25


class ForkServer:
    """This process's fork server, as its client sees it."""

    def __init__(self) -> None:
        # A signal handler that runs while its thread waits for the server may start a process, too.
        self._lock = threading.RLock()
        self._owner = os.getpid()
        self._client: _manyhands.ZygoteClient | None = None
        self._process: _manyhands.Process | None = None
        #: Whether it was told to install manyhands, and whether a tool that follows children had a hand in its start.
        self._kind = (False, False)
        #: Servers that get no requests any more, and still have to tell how their children end.
        self._retired: list[tuple[_manyhands.ZygoteClient, _manyhands.Process]] = []
        self._preload_modules = ["__main__"]
        self._preload_on_error = "ignore"
        self._ended_by_main = False
        self._ends_at_exit = False
        self._inherited_fds: list[int] | None = None

    @property
    def _forkserver_pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def set_forkserver_preload(
        self, modules_names: list[str], *, on_error: Literal["ignore", "warn", "fail"] = "ignore"
    ) -> None:
        """Modules that the server imports before it forks its first child.

        Args:
            modules_names: the modules; ``__main__`` is the program's main module.
            on_error: what becomes of one that cannot be imported. It is left out, by default without a word, or with an
                ``ImportWarning`` on the server's standard error; with ``fail`` the server ends with the traceback, and
                so does each start that asks for a server.
        """
        if not all(type(mod) is str for mod in modules_names):
            raise TypeError("module_names must be a list of strings")
        if on_error not in ("ignore", "warn", "fail"):
            raise ValueError(f"on_error must be 'ignore', 'warn', or 'fail', not {on_error!r}")
        theirs = sys.modules.get("multiprocessing.forkserver")
        known = [self]
        if theirs is not None and _install.installed():
            known.append(vars(theirs)["_forkserver"])
        for server in known:
            server._preload_modules, server._preload_on_error = modules_names, on_error

    def get_inherited_fds(self) -> list[int] | None:
        """The descriptors this process was passed by the server that forked it; ``None`` when none did."""
        return self._inherited_fds

    def ensure_running(self) -> None:
        """Start the server, unless it runs."""
        with self._lock:
            self._ensure_running()

    def start(
        self, job: _manyhands.JobDescriptor, fds: list[int], carried: list[tuple[int, int]]
    ) -> _manyhands.Process:
        """Start a child that reads its job from ``job``, is passed ``fds`` and opens the queues in ``carried``."""
        with self._lock:
            known = self._client
            client = self._ensure_running()
            try:
                try:
                    return self._request(client, job, fds, carried)
                except BrokenPipeError:
                    # One that was there was killed since we looked: a new one gets the request.
                    if client is not known and _on_error(self._asked()) == "fail":
                        raise
                    return self._request(self._launch(), job, fds, carried)
            except BrokenPipeError as error:
                if _on_error(self._asked()) == "fail":
                    error.add_note("The fork server may have failed to preload a module: see standard error.")
                raise

    def _request(
        self,
        client: _manyhands.ZygoteClient,
        job: _manyhands.JobDescriptor,
        fds: list[int],
        carried: list[tuple[int, int]],
    ) -> _manyhands.Process:
        start = _manyhands.Start()
        start.pack(carried)
        return start.request(client, job, fds)

    def _ensure_running(self) -> _manyhands.ZygoteClient:
        if self._client is None or self._process is None or self._process.poll() is not None:
            return self._launch()
        if self._kind != _kind_wanted():
            # What it has imported took its names from the standard library; a debugger would not see what it forks.
            self._retired.append((self._client, self._process))
            self._client = self._process = None
            return self._launch()
        return self._client

    def _launch(self) -> _manyhands.ZygoteClient:
        _unguarded.about_to_start()
        before = self._client
        self._end_at_exit()
        preload, on_error, kind = self._what_to_preload(), _on_error(self._asked()), _kind_wanted()
        data: dict[str, Any] = {}
        if preload:
            known = spawn.preparation_of("ignore")
            data = {
                key: known[key] for key in ("init_main_from_path", "sys_path", "sys_argv") if key in known
            }
        client, start = _manyhands.ZygoteClient(), _manyhands.Start()
        # Not in the command line, which may be no longer than the system's limit: the main module's `sys.argv` may.
        told = spawn.described((preload, on_error, data))
        fds = (_manyhands.family_descriptor(), client.servers_end, start.life, told.number)
        arguments = ", ".join(map(str, (start.place, *fds)))
        call = f"manyhands._zygote.main({arguments}, {kind[0]})"
        passed = [fd for fd in fds if fd is not None]
        with _manyhands.Starting():
            # Ctrl-C is not the server's affair, not even while it comes up.
            process = spawn.start_interpreter(start, call, passed, interruptible=False)
            client.started(process)
            if self._client is before:
                self._process, self._client, self._kind = process, client, kind
        # Another one, if a signal handler has started a process meanwhile; this one ends, then.
        assert self._client is not None, "somebody has started one"
        return self._client

    def _what_to_preload(self) -> list[str]:
        # A server that has ended of itself did so in the main module: children run it, and report to who starts them.
        # (Unless it was told to end when a module cannot be imported.)
        asked = self._asked()
        known = self._process if _on_error(asked) != "fail" else None
        if known is not None and (known.wait(_ENDS_WITHIN) or -1) > 0:
            self._ended_by_main = True
        return [name for name in asked._preload_modules if name != "__main__" or not self._ended_by_main]

    def _asked(self) -> Any:
        """The object that has been told what to preload."""
        theirs = sys.modules.get("multiprocessing.forkserver")
        return vars(theirs)["_forkserver"] if theirs is not None and _install.installed() else self

    def _end_at_exit(self) -> None:
        """Have the server end before this process does.

        What it has preloaded may have something to do at its end; coverage, say, writes what was run there. If this
        process were gone by then, the kernel would kill the server. Children are waited for before, by a finalizer of a
        higher priority.
        """
        if not self._ends_at_exit:
            self._ends_at_exit = True
            util.Finalize(None, self._stop, (_ENDS_WITHIN,), exitpriority=-50)

    def _stop(self, within: float | None = None) -> None:
        # At the interpreter's end a daemon thread may be starting a process, and never give the lock back.
        if not self._lock.acquire(timeout=-1 if within is None else _STARTS_WITHIN):
            return
        try:
            processes = [process for _, process in self._retired]
            if self._process is not None:
                processes.append(self._process)
            self._process = self._client = None
            self._retired.clear()
            if self._owner == os.getpid():
                end = None if within is None else time.monotonic() + within
                for process in processes:
                    process.wait(None if end is None else max(0.0, end - time.monotonic()))
        finally:
            self._lock.release()

    def _forget(self) -> None:
        """In a forked child: the server is the parent's."""
        self._lock = threading.RLock()
        self._owner = os.getpid()
        self._client = self._process = None
        self._retired = []
        self._ends_at_exit = False


def _on_error(asked: Any) -> str:
    """What is to become of a module that cannot be preloaded; standard libraries before 3.15 cannot be told."""
    return str(getattr(asked, "_preload_on_error", "ignore"))


def _kind_wanted() -> tuple[bool, bool]:
    """What tells a server that was started before from one that would be started now."""
    return _install.installed(), spawn.tools_start() is not None


_forkserver = ForkServer()
ensure_running = _forkserver.ensure_running
get_inherited_fds = _forkserver.get_inherited_fds
set_forkserver_preload = _forkserver.set_forkserver_preload
start = _forkserver.start

os.register_at_fork(after_in_child=_forkserver._forget)


def forks_ahead() -> bool:
    """In the server: whether it forks a child before there is a request for it.

    Not while a tool has replaced ``os.fork``: a debugger would show each such child as a process of the program's.
    """
    return isinstance(os.fork, BuiltinFunctionType)


def freeze() -> None:
    """In the server, before the first fork: what is there stays, so no collection touches (and copies) its pages."""
    gc.freeze()
