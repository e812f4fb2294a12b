"""Descriptors that a pickle names, when that pickle is not sent, or nobody will ask for them any more.

A descriptor that is pickled is noted: by what starts a process, which passes it on to the child, or by the resource
sharer, whose thread hands it to whoever asks for it. What nobody asks for would be kept for ever: the other end of a
pipe would never see its end.

Used by `_by_value`, when it pickles an object that was pickled by name before, and by the engine, for messages that are
not sent, or lie in a queue that is gone.
"""

from __future__ import annotations

from multiprocessing import resource_sharer
from multiprocessing.context import get_spawning_popen

from . import _manyhands

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Noted", "still_offered", "withdraw"]


class Noted:
    """What this thread's pickles note from now on."""

    def __init__(self) -> None:
        popen: Any = get_spawning_popen()
        #: What is passed to the child that is being started, and how many of them were before.
        self._fds: list[int] = getattr(popen, "_fds", [])
        self._passed = len(self._fds)
        #: Offered before.
        self._offered = _manyhands.offers_so_far()

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
        _manyhands.withdraw_offers(self._offered)


def withdraw(offers: list[Any]) -> None:
    """Close what was offered; but what somebody still has may be pickled again."""
    for offer, (address, key) in offers:
        if offer() is None:
            _withdraw(address, key)


def still_offered(offers: list[Any]) -> list[Any]:
    """Those of them that nobody has asked for."""
    sharer: Any = resource_sharer._resource_sharer  # type: ignore[attr-defined]
    with sharer._lock:
        return [offer for offer in offers if offer[1][0] == sharer._address and offer[1][1] in sharer._cache]


def _withdraw(address: object, key: int) -> None:
    sharer: Any = resource_sharer._resource_sharer  # type: ignore[attr-defined]
    with sharer._lock:
        # After a fork, and after `stop`, all that was offered before is closed.
        same = sharer._address == address
        _, close = sharer._cache.pop(key, (None, None)) if same else (None, None)
    if close is not None:
        close()
