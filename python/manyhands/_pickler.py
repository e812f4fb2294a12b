"""Objects to bytes: the standard library's `ForkingPickler` table on the C pickler.

Reducers that others register with ``multiprocessing.reduction.ForkingPickler.register`` (torch's, say) work here
too. The table is looked at only for objects that pickle would otherwise handle by its general rule, and the standard
library's module is not imported for it: a process in which nobody has imported it has no reducers of its own.
"""

from __future__ import annotations

import copyreg
import io
import sys
from _pickle import Pickler as _CPickler

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["dumps"]


class _Reducers:
    """The reducers in force, `ForkingPickler`'s before `copyreg`'s, seen as the pickler wants them: by type."""

    def __getitem__(self, cls: type) -> Callable[[Any], Any]:
        reduction = sys.modules.get("multiprocessing.reduction")
        if reduction is None and cls.__module__ == "socket":
            from multiprocessing import reduction
        if reduction is not None:
            reducer = reduction.ForkingPickler._extra_reducers.get(cls)  # pyright: ignore[reportAttributeAccessIssue]
            if reducer is not None:
                return reducer  # type: ignore[no-any-return]
        return copyreg.dispatch_table[cls]


class _Pickler(_CPickler):
    """One pickler class for all messages: its table is found by class, not built for each instance."""

    dispatch_table = _Reducers()  # type: ignore[assignment]


def dumps(obj: object) -> bytes:
    """The object as bytes for another process of the family."""
    buffer = io.BytesIO()
    _Pickler(buffer).dump(obj)
    return buffer.getvalue()
