"""Contexts and start methods, as the standard library's documentation has them."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from typing import Any

import pytest
import targets

pytestmark = pytest.mark.standard

LONG = 30.0


def python(implementation: str, program: str) -> str:
    """Runs a program in a fresh interpreter, where no start method has been chosen yet; returns what it prints."""
    program = program.replace("IMPLEMENTATION", implementation)
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", program],
        capture_output=True,
        text=True,
        timeout=LONG,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(params=["manyhands", "multiprocessing"], ids=["manyhands", "stdlib"])
def implementation(request: Any) -> str:
    return str(request.param)


class TestOne:
    def test_names_its_method(self, ctx: Any) -> None:
        method = ctx.get_start_method()
        # Programs tell contexts apart by the names of their classes.
        prefix = {"fork": "Fork", "forkserver": "ForkServer", "spawn": "Spawn"}[method]
        assert type(ctx).__name__ == f"{prefix}Context"
        assert ctx.Process.__name__ == f"{prefix}Process"

    def test_is_a_context_of_the_standard_library(self, ctx: Any) -> None:
        assert isinstance(ctx, multiprocessing.context.BaseContext)

    def test_gives_itself(self, ctx: Any) -> None:
        assert ctx.get_context() is ctx
        assert ctx.get_context(ctx.get_start_method()) is ctx

    def test_gives_the_others(self, ctx: Any) -> None:
        for method in ("fork", "forkserver", "spawn"):
            assert ctx.get_context(method).get_start_method() == method

    def test_refuses_an_unknown_method(self, ctx: Any) -> None:
        with pytest.raises(ValueError, match="cannot find context for 'rocket'"):
            ctx.get_context("rocket")

    def test_cannot_be_changed(self, ctx: Any) -> None:
        with pytest.raises(ValueError, match="cannot set start method of concrete context"):
            ctx.set_start_method("fork")

    def test_makes_processes_of_its_method(self, ctx: Any) -> None:
        process = ctx.Process(target=targets.nothing)
        assert isinstance(process, ctx.Process)
        assert isinstance(process, multiprocessing.process.BaseProcess)
        process.start()
        process.join(LONG)
        assert process.exitcode == 0

    def test_has_the_exceptions(self, ctx: Any) -> None:
        assert issubclass(ctx.ProcessError, Exception)
        assert issubclass(ctx.TimeoutError, ctx.ProcessError)
        assert issubclass(ctx.BufferTooShort, ctx.ProcessError)
        assert issubclass(ctx.AuthenticationError, ctx.ProcessError)
        # Programs have `except multiprocessing.TimeoutError` whichever package made the pool.
        assert ctx.TimeoutError is multiprocessing.TimeoutError

    def test_cpu_count(self, ctx: Any) -> None:
        assert ctx.cpu_count() == multiprocessing.cpu_count() >= 1

    @pytest.mark.methods("fork", "spawn")
    def test_the_child_knows_its_method(self, ctx: Any, capfd: Any) -> None:
        program = "import multiprocessing as m; print(m.get_start_method())"
        process = ctx.Process(target=exec, args=(program,))
        process.start()
        process.join(LONG)
        default = multiprocessing.get_start_method()
        # A spawned child is told the method of its parent's process object; a forked one has its parent's default.
        expected = default if ctx.get_start_method() == "fork" else "spawn"
        assert capfd.readouterr().out.strip() == expected


class TestDefault:
    def test_is_the_interpreters(self, implementation: str) -> None:
        out = python(
            implementation,
            "import IMPLEMENTATION as m; print(m.get_start_method(True), m.get_start_method())",
        )
        expected = python("multiprocessing", "import IMPLEMENTATION as m; print(m.get_start_method())")
        assert out == f"None {expected}"

    def test_all_methods_begin_with_the_default(self, implementation: str) -> None:
        out = python(
            implementation,
            "import IMPLEMENTATION as m; a = m.get_all_start_methods(); print(a[0] == m.get_start_method(), sorted(a))",
        )
        assert out == "True ['fork', 'forkserver', 'spawn']"

    @pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
    def test_can_be_set_once(self, implementation: str, method: str) -> None:
        out = python(
            implementation,
            f"""
import IMPLEMENTATION as m
m.set_start_method({method!r})
print(m.get_start_method(), m.get_context().get_start_method())
try:
    m.set_start_method("spawn")
except RuntimeError as error:
    print(error)
m.set_start_method("fork", force=True)
print(m.get_start_method())
""",
        )
        assert out == f"{method} {method}\ncontext has already been set\nfork"

    def test_refuses_an_unknown_method(self, implementation: str) -> None:
        out = python(
            implementation,
            """
import IMPLEMENTATION as m
try:
    m.set_start_method("rocket")
except ValueError as error:
    print(error)
""",
        )
        assert out == "cannot find context for 'rocket'"

    def test_module_functions_use_it(self, implementation: str) -> None:
        out = python(
            implementation,
            """
import os
import IMPLEMENTATION as m
m.set_start_method("fork")
q = m.Queue()
p = m.Process(target=q.put, args=("hello",))
p.start()
print(q.get())
p.join()
print(p.exitcode, m.active_children(), m.current_process().name)
q.close()
""",
        )
        assert out == "hello\n0 [] MainProcess"


def test_cpu_count_is_the_machines() -> None:
    assert multiprocessing.cpu_count() == os.cpu_count()
