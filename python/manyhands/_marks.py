"""By what a receiver tells whether a global of the main module has changed in the sender since it came last.

A global goes along with each function that uses it. What the receiver has changed in place it keeps as long as the
sender sends the same: the same object, with the same in it. Both are in the *mark* that goes with the value. A forked
child knows the marks of what it began with, and a child that has run the main module again those of what that run has
left: an initializer may change these before anything comes.

Used by `_by_value`, and by what makes such children.
"""

from __future__ import annotations

import sys
from _pickle import Pickler as _CPickler
from _weakrefset import WeakSet

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["Mark", "are_same", "last", "mark_of", "marks_of"]

#: The identity of the sender's object, or 0 for any; a digest of its pickle.
Mark = tuple[int, bytes]

#: Of the main module's globals by name: what came last, or was there when this process began.
last: dict[str, Mark | None] = {}

#: What cannot change in place. It may be set again each time.
_ATOMS = (type(None), bool, int, float, complex, str, bytes, type(sys))
#: Longer pickles have no digest.
_LONGEST = 16 << 20
#: As long may all be together that a child begins with: they are looked at in each start.
_LONGEST_AT_START = 1 << 20


def are_same(before: Mark | None, now: Mark | None) -> bool:
    """Whether the second says that the sender's object is what it was."""
    if before is None or now is None:
        return False
    return before[1] == now[1] and before[0] in (0, now[0])


def mark_of(value: object) -> Mark | None:
    """None where changes in place cannot be told, or do not exist."""
    digest = None if _is_fixed(value) else _digest(value, _LONGEST)[0]
    return None if digest is None else (id(value), digest)


def marks_of(names: Mapping[str, Any], has_identities: bool) -> dict[str, Mark | None]:
    """Of those globals that functions and classes of the main module use, and so may change."""
    left, found = _LONGEST_AT_START, dict[str, Mark | None]()
    for name in sorted(_used(names)):
        value = names.get(name)
        if left > 0 and not _is_fixed(value):
            digest, length = _digest(value, left)
            left -= length
            if digest is not None:
                found[name] = (id(value) if has_identities else 0, digest)
    return found


def _used(names: Mapping[str, Any]) -> set[str]:
    from . import _pickler, _users

    found = set[str]()
    for value in list(names.values()):
        try:
            if _pickler.is_named(value) and value.__module__ in _MAIN:
                found |= _users.names_used(value)
        except Exception:
            # Attributes of somebody's objects, which a class may hold, raise what they like.
            continue
    return found


_MAIN = ("__main__", "__mp_main__")


def _is_fixed(value: object) -> bool:
    from . import _pickler

    return type(value) in _ATOMS or _pickler.is_named(value)


class _Written:
    """Takes what a pickler writes, up to a length."""

    def __init__(self, most: int) -> None:
        from _blake2 import blake2b  # without hashlib's imports

        self.digest = blake2b(digest_size=16)
        self.length = 0
        self._most = most

    def write(self, piece: Any) -> int:
        self._take(piece, len(piece))
        return len(piece)

    def keep(self, buffer: Any) -> bool:
        view = buffer.raw()
        self._take(view, view.nbytes)
        return False

    def _take(self, piece: Any, length: int) -> None:
        self.length += length
        if self.length > self._most:
            raise OverflowError
        self.digest.update(piece)


class _Pickler(_CPickler):
    """By the general rules only: nothing is opened, moved or handed over for a message that nobody sends."""

    def reducer_override(self, obj: Any) -> Any:
        from . import _fingerprints

        if type(obj) is type(mark_of):
            # Another one may have got the name.
            return str, (f"{obj.__qualname__} {id(obj)} {_fingerprints.state(obj)!r}",)
        if isinstance(obj, type):
            _refuse_what_is_handed_over(obj)
            if _fingerprints.is_made_by_program(obj):
                return str, (f"{obj.__qualname__} {id(obj)}",)
        else:
            _refuse_what_is_handed_over(type(obj))
        return NotImplemented


#: Classes of whose objects the pickles open descriptors, start a thread, or count references.
_PACKAGES = ("manyhands", "multiprocessing", "_multiprocessing")
_plain: WeakSet[type] = WeakSet()


def _refuse_what_is_handed_over(cls: type) -> None:
    from . import _pickler

    if cls in _plain:
        return
    is_of_ours = any(base.__module__.partition(".")[0] in _PACKAGES for base in cls.__mro__)
    if is_of_ours or _pickler.registered(cls):
        raise TypeError(f"{cls.__qualname__} objects are pickled for those only that get them")
    _plain.add(cls)


def _digest(value: object, most: int) -> tuple[bytes | None, int]:
    """Also the length of what it was made of."""
    written = _Written(most)
    try:
        _Pickler(written, 5, True, written.keep).dump(value)
    except Exception:
        return None, written.length
    return written.digest.digest(), written.length
