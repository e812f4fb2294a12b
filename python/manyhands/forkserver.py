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
from multiprocessing import spawn as _spawn
from types import BuiltinFunctionType

from . import _install, _manyhands, _unguarded, spawn

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "ForkServer",
    "ensure_running",
    "get_inherited_fds",
    "set_forkserver_preload",
    "start",
]


#: How long a server whose socket is closed may take to be gone, in seconds.
_ENDS_WITHIN = 5.0

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
        self._ended_by_main = False
        self._inherited_fds: list[int] | None = None

    @property
    def _forkserver_pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def set_forkserver_preload(self, modules_names: list[str]) -> None:
        """Modules that the server imports before it forks its first child; those it cannot import are left out."""
        if not all(type(mod) is str for mod in modules_names):
            raise TypeError("module_names must be a list of strings")
        self._preload_modules = modules_names
        theirs = sys.modules.get("multiprocessing.forkserver")
        if theirs is not None and _install.installed():
            vars(theirs)["_forkserver"]._preload_modules = modules_names

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
            client = self._ensure_running()
            try:
                return self._request(client, job, fds, carried)
            except BrokenPipeError:
                # The server was killed since we looked: a new one gets the request.
                return self._request(self._launch(), job, fds, carried)

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
        preload, kind = self._what_to_preload(), _kind_wanted()
        data: dict[str, Any] = {}
        if preload:
            known = spawn.without_missing_main(_spawn.get_preparation_data("ignore"))
            data = {
                key: known[key] for key in ("init_main_from_path", "sys_path", "sys_argv") if key in known
            }
        client, start = _manyhands.ZygoteClient(), _manyhands.Start()
        fds = (_manyhands.family_descriptor(), client.servers_end, start.life)
        arguments = ", ".join(map(str, (start.place, *fds)))
        call = f"manyhands._zygote.main({arguments}, {kind[0]}, {preload!r}, {data!r})"
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
        if self._process is not None and (self._process.wait(_ENDS_WITHIN) or -1) > 0:
            self._ended_by_main = True
        theirs = sys.modules.get("multiprocessing.forkserver")
        asked = vars(theirs)["_forkserver"] if theirs is not None and _install.installed() else self
        return [name for name in asked._preload_modules if name != "__main__" or not self._ended_by_main]

    def _stop(self) -> None:
        with self._lock:
            processes = [process for _, process in self._retired]
            if self._process is not None:
                processes.append(self._process)
            self._process = self._client = None
            self._retired.clear()
            if self._owner == os.getpid():
                for process in processes:
                    process.wait()

    def _forget(self) -> None:
        """In a forked child: the server is the parent's."""
        self._lock = threading.RLock()
        self._owner = os.getpid()
        self._client = self._process = None
        self._retired = []


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
