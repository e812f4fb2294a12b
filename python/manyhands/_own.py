"""What the standard library's own code asks for, it gets as its own.

Its queues, pools, locks and executor are built on each other's insides: a queue of the standard library's takes the
locks ``_rlock`` and ``_wlock`` of its context's and sends through a pipe of its own kind, its pool keeps workers off a
queue by that queue's lock. Made of ours, they would find other insides, or none. The rule is by the module whose code
asks; it holds for the standard library's contexts where manyhands is installed, and for ours.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from types import FrameType

__all__ = ["asks_for_its_own", "is_called_by_its_pool", "makes_its_pool"]

#: Modules whose code gets the standard library's objects, and those of ours that ask for these by name. (What managers
#: and the sharer of descriptors talk through is ours: it is only called, by its public names.)
_ASKERS = {
    "concurrent.futures.process",
    "multiprocessing.connection",
    "multiprocessing.forkserver",
    "multiprocessing.pool",
    "multiprocessing.queues",
    "multiprocessing.sharedctypes",
    "multiprocessing.synchronize",
    f"{__package__}._standard",
    f"{__package__}.connection",
    f"{__package__}.synchronize",
}
#: Modules in which the life of a child begins.
_LIVES = {"multiprocessing.process", f"{__package__}.process"}
#: Modules whose code hands on what others ask for.
_BETWEEN = {"multiprocessing.context", f"{__package__}.context", f"{__package__}._patches"}


def asks_for_its_own(frame: FrameType | None) -> bool:
    """Whether code that runs in ``frame``, or calls it if that only hands on, gets the standard library's objects."""
    asker = _asker(frame)
    return asker is not None and asker.f_globals.get("__name__") in _ASKERS


def is_called_by_its_pool(frame: FrameType | None) -> bool:
    """As `asks_for_its_own`, of the standard library's pool alone."""
    asker = _asker(frame)
    return asker is not None and asker.f_globals.get("__name__") == "multiprocessing.pool"


def makes_its_pool(frame: FrameType | None) -> bool:
    """Whether ``frame`` works for a pool of the standard library's that is being made.

    Its subclasses override steps of that, ``_setup_queues`` above all, and the queues that they put in are the pool's.
    """
    pools = sys.modules.get("multiprocessing.pool")
    begins = getattr(vars(pools or sys).get("Pool"), "__init__", None)
    code = getattr(begins, "__code__", None)
    while frame is not None and code is not None:
        if frame.f_code is code:
            return True
        if frame.f_code.co_name == "_bootstrap" and frame.f_globals.get("__name__") in _LIVES:
            # A worker that was forked while the pool was being made: its own work begins here.
            return False
        frame = frame.f_back
    return False


def _asker(frame: FrameType | None) -> FrameType | None:
    while frame is not None and frame.f_globals.get("__name__") in _BETWEEN:
        frame = frame.f_back
    return frame
