"""What the demonstration counts."""

from __future__ import annotations

import pytest
from manyhands.demo.analysis import FileReport, analyse


def only(source: str) -> tuple[str, int, int]:
    """Name, lines and complexity of the one function in `source`."""
    (function,) = analyse("x.py", source.encode()).functions
    return function.name, function.lines, function.complexity


@pytest.mark.parametrize(
    ("body", "complexity"),
    [
        ("pass", 1),
        ("return 1 if a else 2", 2),
        ("return a and b and c", 3),
        ("return a and b or c", 3),
        ("return [x for x in a]", 2),
        ("return {x for y in a if y for x in y if x if x > 1}", 6),
        ("assert a", 2),
        ("while a: pass", 2),
        ("for x in a: pass\n  else: pass", 2),
        ("if a: pass\n  elif b: pass\n  else: pass", 3),
        ("try: pass\n  except A: pass\n  except B: pass\n  finally: pass", 3),
        ("match a:\n    case 1: pass\n    case _: pass", 3),
        ("with a, b: pass", 1),
        ("return lambda: 1 if a else 2", 2),
    ],
)
def test_complexity(body: str, complexity: int) -> None:
    assert only(f"def f(a, b, c):\n  {body}\n")[2] == complexity


def test_lines_and_names() -> None:
    source = b"""
class A:
    @property
    def method(self):
        def inner():
            if self:
                pass
        return inner

async def last(): pass
"""
    report = analyse("a/b.py", source)
    assert report.path == "a/b.py"
    assert report.lines == 10
    assert report.error == ""
    assert [tuple(function) for function in report.functions] == [
        ("A.method", 4, 5, 1),
        ("A.method.inner", 5, 3, 2),
        ("last", 10, 1, 1),
    ]
    assert report.complexity == 4


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (b"def f(:", "SyntaxError"),
        (b"\xff\xfe", "SyntaxError"),
        (b"# coding: klingon\n", "SyntaxError"),
        (b"x = \0", ("SyntaxError", "ValueError")),
        (b"(" * 10_000, ("SyntaxError", "MemoryError", "RecursionError")),
    ],
    ids=["syntax", "encoding", "unknown encoding", "null byte", "nesting"],
)
def test_what_cannot_be_parsed_is_reported(source: bytes, error: str | tuple[str, ...]) -> None:
    report = analyse("x.py", source)
    assert report.error.startswith(error)
    assert report.functions == ()


def test_a_warning_in_the_source_is_none_of_ours(recwarn: pytest.WarningsRecorder) -> None:
    assert only("def f():\n  return '\\d'\n") == ("f", 2, 1)
    assert not list(recwarn)


@pytest.mark.parametrize(("source", "lines"), [(b"", 0), (b"x", 1), (b"x\n", 1), (b"x\ny", 2)])
def test_lines_of_a_file(source: bytes, lines: int) -> None:
    assert analyse("x.py", source) == FileReport("x.py", lines, ())


def test_a_chain_of_branches_that_the_parser_takes() -> None:
    source = "def f(a):\n  if a == 0: pass\n" + "".join(f"  elif a == {n}: pass\n" for n in range(1, 50))
    assert only(source)[2] == 51
