"""What the user gives to make workers ready, and which object holds it.

An initializer may be a method of the very object that has the pool or executor: a circle. A pool's engine is held by
its driver thread and by lists that end pools at the interpreter's end; would it hold the initializer, such a circle
were never garbage. So the pool or executor alone holds it, and the engine looks at it through a weak reference.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _worker

if TYPE_CHECKING:
    from . import _manyhands

__all__ = ["Readying", "Workers"]


class Readying:
    """What makes workers ready. Held by the pool or executor that it was given to.

    An executor may be garbage while calls are outstanding, which are done all the same, perhaps by workers that are
    still to be started: then this is kept until they are. A pool is not: with it, its workers end.
    """

    #: An executor's.
    workers: Workers | None = None

    def __init__(
        self,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        process: Callable[..., Any] | None = None,
    ) -> None:
        self.initializer = initializer
        self.initargs = initargs
        self.process = process

    def __del__(self) -> None:
        if self.workers is not None:
            self.workers.keep(self)


class Workers:
    """How the workers of a pool or executor are started; see their `make`. It knows nothing of the pool or executor."""

    def __init__(self, readying: Readying) -> None:
        self._readying = weakref.ref(readying)
        self._kept: Readying | None = None
        self._core: Callable[[], _manyhands.Pool | None] = lambda: None

    def found(self, core: _manyhands.Pool) -> None:
        """The engine is made."""
        self._core = weakref.ref(core)
        self._pool = core._address()[0]

    def address(self, bell: int) -> _worker.Address:
        """By what a worker finds its pool."""
        return _worker.Address(self._pool, bell)

    def given(self) -> Readying:
        """What makes a worker ready; ``RuntimeError`` when the pool or executor was collected."""
        given = self._readying() or self._kept
        if given is None:
            raise RuntimeError("the pool is gone, and needs no worker")
        return given

    def keep(self, readying: Readying) -> None:
        """The executor is garbage. The engine forgets this, and what is kept, when it has no more to do."""
        core = self._core()
        if core is not None and core.outstanding > 0:
            self._kept = readying
