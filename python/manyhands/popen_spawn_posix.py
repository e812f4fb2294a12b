"""How a process is started by ``spawn``: a fresh interpreter that reads its job from a descriptor."""

from __future__ import annotations

from . import _manyhands, _unguarded, popen_fork, spawn

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Popen"]


if not TYPE_CHECKING:

    def __getattr__(name):
        """What else the standard library's module has."""
        from ._standard_names import standard_name

        return standard_name(__name__, name)


class _DupFd:
    """A descriptor on its way to the child, where it has the same number."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def detach(self) -> int:
        return self.fd


class Popen(popen_fork.Popen):
    """A started process."""

    method = "spawn"
    DupFd = _DupFd

    def __init__(self, process_obj: Any) -> None:
        self._fds: list[int] = []
        #: The process while it is pickled, and how many descriptors were noted before.
        self._job: tuple[object, int] | None = None
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Notes a descriptor that the child inherits, under the same number."""
        self._fds.append(fd)
        return fd

    def _launch(self, process_obj: Any) -> None:
        _unguarded.about_to_start()
        tracker = spawn.tracker_descriptor()
        family = _manyhands.family_descriptor()
        start = _manyhands.Start()
        job, carried = _manyhands.carrying(lambda: spawn.job_of(self, process_obj), self)
        start.pack(carried)
        fds = (family, job.number, start.life, tracker, spawn.compiled_descriptor())
        arguments = ", ".join(map(str, (start.place, *fds)))
        # The resource tracker's pipe can also be one that the job needs.
        passed = list(dict.fromkeys([*fds, *self._fds]))
        self._process = spawn.start_interpreter(start, f"manyhands._child.spawned({arguments})", passed)
