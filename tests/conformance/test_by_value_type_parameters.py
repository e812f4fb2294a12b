"""Type variables, type aliases and what is generic, of a main module that children do not have, and of functions."""

from __future__ import annotations

import subprocess
import sys
import typing
from typing import Any

import pytest

PROGRAMS = {
    "two type variables of one name": """
def two():
    first, second = typing.TypeVar("T"), typing.TypeVar("T")
    return lambda: (first, second)

def check(pool):
    get = two()
    first, second = pool.apply(get)
    assert (first, second) == get(), "they come back"
    assert first is not second
    assert pool.apply(lambda: "T" in globals()) is False, "they have no name in the main module"
""",
    "type variables of the main module": """
T = typing.TypeVar("T", bound="Box")
S = typing.TypeVar("S", int, str)
N = typing.NewType("N", int)

class Box(typing.Generic[T]):
    pass

def parameters():
    return Box.__parameters__ == (T,), repr(T.__bound__), S.__constraints__, N.__supertype__

def check(pool):
    assert pool.apply(parameters) == parameters()
    assert pool.apply(parameters)[0]
    for each in (T, S, N):
        assert pool.apply(lambda: each) is each
""",
    "typed dictionaries that are derived": """
class A(typing.TypedDict):
    a: int

class B(A, total=False):
    b: str

class C(B):
    c: typing.Required[int]

class G(typing.TypedDict, typing.Generic[typing.TypeVar("T")]):
    x: int

class H(G):
    y: int

def told(cls):
    own = "__orig_bases__" in vars(cls)
    return cls.__annotations__, cls.__required_keys__, cls.__optional_keys__, cls.__total__, own, cls.__bases__

def check(pool):
    for each in (A, B, C, G, H):
        assert pool.apply(told, (each,)) == told(each)
        assert pool.apply(lambda: each) is each
        assert pool.apply(lambda: typing.is_typeddict(each) and each(a=1) == {"a": 1})
""",
}
PROGRAMS_OF_3_12 = {
    "aliases": """
type Number = int | float
type Json = dict[str, Json] | list[Json] | str
type Pair[A, B] = tuple[A, B]
type Tree[T] = T | list[Tree[T]]

def shown(each):
    return repr(each.__value__), each.__module__.replace("__mp_", "__"), repr(each.__type_params__)

def uses(x: Number) -> Json:
    return isinstance(x, int), Number.__value__ == int | float, Json.__value__.__args__[1].__args__[0] is Json

def of_tree():
    (parameter,) = Tree.__type_params__
    return Tree.__value__.__args__[0] is parameter, Tree.__value__.__args__[1].__args__[0].__args__ == (parameter,)

def check(pool):
    assert pool.apply(uses, (1,)) == uses(1) == (True, True, True)
    assert pool.apply(of_tree) == of_tree() == (True, True)
    for each in (Number, Json, Pair, Tree):
        assert pool.apply(shown, (each,)) == shown(each)
        assert pool.apply(lambda: each) is each
    pair = Pair[int, Number]
    assert pool.apply(lambda: pair) == pair
""",
    "aliases of functions": """
def make():
    type Local[T] = list[T] | tuple[Local[T], int]
    return Local

def shown(each):
    return repr(each.__value__), each.__value__.__args__[0].__args__ == each.__type_params__, repr(each[int])

def check(pool):
    first, second = make(), make()
    assert pool.apply(shown, (first,)) == shown(first)
    assert pool.apply(lambda: (first, second, first)) == (first, second, first)
    assert pool.apply(lambda: first is second) is False
    assert pool.apply(lambda: "Local" in globals()) is False
""",
    "aliases that are defined again": """
type X = int

def check(pool):
    before = X
    exec("type X = str", globals())
    after = X
    assert pool.apply(lambda: (before, after, before)) == (before, after, before)
    assert pool.apply(lambda: (before.__value__, after.__value__)) == (before.__value__, str)
""",
    "generic functions": """
def generic[T: int, *Ts, **P](x: T, *rest: *Ts) -> list[T]:
    def inner() -> T:
        return T
    return inner

def told(each):
    names = ("__bound__", "__constraints__")
    return [(repr(p), type(p), *(getattr(p, name, 0) for name in names)) for p in each.__type_params__]

def check(pool):
    assert pool.apply(told, (generic,)) == told(generic)
    assert pool.apply(lambda: generic) is generic
    assert pool.apply(lambda: generic.__annotations__["x"] is generic.__type_params__[0])
    assert pool.apply(lambda: generic(1)() is generic.__type_params__[0])
    assert repr(pool.apply(generic, (1,))()) == "T"
""",
    "generic classes": """
class Node[T: Node, U: (int, "Node")]:
    def mine(self):
        return T
    def pair[V](self, v: V) -> tuple[T, V]:
        return V

def told(cls):
    first, second = cls.__type_params__
    return (
        first.__bound__ is cls, second.__constraints__, cls.__parameters__ == (first, second), cls().mine() is first,
        cls().pair(1) is cls.pair.__type_params__[0], first.__infer_variance__, repr(cls.__orig_bases__),
    )

def check(pool):
    assert pool.apply(told, (Node,)) == told(Node)
    assert told(Node)[0] and told(Node)[2] and told(Node)[3] and told(Node)[4]
    parameter = Node.__type_params__[0]
    assert pool.apply(lambda: parameter) is parameter
    alias = Node[int, str]
    assert pool.apply(lambda: alias) == alias
""",
    "variance that is inferred": """
T = typing.TypeVar("T", infer_variance=True)

def told():
    return T.__infer_variance__, repr(T), T.__bound__

def check(pool):
    assert pool.apply(told) == told() == (True, "T", None)
    assert pool.apply(lambda: T) is T
""",
}
PROGRAMS_OF_3_13 = {
    "defaults": """
D = typing.TypeVar("D", default=int)
exec("class New[T: int = bool, **P = [int]]: pass", globals())

class Old(typing.Generic[D]):
    pass

def told(cls):
    return [(repr(p), type(p), p.__default__, p.has_default(), p.__bound__) for p in cls.__parameters__]

def check(pool):
    assert pool.apply(told, (New,)) == told(New)
    assert pool.apply(told, (Old,)) == told(Old)
    assert told(New)[0][2] is bool and told(Old)[0][2] is int
    assert pool.apply(lambda: D) is D
""",
}
for version, programs in (((3, 12), PROGRAMS_OF_3_12), ((3, 13), PROGRAMS_OF_3_13)):
    if sys.version_info >= version:
        PROGRAMS |= programs

