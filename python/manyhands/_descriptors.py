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


#: How long the sharer's lock is waited for, in seconds. Whoever holds it holds it for a moment; but a queue may be
#: collected as garbage in the thread that holds it.
_PATIENCE = 0.1


def withdraw(offers: list[Any]) -> list[Any]:
    """Close what was offered, but for what somebody still has: it may be pickled again. Those for which it could not be
    done now."""
    nobodys = [offer for offer in offers if offer[0]() is None]
    sharer: Any = resource_sharer._resource_sharer  # type: ignore[attr-defined]
    if not nobodys or not sharer._lock.acquire(timeout=_PATIENCE):
        return nobodys
    try:
        # After a fork, and after `stop`, all that was offered before is closed.
        known = [key for _, (address, key) in nobodys if address == sharer._address]
        closes = [sharer._cache.pop(key)[1] for key in known if key in sharer._cache]
    finally:
        sharer._lock.release()
    for close in closes:
        close()
    return []


def still_offered(offers: list[Any]) -> list[Any]:
    """Those of them that nobody has asked for, as far as that can be known now."""
    sharer: Any = resource_sharer._resource_sharer  # type: ignore[attr-defined]
    if not sharer._lock.acquire(timeout=_PATIENCE):
        return offers
    try:
        return [offer for offer in offers if offer[1][0] == sharer._address and offer[1][1] in sharer._cache]
    finally:
        sharer._lock.release()
