"""What messages bring into the receiver's main module. Used by `_by_value`."""

from __future__ import annotations

from typing import Any

from . import _found_by_name, _identities, _marks, _pickler, _unguarded

__all__ = ["bring", "bring_by_its_name"]

#: What came with functions and classes into the main module, by the names there.
_brought: dict[str, object] = {}
_NOTHING = object()


def bring_by_its_name(obj: Any, header: _identities.Header) -> None:
    if header.is_named and header.module == "__main__" and "." not in header.qualname:
        bring({header.qualname: (obj, None)})


def bring(used: dict[str, Any]) -> None:
    """Names that this main module does not have, or has from an earlier message, or only because this process began as
    a copy of one, or in the middle of the module: unless the program here has bound them anew since, or the sender has
    what it had last.
    """
    main = _found_by_name.main_globals()
    for name, (value, mark) in used.items():
        before = main.get(name, _NOTHING)
        earlier = (_brought.get(name, _NOTHING), _unguarded.names.get(name, _NOTHING))
        if (
            before is _NOTHING
            or any(before is each for each in earlier)
            or (before is not None and _pickler.was_there(name, before))
        ):
            if before is not _NOTHING and _marks.are_same(_marks.last.get(name), mark):
                # What it holds here may be this process's own doing.
                continue
            main[name] = _brought[name] = value
            _marks.last[name] = mark
            if _pickler.is_named(value):
                _pickler.note_came(name)
