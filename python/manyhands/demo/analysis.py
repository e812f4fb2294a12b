"""How large and how branched are the functions of one source file? Pure: text in, figures out.

Called in every worker. It must not raise for any text, however broken: a source tree has files that are broken on
purpose, and one of them must not cost the run.
"""

from __future__ import annotations

import ast
import warnings
from typing import NamedTuple


class FunctionReport(NamedTuple):
    """One function or method; `name` is qualified as in `__qualname__`, without the `<locals>`."""

    name: str
    line: int
    lines: int
    complexity: int


class FileReport(NamedTuple):
    """One file. `error` is empty, or says why the file could not be parsed; then there are no functions."""

    path: str
    lines: int
    functions: tuple[FunctionReport, ...]
    error: str = ""

    @property
    def complexity(self) -> int:
        """Of all its functions together."""
        return sum(function.complexity for function in self.functions)


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SCOPES = (*_FUNCTIONS, ast.ClassDef)
# Each of these is one more way through the function.
_BRANCHES = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.Assert,
    ast.match_case,
)


def analyse(path: str, source: bytes) -> FileReport:
    """Measures every function in `source`; `path` is only passed on."""
    lines = source.count(b"\n") + (not source.endswith(b"\n") and source != b"")
    try:
        with warnings.catch_warnings():
            # Invalid escapes and the like are the affair of the files' authors.
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
        return FileReport(path, lines, tuple(_functions(tree)))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        # ValueError: null bytes; the last two: nesting that is too deep for the parser.
        return FileReport(path, lines, (), f"{type(error).__name__}: {error}")


def _functions(tree: ast.Module) -> list[FunctionReport]:
    # A list in place of recursion: a chain of a thousand `elif` is a thousand levels deep.
    found: list[FunctionReport] = []
    scopes: list[tuple[ast.AST, str]] = [(tree, "")]
    while scopes:
        scope, prefix = scopes.pop()
        complexity, inner = _one_scope(scope)
        if isinstance(scope, _FUNCTIONS):
            last = scope.end_lineno or scope.lineno
            found.append(FunctionReport(prefix, scope.lineno, last - scope.lineno + 1, complexity))
        scopes.extend((node, f"{prefix}.{node.name}" if prefix else node.name) for node in inner)
    found.sort(key=lambda function: (function.line, function.name))
    return found


def _one_scope(
    scope: ast.AST,
) -> tuple[int, list[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """The complexity of `scope` without the functions and classes in it, and these."""
    complexity = 1
    inner: list[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef] = []
    nodes = list(ast.iter_child_nodes(scope))
    while nodes:
        node = nodes.pop()
        if isinstance(node, _SCOPES):
            inner.append(node)
            continue
        if isinstance(node, _BRANCHES):
            complexity += 1
        elif isinstance(node, ast.BoolOp):
            complexity += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            complexity += 1 + len(node.ifs)
        nodes.extend(ast.iter_child_nodes(node))
    return complexity, inner
