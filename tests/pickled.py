"""The bytes that one of our channels sends for an object; what plain pickle says of it is in `surface/test_uses.py`."""

from __future__ import annotations

import pickle
from typing import Any


def pickled(thing: Any) -> bytes:
    import manyhands

    ours, theirs = manyhands.Pipe()
    with ours, theirs:
        ours.send(thing)
        return theirs.recv_bytes()


def another(thing: Any) -> Any:
    """Another object of the same thing, in this process."""
    return pickle.loads(pickled(thing))
