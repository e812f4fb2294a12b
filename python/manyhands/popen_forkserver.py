"""How a process is started by the fork server: it forks, and the child reads its job from a descriptor."""

from __future__ import annotations

from . import _manyhands, _unguarded, forkserver, popen_fork, spawn

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
    """A descriptor on its way to the child, known by its place among those passed."""

    def __init__(self, place: int) -> None:
        self.place = place

    def detach(self) -> int:
        inherited = forkserver.get_inherited_fds()
        assert inherited is not None, "not a child of the fork server"
        return inherited[self.place]


class Popen(popen_fork.Popen):
    """A started process."""

    method = "forkserver"
    DupFd = _DupFd

    def __init__(self, process_obj: Any) -> None:
        self._fds: list[int] = []
        #: The process while it is pickled, and how many descriptors were noted before.
        self._job: tuple[object, int] | None = None
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Notes a descriptor that the child is passed; its place among them."""
        self._fds.append(fd)
        return len(self._fds) - 1

    def _launch(self, process_obj: Any) -> None:
        _unguarded.about_to_start()
        job, carried = _manyhands.carrying(lambda: spawn.job_of(self, process_obj), self)
        self._process = forkserver.start(job, [spawn.tracker_descriptor(), *self._fds], carried)
