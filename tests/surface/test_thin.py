"""The Python package is thin: what waits, maps memory or runs beside the caller is the engine's."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "python" / "manyhands"
REFUSED = {"threading", "select", "selectors", "socket", "mmap", "_multiprocessing", "_posixshmem"}

# (module, import) -> why it may. A line that is no longer needed fails too.
ALLOWED: dict[tuple[str, str], str] = {
    ("_barrier.py", "threading"): "a barrier is a threading.Barrier",
    ("pool.py", "threading"): "the thread that reads an iterable for imap has a name there",
    (
        "futures.py",
        "threading",
    ): "futures have the standard library's conditions; the exit hook is threading's",
    ("forkserver.py", "threading"): "one request at a time from a process with threads",
    ("spawn.py", "threading"): "the resource tracker is started where no signal's handler runs",
    ("_zygote.py", "threading"): "the end of the server waits for what its modules have started",
    ("_standard.py", "threading"): "two threads may make the first object of a class at once",
    ("synchronize.py", "threading"): "a lock's repr names the thread that holds it",
    ("queues.py", "threading"): "a simple queue's _rlock and _wlock, for those who use its ends",
    ("_handlers.py", "threading"): "which thread runs the handlers of signals",
    ("process.py", "threading"): "the end of a child waits for its threads, as BaseProcess._bootstrap does",
}

MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def imported(module: str) -> set[str]:
    """The first parts of all names that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("module", MODULES)
def test_module_leaves_it_to_the_engine(module: str) -> None:
    forbidden = {name for name in imported(module) & REFUSED if (module, name) not in ALLOWED}
    assert not forbidden, f"{module} imports {sorted(forbidden)}: the engine's work, or a reason in ALLOWED"


def test_the_exceptions_are_needed() -> None:
    stale = [
        f"{module}: {name}"
        for module, name in ALLOWED
        if module not in MODULES or name not in imported(module)
    ]
    assert stale == []
