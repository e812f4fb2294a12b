"""Which names of the main module a pickle uses is read off its opcodes: as `pickletools` reads them."""

from __future__ import annotations

import pickle
import pickletools
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from manyhands._manyhands import Sink


class Outer:
    class Inner:
        pass

    def __init__(self, *kept: object) -> None:
        self.kept = kept


def function() -> None:
    pass


OBJECTS: dict[str, Any] = {
    "a function": lambda: function,
    "an instance": lambda: Outer(1, 2.5, "text", b"bytes", None, True),
    "a class in a class": lambda: [Outer.Inner, Outer.Inner(), Outer()],
    "many kinds": lambda: Outer(
        {1: 2**80, "a": -5}, {3}, frozenset([4]), bytearray(b"x"), (1, 2, 3, 4), 1j, range(3)
    ),
    "its own name as data": lambda: ["__main__", "function", Outer("__main__", "Outer")],
    "text that is no text": lambda: Outer("\udc80", "é" * 300),
    "more than a byte counts": lambda: [Outer(i, str(i), i * 1_000, i * 10**6) for i in range(400)],
    "cycles": lambda: (lambda it: (it.append(it), it.append(Outer(it)))[0] or it)([]),
    "others' names": lambda: [Outer, dict, pickle.Pickler, len, Outer.Inner],
}


@pytest.fixture
def in_main() -> Iterator[None]:
    main = sys.modules["__main__"]
    for value in (Outer, Outer.Inner, function):
        value.__module__ = "__main__"
    vars(main).update(Outer=Outer, function=function)
    yield
    for value in (Outer, Outer.Inner, function):
        value.__module__ = __name__
    del vars(main)["Outer"], vars(main)["function"]


def names_by_pickletools(data: bytes) -> list[str]:
    names: list[str] = []
    memo: list[Any] = []
    pushed: list[Any] = []
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name == "MEMOIZE":
            memo.append(pushed[-1])
        elif opcode.name == "STACK_GLOBAL":
            module, name = pushed[-2:]
            if module == "__main__":
                names.append(name)
            pushed.append(None)
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            pushed.append(memo[argument])
        elif opcode.name not in ("PROTO", "FRAME", "STOP"):
            pushed.append(argument if isinstance(argument, str) else None)
    return names


@pytest.mark.usefixtures("in_main")
@pytest.mark.parametrize("kind", OBJECTS)
def test_the_names_are_those_of_pickletools(kind: str) -> None:
    sink = Sink(True)
    pickle.Pickler(sink, 5).dump(OBJECTS[kind]())
    names = sink.main_names()
    assert names
    assert names == names_by_pickletools(sink.pickle())


@pytest.mark.usefixtures("in_main")
@pytest.mark.parametrize("protocol", [0, 1, 2, 3])
def test_what_cannot_be_read_says_so(protocol: int) -> None:
    """Older protocols name with other opcodes: nobody is told that there is no name."""
    sink = Sink(True)
    pickle.Pickler(sink, protocol).dump(Outer(1))
    assert sink.main_names() is None


def test_without_a_name_nothing_is_found_out() -> None:
    sink = Sink(True)
    pickle.Pickler(sink, 5).dump([1, "__main__"])
    assert sink.main_names() is None


def test_damage_is_no_name() -> None:
    whole = pickle.dumps([1, "text", 2.5, b"bytes", {"a": 2**70}], 5)
    for end in range(len(whole)):
        sink = Sink(True)
        sink.write(whole[:end])
        assert sink.main_names() is None
