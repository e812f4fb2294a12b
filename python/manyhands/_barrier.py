"""`manyhands.synchronize.Barrier`: apart, as it is a `threading.Barrier` too, and not everybody needs that module."""

from __future__ import annotations

import threading

from . import _kin, _manyhands
from .synchronize import A_CONDITION

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

__all__ = ["Barrier"]


class Barrier(_manyhands.Barrier, threading.Barrier):
    """A place where a fixed number of threads and processes wait for each other, again and again.

    Args:
        parties: how many, at most 16,383.
        action: called by one of them when all are there, before any goes on; should it raise, the barrier breaks.
        timeout: for `wait`, in seconds, when that is not told another one.

    When a process is killed that waits there, or runs the action, the barrier breaks: the others get a
    ``threading.BrokenBarrierError`` about half a second later, those who come later at once.
    """

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: Any = None,
    ) -> None:
        self._action = action
        self._create(parties, bool(action), timeout)

    __reduce_ex__ = _kin.reduce_ex

    def __getstate__(self) -> tuple[int, int, Callable[[], object] | None, float | None]:
        _manyhands.assert_sending(A_CONDITION)
        return self._state_to_send()

    def _state_to_send(self) -> tuple[int, int, Callable[[], object] | None, float | None]:
        return (*self._handle(), self._action, self._timeout)

    def __copy__(self) -> Self:
        """Another object of the same barrier, as in the standard library."""
        made = type(self).__new__(type(self))
        made.__setstate__(self._state_to_send())
        return made

    def __setstate__(self, state: tuple[int, int, Callable[[], object] | None, float | None]) -> None:
        offset, generation, self._action, timeout = state
        self._attach(offset, generation, bool(self._action), timeout)

    def __repr__(self) -> str:
        here = "broken" if self.broken else f"waiters={self.n_waiting}/{self.parties}"
        return f"<{type(self).__module__}.{type(self).__qualname__} at {id(self):#x}: {here}>"


# Pickles and `repr` say where its users find it.
Barrier.__module__ = f"{__package__}.synchronize"
_kin.recognise("_barrier")
