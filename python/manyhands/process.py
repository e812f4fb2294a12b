"""Processes: the standard library's `BaseProcess`, started by our engine.

Light to import: a spawned child imports this before anything of the user's.
"""

from __future__ import annotations

import signal
from multiprocessing.process import (
    BaseProcess,
    active_children,
    current_process,
    parent_process,
)

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
        """Start the process. In a worker of a pool, too: there, what is started ends with the worker."""
        current: Any = current_process()
        if not getattr(current, "_is_pool_worker", False):
            super().start()
            return
        # The standard library lets no daemon have children, because they would outlive it. These do not.
        self._die_with_parent = True
        config = current._config
        daemon = config.pop("daemon", None)
        try:
            super().start()
        finally:
            config["daemon"] = daemon

    @property
    def _dies_with_parent(self) -> bool:
        return bool(self.daemon or getattr(self, "_die_with_parent", False))

    def interrupt(self) -> None:
        """Send the process SIGINT, as Ctrl-C does."""
        self._check_closed()  # type: ignore[attr-defined]
        self._popen._send_signal(signal.SIGINT)  # type: ignore[attr-defined]


class ForkProcess(_Process):
    """A process that begins as a copy of this one."""

    _start_method = "fork"

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from .popen_fork import Popen

        return Popen(process_obj)


class SpawnProcess(_Process):
    """A process that begins as a fresh interpreter."""

    _start_method = "spawn"

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from .popen_spawn_posix import Popen

        return Popen(process_obj)

    @staticmethod
    def _after_fork() -> None:
        # Not a fork: there is nothing of a parent's to clear.
        pass


class ForkServerProcess(_Process):
    """A process that begins as a copy of the fork server, which has imported what all children need."""

    _start_method = "forkserver"

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from .popen_forkserver import Popen

        return Popen(process_obj)


class Process(_Process):
    """A process of the default start method."""

    _start_method = None

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from .context import _default_context

        return _default_context.get_context().Process._Popen(process_obj)  # type: ignore[attr-defined]
