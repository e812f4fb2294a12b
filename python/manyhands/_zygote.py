"""What the fork server runs: import what children need, then fork one for each request."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
from multiprocessing import process, resource_tracker, spawn, util

from . import _child, _manyhands, _unguarded, forkserver

# What almost every child needs, imported once here.
from . import _worker as _worker
from . import context as _context  # noqa: F401
from . import queues as _queues  # noqa: F401

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from typing import Any


def main(
    place: int, family: int, socket: int, life: int, tracker: int, preload: list[str], data: dict[str, Any]
) -> None:
    """Serve until the client is gone."""
    _manyhands.join_family(family, place)
    os.close(family)
    if not _manyhands.die_with_parent(life):
        return
    _adopt_tracker(tracker)
    # An unguarded start in the main module must not fork this server.
    _child._force_start_method("forkserver")
    _import(preload, data)
    util._close_stdin()  # type: ignore[attr-defined]
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A child lets it in when it can deal with it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    server = _manyhands.Zygote(socket)
    os.close(socket)
    forkserver.freeze()
    while server.next_request():
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                atexit._clear()
                atexit.register(util._exit_function)  # type: ignore[attr-defined]
                signal.signal(signal.SIGINT, interrupt)
                os.close(life)
                request = server.in_child()
                del server
                code = _serve(*request)
            except Exception as error:
                sys.excepthook(type(error), error, error.__traceback__)
                sys.stderr.flush()
            finally:
                atexit._run_exitfuncs()
                _manyhands.keep_locks()
                os._exit(code)
        server.forked(pid)


def _serve(job: int, life: int, passed: list[int]) -> int:
    forkserver._forkserver._inherited_fds = passed
    process_obj = _child.read_job(job, lambda data: _unguarded.import_main(lambda: spawn.prepare(data)))
    if not getattr(process_obj, "_is_pool_worker", False):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    return _child.run(process_obj, life)


def _adopt_tracker(descriptor: int) -> None:
    resource_tracker._resource_tracker._fd = descriptor  # type: ignore[attr-defined]


def _import(preload: list[str], data: dict[str, Any]) -> None:
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
        except (Exception, SystemExit):
            # The children will meet it too, and report it to who asked for them.
            pass
        finally:
            del current._inheriting
    for name in preload:
        with contextlib.suppress(ImportError):
            __import__(name)
    # What was printed belongs to this process: its children would print it once more each.
    util._flush_std_streams()  # type: ignore[attr-defined]
