"""``import manyhands as multiprocessing``: what programs reach in the standard library's modules is in ours."""

from __future__ import annotations

import importlib
import multiprocessing.pool
import multiprocessing.process
import subprocess
import sys
import types
from typing import Any

import manyhands
import manyhands.pool
import manyhands.process
import pytest
from targets import nothing

MODULES = [
    "connection",
    "context",
    "dummy",
    "forkserver",
    "heap",
    "managers",
    "pool",
    "popen_fork",
    "popen_forkserver",
    "popen_spawn_posix",
    "process",
    "queues",
    "reduction",
    "resource_sharer",
    "resource_tracker",
    "shared_memory",
    "sharedctypes",
    "spawn",
    "synchronize",
    "util",
]


@pytest.mark.parametrize("module", ["", *(f".{module}" for module in MODULES)])
def test_each_name_of_a_standard_module_is_in_ours(module: str) -> None:
    theirs = importlib.import_module(f"multiprocessing{module}")
    ours = importlib.import_module(f"manyhands{module}")
    missing = [
        name
        for name, value in vars(theirs).items()
        if not isinstance(value, types.ModuleType) and not hasattr(ours, name)
    ]
    assert missing == []


@pytest.mark.parametrize("module", ["", *(f".{module}" for module in MODULES)])
def test_a_star_imports_all_that_the_standard_modules_gives(module: str) -> None:
    theirs: dict[str, Any] = {}
    ours: dict[str, Any] = {}
    exec(f"from multiprocessing{module} import *", theirs)
    exec(f"from manyhands{module} import *", ours)
    given = {name for name, value in theirs.items() if not isinstance(value, types.ModuleType)}
    assert given - set(ours) == set()


@pytest.mark.parametrize("module", MODULES)
def test_a_name_that_neither_has_is_said_of_ours(module: str) -> None:
    ours = importlib.import_module(f"manyhands.{module}")
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'") as caught:
        ours.no_such_name  # noqa: B018
    assert ours.__name__ in str(caught.value)
    assert "no_such_name" not in vars(ours)


def test_a_submodule_needs_no_import_of_its_own() -> None:
    # In the standard library they are there once a queue, a pool or a manager was made.
    lines = "\n".join(f"assert m.{module}.__name__.endswith('.{module}')" for module in MODULES)
    subprocess.run([sys.executable, "-c", f"import manyhands as m\n{lines}"], check=True, timeout=60)


def test_nothing_is_taken_from_the_standard_library_while_a_module_is_imported() -> None:
    # Else a circular import would silently get the standard library's class, where ours is not made yet.
    code = """
import sys, types
import manyhands
seen = []
class Looks:
    def find_spec(self, name, path=None, target=None):
        module = sys.modules.get("manyhands.context")
        if name == "manyhands.process" and module is not None:
            seen.append(hasattr(module, "BaseContext"))
sys.meta_path.insert(0, Looks())
import manyhands.context
assert seen == [False], seen
assert manyhands.context.BaseContext.__module__ == "manyhands.context"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_names_that_are_bound_again_are_those_of_now(ctx: Any) -> None:
    assert manyhands.process._current_process is multiprocessing.process.current_process()  # type: ignore[attr-defined]
    assert manyhands.process._children is multiprocessing.process._children  # type: ignore[attr-defined]
    child = ctx.Process(target=nothing)
    child.start()
    assert child in manyhands.process._children  # type: ignore[attr-defined]
    child.join()
    assert child not in manyhands.process._children  # type: ignore[attr-defined]


def test_a_remote_traceback_is_caught_by_the_pools_name(ctx: Any) -> None:
    with ctx.Pool(1) as pool, pytest.raises(ZeroDivisionError) as caught:
        pool.apply(divmod, (1, 0))
    assert isinstance(caught.value.__cause__, manyhands.pool.RemoteTraceback)  # type: ignore[attr-defined]


def test_a_wait_that_is_over_is_caught_by_the_pools_name(ctx: Any) -> None:
    queue = ctx.SimpleQueue()
    with ctx.Pool(1) as pool:
        result = pool.apply_async(queue.get)
        with pytest.raises(manyhands.pool.TimeoutError):  # type: ignore[attr-defined]
            result.get(0)
        queue.put(1)
        assert result.get(60) == 1


def test_the_levels_of_the_logger() -> None:
    assert manyhands.SUBDEBUG == multiprocessing.SUBDEBUG  # type: ignore[attr-defined]
    assert manyhands.SUBWARNING == multiprocessing.SUBWARNING  # type: ignore[attr-defined]
