"""Prompts and notebooks, whose forked children are copies from some moment: what has been defined since goes by value.

A fresh child of such a program has nothing of the main module, and everything goes by value to it. A forked child has
what was there: functions and classes go by value too, because they may have been defined again, and short values of
the globals that they use, because they may have been changed. What is long, or cannot be sent, is not sent again while
it is the very object that all children began with.

Used by what forks children and by `_by_value`.
"""

from __future__ import annotations

import sys

from . import _unguarded

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Inherited", "is_inherited", "note_fork", "note_forks"]


class Inherited:
    """What the main module had when a child was forked; kept by the object that stands for the child."""

    def __init__(self) -> None:
        from . import _marks

        self.names = dict(vars(sys.modules["__main__"]))
        self._marks = _marks.marks_of(self.names, True)

    def note_forked(self) -> None:
        """In the child: what it began with is not its own doing."""
        from . import _marks

        _unguarded.names, _marks.last = self.names, self._marks


#: One for each moment in which a child was forked that may live. None of them needs to be told what it began with.
_inherited: Any = None


def _is_typed_in() -> bool:
    """Whether the main module goes on to be defined, piece by piece, at a prompt or in a notebook."""
    if hasattr(sys, "ps1"):
        return True
    if getattr(sys.modules["__main__"], "__loader__", None) is not None:
        # A script's, or the interpreter's own of ``python -c`` or standard input.
        return False
    from . import _pickler

    # Somebody has put it there to define things in.
    return not _pickler.main_is_importable()


def note_forks() -> None:
    """Children may be addressed that are forked at a prompt."""
    if _is_typed_in():
        from . import _pickler

        _pickler.note_lacking_names()


def note_fork() -> Inherited | None:
    """Before a child is forked: what it begins with, if that is of interest, to be kept as long as the child."""
    global _inherited
    if not _is_typed_in():
        return None
    note_forks()
    if _inherited is None:
        from weakref import WeakSet

        _inherited = WeakSet()
    made = Inherited()
    _inherited.add(made)
    return made


def is_inherited(name: str, value: object) -> bool:
    """Whether all forked children have that value of the main module's, and sending it would take long or fail.

    What is short goes along each time; its mark tells the receiver whether it has changed in place.
    """
    from . import _pickler

    if not _inherited or _pickler.has_fresh_children():
        return False
    if not all(each.names.get(name) is value for each in list(_inherited)):
        return False
    return not _pickler.is_named(value) and not _is_short(value)


#: A longer one is not sent to children that began with it.
_SHORT = 1 << 20


class _Measure:
    """Takes what a pickler writes, up to a length."""

    def __init__(self) -> None:
        self._left = _SHORT

    def write(self, piece: Any) -> int:
        self.take(len(piece))
        return len(piece)

    def keep(self, buffer: Any) -> bool:
        self.take(memoryview(buffer).nbytes)
        return False

    def take(self, length: int) -> None:
        self._left -= length
        if self._left < 0:
            raise OverflowError


def _is_short(value: object) -> bool:
    from . import _descriptors
    from ._manyhands import sending

    if isinstance(value, type(sys)):
        return True
    noted, measure = _descriptors.Noted(), _Measure()
    try:
        sending(_measure, value, measure)
    except Exception:
        return False
    finally:
        noted.forget()
    return True


def _measure(value: object, measure: _Measure) -> None:
    from . import _pickler

    _pickler._Pickler(measure, _pickler._PROTOCOL, True, measure.keep).dump(value)
