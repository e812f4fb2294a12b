"""What a child has of the main module, for each way to start a program: the same as with the standard library."""

from __future__ import annotations

import os
import subprocess
import sys
import zipapp
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

#: A module beside the program: what a child can always import.
WORK = """
import os, sys

def facts():
    main = sys.modules["__main__"]
    told = {
        "argv": sys.argv,
        "path": [os.path.basename(part) for part in sys.path[:2]],
        "folder": os.path.basename(os.getcwd()),
        "name": main.__name__,
        "same": sys.modules.get("__mp_main__") is main,
        "file": os.path.basename(getattr(main, "__file__", None) or "none"),
        "package": getattr(main, "__package__", None) or "",
        "spec": getattr(main.__spec__, "name", None),
        "names": sorted(name for name in vars(main) if name in ("square", "guarded", "Point", "mp")),
    }
    for name, value in told.items():
        print(name, value, flush=True)
"""

#: A main module; `NAMED` says whether children find its names.
MAIN = """
import os, sys
import IMPLEMENTATION as mp
import WORK as work

class Point:
    def __init__(self, x):
        self.x = x

def square(point):
    return Point(point.x ** 2)

def start(ctx):
    process = ctx.Process(target=work.facts, name="child")
    process.start()
    process.join()
    print("exit code", process.exitcode, flush=True)
    if NAMED:
        with ctx.Pool(1) as pool:
            print([point.x for point in pool.map(square, [Point(2), Point(3)])], flush=True)

if __name__ == "__main__":
    guarded = True
    start(mp.get_context("METHOD"))
"""

Command = list[str]


class Program:
    """A program in a folder, and the ways to start it."""

    def __init__(self, folder: Path, method: str, launcher: Command | None = None) -> None:
        self.folder = folder
        self.method = method
        self.launcher = launcher or []
        folder.mkdir(parents=True)
        self.write("work.py", WORK)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def main(self, name: str, named: bool = True, work: str = "work") -> Path:
        text = self.fill(MAIN).replace("NAMED", str(named)).replace("WORK", work)
        return self.write(name, text)

    def fill(self, text: str) -> str:
        return text.replace("IMPLEMENTATION", self.folder.name).replace("METHOD", self.method)

    def run(self, command: Command, stdin: str = "") -> str:
        """What it prints; the command's first word is left to this."""
        done = subprocess.run(
            [sys.executable, *self.launcher, *command],
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=50,
            env={**os.environ, "PYTHON_BASIC_REPL": "1"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.replace(self.folder.name, "IMPLEMENTATION")


# --- the forms: each writes a program and runs it ---


def script(program: Program) -> str:
    return program.run([str(program.main("script.py")), "one", "-two"])


def relative_script(program: Program) -> str:
    program.main("below/script.py", work="work")
    program.write("below/work.py", WORK)
    return program.run(["below/script.py"])


def script_without_py(program: Program) -> str:
    return program.run([str(program.main("script"))])


def script_of_dots(program: Program) -> str:
    return program.run(["-O", str(program.main("a.b.py"))])


def compiled_script(program: Program) -> str:
    import py_compile

    compiled = program.folder / "compiled.pyc"
    py_compile.compile(str(program.main("source.py")), str(compiled))
    return program.run([str(compiled)])


def package(program: Program) -> str:
    program.write("package/__init__.py", "")
    program.main("package/__main__.py", named=False)
    return program.run(["-m", "package", "argument"])


def module(program: Program) -> str:
    program.main("single.py")
    return program.run(["-m", "single", "argument"])


def module_of_package(program: Program) -> str:
    program.write("package/__init__.py", "")
    program.write("package/inner.py", WORK)
    program.main("package/tool.py", work="package.inner")
    return program.run(["-m", "package.tool", "argument"])


def folder_with_main(program: Program) -> str:
    program.write("app/work.py", WORK)
    program.main("app/__main__.py", named=False)
    return program.run(["app", "argument"])


def zip_with_main(program: Program) -> str:
    program.write("app/work.py", WORK)
    program.main("app/__main__.py", named=False)
    zipapp.create_archive(program.folder / "app", program.folder / "app.pyz")
    return program.run(["app.pyz", "argument"])


def module_in_zip(program: Program) -> str:
    program.write("app/work.py", WORK)
    program.write("app/__main__.py", "")
    program.main("app/tool.py")
    zipapp.create_archive(program.folder / "app", program.folder / "app.zip")
    return program.run(
        [
            "-c",
            "import sys, runpy; sys.path.insert(0, 'app.zip'); runpy.run_module('tool', None, '__main__', True)",
        ]
    )


def on_command_line(program: Program) -> str:
    text = program.main("text", named=False).read_text()
    return program.run(["-c", text, "argument"])


def interactive(program: Program) -> str:
    lines = "import IMPLEMENTATION as mp, work\nctx = mp.get_context('METHOD')\np = ctx.Process(target=work.facts)\n"
    return program.run(["-i", "-q"], stdin=program.fill(lines) + "p.start(); p.join(); print(p.exitcode)\n")


def without_a_file(program: Program) -> str:
    """As IPython and others do it: a new `__main__`."""
    lines = """
import sys, types
main = types.ModuleType("__main__")
sys.modules["__main__"] = main
exec("import IMPLEMENTATION as mp, work; p = mp.get_context('METHOD').Process(target=work.facts)", vars(main))
main.p.start()
main.p.join()
print(main.p.exitcode)
"""
    return program.run([str(program.write("shell.py", program.fill(lines)))])


def named_ipython(program: Program) -> str:
    return program.run([str(program.main("ipython.py", named=False))])


FORMS: dict[str, Callable[[Program], str]] = {
    form.__name__.replace("_", " "): form
    for form in (
        script,
        relative_script,
        script_without_py,
        script_of_dots,
        compiled_script,
        package,
        module,
        module_of_package,
        folder_with_main,
        zip_with_main,
        module_in_zip,
        on_command_line,
        interactive,
        without_a_file,
        named_ipython,
    )
}


@pytest.mark.parametrize("form", FORMS)
def test_as_the_standard_library(ctx: Any, tmp_path: Path, form: str) -> None:
    method = ctx.get_start_method()
    expected = FORMS[form](Program(tmp_path / "multiprocessing", method))
    assert "exit code 0" in expected or expected.endswith("0\n")
    assert FORMS[form](Program(tmp_path / "manyhands", method)) == expected


#: Not those that are options of the interpreter's.
LAUNCHED = (
    script,
    relative_script,
    script_without_py,
    compiled_script,
    package,
    module,
    module_of_package,
    folder_with_main,
    zip_with_main,
)


@pytest.mark.parametrize("form", [form.__name__.replace("_", " ") for form in LAUNCHED])
def test_by_the_launcher_as_by_the_interpreter(ctx: Any, tmp_path: Path, form: str) -> None:
    """`python -m manyhands program` does what `python program` does."""
    method = ctx.get_start_method()
    expected = FORMS[form](Program(tmp_path / "1/multiprocessing", method))
    launched = Program(tmp_path / "2/multiprocessing", method, ["-m", "manyhands"])
    assert FORMS[form](launched) == expected.replace(f"{tmp_path}/1", f"{tmp_path}/2")
