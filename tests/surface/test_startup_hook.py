"""``MANYHANDS_INSTALL=1`` installs in each interpreter of the environment, before anything else is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import concurrent.futures
import multiprocessing
import subprocess
import sys


def kind():
    with concurrent.futures.ProcessPoolExecutor(1) as executor:
        return [type(multiprocessing.Queue()).__module__, type(executor).__module__]


def tell(queue):
    queue.put(kind())


if __name__ == "__main__":
    print(*kind())
    for method in ("fork", "forkserver", "spawn"):
        ctx = multiprocessing.get_context(method)
        queue = ctx.SimpleQueue()
        child = ctx.Process(target=tell, args=(queue,))
        child.start()
        print(*queue.get())
        child.join()
    # A process that knows nothing of this one, but has its environment.
    asks = "import multiprocessing; print(type(multiprocessing.Lock()).__module__)"
    print(subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True).stdout.strip())
"""


def run(
    value: str | None, *flags: str, text: str = PROGRAM, folder: Path
) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(text)
    environment = {name: text for name, text in os.environ.items() if name != "MANYHANDS_INSTALL"}
    if value is not None:
        environment["MANYHANDS_INSTALL"] = value
    argv = [sys.executable, *flags, str(script)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, env=environment)


THEIRS = "multiprocessing.queues concurrent.futures.process\n" * 4 + "multiprocessing.synchronize\n"
OURS = "manyhands.queues manyhands.futures\n" * 4 + "manyhands.synchronize\n"


@pytest.mark.deadline(60)
@pytest.mark.parametrize(
    ("value", "expected"), [(None, THEIRS), ("", THEIRS), ("0", THEIRS), ("1", OURS)], ids=str
)
def test_values(value: str | None, expected: str, tmp_path: Path) -> None:
    done = run(value, folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_another_value_is_told(tmp_path: Path) -> None:
    done = run("yes", text="", folder=tmp_path)
    assert "ValueError: MANYHANDS_INSTALL is 'yes': 1 installs manyhands" in done.stderr


LOOK = "import multiprocessing\nprint(type(multiprocessing.Lock()).__module__)\n"


@pytest.mark.parametrize(
    ("flag", "expected"),
    [("-I", "manyhands"), ("-E", "manyhands"), ("-s", "manyhands"), ("-S", "multiprocessing")],
)
def test_flags(flag: str, expected: str, tmp_path: Path) -> None:
    """Without `site` nothing is run at the start; the variable is not one of Python's own, which ``-E`` ignores."""
    done = run("1", flag, text=LOOK, folder=tmp_path)
    assert (done.stdout, done.stderr) == (f"{expected}.synchronize\n", "")


def test_what_it_imports(tmp_path: Path) -> None:
    text = "import sys\nprint(*sorted(m for m in sys.modules if m.partition('.')[0] in {names}))\n"
    text = text.replace("{names}", "('manyhands', 'multiprocessing', 'concurrent', 'cloudpickle', 'ctypes')")
    assert run(None, text=text, folder=tmp_path).stdout == "\n"
    done = run("1", text=text, folder=tmp_path)
    assert done.stdout == "manyhands manyhands._imports manyhands._install\n"


def test_uninstalled_again(tmp_path: Path) -> None:
    """A process that has uninstalled has children that are not installed, whatever their environment says."""
    text = PROGRAM.replace(
        "    print(*kind())", "    import manyhands\n    manyhands.uninstall()\n    print(*kind())"
    )
    done = run("1", text=text, folder=tmp_path)
    assert done.stdout == THEIRS
