"""Random objects of built-in classes, and what of an object a copy must have."""

from __future__ import annotations

import pickle
import random
import struct
from collections import OrderedDict
from typing import Any


def likeness(thing: Any) -> Any:
    """Its classes, its values bit by bit, the order of its dicts, and which parts are one and the same object.

    Two objects are alike if these are equal. Each part is told once, and later only which one it was.
    """
    seen: dict[int, int] = {}

    def tell(part: Any) -> Any:
        cls = type(part)
        if part is None or cls is bool:
            return part
        if id(part) in seen:
            return ("again", seen[id(part)])
        seen[id(part)] = len(seen)
        if cls is float:
            return (cls, struct.pack("<d", part))
        if cls in (list, tuple):
            return (cls, [tell(each) for each in part])
        if cls in (dict, OrderedDict):
            return (cls, [(tell(key), tell(value)) for key, value in part.items()])
        return (cls, part if cls in (int, str, bytes) else repr(part))

    return tell(thing)


def by_pickle(thing: Any) -> Any:
    """What pickle makes of it."""
    return pickle.loads(pickle.dumps(thing))


NUMBERS = [*range(-40, 100), *(sign * ((1 << power) + by) for power in (7, 8, 15, 16, 31, 32, 62, 63, 64, 200)
                               for sign in (1, -1) for by in (-1, 0, 1))]  # fmt: skip
#: Among them NaNs that differ: a signalling one, and one with a sign and a payload.
FLOATS = [0.0, -0.0, 1.5, -1e300, 5e-324, float("inf"), float("-inf"),
          *(struct.unpack("<d", struct.pack("<Q", bits))[0]
            for bits in (0x7FF8000000000000, 0x7FF0000000000001, 0xFFF8DEADBEEF0001))]  # fmt: skip
TEXTS = [
    "",
    "a",
    "é",
    "key",
    "a longer text",
    "\0",
    "naïve",
    "€uro",
    "\U0001f41d" * 3,
    "x" * 255,
    "y" * 256,
    "z" * 5000,
]
BYTES = [b"", b"a", b"\xff", b"\0" * 255, b"\0" * 256, bytes(range(256)) * 4]
#: What is not plain: each makes the whole object a pickle.
OTHERS = [
    "\ud800",
    1j,
    {1, 2},
    frozenset("a"),
    bytearray(b"b"),
    range(3),
    OrderedDict(a=1),
    ValueError,
    len,
    ...,
]


class Objects:
    """Makes random objects, parts of which are one and the same object here and there; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def make(self) -> Any:
        """A new one, which has nothing in common with those before."""
        # What may be met again: whole lists and dicts too, but nothing that contains itself.
        self.made: list[Any] = []
        self.others = self.random.random() < 0.1
        made = self._part(self.random.choice((0, 1, 3, 6)))
        del self.made
        return made

    def _part(self, levels: int) -> Any:
        chance = self.random.random()
        if self.made and chance < 0.2:
            return self.random.choice(self.made)
        if levels == 0 or chance < 0.5:
            return self._leaf()
        count = self.random.choice((0, 1, 2, 3, 3, 4, 20)) if levels < 5 else 3
        kind = self.random.choice((tuple, list, dict))
        if kind is dict:
            part: Any = {self._key(): self._part(levels - 1) for _ in range(count)}
        else:
            part = kind(self._part(levels - 1) for _ in range(count))
        return self._keep(part)

    def _leaf(self) -> Any:
        if self.others and self.random.random() < 0.05:
            return self.random.choice(OTHERS)
        kind = self.random.choice((None, NUMBERS, NUMBERS, FLOATS, TEXTS, TEXTS, BYTES))
        if kind is None:
            return self.random.choice((None, True, False))
        leaf = self.random.choice(kind)
        # A copy, which nobody else has; the constants of this module are met again and again.
        if isinstance(leaf, str) and self.random.random() < 0.5:
            leaf = "".join(list(leaf))
        return self._keep(leaf)

    def _key(self) -> Any:
        if self.random.random() < 0.2:
            return (self.random.choice(NUMBERS), self._keep((self._key(),)))
        return self.random.choice((None, True, *NUMBERS[:50], *FLOATS[:7], *TEXTS, *BYTES))

    def _keep(self, part: Any) -> Any:
        if self.random.random() < 0.5:
            self.made.append(part)
        return part
