"""How a process is started by ``fork``, and what all three ways have in common."""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import sys
from multiprocessing import process, util

from . import _manyhands
from .context import _force_start_method
from .process import (
    RUNS_AT_EXIT,
    dies_with_parent,
    end,
    flush_std_streams,
    label,
    make_stdin,
    note_status,
    run,
)

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["Popen"]


class Popen:
    """A started process, as `BaseProcess` wants it."""

    method = "fork"
    _process: _manyhands.Process
    #: What a child begins with that is forked at a prompt.
    _inherited: Any = None

    def __init__(self, process_obj: Any) -> None:
        flush_std_streams()
        self.returncode: int | None = None
        self._launch(process_obj)
        self.pid = self._process.pid
        self.sentinel = self._process.sentinel

    def duplicate_for_child(self, fd: int) -> int:
        """A descriptor's number in the child: a forked child has the parent's."""
        return fd

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code, or minus the signal; ``None`` while the process runs."""
        if self.returncode is None:
            self.returncode = self._process.poll() if flag == os.WNOHANG else self._process.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end, at most ``timeout`` seconds, on the process's own descriptor; then as `poll`."""
        if self.returncode is None:
            self.returncode = self._process.wait(timeout)
        return self.returncode

    def _send_signal(self, sig: int) -> None:
        if self.returncode is None:
            self._process.signal(sig)

    def interrupt(self) -> None:
        self._send_signal(signal.SIGINT)

    def terminate(self) -> None:
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._send_signal(signal.SIGKILL)

    def close(self) -> None:
        """For compatibility: the descriptors go with this object."""

    def _launch(self, process_obj: Any) -> None:
        make_stdin(_manyhands.is_file)
        if _thread._count():
            _finish_imports()
        # Most main modules have one; what is typed at a prompt or in a notebook has none, or `ps1`.
        if hasattr(sys, "ps1") or getattr(sys.modules["__main__"], "__loader__", None) is None:
            from . import _typed_in

            self._inherited = _typed_in.note_fork()
        # Found out here: in the child, each page that is written to has to be copied first.
        dies, name = dies_with_parent(process_obj), label(process_obj)
        if f"{__package__}._pickler" in sys.modules:
            # Waits for a thread that imports it just now.
            from . import _pickler

            _pickler.note_fork()
        start = _manyhands.Start()
        # Newer resource trackers ask at a fork; without the module there is no tracker.
        tracker = sys.modules.get("multiprocessing.resource_tracker")
        intent = getattr(tracker, "_fork_intent", None)
        process = start.fork(os.fork, intent)
        if process is None:
            try:
                _live(process_obj, start, dies, name, self._inherited)
            finally:
                # A signal's handler has raised while it ended. Nothing leads back into the parent's program.
                os._exit(1)
        self._process = process


def _live(process_obj: Any, start: _manyhands.Start, dies: bool, name: str, inherited: Any) -> NoReturn:
    """The child's whole life. It ends with its parent if it ``dies``; ``name`` is what `doctor` shows of it."""
    code = 1
    try:
        start.let_signals_in()
        if RUNS_AT_EXIT:
            # In the child at-exit functions of the parent's are not ours to run.
            atexit._clear()
            atexit.register(end, util, util._exit_function)  # type: ignore[attr-defined]
        if inherited is not None:
            inherited.note_forked()
        life = start.in_child()
        if dies and not _manyhands.die_with_parent(life):
            code = -signal.SIGKILL & 0xFF
        else:
            _force_start_method(process_obj._start_method)
            _manyhands.note_label(name)
            code = note_status(run(process_obj, life, is_fork=True))
    finally:
        if RUNS_AT_EXIT:
            atexit._run_exitfuncs()
        _manyhands.keep_locks()
        os._exit(code)


def _finish_imports() -> None:
    """Waits for what other threads import of ours: a child that is forked meanwhile would wait for that for ever."""
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None) if name.startswith("manyhands.") else None
        if getattr(spec, "_initializing", False):
            __import__(name)


_manyhands.forget_children_at_fork(vars(process), Popen)