AROUND = """
import typing
import manyhands

{program}
def main():
    with manyhands.get_context({method!r}).Pool(1) as pool:
        check(pool)
        check(pool)

if __name__ == "__main__":
    main()
    print("right")
"""


@pytest.mark.parametrize("way", ["-c", "script"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_of_a_main_module(ctx: Any, name: str, way: str, tmp_path: Any) -> None:
    program = AROUND.format(program=PROGRAMS[name], method=ctx.get_start_method())
    script = tmp_path / "script.py"
    script.write_text(program)
    arguments = ["-c", program] if way == "-c" else [str(script)]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=50)
    assert (done.stdout, done.stderr, done.returncode) == ("right\n", "", 0)


def test_they_are_what_they_were_in_another_process(ctx: Any) -> None:
    first, second = typing.TypeVar("T"), typing.TypeVar("T", bound=int)  # type: ignore[misc]
    new = typing.NewType("new", int)  # type: ignore[misc]
    parameters = typing.ParamSpec("P")  # type: ignore[misc]
    with ctx.Pool(1) as pool:
        assert pool.apply(lambda: (first, second, new, parameters)) == (first, second, new, parameters)
        assert pool.apply(lambda each: (each is first, each is second, second.__bound__), (first,)) == (
            True,
            False,
            int,
        )
