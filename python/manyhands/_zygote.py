"""What the fork server runs: import what children need, then fork one for each request."""

from __future__ import annotations

import atexit
import errno
import os
import pickle
import signal
import sys
import threading
import warnings
from multiprocessing import process, resource_tracker, spawn, util

from . import _child, _install, _manyhands, _unguarded, forkserver

# What almost every child needs, imported once here.
from . import _worker as _worker
from . import context as _context  # noqa: F401
from . import queues as _queues  # noqa: F401
from .process import RUNS_AT_EXIT, end, note_status

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from typing import Any, NoReturn


def main(
    place: int,
    family: int,
    socket: int,
    life: int,
    told: int,
    installed: bool,
) -> None:
    """Serve until the client is gone. From ``told`` is read what to import before."""
    _manyhands.join_family(family, place)
    os.close(family)
    if not _manyhands.die_with_parent(life):
        return
    # An unguarded start in the main module must not fork this server.
    _child._force_start_method("forkserver")
    if installed:
        # Before anything is imported that takes names out of `multiprocessing`.
        _install.install()
    with open(told, "rb") as file:
        file.seek(0)
        _import(*pickle.load(file))
    util._close_stdin()  # type: ignore[attr-defined]
    # The children's ends are the server's to collect, whatever it inherited or its modules did. The children have back
    # what there was, as the standard library's.
    handlers = {number: signal.signal(number, ours) for number, ours in _HANDLERS.items()}
    # A child lets it in when it can deal with it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    server = _manyhands.Zygote(socket, forkserver.RESERVE_SECONDS)
    os.close(socket)
    forkserver.freeze()
    while server.next_request():
        if not server.hand_over():
            _fork_for_request(server, life, handlers)
        # While that child works, the next one is made.
        if server.wants_reserve() and forkserver.forks_ahead():
            _fork_reserve(server, life, handlers)
    _end()


def _end() -> None:
    """As the interpreter at its end, without taking everything apart: the client waits for it."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    util._flush_std_streams()  # type: ignore[attr-defined]
    _manyhands.keep_locks()
    os._exit(0)


#: What the server itself does about signals.
_HANDLERS = {signal.SIGINT: signal.SIG_IGN, signal.SIGCHLD: signal.SIG_DFL}


def _fork_for_request(server: _manyhands.Zygote, life: int, handlers: dict[signal.Signals, Any]) -> None:
    try:
        server.make_room()
        pid = os.fork()
    except (OSError, MemoryError) as error:
        server.refuse(getattr(error, "errno", None) or errno.ENOMEM)
        return
    if pid == 0:
        _be_a_child(server, life, handlers)
    server.forked(pid)


def _fork_reserve(server: _manyhands.Zygote, life: int, handlers: dict[signal.Signals, Any]) -> None:
    """What cannot be had is done without: the next request will be told, should it be the same then."""
    try:
        server.prepare_reserve()
        pid = os.fork()
    except (OSError, MemoryError):
        server.not_reserved()
        return
    if pid == 0:
        _be_a_child(server, life, handlers)
    server.reserved(pid)


def _be_a_child(server: _manyhands.Zygote, life: int, handlers: dict[signal.Signals, Any]) -> NoReturn:
    code = 1
    try:
        if RUNS_AT_EXIT:
            atexit._clear()
            atexit.register(end, util, util._exit_function)  # type: ignore[attr-defined]
        os.close(life)
        request = server.in_child()
        if request is None:
            os._exit(0)
        # A Ctrl-C before the request is not meant for this process: what is ignored is forgotten.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number, handler in handlers.items():
            # One that was not set from Python cannot be set again from there.
            if handler is not None:
                signal.signal(number, handler)
        code = _serve(*request)
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        sys.stderr.flush()
    finally:
        if RUNS_AT_EXIT:
            atexit._run_exitfuncs()
        _manyhands.keep_locks()
        os._exit(code)


def _serve(job: int, life: int, passed: list[int]) -> int:
    # The resource tracker is a child's, not the server's: it ends when nobody has its pipe any more.
    tracker, *inherited = passed
    resource_tracker._resource_tracker._fd = tracker  # type: ignore[attr-defined]
    forkserver._forkserver._inherited_fds = inherited
    process_obj = _child.read_job(job, lambda data: _unguarded.import_main(lambda: spawn.prepare(data)))
    if not getattr(process_obj, "_is_pool_worker", False):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    return note_status(_child.run(process_obj, life))


def _import(preload: list[str], on_error: str, data: dict[str, Any]) -> None:
    """As the standard library's fork server: the main module, if asked for, then the others."""
    if "sys_path" in data:
        sys.path[:] = data["sys_path"]
        sys.argv[:] = data["sys_argv"]
    main_path = data.get("init_main_from_path")
    if "__main__" in preload and main_path is not None:
        current: Any = process.current_process()
        current._inheriting = True
        try:
            _unguarded.import_main(lambda: _child.import_main_from_path(main_path))
        except (Exception, SystemExit) as error:
            # The children will meet it too, and report it to who asked for them.
            _not_preloaded(f"__main__ from {main_path!r}", error, on_error)
        finally:
            del current._inheriting
    for name in preload:
        try:
            __import__(name)
        except ImportError as error:
            _not_preloaded(f"module {name!r}", error, on_error)
    # What was printed belongs to this process: its children would print it once more each.
    util._flush_std_streams()  # type: ignore[attr-defined]


def _not_preloaded(what: str, error: BaseException, on_error: str) -> None:
    """What the program has asked for; see `forkserver.ForkServer.set_forkserver_preload`."""
    if on_error == "fail":
        raise error
    if on_error == "warn":
        warnings.warn(f"Failed to preload {what}: {error}", ImportWarning, stacklevel=2)
