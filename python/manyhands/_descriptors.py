"""Descriptors that a pickle names, when that pickle is thrown away because the object is pickled in another way.

A descriptor that is pickled is noted: by what starts a process, which passes it on to the child, or by the thread that
hands it to whoever asks for it. What the pickle that is sent does not name would be noted for ever: nobody closes it in
the child, and nobody asks for it. The other end of a pipe would then never see its end.

Used by `_by_value` alone, so by nobody who sends only what has a name.
"""

from __future__ import annotations

from _thread import get_ident
from multiprocessing import resource_sharer
from multiprocessing.context import get_spawning_popen

from . import _pickler

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Noted"]


class Noted:
    """What this thread's pickles note from now on."""

    def __init__(self) -> None:
        popen: Any = get_spawning_popen()
        #: What is passed to the child that is being started, and how many of them were before.
        self._fds: list[int] = getattr(popen, "_fds", [])
        self._passed = len(self._fds)
        #: Offered before.
        self._offered = len(_pickler.offered.get(get_ident(), ()))

    @classmethod
    def by_name(cls, obj: object) -> Noted:
        """What was noted when this object was pickled by name, just now."""
        noted = cls()
        job = getattr(get_spawning_popen(), "_job", None)
        if job is not None and job[0] is obj:
            noted._passed = job[1]
        noted._offered = 0
        return noted

    def forget(self) -> None:
        """The pickles are thrown away, and their picklers remember nothing."""
        del self._fds[self._passed :]
        for offer, ident in self._take():
            # What somebody still has may be pickled again.
            if offer() is None:
                _withdraw(*ident)

    def keep(self) -> None:
        """The pickles are sent."""
        self._take()

    def _take(self) -> list[Any]:
        offers = _pickler.offered.get(get_ident(), [])
        taken = offers[self._offered :]
        del offers[self._offered :]
        if not offers:
            _pickler.offered.pop(get_ident(), None)
        return taken


def _withdraw(address: object, key: int) -> None:
    sharer: Any = resource_sharer._resource_sharer  # type: ignore[attr-defined]
    with sharer._lock:
        # After a fork, and after `stop`, all that was offered before is closed.
        same = sharer._address == address
        _, close = sharer._cache.pop(key, (None, None)) if same else (None, None)
    if close is not None:
        close()
