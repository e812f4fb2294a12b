"""What a fork server has preloaded, what it says of what it could not, and how it ends."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from multiprocessing import context
from pathlib import Path

import manyhands
import pytest

pytestmark = pytest.mark.deadline(60)

PROGRAM = """
import multiprocessing
import sys

import manyhands

package, on_error, *names = sys.argv[1:]
if package == "multiprocessing":
    manyhands.install()

if __name__ == "__main__":
    ctx = sys.modules[package].get_context("forkserver")
    told = {} if on_error == "default" else {"on_error": on_error}
    ctx.set_forkserver_preload(names, **told)
    for _ in range(2):
        child = ctx.Process(target=print, args=("ran",), kwargs={"flush": True})
        try:
            child.start()
        except ConnectionError as error:
            assert "preload" in error.__notes__[0]
            print("refused")
        else:
            child.join()
            assert child.exitcode == 0
"""

TAKES_IT = "on_error" in inspect.signature(context.BaseContext.set_forkserver_preload).parameters
#: Where the standard library's methods take no such argument, `install` changes nothing about that.
PACKAGES = ["manyhands", "multiprocessing"] if TAKES_IT else ["manyhands"]


def run(folder: Path, package: str, on_error: str, *names: str) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(PROGRAM)
    argv = [sys.executable, "-W", "always::ImportWarning", str(script), package, on_error, *names]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    return subprocess.run(argv, capture_output=True, text=True, timeout=50, env=environment)


@pytest.mark.parametrize("on_error", ["default", "ignore", "warn"])
@pytest.mark.parametrize("package", PACKAGES)
def test_a_module_that_is_missing_is_left_out(package: str, on_error: str, tmp_path: Path) -> None:
    done = run(tmp_path, package, on_error, "there_is_none_by_test")
    assert (done.returncode, done.stdout) == (0, "ran\nran\n"), done.stderr
    warned = "Failed to preload module 'there_is_none_by_test': No module named" in done.stderr
    assert warned if on_error == "warn" else done.stderr == ""


@pytest.mark.parametrize("package", PACKAGES)
def test_a_module_that_is_missing_fails(package: str, tmp_path: Path) -> None:
    done = run(tmp_path, package, "fail", "there_is_none_by_test")
    assert (done.returncode, done.stdout) == (0, "refused\nrefused\n"), done.stderr
    # The server says why, once for each start.
    assert done.stderr.count("ModuleNotFoundError: No module named 'there_is_none_by_test'") == 2


@pytest.mark.parametrize("on_error", ["ignore", "fail"])
def test_a_main_module_that_fails(on_error: str, tmp_path: Path) -> None:
    """It runs in the server under another name than here; its children would meet it as well."""
    text = "if __name__ != '__main__':\n    raise LookupError('not here')\n"
    script = tmp_path / "main.py"
    script.write_text(
        text + "import manyhands\n"
        "ctx = manyhands.get_context('forkserver')\n"
        f"ctx.set_forkserver_preload(['__main__'], on_error={on_error!r})\n"
        "child = ctx.Process(target=print)\n"
        "try:\n    child.start()\n    child.join()\n    print(child.exitcode)\n"
        "except ConnectionError:\n    print('refused')\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=50)
    assert done.stdout == ("refused\n" if on_error == "fail" else "1\n")
    assert "LookupError: not here" in done.stderr


def test_other_words_are_refused() -> None:
    with pytest.raises(ValueError, match="on_error must be 'ignore', 'warn', or 'fail', not 'never'"):
        manyhands.set_forkserver_preload([], on_error="never")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="list of strings"):
        manyhands.set_forkserver_preload([1], on_error="warn")  # type: ignore[list-item]


AT_ITS_END = """
import atexit
import os
import time


def note():
    # As coverage does, which writes down what was run: not in no time.
    time.sleep(0.3)
    with open({notes!r}, "a") as notes:
        notes.write(f"{{os.getpid()}}\\n")


with open({notes!r}, "a") as notes:
    notes.write(f"{{os.getpid()}}\\n")
atexit.register(note)
"""


@pytest.mark.parametrize("package", ["manyhands", "multiprocessing"])
def test_exit_handlers_of_what_it_has_preloaded_run(package: str, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    (tmp_path / "preloaded_by_test.py").write_text(AT_ITS_END.format(notes=str(notes)))
    done = run(tmp_path, package, "default", "preloaded_by_test")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\nran\n", "")
    # In the server, and in no child; and before the program has ended.
    loaded, ended = notes.read_text().split()
    assert loaded == ended
